"""The contents of a stack's folder according to its `stack.json`: processes, ports and environment variables.

It is read by the code that starts the stack, by the supervisor, and by commands that only look up addresses.
"""

import json
import os
import random
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.errors import StackError
from runtime.roles import READERS, ROLES
from runtime.settings import ENV_PREFIX, Settings, load

SERVERS = ("kafka", "postgres", "redis")
DEFAULT_WORKERS: Mapping[str, int] = dict.fromkeys(READERS, 1)
WORKERS_MAX = 32
#: Below the system's ephemeral ports, which a connection could occupy while its server restarts.
PORTS = range(20_000, 32_000)
#: Ports that a process draws from alone, the first of them its lock. More than a stack has.
_BLOCK = 500
#: Of a documents worker, of which each takes some 85 MB.
RENDER_PROCESSES_MAX = 4
#: Name of the gateway's metrics port; the other processes have only this port.
GATEWAY_METRICS = "gateway_metrics"
#: Name of the port on which the search worker answers questions.
SEARCH = "search_questions"
#: Name of the port on which the mail server takes mails.
SMTP = "smtp"
_SECRETS = (
    ("api_key", "gpl_"),
    ("monitor_token", "mon_"),
    ("provider_api_key", "sk_"),
    ("provider_webhook_secret", "whsec_"),
    ("link_keys", "lnk_"),
    ("secret_keys", "enc_"),
)


_MEMBERS = {"id", "workers", "ports", "servers_only", "detours", "environment"}


class NoStackError(StackError):
    """There is no stack in the folder."""


@dataclass(frozen=True, slots=True)
class Special:
    """How a stack differs from the default, for fault tests."""

    #: Process → service (`kafka`, `postgres`, `redis`, `provider`) → the port at which the process finds the service. A
    #: proxy listens there and forwards to the service's own port (`Stack.target`).
    detours: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    #: Variables for each of our processes, in addition to the default ones. In a value, `{data}` is the stack's folder
    #: and `{name}` the process's name. Values without `{name}` also apply to other users of the services.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Partitions of each topic, in a folder that has no topics yet; None for the default.
    partitions: int | None = None


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Settings from `GAPLESS_…` variables, including the files that they name."""
    given: dict[str, Any] = {}
    for variable, value in environment.items():
        field = variable.removeprefix(ENV_PREFIX).lower()
        if field in Settings.model_fields:
            given[field] = value
        elif field.removesuffix("_file") in Settings.model_fields:
            given[field.removesuffix("_file")] = Path(value).read_text().strip()
    return load(**given)


def read_description(data: Path) -> dict[str, Any]:
    """The contents of `stack.json`. Raises `StackError` if there is none, or it is damaged."""
    file = data / "stack.json"
    try:
        description = json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise NoStackError(f"there is no stack in {data}; `gapless up --data {data}` creates one") from None
    except ValueError:
        description = None
    if not isinstance(description, dict) or not description.keys() >= _MEMBERS:
        raise StackError(
            f"{file} is damaged: remove it. `gapless up --data {data}` then writes a new one, with the default "
            "workers and other ports; the data is preserved"
        )
    return description


def describe(data: Path, workers: Mapping[str, int] | None, servers_only: bool, special: Special) -> None:
    """Write `stack.json`; ports and secrets of an existing stack are preserved.

    Raises `StackError` if the folder can't be created or written, or no port is free.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"cannot create the data folder {data}: {error.strerror}") from None
    try:
        _describe(data, workers, servers_only, special)
    except OSError as error:
        raise StackError(f"cannot write in the data folder {data}: {error.strerror}") from None


def _describe(data: Path, workers: Mapping[str, int] | None, servers_only: bool, special: Special) -> None:
    from local.postgres import write_secret
    from local.supervised import write_json

    try:
        description = read_description(data)
    except NoStackError:
        description = {"id": secrets.token_hex(8), "workers": dict(DEFAULT_WORKERS), "ports": {}}
    if workers is not None:
        description["workers"] = {**DEFAULT_WORKERS, **workers}
    description["servers_only"] = servers_only
    description["detours"] = {name: dict(services) for name, services in special.detours.items()}
    description["environment"] = dict(special.environment)
    description["partitions"] = special.partitions
    names = [*(name for name, _ in process_names(description)), "kafka_controller", "gateway", GATEWAY_METRICS]
    if not servers_only:
        # Beside the port of its inbox's page.
        names += [SMTP, SEARCH]
    # Kafka advertises addresses to its clients, so each detour to it needs a listener of its own.
    names += [kafka_listener(name) for name, services in special.detours.items() if "kafka" in services]
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
    for name, prefix in _SECRETS:
        if not (data / name).exists():
            write_secret(data / name, prefix + secrets.token_urlsafe(32))
    write_json(data / "stack.json", description)


