"""Stock over HTTP: set, adjusted and shown, with Postgres behind it and the journal's word for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from multidict import CIMultiDict

from schemas import catalog, codec
from schemas.placement import partition_of
from tests.conftest import PARTITIONS, Services
from tests.integration.gateways import KEYS, Answer, Client, Topics, link_to, running, through, until

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
async def client(services: Services, ledger: str, topics: Topics) -> AsyncIterator[Client]:
    """A client of the seller `demo`."""
    async with running(services, ledger, topics) as made:
        yield made


async def put(client: Client, sku: str, **change: Any) -> Answer:
    """PUT /v1/stock/{sku}."""
    return await client.call("PUT", f"/v1/stock/{sku}", json=change)


def events(query: Query) -> list[dict[str, Any]]:
    """What the journal says of stock, by version."""
    rows = query("SELECT partition, key, payload FROM journal WHERE topic = %s", catalog.INVENTORY_EVENTS.name)
    found = []
    for partition, key, payload in rows:
        _, event = codec.decode(payload, catalog.STOCK_CHANGED, bytes_max=catalog.INVENTORY_EVENTS.value_bytes_max)
        assert partition == partition_of(key, PARTITIONS)
        [change] = event["changes"]
        assert key == change["sku"].encode()
        found.append({"cause": event["cause"], "order_id": event["order_id"], **change})
    return sorted(found, key=lambda event: (event["sku"], event["version"]))


async def test_stock_is_set_adjusted_and_shown(client: Client, query: Query) -> None:
    """Each change has the next version, and an event."""
    first = await put(client, "S-1", on_hand=500)
    assert first.status == 200
    assert first.json == {"sku": "S-1", "on_hand": 500, "reserved": 0, "available": 500, "version": 1}
    assert (await put(client, "S-1", adjust=-3, key="broken-1")).json["on_hand"] == 497
    assert (await client.get("/v1/stock/S-1")).json == {**first.json, "on_hand": 497, "available": 497, "version": 2}
    said = [(each["cause"], each["quantity"], each["on_hand"], each["version"]) for each in events(query)]
    assert said == [("set", 500, 500, 1), ("adjusted", -3, 497, 2)]


async def test_what_changes_nothing_is_no_change(client: Client, query: Query) -> None:
    """No event, the same version."""
    await put(client, "S-1", on_hand=5)
    assert (await put(client, "S-1", on_hand=5)).json["version"] == 1
    assert len(events(query)) == 1


async def test_an_adjustment_is_made_once_for_its_key(client: Client, query: Query) -> None:
    """However often it comes, also at the same instant; another under the same key is a conflict."""
    await put(client, "S-1", on_hand=10)
    answers = await asyncio.gather(*(put(client, "S-1", adjust=-4, key="k") for _ in range(5)))
    assert {(each.status, each.json["on_hand"], each.json["version"]) for each in answers} == {(200, 6, 2)}
    other = await put(client, "S-1", adjust=-3, key="k")
    assert (other.status, other.json["type"]) == (409, "/problems/adjustment-conflict")
    assert len(events(query)) == 2


async def test_what_orders_hold_can_not_be_taken_away(client: Client, query: Query) -> None:
    """Nor more than there is."""
    await put(client, "S-1", on_hand=10)
    query("UPDATE stock SET reserved = 4")
    for change in ({"on_hand": 3}, {"adjust": -7, "key": "k"}):
        refused = await put(client, "S-1", **change)
        assert (refused.status, refused.json["type"], refused.json["reserved"]) == (409, "/problems/stock-reserved", 4)
    assert (await put(client, "S-2", adjust=-1, key="k")).json["type"] == "/problems/stock-reserved"
    assert (await put(client, "S-1", on_hand=4)).json["available"] == 0
    # What was refused has not used up its key.
    assert (await put(client, "S-1", adjust=1, key="k")).json["on_hand"] == 5
    assert query("SELECT count(*) FROM stock WHERE sku = 'S-2'") == [(0,)]


async def test_changes_at_the_same_instant_all_count(client: Client, query: Query) -> None:
    """Also the first ones, which make the row."""
    await asyncio.gather(*(put(client, "S-1", adjust=1, key=f"k{n}") for n in range(20)))
    assert (await client.get("/v1/stock/S-1")).json["on_hand"] == 20
    assert [each["version"] for each in events(query)] == list(range(1, 21))


async def test_stock_is_listed_in_pages(client: Client) -> None:
    """By SKU; a SKU that comes meanwhile disturbs nothing."""
    for n in range(5):
        await put(client, f"S-{n}", on_hand=n)
    page = (await client.get("/v1/stock?limit=2")).json
    assert [row["sku"] for row in page["stock"]] == ["S-0", "S-1"]
    await put(client, "A-1", on_hand=1)
    page = (await client.get(f"/v1/stock?limit=3&cursor={page['next']}")).json
    assert [row["sku"] for row in page["stock"]] == ["S-2", "S-3", "S-4"]
    assert page["next"] is None


async def conditional(client: Client, sku: str, conditions: list[tuple[str, str]], **change: Any) -> Answer:
    """PUT with header lines, which may repeat."""
    return await client.call("PUT", f"/v1/stock/{sku}", CIMultiDict(conditions), json=change)


async def test_pieces_that_were_set_are_not_set_again_after_a_shipment(client: Client, query: Query) -> None:
    """The repeat names the version that it was decided on: what was shipped meanwhile doesn't come back."""
    first = await put(client, "S-1", on_hand=10)
    assert first.headers["ETag"] == '"1"'
    assert (await client.get("/v1/stock/S-1")).headers["ETag"] == '"1"'
    count = [("If-Match", '"1"')]
    assert (await conditional(client, "S-1", count, on_hand=8)).headers["ETag"] == '"2"'
    # Claimed and shipped.
    query("UPDATE stock SET on_hand = 5, version = 4")
    again = await conditional(client, "S-1", count, on_hand=8)
    assert (again.status, again.json["type"], again.json["version"]) == (412, "/problems/precondition-failed", 4)
    assert again.headers["ETag"] == '"4"'
    assert (await client.get("/v1/stock/S-1")).json["on_hand"] == 5
    assert (await conditional(client, "S-1", [("If-Match", again.headers["ETag"])], on_hand=4)).json["version"] == 5


