"""Stacks for benchmarks, in temporary folders, gone afterwards however they end."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import psutil
import redis
import redis.exceptions

from chaos.memory import family_mb
from gapless.demo_steps import Target
from local.layout import Special
from local.stack import READY_SECONDS_MAX, Stack

#: Of each topic: as many as a deployment begins with that means to grow.
PARTITIONS = 16


@contextmanager
def stack(
    workers: Mapping[str, int] | None = None, *, servers_only: bool = False, partitions: int = PARTITIONS
) -> Iterator[Stack]:
    """A stack that is ready."""
    data = Path(tempfile.mkdtemp(prefix="gapless-bench-"))
    special = Special(partitions=partitions)
    made = Stack(data, workers, servers_only=servers_only, bound=True, special=special)
    try:
        made.start()
        yield made
    finally:
        made.remove()


@contextmanager
def servers() -> Iterator[Stack]:
    """Kafka, Postgres and Valkey with topics, tables and the seller `demo`."""
    with stack(servers_only=True) as made:
        for command in (("migrate",), ("topics", "--partitions", str(PARTITIONS)), ("sellers", "ensure-local")):
            subprocess.run(
                [sys.executable, "-m", "gapless", *command],
                env={**os.environ, **settings_of(made)},
                check=True,
                stdout=subprocess.DEVNULL,
            )
        yield made


def settings_of(made: Stack) -> dict[str, str]:
    """The GAPLESS_… settings to use its servers."""
    return {**made.environment("bench-1"), "GAPLESS_POSTGRES_URL": made.endpoints()["postgres"]}


def target_of(made: Stack) -> Target:
    """Where to post to."""
    status = made.status()
    return Target(status["endpoints"]["gateway"], status["api_key"], status["endpoints"]["postgres"])


def wait_until_ready(made: Stack) -> None:
    """Return when every process is ready. Raises `TimeoutError`."""
    give_up_at = time.monotonic() + READY_SECONDS_MAX
    # What the stack says of itself may be of before a kill.
    while not (made.status()["ready"] and _redis_answers(made)):
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"the stack is not ready again within {READY_SECONDS_MAX:g} s")
        time.sleep(0.05)


def wait_until_answered(url: str, log: Path) -> None:
    """Return when a GET of `url` is answered with 200. Raises `TimeoutError` with the log's end."""
    give_up_at = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < give_up_at:
        with suppress(OSError), urlopen(url) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise TimeoutError(f"{url} is not ready: {log.read_text()[-500:]}")


def _redis_answers(made: Stack) -> bool:
    try:
        with redis.Redis.from_url(made.endpoints()["redis"]) as client:
            return bool(client.ping())
    except redis.exceptions.RedisError:
        return False


def pid_of(made: Stack, name: str) -> int:
    """The pid of a process that runs."""
    pid = made.process_pid(name)
    if pid is None:
        raise LookupError(f"{name} is down")
    return pid


def memory_mb(pid: int) -> tuple[float, float]:
    """Memory of a process with its children, shared pages counted once (PSS), and the process's own RSS; in MB."""
    process = psutil.Process(pid)
    return family_mb(pid), process.memory_info().rss / 2**20


def cpu_seconds(pid: int) -> float:
    """CPU time of a process with its children, user and system, since they started."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    # Children that have ended are among the parent's; Postgres has some that come and go.
    seconds = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            seconds += sum(child.cpu_times()[:2])
    return float(seconds)
