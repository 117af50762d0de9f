"""5,000 requests of every kind while processes are killed and stopped: nothing is lost, nothing is doubled."""

import asyncio
import json
import os
import random
import signal
import struct
import time
from typing import Any

from confluent_kafka import Producer

from producers.generate import bodies
from producers.load import Report, run
from runtime.settings import Settings
from schemas.catalog import INVOICE_REQUEST, INVOICE_REQUESTS, PARTITIONS
from schemas.codec import encode
from tests.e2e.judge import Judge
from tests.e2e.running import Running
from tests.unit.domain.test_invoice import request

#: Set to replay a storm: the same requests, victims and order of kills; their moments are the machine's.
SEED_VARIABLE = "GAPLESS_TEST_SEED"
REQUESTS = 5_000
REPEATS = REQUESTS // 10
CONFLICTS = GARBAGE = REQUESTS // 100
#: Slow enough that the kills fall into the stream, not behind it.
RATE = 125.0
KILL_EVERY_S = 2.0
STOPPED_S = 15.0
VICTIMS = ("invoices-1", "invoices-2", "documents-1", "relay")


async def test_kills_and_stops_lose_nothing_and_double_nothing(running: Running) -> None:
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(2**32))
    print(f"\nto replay: {SEED_VARIABLE}={seed}")
    chance = random.Random(seed)
    judge = Judge()
    payloads = _payloads(chance)
    judge.know(payloads)
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_kill(running, chance, over))
        garbage = group.create_task(asyncio.to_thread(_send_garbage, running.settings, chance.randrange(2**32)))
        report = await _post(running, payloads, judge)
        over.set()
    assert garbage.result() == GARBAGE
    assert report.failed == 0, report.failures
    assert set(judge.statuses) <= {200, 202, 409}, judge.statuses
    audited = await asyncio.to_thread(running.assert_clean)
    assert audited.outcomes["dead letter"] >= GARBAGE
    with running.ledger() as ledger:
        judge.assert_kept(ledger)


async def _post(running: Running, payloads: list[bytes], judge: Judge) -> Report:
    async with running.client(connections=64, give_up_after_s=90) as client:
        return await run(client, payloads, rate=RATE, workers=64, on_answer=judge.hear)


def _payloads(chance: random.Random) -> list[bytes]:
    """Distinct orders, repeats and conflicts, in an order that the seed decides."""
    distinct = REQUESTS - REPEATS - CONFLICTS - GARBAGE
    orders = list(bodies(distinct, seed=chance.randrange(2**32), prefix=f"STORM-{chance.randrange(10**6)}"))
    repeats = chance.sample(orders, REPEATS)
    conflicts: list[dict[str, Any]] = [{**order, "note": "other"} for order in chance.sample(orders, CONFLICTS)]
    everything = [*orders, *repeats, *conflicts]
    chance.shuffle(everything)
    return [json.dumps(order).encode() for order in everything]


async def _kill(running: Running, chance: random.Random, over: asyncio.Event) -> None:
    """Kill one every 2 s; after some time stop one for 15 s, which then wakes in a world that has gone on."""
    stop_at = chance.randrange(2, 6)
    stopped: str | None = None
    continue_at = 0.0
    try:
        for turn in range(10_000):
            if stopped is not None and time.monotonic() >= continue_at:
                running.signal(stopped, signal.SIGCONT)
                stopped = None
            if over.is_set():
                return
            victim = chance.choice([name for name in VICTIMS if name != stopped])
            if turn >= stop_at and continue_at == 0.0:
                if running.signal(victim, signal.SIGSTOP):
                    print(f"stopped {victim}")
                    stopped, continue_at = victim, time.monotonic() + STOPPED_S
            elif running.signal(victim, signal.SIGKILL):
                print(f"killed {victim}")
            await asyncio.sleep(KILL_EVERY_S)
    finally:
        if stopped is not None:
            running.signal(stopped, signal.SIGCONT)


def _send_garbage(settings: Settings, seed: int) -> int:
    """Records that no gateway would send, spread over the storm; returns how many the broker has."""
    chance = random.Random(seed)
    good = encode(INVOICE_REQUEST, request(order_id="GARBAGE"))
    acknowledged = []
    config = {"bootstrap.servers": settings.kafka_bootstrap, "acks": "all", "enable.idempotence": True, "log_level": 3}
    producer = Producer(config)
    for number in range(GARBAGE):
        value: bytes | None = [
            chance.randbytes(chance.randrange(1, 200)),
            good[: chance.randrange(5, len(good))],
            struct.pack(">bI", 0, 999) + good[5:],
            None,
        ][number % 4]
        producer.produce(
            INVOICE_REQUESTS.name,
            value,
            b"garbage",
            chance.randrange(PARTITIONS),
            on_delivery=lambda error, message: acknowledged.append(message) if error is None else None,
        )
        producer.flush(30)
        time.sleep(0.5)
    return len(acknowledged)
