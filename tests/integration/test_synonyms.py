"""A seller's synonyms over HTTP: written with their event, in one transaction, and read back."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.synonyms import SYNONYMS_BYTES_MAX
from schemas import catalog, codec
from schemas.placement import partition_of
from sinks.postgres.synonyms import Synonyms
from tests.conftest import PARTITIONS
from tests.integration.gateways import KEYS, Answer, Client
from tests.integration.test_products import found_by_audit, product
from tests.integration.test_products import put as put_product

Query = Callable[..., list[tuple[Any, ...]]]

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)

SEATS = {"words": ["sofa", "Canapé"], "also_finds": []}
TV = {"words": ["tv"], "also_finds": ["television"]}


async def put(client: Client, *groups: Any, **headers: str) -> Answer:
    """PUT /v1/synonyms."""
    return await client.call("PUT", "/v1/synonyms", headers, json={"groups": groups})


def permits(_: int) -> bool:
    """Any version may be changed."""
    return True


def events(query: Query) -> list[tuple[str, int, int]]:
    """What the journal says: seller, version, and how many groups."""
    found = []
    topic = catalog.CATALOGUE_EVENTS
    for partition, key, payload in query(
        "SELECT partition, key, payload FROM journal WHERE topic = %s ORDER BY partition, seq", topic.name
    ):
        _, event = codec.decode(payload, catalog.SYNONYMS_CHANGED, bytes_max=topic.value_bytes_max)
        assert (key, partition) == (event["seller_id"].encode(), partition_of(key, PARTITIONS))
        found.append((event["seller_id"], event["version"], len(event["groups"])))
    return found


async def test_synonyms_are_set_shown_and_taken_back(client: Client, query: Query) -> None:
    """Each change has the next version, and an event with all of them."""
    none = await client.get("/v1/synonyms")
    assert (none.status, none.headers["ETag"], none.json) == (200, '"0"', {"version": 0, "groups": []})
    made = await put(client, {"words": ["sofa", "Canapé"]}, TV)
    assert (made.status, made.headers["ETag"]) == (200, '"1"')
    assert made.json == {"version": 1, "groups": [SEATS, TV]}
    shown = await client.get("/v1/synonyms")
    assert (shown.headers["ETag"], shown.json) == ('"1"', made.json)
    assert (await put(client)).json == {"version": 2, "groups": []}
    assert events(query) == [("demo", 1, 2), ("demo", 2, 0)]


async def test_what_says_the_same_is_no_change(client: Client, query: Query) -> None:
    assert (await put(client)).json["version"] == 0
    await put(client, SEATS)
    again = await put(client, SEATS)
    assert (again.status, again.json["version"], events(query)) == (200, 1, [("demo", 1, 1)])


async def test_a_change_is_made_only_to_the_version_that_it_was_decided_on(client: Client) -> None:
    assert (await put(client, SEATS, If_Match='"0"')).json["version"] == 1
    stale = await put(client, TV, If_Match='"0"')
    assert (stale.status, stale.json["type"], stale.headers["ETag"]) == (412, "/problems/precondition-failed", '"1"')
    assert stale.json["version"] == 1
    assert (await put(client, TV, If_Match='"1"')).json["version"] == 2
    assert (await put(client, SEATS, If_Match="*")).json["version"] == 3
    assert (await client.get("/v1/synonyms")).json["groups"] == [SEATS]


async def test_changes_at_the_same_instant_all_count(ledger: str, query: Query) -> None:
    """By several gateways, and the first ones of a seller too."""
    gateways = [Synonyms(ledger) for _ in range(4)]
    changes = [
        each.put(
            "demo", [{"words": [{"text": f"word{n}"}, {"text": "sofa"}], "also_finds": []}], permits, PARTITIONS, NOW
        )
        for n, each in enumerate(gateways * 5)
    ]
    results = await asyncio.gather(*changes)
    assert sorted(each.version for each in results) == list(range(1, 21))
    assert [version for _, version, _ in events(query)] == list(range(1, 21))
    for each in gateways:
        await each.close()


async def test_another_sellers_synonyms_are_its_own(client: Client) -> None:
    other = client.as_(KEYS["other"])
    await put(client, SEATS)
    assert (await other.get("/v1/synonyms")).json["version"] == 0
    assert (await put(other, TV)).json["version"] == 1
    assert (await client.get("/v1/synonyms")).json["groups"] == [SEATS]
    assert (await client.as_(None).get("/v1/synonyms")).status == 401


async def test_synonyms_that_break_a_rule_are_refused_by_their_field(client: Client) -> None:
    for group, status, field in (
        ({"words": ["sofa"]}, 422, "groups[0].words"),
        ({"words": ["sofa", "--"]}, 422, "groups[0].words[1]"),
        ({"words": ["sofa", 1]}, 400, "groups[0].words[1]"),
        ({"words": ["sofa", "couch"], "finds": []}, 400, "groups[0].finds"),
    ):
        refused = await put(client, group)
        assert (refused.status, refused.json["field"]) == (status, field), group
    much = await client.call("PUT", "/v1/synonyms", data=b" " * (SYNONYMS_BYTES_MAX + 1))
    assert much.status == 413
    assert (await client.get("/v1/synonyms")).json["version"] == 0


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE synonyms SET event = event || 'x'", "synonyms of demo: is not what its event of version 2 says"),
        ("UPDATE synonyms SET version = 1", "synonyms of demo: is at version 1, and an event says 2"),
        ("UPDATE synonyms SET version = 3", "products: 4 versions, but 3 events that agree"),
        ("DELETE FROM synonyms", "synonyms of demo: is at version 0, and an event says 2"),
        ("UPDATE journal SET key = 'x' WHERE key = 'demo'", "its key is not that of the synonyms of demo"),
    ],
)
async def test_the_audit_compares_synonyms_with_their_events(
    client: Client, ledger: str, query: Query, damage: str, found: str
) -> None:
    """Beside those of a product."""
    await put_product(client, "mug", product())
    await put(client, SEATS)
    await put(client, SEATS, TV)
    assert await asyncio.to_thread(found_by_audit, ledger) == []
    query(damage)
    assert any(found in each for each in await asyncio.to_thread(found_by_audit, ledger))
