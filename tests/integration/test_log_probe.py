"""What the log itself holds, where a worker was given less of it."""

import asyncio
import os
import sys
import uuid

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from chaos.scenarios.clock import faketime_library
from runtime.kafka import TopicSpec, ensure_topics
from streams.engine import log_probe
from streams.engine.log_probe import make_log_probe
from tests.conftest import Services


@pytest.fixture
def topic(services: Services) -> str:
    """A topic of one partition: records at 0, 2 and 4, marks of committed transactions between them."""
    name = f"probed-{uuid.uuid4().hex[:12]}"
    ensure_topics(services.kafka_bootstrap, [TopicSpec(name, 1, {})], 1)
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap, "transactional.id": name})
    producer.init_transactions(60)
    for value in (b"first", b"second", b"third"):
        producer.begin_transaction()
        producer.produce(name, value)
        producer.commit_transaction(20)
    return name


@pytest.mark.parametrize(("asked", "found"), [(0, 0), (1, 2), (2, 2), (3, 4), (4, 4)])
async def test_it_finds_the_first_record_at_or_after_an_offset(
    services: Services, topic: str, asked: int, found: int
) -> None:
    assert await make_log_probe(services.kafka_bootstrap)(topic, 0, asked) == (found, 0)


async def test_it_says_where_a_log_begins_that_has_lost_its_oldest_records(services: Services, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": services.kafka_bootstrap})
    for deleted in admin.delete_records([TopicPartition(topic, 0, 3)]).values():
        deleted.result(60)
    assert await make_log_probe(services.kafka_bootstrap)(topic, 0, 1) == (4, 3)


async def test_it_does_not_wait_for_ever_for_a_record(
    services: Services, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_probe, "_TIMEOUT_S", 2.0)
    with pytest.raises(TimeoutError):
        await make_log_probe(services.kafka_bootstrap)(topic, 0, 6)


async def test_it_answers_whatever_the_clock_says(services: Services, topic: str) -> None:
    """As after a clock was set back: who waits until a moment of it waits for as long as it was set back."""
    library = faketime_library()
    assert library is not None, "libfaketime is not installed"
    ahead = {"LD_PRELOAD": library, "FAKETIME": "+40d", "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    program = f"""
import asyncio, streams.engine.log_probe
print(asyncio.run(streams.engine.log_probe.make_log_probe({services.kafka_bootstrap!r})({topic!r}, 0, 1)))
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env={**os.environ, **ahead}, stdout=asyncio.subprocess.PIPE
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert out.decode().strip() == "(2, 0)"
