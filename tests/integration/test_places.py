"""Records of input topics that stand where nobody looks for their order: each is a dead letter, and nothing else."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import catalog, codec
from schemas.placement import partition_of
from streams.engine.in_place import InPlace
from streams.rendering import Renderer
from tests.conftest import PARTITIONS, Services
from tests.integration.agents_bench import READ, Bench, Good, Query
from tests.integration.test_audit import found
from tests.integration.test_fuzz_topics import renderer  # noqa: F401 - a fixture.
from tests.integration.test_invoices_work import NOW
from tests.integration.world import REQUESTS, build
from tests.records import written
from tests.unit.domain.test_invoice import request

INPUTS = [(agent, topic) for agent, topic in READ if topic in catalog.INPUT_TOPICS]


def in_partition(partition: int) -> Iterator[str]:
    """Order ids whose key belongs there."""
    ids = (f"P-{number}" for number in range(10**6))
    return (each for each in ids if partition_of(each.encode(), PARTITIONS) == partition)


@pytest.mark.parametrize(("agent", "topic"), INPUTS, ids=[f"{agent}-{topic.name}" for agent, topic in INPUTS])
def test_a_record_in_the_wrong_place_is_a_dead_letter_and_has_no_effect(
    agent: str,
    topic: catalog.Topic,
    services: Services,
    ledger_url: str,
    query: Query,
    tmp_path: Path,
    renderer: Renderer,  # noqa: F811
) -> None:
    """Every input topic is here, with the agent that reads it; also where a batch has nothing else."""
    placed, displaced = in_partition(0), in_partition(3)

    async def run() -> None:
        bench = await Bench.opened(services, ledger_url, query, tmp_path, renderer)
        work: InPlace[Any] = InPlace(bench.works[agent], PARTITIONS, lambda: NOW)
        good = Good(bench, agent, topic)
        names = [next(displaced), next(placed), next(placed)]
        values = [await good.make(name) for name in names]
        keys = [names[0].encode(), next(placed).encode(), None]
        bench.works[agent] = work
        await bench.run(agent, topic, list(zip(keys, values, strict=True)))
        assert not any(map(good.took_effect, names))
        honest = next(placed)
        value = await good.make(honest)
        await bench.run(agent, topic, [(None, None), (honest.encode(), value), (b"x", values[0])])
        assert good.took_effect(honest)
        assert not any(map(good.took_effect, names))
        await bench.close()

    asyncio.run(run())
    rows = query("SELECT payload FROM journal WHERE topic = %s ORDER BY seq", catalog.DEAD_LETTERS.name)
    letters = [codec.decode(row[0], catalog.DEAD_LETTER, bytes_max=10**7)[1] for row in rows]
    said = [(each["agent"], each["source_topic"], each["source_offset"], each["error"]) for each in letters]
    assert [each[:3] for each in said] == [(agent, topic.name, offset) for offset in (0, 1, 2, 3, 5)]
    reasons = ["wrong-partition", "wrong-key", "wrong-key", "wrong-key", "wrong-key"]
    assert [each[3].partition(":")[0] for each in said] == reasons


def test_the_audit_says_which_records_stand_in_the_wrong_place_without_a_dead_letter(
    services: Services, ledger_url: str, tmp_path: Path
) -> None:
    ids = in_partition(0)
    own, other = [next(ids) for _ in range(3)], next(in_partition(1))
    world = build(
        services.kafka_bootstrap,
        ledger_url,
        tmp_path,
        [[(each.encode(), _asked(each)) for each in own], [(other.encode(), _asked(other))]],
    )
    assert found(world.audit()) == ""
    world.produce(REQUESTS, 1, own[0].encode(), _asked(own[0]))
    world.produce(REQUESTS, 1, other.encode(), _asked(own[0]))
    world.produce(REQUESTS, 1, None, _asked(other))
    world.execute("UPDATE positions SET next_offset = 4 WHERE agent = 'invoices' AND partition = 1")
    lines = found(world.audit()).splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "wrong-partition",
        "wrong-key",
        "wrong-key",
    ]
    assert all(line.endswith("and has no dead letter") for line in lines)


def _asked(order_id: str) -> bytes:
    return written(catalog.INVOICE_REQUEST, request(order_id=order_id))