@pytest.mark.parametrize(
    ("conditions", "permitted"),
    [
        ([("If-Match", '"1"')], True),
        ([("If-Match", '"7", "1"')], True),
        ([("If-Match", '"7"'), ("If-Match", '"1"')], True),
        ([("If-Match", "*")], True),
        ([("If-Match", '"2"')], False),
        # Weak tags never match strongly, and a version without quotes is no tag.
        ([("If-Match", 'W/"1"')], False),
        ([("If-Match", "1")], False),
        ([("If-Match", "")], False),
        ([("If-None-Match", "*")], False),
        ([("If-None-Match", 'W/"1"')], False),
        ([("If-None-Match", '"2"')], True),
    ],
)
async def test_a_condition_is_obeyed(client: Client, conditions: list[tuple[str, str]], permitted: bool) -> None:
    """By an absolute change and by an adjustment alike; also one that would change nothing."""
    await put(client, "S-1", on_hand=5)
    for sku, change in (("S-1", {"on_hand": 5}), ("S-1", {"adjust": 1, "key": "k"})):
        answer = await conditional(client, sku, conditions, **change)
        assert answer.status == (200 if permitted else 412), change
    assert (await client.get("/v1/stock/S-1")).json["on_hand"] == (6 if permitted else 5)


async def test_a_sku_without_stock_meets_no_if_match(client: Client) -> None:
    """And `If-None-Match: *` sets it once: a second one, or a repeat, changes nothing."""
    for wanted in ("*", '"0"', '"1"'):
        answer = await conditional(client, "S-1", [("If-Match", wanted)], on_hand=5)
        assert (answer.status, answer.json["sku"]) == (412, "S-1")
    assert (await client.get("/v1/stock/S-1")).status == 404
    new = [("If-None-Match", "*")]
    answers = await asyncio.gather(*(conditional(client, "S-1", new, on_hand=n) for n in range(1, 6)))
    assert sorted(each.status for each in answers) == [200, 412, 412, 412, 412]


