"""Products over HTTP: written with their events, in one transaction, and read back."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from audit import statements
from audit.events import JournalEntry
from audit.products import ProductCheck
from audit.report import AuditReport
from audit.snapshot import Snapshot
from schemas import catalog, codec
from schemas.placement import partition_of
from tests.conftest import PARTITIONS
from tests.integration.gateways import KEYS, Answer, Client

Query = Callable[..., list[tuple[Any, ...]]]


def product(sku: str = "MUG", **changes: Any) -> dict[str, Any]:
    """The body of a product."""
    return {
        "texts": [{"language": "en", "name": "Mug", "description": "For café crème."}],
        "currency": "EUR",
        "vat_category": "S",
        "vat_rate": "20.00",
        "prices_include_tax": True,
        "categories": ["kitchen/mugs"],
        "variants": [{"sku": sku, "unit_price": "9.90"}],
        **changes,
    }


async def put(client: Client, product_id: str, body: Any, **headers: str) -> Answer:
    """PUT /v1/products/{product_id}."""
    return await client.call("PUT", f"/v1/products/{product_id}", headers, json=body)


async def bulk(client: Client, *lines: dict[str, Any]) -> list[dict[str, Any]]:
    """POST /v1/products/bulk: the answers."""
    data = b"\n".join(json.dumps(line).encode() for line in lines)
    answer = await client.call("POST", "/v1/products/bulk", {"Content-Type": "application/x-ndjson"}, data=data)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in answer.body.splitlines()]


def events(query: Query) -> list[tuple[str, int, Any]]:
    """What the journal says of products: id, version, and the product itself, by id and version."""
    found = []
    topic = catalog.CATALOGUE_EVENTS
    for partition, key, payload in query("SELECT partition, key, payload FROM journal WHERE topic = %s", topic.name):
        _, event = codec.decode(payload, catalog.PRODUCT_CHANGED, bytes_max=topic.value_bytes_max)
        assert (key, partition) == (event["product_id"].encode(), partition_of(key, PARTITIONS))
        assert query(
            "SELECT version >= %s FROM products WHERE product_id = %s", event["version"], event["product_id"]
        ) == [(True,)]
        found.append((event["product_id"], event["version"], event["product"]))
    return sorted(found, key=lambda each: each[:2])


async def test_a_product_is_put_replaced_shown_and_deleted(client: Client, query: Query) -> None:
    """Each change has the next version, and an event; also when its id is used again."""
    made = await put(client, "mug", product())
    assert (made.status, made.headers["ETag"], made.json["version"]) == (201, '"1"', 1)
    assert made.json["variants"] == [{"sku": "MUG", "unit_price": "9.90", "attributes": []}]
    dearer = await put(client, "mug", product(variants=[{"sku": "MUG", "unit_price": "10.90"}]))
    assert (dearer.status, dearer.headers["ETag"]) == (200, '"2"')
    shown = await client.get("/v1/products/mug")
    assert shown.json == dearer.json
    assert (await client.get("/v1/products/mug", If_None_Match='"2"')).status == 304
    assert (await client.call("DELETE", "/v1/products/mug")).status == 204
    assert (await client.call("DELETE", "/v1/products/mug")).status == 404
    assert (await client.get("/v1/products/mug")).status == 404
    again = await put(client, "mug", product())
    assert (again.status, again.json["version"]) == (201, 4)
    prices = [each and each["variants"][0]["unit_price"] for _, _, each in events(query)]
    assert prices == ["9.90", "10.90", None, "9.90"]


async def test_what_says_the_same_is_no_change(client: Client, query: Query) -> None:
    await put(client, "mug", product())
    again = await put(client, "mug", product())
    assert (again.status, again.json["version"], len(events(query))) == (200, 1, 1)


async def test_a_change_is_made_only_to_the_version_that_it_was_decided_on(client: Client) -> None:
    await put(client, "mug", product())
    assert (await put(client, "mug", product(brand="A"), If_Match='"1"')).json["version"] == 2
    stale = await put(client, "mug", product(brand="B"), If_Match='"1"')
    assert (stale.status, stale.json["type"], stale.headers["ETag"]) == (412, "/problems/precondition-failed", '"2"')
    assert (await put(client, "mug", product(), If_None_Match="*")).status == 412
    assert (await put(client, "cup", product("CUP"), If_Match="*")).status == 412
    assert (await client.call("DELETE", "/v1/products/mug", {"If-Match": '"1"'})).status == 412
    assert (await client.get("/v1/products/mug")).json["brand"] == "A"


async def test_changes_at_the_same_instant_all_count(client: Client, query: Query) -> None:
    answers = await asyncio.gather(*(put(client, "mug", product(brand=f"B{n}")) for n in range(10)))
    assert sorted(each.json["version"] for each in answers) == list(range(1, 11))
    assert [version for _, version, _ in events(query)] == list(range(1, 11))


async def test_no_two_products_of_a_seller_sell_one_sku(client: Client) -> None:
    """Whoever gave it up makes room; another seller has SKUs of its own."""
    await put(client, "mug", product())
    taken = await put(client, "cup", product())
    assert (taken.status, taken.json["type"], taken.json["sku"]) == (409, "/problems/sku-taken", "MUG")
    assert (await put(client.as_(KEYS["other"]), "cup", product())).status == 201
    await put(client, "mug", product("OTHER"))
    assert (await put(client, "cup", product())).status == 201
    at_once = await asyncio.gather(*(put(client, f"p{n}", product("NEW")) for n in range(5)))
    assert sorted(each.status for each in at_once) == [201, 409, 409, 409, 409]


async def test_another_sellers_product_does_not_exist(client: Client) -> None:
    await put(client, "mug", product())
    other = client.as_(KEYS["other"])
    assert (await other.get("/v1/products/mug")).status == 404
    assert (await other.call("DELETE", "/v1/products/mug")).status == 404
    assert (await other.get("/v1/products")).json == {"products": [], "next": None}


async def test_many_are_put_at_once_with_an_answer_for_each_line(client: Client, query: Query) -> None:
    """What is wrong with one line concerns that line alone."""
    answers = await bulk(
        client,
        {"product_id": "a", **product("A")},
        {"product_id": "b", **product("A")},
        {"product_id": "c", **product("C", currency="XYZ")},
        {"product_id": "d"},
        {"product_id": "a", **product("A2")},
        {"product_id": "b", **product("A")},
    )
    assert [(each["line"], each["product_id"], each["status"], each.get("version")) for each in answers] == [
        (1, "a", 201, 1), (2, "b", 409, None), (3, "c", 422, None), (4, None, 400, None),
        (5, "a", 200, 2), (6, "b", 201, 1),
    ]  # fmt: skip
    assert [answers[2]["field"], answers[3]["field"], answers[1]["type"]] == [
        "currency",
        "texts",
        "/problems/sku-taken",
    ]
    assert [each[:2] for each in events(query)] == [("a", 1), ("a", 2), ("b", 1)]
    again = await bulk(client, {"product_id": "b", **product("A")})
    assert again == [{"line": 1, "product_id": "b", "status": 200, "version": 1}]


async def test_a_thousand_lines_are_put_and_listed_in_pages(client: Client) -> None:
    answers = await bulk(client, *({"product_id": f"p{n:04}", **product(f"S{n}")} for n in range(1_000)))
    assert {each["status"] for each in answers} == {201}
    page = (await client.get("/v1/products?limit=100")).json
    rest = (await client.get(f"/v1/products?limit=100&cursor={page['next']}")).json
    assert [each["product_id"] for each in (*page["products"], *rest["products"])] == [f"p{n:04}" for n in range(200)]
    too_many = await client.call("POST", "/v1/products/bulk", data=b"{}\n" * 1_001)
    assert too_many.status == 413


async def test_a_product_that_breaks_a_rule_is_refused_by_its_field(client: Client) -> None:
    for body, field in (
        (product(vat_category="E"), "vat_rate"),
        (product(images=[{"url": "javascript:alert(1)"}]), "images[0].url"),
    ):
        refused = await put(client, "mug", body)
        assert (refused.status, refused.json["field"]) == (422, field)
    assert (await put(client, "a%20b", product())).json["field"] == "product_id"
    assert (await client.get("/v1/products/mug")).status == 404


def found_by_audit(url: str) -> list[str]:
    """What the audit says of the products."""
    snapshot, report = Snapshot(url), AuditReport()
    try:
        check = ProductCheck(snapshot, report, is_from_the_start=True)
        topic = catalog.CATALOGUE_EVENTS.name
        for partition in range(PARTITIONS):
            rows = snapshot.stream(statements.JOURNAL, topic=topic, partition=partition)
            check.take(topic, partition, [JournalEntry(*row) for row in rows])
        check.finish()
    finally:
        snapshot.close()
    return [f"{each.check} {each.where}: {each.what}" for each in report.shown()]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE products SET event = event || 'x'", "product demo/mug: is not what its event of version 2 says"),
        ("UPDATE products SET version = 1", "product demo/mug: is at version 1, and an event says 2"),
        ("UPDATE products SET version = 3", "products: 3 versions, but 2 events that agree"),
        ("DELETE FROM journal WHERE seq = 1", "product demo/mug: goes from version 0 to 2"),
    ],
)
async def test_the_audit_compares_products_with_their_events(
    client: Client, ledger: str, query: Query, damage: str, found: str
) -> None:
    await put(client, "mug", product())
    await put(client, "mug", product(brand="A"))
    assert await asyncio.to_thread(found_by_audit, ledger) == []
    query(damage)
    assert f"product {found}" in await asyncio.to_thread(found_by_audit, ledger)
