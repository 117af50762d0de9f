"""The local stack's servers, started, killed and stopped as a whole."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from local.errors import StackError
from local.layout import SERVERS, Special
from local.stack import Stack
from runtime.roles import READERS


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of servers in a folder whose name has a space, a comma and an accent."""
    stack = Stack(tmp_path / "un été, à Lyon", servers_only=True, bound=True)
    yield stack
    stack.remove()


def pids(stack: Stack) -> dict[str, int]:
    return {p["name"]: p["pid"] for p in stack.status()["processes"] if p["pid"] is not None}


def alive(before: dict[str, int]) -> list[str]:
    """The processes that still run; zombies don't count."""
    left = []
    for name, pid in before.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                left.append(name)
    return left


def until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {seconds} s")
        time.sleep(0.02)


def topics(stack: Stack) -> set[str]:
    return set(AdminClient({"bootstrap.servers": stack.endpoints()["kafka"]}).list_topics(timeout=60).topics)


def test_a_stack_keeps_its_data_its_ports_and_nothing_running(stack: Stack) -> None:
    """Up, down, up: data is still there, at the same addresses; and in between nothing runs."""
    stack.start()
    told = stack.status()
    assert told["ready"]
    assert [p["role"] for p in told["processes"]] == list(SERVERS)
    assert (stack.data / "api_key").stat().st_mode & 0o777 == 0o600
    assert (stack.data / "postgres_password").stat().st_mode & 0o777 == 0o600
    endpoints = stack.endpoints()
    with psycopg.connect(endpoints["postgres"], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    with redis.Redis.from_url(endpoints["redis"]) as client:
        client.set("kept", 1)
    admin = AdminClient({"bootstrap.servers": endpoints["kafka"]})
    for future in admin.create_topics([NewTopic("kept", 2, 1)]).values():
        future.result(timeout=60)
    del admin

    before = pids(stack)
    assert stack.stop()
    assert not alive(before)
    assert not stack.stop()
    assert not stack.status()["ready"]

    stack.start()
    assert stack.endpoints() == endpoints
    with psycopg.connect(endpoints["postgres"]) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    with redis.Redis.from_url(endpoints["redis"]) as client:
        assert client.get("kept") == b"1"
    assert "kept" in topics(stack)


def test_each_server_that_is_killed_comes_back(stack: Stack) -> None:
    """With its data, at the same address."""
    stack.start()
    endpoints = stack.endpoints()
    for name in SERVERS:
        killed = pids(stack)[name]
        os.kill(killed, signal.SIGKILL)
        until(lambda name=name, killed=killed: pids(stack).get(name, killed) != killed, 60)  # type: ignore[misc]
    until(lambda: bool(stack.status()["ready"]), 120)
    with psycopg.connect(endpoints["postgres"]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    topics(stack)


def test_a_taken_port_is_replaced_and_a_second_stack_is_refused(stack: Stack) -> None:
    """A port in use stays with its owner, and a folder in use with its supervisor."""
    stack.describe()
    port = int(stack.endpoints()["redis"].rpartition(":")[2].partition("/")[0])
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        stack.start()
    assert f":{port}/" not in stack.endpoints()["redis"]
    with pytest.raises(StackError, match="already up"):
        Stack(stack.data).start()
    assert stack.status()["ready"]


def test_nothing_is_left_when_the_supervisor_or_its_starter_is_killed(stack: Stack) -> None:
    """Not even Postgres, which has child processes."""
    stack.start()
    before = pids(stack)
    os.kill(stack.pid() or 0, signal.SIGKILL)
    stack.stop()
    assert not alive(before)

    code = "import sys, time; from pathlib import Path; from local.stack import Stack; \
Stack(Path(sys.argv[1]), servers_only=True, bound=True).start(); print('up', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, str(stack.data)], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        before = pids(stack)
        assert len(before) == len(SERVERS)
        starter.kill()
    until(lambda: not alive(before), 120)


def test_what_the_caller_was_configured_for_stays_out(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the shell must not lead the local stack, or its commands, to a configured database."""
    monkeypatch.setenv("GAPLESS_POSTGRES_URL", "postgresql://real@example.com/real")
    monkeypatch.setenv("GAPLESS_KAFKA_BOOTSTRAP", "example.com:9092")
    stack.start()
    settings = stack.settings("invoices-2")
    assert settings.postgres_url.get_secret_value() == stack.endpoints()["postgres"]
    assert settings.kafka_bootstrap == stack.endpoints()["kafka"]
    assert (settings.worker_slot, settings.worker_data) == ("2", stack.data / "workers" / "invoices-2")
    supervisor = psutil.Process(stack.pid() or 0)
    for child in supervisor.children():
        if "postgres" not in child.name():
            assert not [v for v in child.environ() if v.startswith(("GAPLESS_POSTGRES", "GAPLESS_KAFKA"))]


def test_a_stack_in_a_closed_folder_keeps_its_database_when_it_is_renamed(tmp_path: Path) -> None:
    """All data is in its folder, for any user and umask; and a lost database is not replaced."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    stack = Stack(closed / "one", servers_only=True, bound=True)
    umask = os.umask(0o077)
    try:
        stack.start()
        with psycopg.connect(stack.endpoints()["postgres"], autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (n int)")
        stack.stop()
        stack.data.rename(closed / "two")
        renamed = Stack(closed / "two", servers_only=True, bound=True)
        renamed.start()
        with psycopg.connect(renamed.endpoints()["postgres"]) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        renamed.stop()
        (closed / "two" / "postgres" / "cluster").rename(closed / "unmounted")
        with pytest.raises(StackError, match=r"cluster is missing, but postgres_password shows that it was created"):
            renamed.start()
        assert not renamed.status()["ready"]
    finally:
        os.umask(umask)
        stack.remove()


def test_a_stack_that_does_not_come_up_says_what_its_processes_wait_for(tmp_path: Path) -> None:
    """Kafka's port leads one process to nobody."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        special = Special(detours={"orders-1": {"kafka": nobody.getsockname()[1]}})
        workers = dict.fromkeys(READERS, 0) | {"orders": 1}
        stack = Stack(tmp_path, workers, bound=True, special=special)
        try:
            with pytest.raises(
                StackError, match=r"not ready after 40 s \(.*orders-1 starting: kafka (unavailable|never reached).*\)"
            ):
                stack.start(40)
            assert stack.pid() is None
        finally:
            stack.remove()
