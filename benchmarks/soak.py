"""An hour at a steady rate: memory that stays where it is, a group that stands where the positions do, nothing left."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psutil
import psycopg
from confluent_kafka import Consumer, TopicPartition

from audit.backlog import read_progress
from benchmarks.result import Result
from benchmarks.stacks import pid_of, stack
from local.stack import Stack
from producers.generate import bodies
from schemas.catalog import INVOICE_REQUESTS

PER_S = 500
SECONDS = 3_600.0
#: Orders of one load file: two minutes.
ROUND_ORDERS = 60_000
#: The dedupe table's block caches are full after 1.25 million orders; what grows after that grows without bound.
SETTLED_AFTER = 0.7
#: As the dedupe table's own memory breathes, and no more.
GROWTH_MB_MAX = 10.0
_SAMPLE_S = 5.0
_DEADLINE_S = 120.0
_PROCESSES = ("gateway", "relay", "invoices-1")
_GROUP = "gapless-invoices"
_POSITIONS = "SELECT partition, next_offset FROM positions WHERE agent = 'invoices' AND topic = %s"


@dataclass(slots=True)
class Sample:
    """What is seen at one moment."""

    at_s: float
    #: Records that are in the log and not carried out.
    lag: int
    #: Records that are carried out and of which the group doesn't know.
    group_behind: int
    #: Resident memory by process, in MB.
    memory_mb: dict[str, float] = field(default_factory=dict)


def run() -> list[Result]:
    """One stack without the documents agent, whose rate is another."""
    samples: list[Sample] = []
    with stack({"invoices": 1, "documents": 0}) as made, _watch(made) as look:
        sent, before = 0, _issued(made)
        began = time.monotonic()
        while time.monotonic() - began < SECONDS:
            with _load(made, f"ROUND{sent}") as load:
                while load.poll() is None:
                    samples.append(look(time.monotonic() - began))
                    time.sleep(_SAMPLE_S)
            if load.returncode:
                raise RuntimeError(f"the load ended with {load.returncode}")
            sent += ROUND_ORDERS
        ended = time.monotonic()
        # At rest the two agree: a group that falls behind under load stays behind.
        while (last := look(0.0)).lag or last.group_behind:
            if time.monotonic() > ended + _DEADLINE_S:
                raise TimeoutError(f"{_DEADLINE_S:g} s after the last order: {last}")
            time.sleep(0.1)
        issued = _issued(made) - before
    if issued != sent:
        raise RuntimeError(f"{sent:,} orders were accepted, and {issued:,} invoices issued")
    return [
        Result("accepted and issued", sent / (ended - began), "orders/s", note=f"{sent:,} in {ended - began:,.0f} s"),
        *(_growth(name, samples) for name in _PROCESSES),
        _compared("group behind the positions", [each.group_behind for each in samples]),
        _compared("not carried out yet", [each.lag for each in samples]),
    ]


def _issued(made: Stack) -> int:
    with psycopg.connect(made.endpoints()["postgres"], autocommit=True) as ledger:
        return read_progress(ledger).invoices


def _growth(name: str, samples: list[Sample]) -> Result:
    """Of the memory from when it has settled to the end, as a straight line through all that was seen."""
    settled = samples[int(len(samples) * SETTLED_AFTER) :]
    minutes = [each.at_s / 60 for each in settled]
    used = [each.memory_mb[name] for each in settled]
    slope = statistics.linear_regression(minutes, used).slope if len(settled) > 2 else 0.0
    grown = slope * (minutes[-1] - minutes[0])
    note = f"from {used[0]:.0f} to {used[-1]:.0f} MB resident, in {minutes[-1] - minutes[0]:.0f} minutes"
    return Result(f"{name}, memory grown", max(grown, 0.0), "MB", GROWTH_MB_MAX, less_is_better=True, note=note)


def _compared(name: str, seen: list[int]) -> Result:
    third = len(seen) // 3 or 1
    first, last = statistics.mean(seen[:third]), statistics.mean(seen[-third:])
    note = f"mean; first third {first:,.0f}, last third {last:,.0f}, most {max(seen):,}; 0 at the end"
    return Result(name, statistics.mean(seen), "records", note=note)


@contextmanager
def _load(made: Stack, prefix: str) -> Iterator["subprocess.Popen[bytes]"]:
    with tempfile.NamedTemporaryFile("wb", suffix=".jsonl") as file:
        for body in bodies(ROUND_ORDERS, seed=1, prefix=prefix):
            file.write(msgspec.json.encode(body) + b"\n")
        file.flush()
        command = [sys.executable, "-m", "gapless", "load", file.name, "--rate", str(PER_S), "--json"]
        with subprocess.Popen([*command, "--data", str(made.data)], stdout=subprocess.DEVNULL) as load:
            yield load


@contextmanager
def _watch(made: Stack) -> Iterator[Any]:
    """A function that takes samples."""
    endpoints = made.endpoints()
    topic = INVOICE_REQUESTS.name
    consumer = Consumer({"bootstrap.servers": endpoints["kafka"], "group.id": _GROUP})
    partitions = consumer.list_topics(topic, timeout=_DEADLINE_S).topics[topic].partitions
    places = [TopicPartition(topic, number) for number in partitions]
    with psycopg.connect(endpoints["postgres"], autocommit=True) as ledger:

        def look(at_s: float) -> Sample:
            # In this order, so that neither difference can be too large for having been read later.
            ends = {each.partition: consumer.get_watermark_offsets(each, timeout=_DEADLINE_S)[1] for each in places}
            positions: dict[int, int] = dict(ledger.execute(_POSITIONS, (topic,)).fetchall())
            group = {each.partition: max(0, each.offset) for each in consumer.committed(places, timeout=_DEADLINE_S)}
            return Sample(
                at_s,
                sum(max(0, end - positions.get(number, 0)) for number, end in ends.items()),
                sum(max(0, position - group[number]) for number, position in positions.items()),
                {name: psutil.Process(pid_of(made, name)).memory_info().rss / 2**20 for name in _PROCESSES},
            )

        yield look
    consumer.close()