def process_names(description: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and role of each permanent process."""
    names = [(name, name) for name in SERVERS]
    if not description["servers_only"]:
        workers: dict[str, int] = description["workers"]
        names += [("provider", "provider"), ("mail", "mail"), *((role, role) for role in ROLES if role not in READERS)]
        names += [(f"{role}-{n}", role) for role, count in workers.items() for n in range(1, count + 1)]
    return names


def _reporting(description: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Name and metrics port of each of our processes that reports readiness."""
    ports: dict[str, int] = description["ports"]
    ours = [name for name, role in process_names(description) if role in ROLES and role != "monitor"]
    return [(name, ports[GATEWAY_METRICS if name == "gateway" else name]) for name in ours]


def kafka_listener(name: str) -> str:
    """The name of Kafka's port for the detour of the process `name`."""
    return f"kafka for {name}"


def detoured_brokers(description: Mapping[str, Any]) -> dict[int, int]:
    """Kafka's further listeners: port → the port advertised to clients there."""
    ports, detours = description["ports"], description["detours"]
    return {ports[kafka_listener(name)]: services["kafka"] for name, services in detours.items() if "kafka" in services}


def free_port(taken: Iterable[int] = ()) -> int:
    """A port of this machine on which nothing listens, each time another, until this process was given all.

    Other processes are given others: two stacks that start at the same time must not draw the same.
    """
    for _ in PORTS:
        port = next(_every_port)
        if port not in set(taken) and _is_free(port):
            return port
    raise StackError(f"no free port between {PORTS.start} and {PORTS.stop}")


def _ports_at_random() -> Iterator[int]:
    # A server may listen long after it was given its port, so a port that is drawn again would be taken for free, by
    # this process as by another one.
    for first in random.sample(PORTS[::_BLOCK], len(PORTS[::_BLOCK])):
        if _take(first):
            yield from random.sample(range(first + 1, first + _BLOCK), _BLOCK - 1)
    while True:
        yield from random.sample(PORTS, len(PORTS))


def _take(port: int) -> bool:
    """Bind the port until this process ends; False if another process has. Nothing listens on it."""
    lock = socket.socket()
    try:
        lock.bind(("127.0.0.1", port))
    except OSError:
        lock.close()
        return False
    lock.detach()
    return True


_every_port = _ports_at_random()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: closing connections of a former server do not occupy the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def read_secret(path: Path) -> str | None:
    """The content of the file; None if it does not exist."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def postgres_url(data: Path, port: int) -> str:
    """The URL of the database, with its password."""
    return f"postgresql://gapless:{read_secret(data / 'postgres_password') or ''}@127.0.0.1:{port}/gapless"


def postgres_url_file(data: Path, name: str) -> Path:
    """The file with the Postgres URL for the process `name`."""
    return data / (f"postgres_url.{name}" if name else "postgres_url")


def environment_of(data: Path, description: Mapping[str, Any], name: str) -> dict[str, str]:
    """The variables for the process `name`; with an unknown name, for any user of the services."""
    ports: dict[str, int] = description["ports"]
    detours: dict[str, int] = description["detours"].get(name, {})
    provider_port = detours.get("provider", ports.get("provider"))
    environment = {
        "KAFKA_BOOTSTRAP": f"127.0.0.1:{detours.get('kafka', ports['kafka'])}",
        "POSTGRES_URL_FILE": str(postgres_url_file(data, name if "postgres" in detours else "")),
        "REDIS_URL": f"redis://127.0.0.1:{detours.get('redis', ports['redis'])}/0",
        "OBJECTS_URL": (data / "objects").as_uri(),
        "GATEWAY_PORT": str(ports["gateway"]),
        # Short, as no load balancer has to notice.
        "GATEWAY_DRAIN_SECONDS": "0.5",
        "REPLICATION_FACTOR": "1",
        # With the lowest priority, so that they take only what nobody else wants.
        "RENDER_PROCESSES": str(min(RENDER_PROCESSES_MAX, os.cpu_count() or 1)),
        # Receivers that one tries out run on this machine.
        "WEBHOOKS_ALLOW": "127.0.0.0/8,::1/128",
        "LOCAL_API_KEY_FILE": str(data / "api_key"),
        "PROVIDER": "local",
        "PROVIDER_URL": "" if provider_port is None else f"http://127.0.0.1:{provider_port}",
        "PROVIDER_API_KEY_FILE": str(data / "provider_api_key"),
        "MONITOR_PROCESSES": ",".join(f"{each}=127.0.0.1:{port}" for each, port in _reporting(description)),
        "PUBLIC_URL": f"http://127.0.0.1:{ports['gateway']}",
        "LINK_KEYS_FILE": str(data / "link_keys"),
        "SECRET_KEYS_FILE": str(data / "secret_keys"),
        "MONITOR_TOKEN_FILE": str(data / "monitor_token"),
        "PROVIDER_WEBHOOK_SECRET_FILE": str(data / "provider_webhook_secret"),
    }
    if SMTP in ports:
        environment["SMTP_URL"] = f"smtp://127.0.0.1:{ports[SMTP]}"
    if SEARCH in ports:
        environment["SEARCH_URLS"] = f"http://127.0.0.1:{ports[SEARCH]}"
    role_name, _, slot = name.rpartition("-")
    role = ROLES.get(role_name or name)
    own = {
        "gateway_port": str(ports["gateway"]),
        "metrics_port": str(ports.get(GATEWAY_METRICS if name == "gateway" else name, 0)),
        "worker_data": str(data / "workers" / name),
        "worker_slot": slot,
        "search_port": str(ports.get(SEARCH, 0)),
    }
    environment |= {setting.upper(): own[setting] for setting in (role.own_settings if role is not None else ())}
    special = {
        variable: value.replace("{data}", str(data)).replace("{name}", name)
        for variable, value in description["environment"].items()
        if name or "{name}" not in value
    }
    return {
        **{f"{ENV_PREFIX}{variable}": value for variable, value in environment.items()},
        **special,
    }
