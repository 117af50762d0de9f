"""The tracking page on a real gateway: made by the seller, seen by anybody who has the link, whatever else is down."""

import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import msgspec
import pytest

from domain.document_link import DocumentLink, keys_of, read, sign
from domain.tracking_link import TrackingLink, sign_tracking, tracking_keys_of
from gateway.app import Gateway
from gateway.orders.tracking import KeptOrders, tracked
from runtime.settings import load
from schemas import catalog
from sinks.postgres.orders_reader import OrdersReader
from tests.conftest import Services
from tests.integration.gateways import KEYS, Client, Link, Topics, link_to, order, running, through, until
from tests.integration.hooks_world import Query
from tests.integration.test_gateway import new_id
from tests.records import written
from tests.unit.documents.test_mail import Shown

KEY = "a" * 32
PUBLIC = "https://shop.example/bills/"
NOWHERE = "127.0.0.1:1"


@pytest.fixture
async def link(ledger: str) -> AsyncIterator[Link]:
    """The way to Postgres, which a test may cut."""
    made = await link_to(ledger)
    yield made
    await made.cut()


@pytest.fixture
async def client(services: Services, ledger: str, topics: Topics, link: Link) -> AsyncIterator[Client]:
    """A client of the seller `demo`."""
    url = through(link, ledger)
    async with running(services, url, topics, link_keys=KEY, public_url=PUBLIC) as made:
        yield made


def insert(query: Query, order_id: str, state: str = "SHIPPED", *, country: str = "DE", **shipped: Any) -> None:
    """An order of `demo`, as the agents leave it."""
    request = {**order(order_id), "received_at": 0, "seller_id": "demo", "kind": "invoice", "note": None}
    request["buyer"] = {"vat_id": None, **request["buyer"]}
    request["buyer"]["address"] = {**request["buyer"]["address"], "country": country}
    history = [
        {
            "version": number,
            "from": None,
            "to": each,
            "reason": "",
            "detail": "secret words",
            "at": 1_795_000_000_000_000,
        }
        for number, each in enumerate(("PLACED", "PAYMENT_PENDING", "CONFIRMED", state), 1)
    ]
    history[-1] |= shipped
    query(
        "INSERT INTO orders (seller_id, order_id, partition, customer, state, version, history, currency, net_minor,"
        " tax_minor, gross_minor, content_sha256, payment_token, invoice_request, hold_expires_at, placed_at,"
        " source_offset) VALUES ('demo', %s, 0, 'C-secret', %s, 4, %s, 'EUR', 3998, 800, 4798, '', 'tok_secret', %s,"
        " now(), now(), 0) ON CONFLICT (seller_id, order_id) DO UPDATE SET state = excluded.state,"
        " history = excluded.history, version = excluded.version + 1",
        order_id, state, msgspec.json.encode(history).decode(), written(catalog.INVOICE_REQUEST, request),
    )  # fmt: skip


def add_invoice(query: Query, order_id: str) -> None:
    """Its invoice, whose document is stored."""
    query(
        "INSERT INTO invoices (series_id, number, seller_id, order_id, kind, invoice_number, issued_at, currency,"
        " net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset, event_seq)"
        " VALUES ('demo.invoice.p00', 7, 'demo', %s, 'invoice', 'INV-7', now(), 'EUR', 1, 0, 1, '', 0, 0, 1)",
        order_id,
    )
    query(
        "INSERT INTO documents (series_id, number, key, sha256, size_bytes, template_version, stored_at)"
        " VALUES ('demo.invoice.p00', 7, 'invoices/x.pdf', '\\x00', 1, 2, now())"
    )


async def path_of(client: Client, order_id: str) -> str:
    """The path of a link that was made for it."""
    made = await client.call("POST", f"/v1/orders/{order_id}/tracking-link")
    assert made.status == 201, made.body
    assert made.json["url"].startswith(f"{PUBLIC}t/")
    return str(made.json["url"].removeprefix(PUBLIC.rstrip("/")))


async def test_anybody_with_the_link_sees_the_order_in_the_buyers_language(client: Client, query: Query) -> None:
    order_id = new_id()
    parcel = {"carrier": "DHL", "tracking_number": "00340", "tracking_url": "https://dhl.example/00340"}
    insert(query, order_id, parcel=parcel)
    add_invoice(query, order_id)
    found = await client.as_(None).get(await path_of(client, order_id), Accept_Language="ja")
    assert (found.status, found.headers["Content-Language"]) == (200, "de")
    seen = Shown(found.body.decode())
    for text in (f"Ihre Bestellung {order_id}", "ist unterwegs", "Versandt", "DHL", "00340", "Rechnung INV-7", "47,98"):
        assert text in seen.text, text
    for secret in ("secret", "zoe@example.com"):
        assert secret not in found.body.decode()
    parcel_link, document_link = seen.links
    assert parcel_link == "https://dhl.example/00340"
    leads_to = read(document_link.removeprefix("../d/"), keys_of(KEY))
    assert leads_to is not None
    assert leads_to[:3] == ("demo", order_id, "")


