"""Talks to a gateway over a socket, byte by byte."""

import asyncio
import json
from time import monotonic
from typing import Any


async def talk(port: int, *parts: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """Send the parts, pausing between them; what comes back until the end, and after how long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = monotonic()
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause)
        async with asyncio.timeout(60):
            return await reader.read(), monotonic() - began
    except ConnectionError:
        return b"", monotonic() - began
    finally:
        writer.close()


def split(answer: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers in small letters, and the decoded body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)
