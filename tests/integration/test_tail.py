"""The thread that tells waiting clients: it never ends while its gateway goes on."""

import asyncio
import subprocess
import sys
import time
from dataclasses import replace

from confluent_kafka import Producer

from gateway.http.waiting import Tail, TailedRecord
from runtime.kafka import TopicSpec, ensure_topics
from schemas.catalog import INVOICE_EVENTS
from tests.conftest import Services
from tests.integration.gateways import Topics

_PROGRAM = """
import asyncio, sys
from dataclasses import replace
from gateway.http.waiting import Tail
from schemas import catalog

class Broken(dict):
    def __contains__(self, key):
        raise LookupError("the waiters are gone")

async def main():
    tail = Tail(sys.argv[1], replace(catalog.INVOICE_EVENTS, name=sys.argv[2]), Broken(), print)
    tail.start()
    while not tail.follows:
        await asyncio.sleep(0.05)
    print("follows", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_an_error_of_the_tail_ends_the_gateways_process(services: Services, topics: Topics) -> None:
    """As any bug does: with 70 and a reason. It would only be slow otherwise, and ready, until somebody looks."""
    arguments = [sys.executable, "-c", _PROGRAM, services.kafka_bootstrap, topics.events.name]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "follows\n"
            producer = Producer({"bootstrap.servers": services.kafka_bootstrap})
            producer.produce(topics.events.name, b"value", b"key", partition=0)
            assert producer.flush(60) == 0
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 70
    assert "LookupError: the waiters are gone" in said


async def test_a_tail_follows_every_partition_that_its_topic_has(services: Services) -> None:
    """However many the deployment has chosen."""
    topic = replace(INVOICE_EVENTS, name=f"tail-{time.time_ns()}")
    ensure_topics(services.kafka_bootstrap, [TopicSpec(topic.name, 16, {})], 1)
    found: list[TailedRecord] = []
    tail = Tail(services.kafka_bootstrap, topic, {b"key": True}, found.extend)
    tail.start()
    while not tail.follows:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    producer = Producer({"bootstrap.servers": services.kafka_bootstrap})
    for partition in range(16):
        producer.produce(topic.name, str(partition).encode(), b"key", partition)
    assert await asyncio.to_thread(producer.flush, 60) == 0
    async with asyncio.timeout(60):
        while len(found) < 16:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert {int(event.value) for event in found} == set(range(16))
    await tail.stop()
