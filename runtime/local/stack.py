"""The whole product on this machine, in one folder: Kafka, Postgres, Valkey, and our own processes.

`python -m runtime.local.stack FOLDER` supervises what `FOLDER/stack.json` describes; `Stack` starts and stops that.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from runtime.local.errors import StackError
from runtime.settings import ENV_PREFIX, Settings, load

SERVERS = ("kafka", "postgres", "redis")
WORKER_ROLES = ("checkouts", "payments", "orders", "stock", "invoices", "documents")
DEFAULT_WORKERS: Mapping[str, int] = dict.fromkeys(WORKER_ROLES, 1)
WORKERS_MAX = 32
READY_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 60.0
#: Below the ports that the system hands out to connections, which could take one while its server restarts.
PORTS = range(20_000, 32_000)


class Stack:
    """The stack of one folder, seen from outside: another process supervises it.

    `workers` says how many of each role; None keeps what the folder had. With `servers_only`, just Kafka, Postgres and
    Valkey run. With `bound`, the stack stops when the process that started it ends, however it ends.
    """

    def __init__(
        self,
        data: Path,
        workers: Mapping[str, int] | None = None,
        *,
        servers_only: bool = False,
        bound: bool = False,
    ) -> None:
        self.data = data.expanduser().resolve()
        self._workers = workers
        self._servers_only = servers_only
        self._bound = bound
        self._supervisor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def describe(self) -> None:
        """Write `stack.json`, which says what is to run and on which ports, if nothing runs here yet."""
        if self.pid() is not None:
            raise StackError(f"a stack is already up in {self.data}; `gapless down` stops it")
        _describe(self.data, self._workers, self._servers_only)

    def start(self, timeout: float = READY_SECONDS_MAX) -> None:
        """Start the stack in the background and return when all of it is ready.

        Raises `StackError` if it is not within `timeout` seconds; it is stopped then.
        """
        self.describe()
        (self.data / "logs").mkdir(exist_ok=True)
        log = self.data / "logs" / "supervisor.log"
        with log.open("ab") as output:
            before = output.tell()
            self._supervisor = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "runtime.local.stack", str(self.data), *(["--bound"] if self._bound else [])],
                stdin=subprocess.PIPE if self._bound else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while not self.status()["ready"]:
            if self._supervisor.poll() is not None:
                with log.open("rb") as written:
                    written.seek(before)
                    lines = written.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
                raise StackError(f"{lines[-1].removeprefix('gapless: ')} (log: {log})")
            if time.monotonic() > deadline:
                slow = [f"{p['name']} {p['state']}" for p in self.status()["processes"] if p["state"] != "running"]
                self.stop()
                raise StackError(f"not ready after {timeout:g} s ({', '.join(slow) or 'set-up'}): see {log.parent}")
            time.sleep(0.05)

    def pid(self) -> int | None:
        """The supervisor's pid; None if the stack is down."""
        from runtime.supervise import supervisor_pid

        return supervisor_pid(self.data)

    def stop(self, timeout: float = STOP_SECONDS_MAX) -> bool:
        """Stop everything, also what a killed supervisor left behind. Returns whether anything ran."""
        from runtime.supervise import end_leftovers

        pid = self.pid()
        if pid is None:
            return end_leftovers(self.data) > 0
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while self.pid() is not None:
            if self._supervisor is not None:
                self._supervisor.poll()
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        # Somebody else may have killed it meanwhile.
        end_leftovers(self.data)
        if self._supervisor is not None:
            self._supervisor.wait()
            if self._supervisor.stdin is not None:
                self._supervisor.stdin.close()
            self._supervisor = None
        return True

    def remove(self) -> None:
        """Stop the stack and delete all that it kept."""
        self.stop()
        with contextlib.suppress(StackError):
            from runtime.local import postgres

            postgres.remove_outside(_description(self.data)["id"])
        shutil.rmtree(self.data, ignore_errors=True)

    def status(self) -> dict[str, Any]:
        """What `gapless status --json` prints: ready, data, endpoints, api_key, processes.

        Raises `StackError` if there never was a stack in the folder.
        """
        from runtime.supervise import read_state

        description = _description(self.data)
        state = read_state(self.data) if self.pid() is not None else None
        names = [(name, role) for name, role in _names(description)]
        known = {p["name"]: p for p in state["processes"]} if state else {}
        unknown = {"pid": None, "state": "starting" if state else "stopped"}
        return {
            "ready": bool(state and state["ready"]),
            "data": str(self.data),
            "endpoints": self.endpoints(),
            "api_key": _read_secret(self.data / "api_key"),
            "processes": [
                {"name": name, "role": role, **{k: known.get(name, unknown)[k] for k in ("pid", "state")}}
                for name, role in names
            ],
        }

    def endpoints(self) -> dict[str, str]:
        """Where each part listens. Postgres's holds the password of this machine's own database."""
        ports = _description(self.data)["ports"]
        password = _read_secret(self.data / "postgres_password") or ""
        return {
            "gateway": f"http://127.0.0.1:{ports['gateway']}",
            "kafka": f"127.0.0.1:{ports['kafka']}",
            "postgres": f"postgresql://gapless:{password}@127.0.0.1:{ports['postgres']}/gapless",
            "redis": f"redis://127.0.0.1:{ports['redis']}/0",
            "objects": (self.data / "objects").as_uri(),
        }

    def environment(self, name: str = "") -> dict[str, str]:
        """The `GAPLESS_…` variables for the process `name` of this stack, or for any other that uses its services."""
        return _environment(self.data, _description(self.data), name)

    def settings(self, name: str = "") -> Settings:
        """The same as settings, whatever this process's own environment says."""
        return settings_from(self.environment(name))


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Settings from `GAPLESS_…` variables, files named by them included."""
    given: dict[str, Any] = {}
    for variable, value in environment.items():
        field = variable.removeprefix(ENV_PREFIX).lower()
        if field in Settings.model_fields:
            given[field] = value
        elif field.removesuffix("_file") in Settings.model_fields:
            given[field.removesuffix("_file")] = Path(value).read_text().strip()
    return load(**given)


def _description(data: Path) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads((data / "stack.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise StackError(f"there is no stack in {data}; `gapless up --data {data}` makes one") from None
    return description


def _describe(data: Path, workers: Mapping[str, int] | None, servers_only: bool) -> None:
    from runtime.local.postgres import write_secret
    from runtime.supervise import write_json

    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"cannot make the data folder {data}: {error.strerror}") from None
    try:
        description = _description(data)
    except StackError:
        description = {"id": secrets.token_hex(8), "workers": dict(DEFAULT_WORKERS), "ports": {}}
    if workers is not None:
        description["workers"] = {**DEFAULT_WORKERS, **workers}
    description["servers_only"] = servers_only
    names = [*(name for name, _ in _names(description)), "kafka_controller", "gateway"]
    kept: dict[str, int] = description["ports"]
    ports: dict[str, int] = {}
    for name in dict.fromkeys(names):
        port = kept.get(name)
        ports[name] = (
            port if port is not None and _is_free(port) else free_port(taken={*kept.values(), *ports.values()})
        )
    description["ports"] = ports
    for folder in ("objects", "workers", "logs"):
        (data / folder).mkdir(exist_ok=True)
    for name, prefix in (("api_key", "gpl_"), ("provider_api_key", "sk_"), ("provider_webhook_secret", "whsec_")):
        if not (data / name).exists():
            write_secret(data / name, prefix + secrets.token_urlsafe(32))
    write_json(data / "stack.json", description)


def _names(description: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and role of each process that stays."""
    names = [(name, name) for name in SERVERS]
    if not description["servers_only"]:
        names += [("provider", "provider"), ("gateway", "gateway"), ("relay", "relay")]
        workers: dict[str, int] = description["workers"]
        names += [(f"{role}-{n}", role) for role, count in workers.items() for n in range(1, count + 1)]
    return names