async def test_an_adjustment_that_was_made_is_no_stale_one(client: Client) -> None:
    """Its key says that it has succeeded already: sent again it has its answer, whatever the version is by now."""
    await put(client, "S-1", on_hand=5)
    for _ in range(2):
        answer = await conditional(client, "S-1", [("If-Match", '"1"')], adjust=2, key="k")
        assert (answer.status, answer.json["on_hand"]) == (200, 7)


async def test_stock_that_the_caller_has_is_not_sent_again(client: Client) -> None:
    """304, with the tag."""
    await put(client, "S-1", on_hand=5)
    known = await client.get("/v1/stock/S-1", If_None_Match='"0", W/"1"')
    assert (known.status, known.body, known.headers["ETag"]) == (304, b"", '"1"')
    assert (await client.get("/v1/stock/S-1", If_None_Match='"2"')).status == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({}, "on_hand"),
        ({"on_hand": -1}, "on_hand"),
        ({"on_hand": 10**10}, "on_hand"),
        ({"on_hand": 1, "adjust": 1, "key": "k"}, "on_hand"),
        ({"on_hand": 1, "key": "k"}, "on_hand"),
        ({"adjust": 1}, "key"),
        ({"adjust": 0, "key": "k"}, "adjust"),
        ({"adjust": 1, "key": ""}, "key"),
        ({"on_hand": 1.5}, "on_hand"),
        ({"on_hand": "1"}, "on_hand"),
        ({"in_hand": 1}, "in_hand"),
    ],
)
async def test_a_change_that_is_none_is_refused_by_its_field(
    client: Client, change: dict[str, Any], field: str
) -> None:
    """Nothing is guessed."""
    answer = await put(client, "S-1", **change)
    assert answer.status in (400, 422)
    assert answer.json["field"] == field


async def test_what_can_not_be_a_sku_has_no_stock(client: Client) -> None:
    """Nor has what never had any; a cursor of nobody's is refused."""
    assert (await put(client, "x" * 65, on_hand=1)).json["field"] == "sku"
    assert (await put(client, "a%00b", on_hand=1)).status == 422
    assert (await client.get("/v1/stock/a%00b")).status == 404
    assert (await client.get("/v1/stock/S-404")).status == 404
    for page in ("limit=0", "limit=101", "limit=x", "cursor=x", "cursor=WzFd", "cursor=%C3%BC"):
        assert (await client.get(f"/v1/stock?{page}")).status == 422, page


async def test_sellers_have_their_own_stock(client: Client) -> None:
    """Of the same SKU."""
    other = client.as_(KEYS["other"])
    await put(client, "S-1", on_hand=5)
    assert (await other.get("/v1/stock/S-1")).status == 404
    assert (await put(other, "S-1", on_hand=7)).json["version"] == 1
    assert (await client.get("/v1/stock/S-1")).json["on_hand"] == 5


async def test_without_postgres_no_change_is_said_to_be_made(
    services: Services, ledger: str, topics: Topics, query: Query
) -> None:
    """503 and when to come again, also where Postgres hangs; and it recovers alone."""
    postgres = await link_to(ledger)
    async with running(services, through(postgres, ledger), topics) as client:
        await put(client, "S-1", on_hand=5)
        await postgres.cut()
        for answer in (await put(client, "S-1", on_hand=6), await client.get("/v1/stock/S-1")):
            assert (answer.status, answer.json["type"]) == (503, "/problems/unavailable")
            assert "Retry-After" in answer.headers
        assert "read the stock before you set it again" in (await put(client, "S-1", on_hand=6)).json["detail"]
        assert "its key makes it once" in (await put(client, "S-1", adjust=1, key="unheard")).json["detail"]
        await postgres.open()
        back = await until(lambda: put(client, "S-1", on_hand=6), lambda answer: answer.status == 200)
        assert back.json["version"] == 2
        postgres.freeze()
        assert (await put(client, "S-1", adjust=1, key="k")).status == 503
        postgres.thaw()
        back = await until(lambda: put(client, "S-1", adjust=1, key="k"), lambda answer: answer.status == 200)
        assert back.json["on_hand"] == 7
    await postgres.cut()
    assert [each["version"] for each in events(query)] == [1, 2, 3]
