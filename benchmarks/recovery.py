"""kill -9 of the only invoices worker, under load: how long until the next new number."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from statistics import median

import msgspec
import psycopg
import uvloop

from benchmarks.result import Result
from benchmarks.stacks import pid_of, stack, target_of
from gapless.demo_steps import Target, warm_up
from local.stack import Stack
from local.supervise import PROVEN_AFTER_SECONDS
from producers.generate import bodies
from producers.load import run as run_load

KILLS = 5
RATE = 100.0
TARGET_S = 4.0
_DEADLINE_S = 300.0
_POLL_S = 0.01


def run() -> list[Result]:
    """Each kill after the worker has proved itself, so that the supervisor restarts it without a pause."""
    with stack({"invoices": 1, "documents": 0}) as made:
        gaps = uvloop.run(_measure(made, target_of(made)))
    note = f"median of {KILLS}; worst {max(gaps):.1f} s; one worker, {RATE:g} orders/s arriving"
    return [Result("kill -9 to the next new number", median(gaps), "s", TARGET_S, less_is_better=True, note=note)]


async def _measure(made: Stack, target: Target) -> list[float]:
    await warm_up(target)
    over = False

    def payloads() -> Iterator[bytes]:
        for body in bodies(10**9, seed=1, prefix="KILL"):
            if over:
                return
            yield msgspec.json.encode(body)

    async with target.client(64) as client:
        load = asyncio.create_task(run_load(client, payloads(), rate=RATE, workers=64))
        try:
            gaps = [await asyncio.to_thread(_kill, made, target.postgres_url) for _ in range(KILLS)]
        finally:
            over = True
            await load
    return gaps


def _kill(made: Stack, postgres_url: str) -> float:
    time.sleep(PROVEN_AFTER_SECONDS + 1)
    pid = pid_of(made, "invoices-1")
    with psycopg.connect(postgres_url, autocommit=True) as connection:

        def count() -> int:
            row = connection.execute("SELECT coalesce(sum(next_number), 0) FROM series").fetchone()
            return int(row[0]) if row else 0

        os.kill(pid, signal.SIGKILL)
        killed_at = time.monotonic()
        _wait_until_dead(pid, killed_at + _DEADLINE_S)
        # A commit that was under way may still arrive; a backend that has lost its client ends it within that time.
        time.sleep(0.2)
        before = count()
        while count() == before:
            if time.monotonic() > killed_at + _DEADLINE_S:
                raise TimeoutError(f"no new number within {_DEADLINE_S:g} s")
            time.sleep(_POLL_S)
        return time.monotonic() - killed_at


def _wait_until_dead(pid: int, deadline: float) -> None:
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(_POLL_S)