async def test_the_page_is_strict_private_and_revalidated(client: Client, query: Query) -> None:
    order_id = new_id()
    insert(query, order_id)
    path = await path_of(client, order_id)
    anybody = client.as_(None)
    found = await anybody.get(path)
    policy = found.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert found.headers["Referrer-Policy"] == "no-referrer"
    assert found.headers["Cache-Control"] == "private, no-cache"
    assert len(found.body) < 50_000
    again = await anybody.get(path, If_None_Match=found.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    insert(query, order_id, "DELIVERED")
    changed = await anybody.get(path, If_None_Match=found.headers["ETag"])
    assert changed.status == 200
    assert "zugestellt" in changed.body.decode()


async def test_a_forged_expired_or_foreign_link_shows_no_order(client: Client, query: Query) -> None:
    order_id = new_id()
    insert(query, order_id)
    (key,), (document_key,) = tracking_keys_of(KEY), keys_of(KEY)
    future, past = int(time.time()) + 100, int(time.time()) - 1
    anybody = client.as_(None)
    good = sign_tracking(TrackingLink("demo", order_id, future), key)
    assert (await anybody.get(f"/t/{good}")).status == 200
    for token in (
        good[:-1] + ("A" if good[-1] != "A" else "B"), good[:20], "x", "%00", "%2F",
        # A document's link is no order's, nor the reverse.
        sign(DocumentLink("demo", order_id, "", future), document_key),
        sign_tracking(TrackingLink("demo", order_id, future), b"k" * 32),
        sign_tracking(TrackingLink("demo", "never", future), key),
        sign_tracking(TrackingLink("other", order_id, future), key),
        sign_tracking(TrackingLink("nobody", order_id, future), key),
    ):  # fmt: skip
        found = await anybody.get(f"/t/{token}", Accept_Language="pl, en;q=0.5")
        assert (found.status, found.headers["Content-Language"]) == (404, "pl"), token
        assert order_id not in found.body.decode()
    assert (await anybody.get(f"/d/{good}")).status == 404
    expired = await anybody.get(f"/t/{sign_tracking(TrackingLink('demo', order_id, past), key)}")
    assert (expired.status, "has expired" in expired.body.decode()) == (410, True)


async def test_a_link_is_only_made_for_ones_own_orders_and_for_a_time_within_bounds(
    client: Client, query: Query
) -> None:
    order_id = new_id()
    insert(query, order_id)
    path = f"/v1/orders/{order_id}/tracking-link"
    assert (await client.as_(KEYS["other"]).call("POST", path)).status == 404
    assert (await client.as_(None).call("POST", path)).status == 401
    assert (await client.call("POST", "/v1/orders/never/tracking-link")).status == 404
    made = await client.call("POST", path, json={"expires_in": 60})
    assert 0 < datetime.fromisoformat(made.json["expires_at"]).timestamp() - time.time() <= 60
    for wrong in (59, 366 * 86_400 + 1):
        refused = await client.call("POST", path, json={"expires_in": wrong})
        assert (refused.status, refused.json["field"]) == (422, "expires_in")


async def test_it_needs_neither_kafka_nor_redis_nor_workers(services: Services, ledger: str, query: Query) -> None:
    order_id = new_id()
    insert(query, order_id)
    token = sign_tracking(TrackingLink("demo", order_id, int(time.time()) + 100), tracking_keys_of(KEY)[0])
    settings = load(
        kafka_bootstrap=NOWHERE, postgres_url=ledger, redis_url=f"redis://{NOWHERE}",
        objects_url=services.objects.as_uri(), gateway_port=0, gateway_drain_seconds=0, link_keys=KEY,
    )  # fmt: skip
    gateway = Gateway(settings)
    await gateway.start()
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/t/{token}") as found:
            assert (found.status, "ist unterwegs" in await found.text()) == (200, True)
    finally:
        await gateway.stop()


async def test_without_postgres_what_was_shown_is_shown_as_it_was(client: Client, query: Query, link: Link) -> None:
    shown_id, never_id = new_id(), new_id()
    for order_id in (shown_id, never_id):
        insert(query, order_id)
    shown_path, never_path = await path_of(client, shown_id), await path_of(client, never_id)
    anybody = client.as_(None)
    assert "nicht erreichbar" not in (await anybody.get(shown_path)).body.decode()
    await link.cut()
    stale = await anybody.get(shown_path)
    assert stale.status == 200
    for text in (shown_id, "ist unterwegs", "nicht erreichbar"):
        assert text in stale.body.decode(), text
    never = await anybody.get(never_path, Accept_Language="fr")
    assert (never.status, never.headers["Retry-After"], never.headers["Content-Language"]) == (503, "10", "fr")
    await link.open()
    fresh = await until(lambda: anybody.get(never_path), lambda answer: answer.status == 200)
    assert "nicht erreichbar" not in fresh.body.decode()


async def test_an_order_that_is_not_decided_yet_was_received(client: Client) -> None:
    order_id = new_id()
    body = {**order(order_id), "customer": "C-1", "payment_token": "tok_ok"}
    assert (await client.call("POST", "/v1/checkouts", json=body)).status == 202
    found = await client.as_(None).get(await path_of(client, order_id), Accept_Language="es-MX, *;q=0.1")
    assert (found.status, "Hemos recibido su pedido" in found.body.decode()) == (200, True)


async def test_what_is_kept_has_a_limit(ledger: str, query: Query) -> None:
    """The order that was not shown for longest goes first; what is kept reads as it was."""
    orders = OrdersReader(ledger)
    kept = KeptOrders(bytes_max=4_000)
    now = datetime.fromisoformat("2026-11-29T12:00:00Z")
    made = {}
    for number in range(10):
        insert(query, f"A-{number}")
        known, shop = await orders.order("demo", f"A-{number}"), await orders.shop("demo")
        assert known.placed is not None
        assert shop is not None
        made[number] = tracked(known.placed, shop, await orders.invoice_request(known.placed))
        kept.keep("demo", made[number], now)
        kept.keep("demo", made[number], now)
        if number:
            assert kept.get("demo", "A-1") == (made[1], now) or number > 2
    await orders.close()
    assert kept.get("demo", "A-9") == (made[9], now)
    assert kept.get("demo", "A-0") == kept.get("other", "A-9") == (None, None)