def free_port(taken: Iterable[int] = ()) -> int:
    """A port of this machine on which nothing listens."""
    candidates = [port for port in PORTS if port not in set(taken)]
    for port in random.sample(candidates, len(candidates)):
        if _is_free(port):
            return port
    raise StackError(f"no free port between {PORTS.start} and {PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do it: connections of a former server that are still closing are not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _read_secret(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def _environment(data: Path, description: Mapping[str, Any], name: str) -> dict[str, str]:
    ports: dict[str, int] = description["ports"]
    environment = {
        "KAFKA_BOOTSTRAP": f"127.0.0.1:{ports['kafka']}",
        "POSTGRES_URL_FILE": str(data / "postgres_url"),
        "REDIS_URL": f"redis://127.0.0.1:{ports['redis']}/0",
        "OBJECTS_URL": (data / "objects").as_uri(),
        "GATEWAY_PORT": str(ports["gateway"]),
        "REPLICATION_FACTOR": "1",
        "LOCAL_API_KEY_FILE": str(data / "api_key"),
        "PROVIDER": "local",
        "PROVIDER_URL": f"http://127.0.0.1:{ports['provider']}" if "provider" in ports else "",
        "PROVIDER_API_KEY_FILE": str(data / "provider_api_key"),
        "PROVIDER_WEBHOOK_SECRET_FILE": str(data / "provider_webhook_secret"),
    }
    if name not in ("", "gateway", "provider", *SERVERS):
        environment["METRICS_PORT"] = str(ports.get(name, 0))
        environment["WORKER_DATA"] = str(data / "workers" / name)
        environment["WORKER_SLOT"] = name.rpartition("-")[2]
    return {f"{ENV_PREFIX}{variable}": value for variable, value in environment.items()}


def _specs(data: Path, description: Mapping[str, Any]) -> list[Any]:
    """The table of processes. Makes what they need on disk, which takes some seconds the first time."""
    from runtime.local import kafka, postgres, redis
    from runtime.supervise import ProcessSpec

    ports: dict[str, int] = description["ports"]
    password_file = data / "postgres_password"
    with ThreadPoolExecutor(2) as both:
        kafka_argv = both.submit(kafka.prepare, data / "kafka", ports["kafka"], ports["kafka_controller"])
        server = both.submit(
            postgres.prepare, data / "postgres", ports["postgres"], password_file, description["id"]
        ).result()
        redis_argv = redis.prepare(data / "redis", ports["redis"])
    postgres.write_secret(data / "postgres_url", Stack(data).endpoints()["postgres"])
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
            # Fast shutdown: SIGTERM would wait for every client to leave. Killed, it would leave its children behind.
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

    def ours(name: str, role: str, *command: str, after: tuple[str, ...], ready: Any = None, once: bool = False) -> Any:
        return ProcessSpec(
            name,
            role,
            (sys.executable, "-m", "gapless", *command),
            env=_environment(data, description, name),
            after=after,
            ready=ready,
            once=once,
        )

    set_up = ("migrate", "topics", "sellers")
    specs += [
        ours("migrate", "migrate", "migrate", after=("postgres",), once=True),
        ours("topics", "topics", "topics", after=("kafka",), once=True),
        ours("sellers", "sellers", "sellers", "ensure-local", after=("migrate",), once=True),
    ]
    specs.append(_provider(data, description))
    for name, role in _names(description)[len(SERVERS) :]:
        if role == "provider":
            continue
        command = ("worker", role) if role in WORKER_ROLES else (role,)
        specs.append(ours(name, role, *command, after=(*set_up, "redis"), ready=_serves(ports[name])))
    return specs


def _provider(data: Path, description: Mapping[str, Any]) -> Any:
    """The payment provider, with some of the latency that real ones have."""
    from runtime.supervise import ProcessSpec

    ports: dict[str, int] = description["ports"]
    url = f"http://127.0.0.1:{ports['gateway']}/v1/providers/local/notices"
    options = ("--data", str(data / "provider"), "--delay-ms", "50", "--webhook-url", url)
    return ProcessSpec(
        "provider",
        "provider",
        (sys.executable, "-m", "runtime.local.provider", "--port", str(ports["provider"]), *options),
        env=_environment(data, description, "provider"),
        ready=_serves(ports["provider"]),
    )


def _serves(port: int) -> Callable[[], Awaitable[bool]]:
    """A check for our own processes: ready when `/readyz` does not say otherwise."""

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
    """Run the stack that `stack.json` describes, in this process, until it is told to stop.

    With `bound`, the end of standard input tells it too: whoever started us is gone.

    Raises `StackError` or `SuperviseError` if it cannot be started.
    """
    from runtime.supervise import Supervisor, take_folder

    _forget_services()
    with take_folder(data):
        specs = _specs(data, _description(data))

        async def run() -> None:
            supervisor = Supervisor(data, specs, say, on_ready)
            if bound:
                asyncio.get_running_loop().add_reader(sys.stdin.fileno(), supervisor.stop)
            await supervisor.run()

        asyncio.run(run())


def _forget_services() -> None:
    """Keep the caller's variables that say where services are from reaching our processes.

    A stack that wrote to somebody's configured database would be a disaster. What only tunes a process may pass.
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
    )
    for variable in list(os.environ):
        if variable.startswith(tuple(ENV_PREFIX + name for name in placed)):
            del os.environ[variable]


def main() -> int:
    """Supervise in the background, for `Stack.start`."""
    from runtime.supervise import SuperviseError

    parser = argparse.ArgumentParser(description="Supervise the local stack of a folder.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--bound", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)  # noqa: T201

    try:
        supervise(arguments.data, say, bound=arguments.bound)
    except (StackError, SuperviseError) as error:
        print(f"gapless: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
