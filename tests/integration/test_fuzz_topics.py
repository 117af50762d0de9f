"""Anything at all on the topics that agents read: nothing ends them, nothing is lost, and what is good takes effect.

Every agent's own work runs in the worker, on a real Postgres (and Redis). `FUZZ_EXAMPLES` multiplies how much
is tried.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from domain.records import DeadLetter
from runtime import metrics
from runtime.publisher import Publisher
from schemas import catalog, codec
from streams.engine import work as work_module
from streams.engine.batch import Batch
from streams.engine.work import OUTAGE_RETRIES
from streams.rendering import Renderer
from tests.conftest import Services
from tests.hostile import Hostile, Sample, bomb, claims, records, sample
from tests.integration.agents_bench import READ, Bench, Good, Query
from tests.integration.gateways import Client, kept, make_topics, order, running, until
from tests.integration.test_gateway import issued_event
from tests.integration.test_invoices_work import FatalError
from tests.records import written

EXAMPLES = 15 * int(os.environ.get("FUZZ_EXAMPLES", "1"))
#: What an agent passes over without decoding it.
_PASSED_OVER = {
    ("payments", catalog.ORDER_EVENTS): frozenset(catalog.ORDER_EVENTS.schemas)
    - {catalog.ORDER_PLACED, catalog.PAYMENT_REQUESTED},
    ("stock", catalog.ORDER_EVENTS): frozenset({
        catalog.ORDER_STATE_CHANGED, catalog.ORDER_COMMAND_ANSWERED, catalog.PAYMENT_REQUESTED
    }),
}  # fmt: skip


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    made = Renderer(1)
    yield made
    made.close()


@pytest.mark.parametrize(("agent", "topic"), READ, ids=[f"{agent}-{topic.name}" for agent, topic in READ])
def test_whatever_comes_every_good_record_takes_effect_and_every_other_is_kept(
    agent: str,
    topic: catalog.Topic,
    services: Services,
    ledger_url: str,
    query: Query,
    tmp_path: Path,
    renderer: Renderer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One dead letter for each that can't be decoded, with its origin and bytes; no outage is seen in any of them."""

    def fatal(message: str, error: BaseException | None = None) -> None:
        raise FatalError(message) from error

    monkeypatch.setattr(work_module, "fatal", fatal)
    with asyncio.Runner() as loop:
        seller_id = f"fuzz-{os.getpid()}-{topic.name}"[:40]
        bench = loop.run(Bench.opened(services, ledger_url, query, tmp_path, renderer, seller_id=seller_id))
        good = Good(bench, agent, topic)
        first = loop.run(good.make("G-0"))
        schema, value = codec.decode(first, *topic.schemas, bytes_max=topic.value_bytes_max)
        known = {"seller_id": "demo", "order_id": "G-0", "currency": "EUR", "kind": "invoice"}
        honest = [Sample(schema, value), Sample(schema, value), *_samples(topic, known)]
        foreign = [
            each.encoded for other in catalog.TOPICS.values() if other is not topic for each in _samples(other, known)
        ]
        names = iter(f"G-{number}" for number in range(1, 1_000_000))

        @settings(
            max_examples=EXAMPLES,
            derandomize="FUZZ_EXAMPLES" not in os.environ,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(
            before=st.lists(records(honest, foreign), max_size=8),
            after=st.lists(records(honest, foreign), min_size=1, max_size=8),
        )
        def holds(before: list[Hostile], after: list[Hostile]) -> None:
            name = next(names)
            record = Hostile(name.encode(), loop.run(good.make(name)))
            retries = OUTAGE_RETRIES.labels(agent)._value.get()
            batch = loop.run(bench.run(agent, topic, [*before, record, *after]))
            assert OUTAGE_RETRIES.labels(agent)._value.get() == retries, "hostile bytes look like an outage"
            assert bench.missed == 0, "hostile bytes look like Redis away"
            assert good.took_effect(name)
            _check_letters(bench, agent, topic, batch)

        try:
            holds()
        finally:
            loop.run(bench.close())


def _samples(topic: catalog.Topic, known: dict[str, Any]) -> list[Sample]:
    return [sample(schema, **known) for schema in topic.schemas]


def _check_letters(bench: Bench, agent: str, topic: catalog.Topic, batch: Batch) -> None:
    rows = bench.query("SELECT payload FROM journal WHERE topic = %s ORDER BY seq", catalog.DEAD_LETTERS.name)
    letters: dict[int, DeadLetter] = {}
    for (payload,) in rows:
        _, letter = codec.decode(payload, catalog.DEAD_LETTER, bytes_max=catalog.DEAD_LETTERS.value_bytes_max)
        if letter["agent"] == agent and letter["source_topic"] == topic.name:
            assert letter["source_offset"] not in letters, "two letters of one record"
            letters[letter["source_offset"]] = letter
    for record in batch.records:
        found = letters.pop(record.offset, None)
        if found is None:
            assert not _must_stop(agent, topic, record.value), f"{record.value!r} is gone"
        else:
            assert (found["key"], found["value"], found["error"] != "") == (record.key, record.value, True)
    assert all(offset < batch.first_offset for offset in letters)


def _must_stop(agent: str, topic: catalog.Topic, value: bytes | None) -> bool:
    try:
        codec.decode(value, *topic.schemas, bytes_max=topic.value_bytes_max)
    except codec.DecodeError:
        try:
            return value is None or codec.schema_of(value) not in _PASSED_OVER.get((agent, topic), ())
        except codec.DecodeError:
            return True
    return False


async def follows(client: Client) -> None:
    """Wait until the gateway says that it follows its topics; it asks itself once a second, no more."""
    await until(lambda: client.get("/readyz"), lambda answer: answer.json["events"] == "ok")


async def test_a_gateway_follows_its_topics_whatever_is_on_them(services: Services, ledger: str) -> None:
    """Who waits is answered by the agent's event, although garbage with the same key came before it."""
    topics = make_topics(services.kafka_bootstrap)
    order_id = f"A-{uuid4().hex[:12]}"
    key, honest = order_id.encode(), issued_event("demo", order_id, 7)
    kinds = [*catalog.INVOICE_EVENTS.schemas, *catalog.ORDER_EVENTS.schemas]
    hostile: list[bytes | None] = [None, b"", b"\0", b"\0\0\0\0\x63x"]
    hostile += [bomb(schema, 1024 * 1024) for schema in kinds]
    hostile += [payload for schema in kinds for payload in claims(schema)[::20]]
    hostile += [sample(schema, seller_id="demo", order_id=order_id).encoded for schema in kinds]
    changes: list[dict[str, Any]] = [{"issued_at": 2**63 - 1}, {"issued_at": -(2**63)}, {"currency": "XXX"}]
    changes += [{"lines": []}, {"seller_id": "\0"}]
    hostile += [written(catalog.INVOICE_ISSUED, {**honest, **each}) for each in changes]
    async with running(services, ledger, topics) as client:
        await follows(client)
        waiting = asyncio.create_task(client.post(order(order_id), Prefer="wait=30"))
        await until(lambda: asyncio.to_thread(kept, services, topics), bool)
        publisher = Publisher(services.kafka_bootstrap)
        for topic in (topics.events, topics.order_events):
            await asyncio.gather(*(publisher.publish(topic.name, key, value or b"") for value in hostile))
        await publisher.publish(topics.events.name, key, written(catalog.INVOICE_ISSUED, honest))
        answer = await waiting
        await publisher.close()
        assert (answer.status, answer.json["number"]) == (200, 7)
        await follows(client)


def test_bombs_are_refused_within_the_size_of_a_record() -> None:
    """A megabyte that claims gigabytes costs some megabytes, in a process of its own."""
    code = (
        "import resource\n"
        "from schemas import catalog, codec\n"
        "from tests.hostile import bomb, claims\n"
        "def used(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = used()\n"
        "refused = 0\n"
        "for topic in catalog.TOPICS.values():\n"
        "    for schema in topic.schemas:\n"
        "        for payload in [bomb(schema, size) for size in (30_000, 40_000, 1024 * 1024)] + claims(schema):\n"
        "            try:\n"
        "                codec.decode(payload, *topic.schemas, bytes_max=topic.value_bytes_max)\n"
        "            except codec.DecodeError:\n"
        "                refused += 1\n"
        "print(used() - before, refused)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    mib, refused = map(int, ran.stdout.split())
    assert refused > 1_000
    assert mib < 48


HOSTILE_BUT_WELL_FORMED: list[tuple[str, catalog.Topic, catalog.Schema[Any], dict[str, Any]]] = [
    # Postgres has no such time, and said so in the middle of the batch.
    ("payments", catalog.ORDER_EVENTS, catalog.ORDER_PLACED, {"hold_expires_at": -(2**63)}),
    # Redis' library has no such numbers.
    ("stock", catalog.INVENTORY_EVENTS, catalog.STOCK_CHANGED, {"changes": [
        {"sku": "S", "quantity": 2**63 - 1, "on_hand": -(2**63), "reserved": 2**63 - 1, "version": 1}
    ]}),
    # Its braces would put it beside another seller's keys.
    ("stock", catalog.INVENTORY_EVENTS, catalog.STOCK_CHANGED, {"seller_id": "{demo}"}),
    # Another topic's, which the same agent passes over there.
    ("stock", catalog.INVENTORY_EVENTS, catalog.PAYMENT_REQUESTED, {}),
    # Whatever stood here became the name of a measure.
    ("orders", catalog.PAYMENT_EVENTS, catalog.PAYMENT_ATTEMPT_FINISHED, {"action": "x" * 1_000}),
]  # fmt: skip


@pytest.mark.parametrize(("agent", "topic", "schema", "changes"), HOSTILE_BUT_WELL_FORMED)
def test_what_could_not_be_applied_is_a_dead_letter(
    agent: str,
    topic: catalog.Topic,
    schema: catalog.Schema[Any],
    changes: dict[str, Any],
    services: Services,
    ledger_url: str,
    query: Query,
    tmp_path: Path,
    renderer: Renderer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of these ended a worker, held it up, or was dropped in silence."""

    def fatal(message: str, error: BaseException | None = None) -> None:
        raise FatalError(message) from error

    monkeypatch.setattr(work_module, "fatal", fatal)
    known = {"seller_id": "demo", "order_id": "G-0", "cause": "set", "outcome": "succeeded", "currency": "EUR"}
    payload = sample(schema, **{**known, **changes}).encoded

    async def run() -> None:
        bench = await Bench.opened(services, ledger_url, query, tmp_path, renderer)
        await bench.place("G-0")
        await bench.run(agent, topic, [(b"key", payload)])
        assert bench.missed == 0
        await bench.close()

    asyncio.run(run())
    assert b"x" * 100 not in metrics.render()
    [(letter,)] = query("SELECT payload FROM journal WHERE topic = %s", catalog.DEAD_LETTERS.name)
    _, value = codec.decode(letter, catalog.DEAD_LETTER, bytes_max=catalog.DEAD_LETTERS.value_bytes_max)
    assert (value["agent"], value["source_topic"], value["value"]) == (agent, topic.name, payload)
