"""The supervisor of a stack's folder: `python -m local.supervisor FOLDER` runs what its `stack.json` describes."""

import argparse
import asyncio
import functools
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from local import kafka, layout, postgres, redis
from local.errors import StackError
from local.supervise import ProcessSpec, Supervisor
from local.supervised import take_folder
from runtime.roles import ROLES
from runtime.settings import ENV_PREFIX


def _specs(data: Path, description: Mapping[str, Any]) -> list[ProcessSpec]:
    """The table of processes. Creates what they need on disk, which takes some seconds the first time."""
    ports: dict[str, int] = description["ports"]
    password_file = data / "postgres_password"
    with ThreadPoolExecutor(2) as both:
        kafka_argv = both.submit(
            kafka.prepare,
            data / "kafka",
            ports["kafka"],
            ports["kafka_controller"],
            layout.detoured_brokers(description),
        )
        server = both.submit(
            postgres.prepare, data / "postgres", ports["postgres"], password_file, description["id"]
        ).result()
        redis_argv = redis.prepare(data / "redis", ports["redis"])
    detoured = {
        name: services["postgres"] for name, services in description["detours"].items() if "postgres" in services
    }
    for name, port in {"": ports["postgres"], **detoured}.items():
        postgres.write_secret(layout.postgres_url_file(data, name), layout.postgres_url(data, port))
    specs = [
        ProcessSpec(
            "kafka",
            "kafka",
            kafka_argv.result(),
            kafka.ENVIRONMENT,
            cwd=data / "kafka",
            ready=functools.partial(kafka.answers, ports["kafka"]),
            stop_grace_seconds=20,
        ),
        ProcessSpec(
            "postgres",
            "postgres",
            server.argv,
            ready=functools.partial(postgres.answers, ports["postgres"]),
            # SIGINT is a fast shutdown; SIGTERM would wait for all clients, and SIGKILL would leave its children
            # running.
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGQUIT,
            stop_grace_seconds=20,
            cwd=server.folder,
            user=server.user,
            group=server.group,
        ),
        ProcessSpec(
            "redis",
            "redis",
            redis_argv,
            cwd=data / "redis",
            ready=functools.partial(redis.answers, ports["redis"]),
        ),
    ]
    if description["servers_only"]:
        return specs

    def ours(
        name: str, role: str, *command: str, after: tuple[str, ...], ready: Any = None, once: bool = False
    ) -> ProcessSpec:
        return ProcessSpec(
            name,
            role,
            (sys.executable, "-m", "gapless", *command),
            env=layout.environment_of(data, description, name),
            after=after,
            ready=ready,
            once=once,
        )

    set_up = ("migrate", "topics", "sellers")
    # Missing in a description that a former release has written.
    asked = description.get("partitions")
    partitions = () if asked is None else ("--partitions", str(asked))
    specs += [
        ours("migrate", "migrate", "migrate", after=("postgres",), once=True),
        ours("topics", "topics", "topics", *partitions, after=("kafka", "migrate"), once=True),
        ours("sellers", "sellers", "sellers", "ensure-local", after=("migrate",), once=True),
    ]
    specs += [_provider(data, description), _mail(data, description)]
    for name, role in layout.process_names(description)[len(layout.SERVERS) :]:
        if role not in ROLES:
            continue
        specs.append(ours(name, role, *ROLES[role].command, after=(*set_up, "redis"), ready=_serves(ports[name])))
    return specs


def _provider(data: Path, description: Mapping[str, Any]) -> ProcessSpec:
    """The payment provider, with a latency similar to that of real ones."""
    ports: dict[str, int] = description["ports"]
    url = f"http://127.0.0.1:{ports['gateway']}/v1/providers/local/notices"
    options = ("--data", str(data / "provider"), "--delay-ms", "50", "--webhook-url", url)
    return ProcessSpec(
        "provider",
        "provider",
        (sys.executable, "-m", "local.provider", "--port", str(ports["provider"]), *options),
        env=layout.environment_of(data, description, "provider"),
        ready=_serves(ports["provider"]),
    )


def _mail(data: Path, description: Mapping[str, Any]) -> ProcessSpec:
    """The mail server that sends nothing on."""
    ports: dict[str, int] = description["ports"]
    options = ("--smtp-port", str(ports[layout.SMTP]), "--data", str(data / "inbox"))
    return ProcessSpec(
        "mail",
        "mail",
        (sys.executable, "-m", "local.mail", "--port", str(ports["mail"]), *options),
        env=layout.environment_of(data, description, "mail"),
        ready=_serves(ports["mail"]),
    )


def _serves(port: int) -> Callable[[], Awaitable[bool]]:
    """The readiness check of our own processes: `/readyz` returns 200."""

    async def check() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            await writer.drain()
            status = (await reader.readline()).split(b" ")
            return len(status) > 1 and status[1] == b"200"
        finally:
            writer.close()

    return check


def supervise(
    data: Path, say: Callable[[str], None], on_ready: Callable[[], None] = lambda: None, *, bound: bool = False
) -> None:
    """Run the stack that `stack.json` describes, in this process, until it is stopped.

    With `bound`, the end of standard input stops it too: the process that started it has ended. Raises `StackError` if
    it cannot be started.
    """
    _forget_services()
    with take_folder(data):
        try:
            specs = _specs(data, layout.read_description(data))
        except OSError as error:
            raise StackError(f"cannot create {error.filename or data}: {error.strerror}") from None

        async def run() -> None:
            supervisor = Supervisor(data, specs, say, on_ready)
            if bound:
                asyncio.get_running_loop().add_reader(sys.stdin.fileno(), supervisor.stop)
            await supervisor.run()

        asyncio.run(run())


def _forget_services() -> None:
    """Remove the caller's variables that locate services from this process's environment.

    Otherwise the local stack could write to a database that the user has configured. Tuning variables remain.
    """
    placed = (
        "KAFKA_",
        "POSTGRES_",
        "REDIS_",
        "OBJECTS_",
        "GATEWAY_",
        "METRICS_",
        "WORKER_",
        "REPLICATION_",
        "LOCAL_",
        "PROVIDER_",
        "MONITOR_",
        "SEARCH_",
    )
    for variable in list(os.environ):
        if variable.startswith(tuple(ENV_PREFIX + name for name in placed)):
            del os.environ[variable]


def main() -> int:
    """Supervise in the background, for `Stack.start`."""
    parser = argparse.ArgumentParser(description="Supervise the local stack of a folder.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--bound", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)  # noqa: T201

    try:
        supervise(arguments.data, say, bound=arguments.bound)
    except StackError as error:
        print(f"gapless: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
