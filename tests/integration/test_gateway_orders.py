"""Checkouts, orders and their commands over HTTP, with the agents, Kafka, Postgres and Valkey behind them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import redis.asyncio

from domain.reservation import Level
from runtime.settings import load
from schemas import catalog, codec
from sinks.object_store.store import open_store
from tests.conftest import Services
from tests.integration.backoffice import Backoffice
from tests.integration.gateways import KEYS, Answer, Client, Topics, line, order, until

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
async def office(services: Services, ledger: str, topics: Topics) -> AsyncIterator[Backoffice]:
    """Somebody who decides what the gateway accepts."""
    async with Backoffice(services, ledger, topics) as made:
        yield made


def new_id() -> str:
    """An order id that no other test has used: hints outlive a test."""
    return f"C-{uuid4().hex[:12]}"


def checkout(order_id: str | None, sku: str, quantity: str = "2", **changes: Any) -> dict[str, Any]:
    """A request body; the customer is the order's own, so that no test spends another's rate."""
    body = order(order_id, lines=[line(sku=sku, quantity=quantity)])
    return {**body, "customer": f"of {order_id}"[:64], "payment_token": "tok_ok", **changes}


async def post(client: Client, body: dict[str, Any], wait: int = 0, **headers: str) -> Answer:
    """POST /v1/checkouts."""
    if wait:
        headers["Prefer"] = f"wait={wait}"
    return await client.call("POST", "/v1/checkouts", headers, json=body)


async def do(client: Client, order_id: str, what: str, body: dict[str, Any] | None = None, **headers: str) -> Answer:
    """POST /v1/orders/{order_id}/{what}."""
    content = {} if body is None else {"json": body}
    return await client.call("POST", f"/v1/orders/{order_id}/{what}", headers, **content)


async def confirmed(client: Client, sku: str, quantity: str = "2") -> str:
    """The id of an order that is confirmed."""
    order_id = new_id()
    answer = await post(client, checkout(order_id, sku, quantity), wait=20)
    assert answer.status == 201, answer.body
    return order_id


async def test_an_order_is_accepted_placed_paid_and_confirmed(client: Client, office: Backoffice, sku: str) -> None:
    """The whole of it, as the storefront sees it."""
    order_id = new_id()
    answer = await post(client, checkout(order_id, sku))
    path = f"/v1/orders/{order_id}"
    assert (answer.status, answer.headers["Location"]) == (202, path)
    assert answer.json == {"order_id": order_id, "state": "accepted", "links": {"self": path}}
    got = (await until(lambda: client.get(path), lambda got: got.json["state"] == "CONFIRMED")).json
    assert got["customer"] == f"of {order_id}"
    assert got["totals"] == {"net": "39.98", "tax": "8.00", "gross": "47.98"}
    assert [(each["sku"], each["quantity"], each["refunded"]) for each in got["lines"]] == [(sku, 2, 0)]
    assert [(step["from"], step["to"], step["reason"]) for step in got["history"]] == [
        (None, "PLACED", "placed"),
        ("PLACED", "PAYMENT_PENDING", "payment-requested"),
        ("PAYMENT_PENDING", "CONFIRMED", "payment-authorized"),
    ]
    assert got["history"][0]["at"] == got["placed_at"]
    paid = {"status": "authorized", "authorized": "47.98", "captured": "0.00", "refunded": "0.00", "reason": None}
    assert got["payment"] == paid
    assert (got["refunds"], got["invoice"], got["credit_notes"]) == ([], None, [])
    assert "hold_expires_at" not in got
    assert "tok_ok" not in str(got)


async def test_who_waits_is_told_that_the_order_is_confirmed(
    client: Client, office: Backoffice, sku: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """201 with the order, in less time than the look at Postgres takes to come."""
    monkeypatch.setattr("gateway.http.waiting._LOOK_SECONDS_MIN", 20.0)
    answer = await post(client, checkout(new_id(), sku), wait=30)
    assert (answer.status, answer.json["state"]) == (201, "CONFIRMED")
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.seconds < 20


async def test_an_order_just_accepted_is_never_unknown(client: Client, sku: str) -> None:
    """Nobody has decided it yet."""
    order_id = new_id()
    await post(client, checkout(order_id, sku))
    got = await client.get(f"/v1/orders/{order_id}")
    assert (got.status, got.json["state"]) == (200, "accepted")
    assert "Retry-After" in got.headers
    assert (await client.as_(KEYS["other"]).get(f"/v1/orders/{order_id}")).status == 404


async def test_a_payment_under_way_shows_until_when_stock_is_held(client: Client, office: Backoffice, sku: str) -> None:
    """And who waits is told that it's kept."""
    order_id = new_id()
    answer = await post(client, checkout(order_id, sku, payment_token="tok_never"), wait=2)
    assert (answer.status, answer.headers["Preference-Applied"]) == (202, "wait=2")
    got = (await client.get(f"/v1/orders/{order_id}")).json
    assert (got["state"], got["payment"]["status"]) == ("PAYMENT_PENDING", "pending")
    assert got["hold_expires_at"] > got["placed_at"]


async def test_a_declined_payment_is_402_with_the_code(client: Client, office: Backoffice, sku: str) -> None:
    """And so is a repeat."""
    body = checkout(new_id(), sku, payment_token="tok_decline")
    first = await post(client, body, wait=20)
    assert (first.status, first.json["type"]) == (402, "/problems/payment-declined")
    assert first.json["decline_code"] == "insufficient_funds"
    for again in (await post(client, body), await post(client, body, wait=5)):
        assert (again.status, again.json["decline_code"]) == (402, "insufficient_funds")
    got = (await client.get(f"/v1/orders/{body['order_id']}")).json
    assert (got["state"], got["payment"]["status"]) == ("CANCELLED", "declined")
    assert got["payment"]["reason"] == "insufficient_funds"


async def test_an_order_that_ends_otherwise_is_409(client: Client, office: Backoffice, sku: str) -> None:
    """The provider failed."""
    answer = await post(client, checkout(new_id(), sku, payment_token="tok_fail"), wait=20)
    assert (answer.status, answer.json["type"]) == (409, "/problems/order-cancelled")
    assert answer.json["reason"] == "payment-failed"


async def test_what_the_database_refuses_is_told_with_what_was_short(
    client: Client, office: Backoffice, sku: str
) -> None:
    """Redis doesn't know the SKU: everything is admitted, and the agent says no. That is final."""
    order_id = new_id()
    answer = await post(client, checkout(order_id, sku, "11"), wait=20)
    short = [{"sku": sku, "wanted": 11, "free": 10}]
    assert (answer.status, answer.json["type"], answer.json["short"]) == (409, "/problems/out-of-stock", short)
    assert (await post(client, checkout(order_id, sku, "11"))).json["short"] == short
    got = (await client.get(f"/v1/orders/{order_id}")).json
    assert (got["state"], got["short"], got["payment"]) == ("REFUSED", short, None)


async def test_sold_out_is_told_at_once_and_nothing_is_kept(
    client: Client, office: Backoffice, sku: str, query: Query
) -> None:
    """Redis says so; the same id may come again."""
    await office.mirror(sku, Level(10, 9, 7))
    order_id = new_id()
    answer = await post(client, checkout(order_id, sku))
    assert (answer.status, answer.json["type"]) == (409, "/problems/out-of-stock")
    assert answer.json["short"] == [{"sku": sku, "wanted": 2, "free": 1}]
    assert (await client.get(f"/v1/orders/{order_id}")).status == 404
    assert query("SELECT count(*) FROM orders") == [(0,)]
    await office.mirror(sku, Level(10, 0, 8))
    assert (await post(client, checkout(order_id, sku), wait=20)).status == 201


async def test_a_waiting_client_joins_the_waitlist_and_is_served(client: Client, office: Backoffice, sku: str) -> None:
    """In the order of arrival, and sees where."""
    await office.mirror(sku, Level(10, 10, 7))
    first, second = new_id(), new_id()
    waiting = []
    for place, order_id in enumerate((first, second), 1):
        waiting.append(asyncio.create_task(post(client, checkout(order_id, sku), wait=20)))
        path = f"/v1/orders/{order_id}"
        got = await until(lambda path=path: client.get(path), lambda got: got.status == 200)  # type: ignore[misc]
        assert (got.json["state"], got.json["waitlist_position"]) == ("waiting", place)
    await office.mirror(sku, Level(10, 8, 8))
    assert (await waiting[0]).status == 201
    got = await client.get(f"/v1/orders/{second}")
    assert (got.json["state"], got.json["waitlist_position"]) == ("waiting", 1)
    await office.mirror(sku, Level(10, 6, 9))
    assert (await waiting[1]).status == 201


async def test_waiting_on_the_waitlist_in_vain_is_reported(client: Client, office: Backoffice, sku: str) -> None:
    """409 when the time is over."""
    await office.mirror(sku, Level(10, 10, 7))
    answer = await post(client, checkout(new_id(), sku), wait=1)
    assert (answer.status, answer.json["type"]) == (409, "/problems/out-of-stock")
    assert 0.9 < answer.seconds < 20


async def test_a_client_that_leaves_gives_up_its_place_on_the_waitlist(
    client: Client, office: Backoffice, sku: str
) -> None:
    """The next one moves up."""
    await office.mirror(sku, Level(10, 10, 7))
    order_id = new_id()
    waiting = asyncio.create_task(post(client, checkout(order_id, sku), wait=20))
    path = f"/v1/orders/{order_id}"
    await until(lambda: client.get(path), lambda got: got.status == 200)
    waiting.cancel()
    await until(lambda: client.get(path), lambda got: got.status == 404, seconds=5)


async def test_an_order_sent_again_holds_its_stock_once_and_has_the_same_answer(
    client: Client, office: Backoffice, sku: str, query: Query, services: Services
) -> None:
    """Also with another token, at the same instant, when all is sold, and when the hint is long gone."""
    body = checkout(new_id(), sku, "10")
    answers = await asyncio.gather(*(post(client, body, wait=20) for _ in range(5)))
    assert [each.status for each in answers] == [201] * 5
    await office.mirror(sku, Level(10, 10, 2))
    assert (await post(client, {**body, "payment_token": "tok_decline"})).status == 201
    hints = redis.asyncio.Redis.from_url(services.redis_url)
    assert await hints.delete(f"accepted:demo!checkout:{body['order_id']}") == 1
    await hints.set("accepted-since", 1)
    await hints.aclose()
    again = await post(client, body)
    assert (again.status, again.json["order_id"]) == (201, body["order_id"])
    assert query("SELECT reserved FROM stock WHERE sku = %s", sku) == [(10,)]


async def test_the_same_id_with_other_content_is_a_conflict(client: Client, office: Backoffice, sku: str) -> None:
    """At once where it's known, else from the agent; the customer is content, the token isn't."""
    body = checkout(new_id(), sku, customer="C-1")
    other = {**body, "customer": "C-2"}
    answers = await asyncio.gather(post(client, body, wait=20), post(client, other, wait=20))
    assert sorted(each.status for each in answers) == [201, 409]
    first = body if answers[0].status == 201 else other
    second = other if first is body else body
    for answer in (await post(client, second), await post(client, second, wait=5)):
        assert (answer.status, answer.json["type"]) == (409, "/problems/conflict")
        assert answer.json["links"]["self"] == f"/v1/orders/{body['order_id']}"
    got = (await client.get(f"/v1/orders/{body['order_id']}")).json
    assert (got["customer"], got["state"]) == (first["customer"], "CONFIRMED")
    invoice = order(new_id())
    await client.post(invoice)
    answer = await post(client, checkout(invoice["order_id"], sku))
    assert (answer.status, answer.json["type"]) == (409, "/problems/already-invoiced")


async def test_a_known_conflict_is_told_while_nothing_is_decided(client: Client, sku: str) -> None:
    """By the hint alone."""
    body = checkout(new_id(), sku)
    await post(client, body)
    assert (await post(client, {**body, "note": "other"})).json["type"] == "/problems/conflict"
    assert (await post(client, {**body, "payment_token": "tok_other"})).status == 202


async def test_a_customer_is_limited_for_one_article(client: Client, office: Backoffice, sku: str) -> None:
    """Five a second; 429 says when to come again."""
    await office.mirror(sku, Level(10, 0, 7))
    answers = await asyncio.gather(*(post(client, checkout(new_id(), sku, "1", customer=sku)) for _ in range(8)))
    limited = [each for each in answers if each.status == 429]
    assert 1 <= len(limited) <= 3
    assert limited[0].json["type"] == "/problems/too-many-requests"
    assert int(limited[0].headers["Retry-After"]) >= 1


async def test_a_customer_may_be_known_by_an_e_mail_address(client: Client, office: Backoffice, sku: str) -> None:
    """As long as one may be, and found by it."""
    customer = f"{sku}+{'x' * (254 - len(sku) - 15)}@example.co.uk"
    assert len(customer) == 254
    placed = await post(client, checkout(new_id(), sku, customer=customer), wait=20)
    assert (placed.status, placed.json["customer"]) == (201, customer)
    found = await client.get(f"/v1/orders?customer={quote(customer)}")
    assert [(each["order_id"], each["customer"]) for each in found.json["orders"]] == [
        (placed.json["order_id"], customer)
    ]


@pytest.mark.parametrize("given", [{}, {"customer": None}])
async def test_a_guest_has_no_customer(client: Client, office: Backoffice, sku: str, given: dict[str, None]) -> None:
    """Not before the order, and not after; to say so in either way is the same."""
    body = checkout(new_id(), sku)
    del body["customer"]
    placed = await post(client, {**body, **given}, wait=20)
    assert (placed.status, placed.json["customer"]) == (201, None)
    again = await post(client, {**body, "customer": None}, wait=20)
    assert (again.status, again.json) == (201, placed.json)
    assert (await post(client, {**body, "customer": "C-1"})).json["type"] == "/problems/conflict"
    nobody = await client.get("/v1/orders?customer=")
    assert (nobody.status, nobody.json["field"]) == (422, "customer")


async def test_guests_are_limited_each_by_their_e_mail_address(
    client: Client, office: Backoffice, sku: str, query: Query
) -> None:
    """In capitals or not; another guest's checkouts spend nothing of one's own."""
    await office.mirror(sku, Level(100, 0, 7))

    def by(email: str) -> dict[str, Any]:
        body = checkout(new_id(), sku, "1", customer=None)
        body["buyer"]["email"] = email
        return body

    others = [by(f"guest-{number}@example.com") for number in range(12)]
    one = [by(f"{'Z' if number % 2 else 'z'}oe-{sku}@example.com") for number in range(8)]
    answers = await asyncio.gather(*(post(client, body) for body in [*others, *one]))
    assert {answer.status for answer in answers[: len(others)]} == {202}
    limited = [answer for answer in answers[len(others) :] if answer.status == 429]
    assert 1 <= len(limited) <= 3


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"customer": ""}, "customer"),
        ({"customer": " "}, "customer"),
        ({"customer": "x" * 255}, "customer"),
        ({"customer": 5}, "customer"),
        ({"customer": "a\nb"}, "customer"),
        ({"payment_token": ""}, "payment_token"),
        ({"payment_token": "secret token"}, "payment_token"),
        ({"payment_token": "secret" * 50}, "payment_token"),
        ({"payment_token": 5}, "payment_token"),
        ({"payment_token": None}, "payment_token"),
        ({"lines": [line(quantity="1.5")]}, "lines[0].quantity"),
        ({"lines": [line(), line(quantity="-1")]}, "lines[1].quantity"),
        ({"lines": [line(quantity="1000001")]}, "lines[0].quantity"),
        ({"lines": [line(sku="")]}, "lines[0].sku"),
        ({"lines": []}, "lines"),
        ({"totals": {"gross": "1.00"}}, "totals.gross"),
        ({"customers": "x"}, "customers"),
    ],
)
async def test_what_breaks_a_rule_is_refused_by_its_field(
    client: Client, sku: str, changes: dict[str, Any], field: str
) -> None:
    """And the payment token is in no answer."""
    answer = await post(client, {**checkout(new_id(), sku), **changes})
    assert answer.status in (400, 422)
    assert answer.json["field"] == field
    assert b"secret" not in answer.body


async def test_an_order_is_shipped_delivered_and_refunded(client: Client, office: Backoffice, sku: str) -> None:
    """Each command is answered with the order, and again when it is repeated."""
    order_id = await confirmed(client, sku)
    shipped = await do(client, order_id, "shipments", {"reason": "by post"})
    assert (shipped.status, shipped.json["state"]) == (200, "SHIPPED")
    assert shipped.json["history"][-1]["detail"] == "by post"
    assert (await do(client, order_id, "shipments")).status == 200
    assert (await do(client, order_id, "deliveries")).json["state"] == "DELIVERED"
    some = {"refund_id": "R-1", "reason": "broken", "lines": [{"line": 0, "quantity": 1}]}
    refunded = await do(client, order_id, "refunds", some)
    assert refunded.status == 200, refunded.body
    [refund] = refunded.json["refunds"]
    assert (refund["refund_id"], refund["amount"], refund["reason"]) == ("R-1", "23.99", "broken")
    assert refunded.json["lines"][0]["refunded"] == 1
    assert (await do(client, order_id, "refunds", some)).status == 200
    path = f"/v1/orders/{order_id}"
    paid = await until(lambda: client.get(path), lambda got: got.json["payment"]["status"] == "partially-refunded")
    assert (paid.json["payment"]["captured"], paid.json["payment"]["refunded"]) == ("47.98", "23.99")
    rest = await do(client, order_id, "refunds", None, Idempotency_Key="R-2")
    assert rest.status == 200
    gone = await until(lambda: client.get(path), lambda got: got.json["state"] == "REFUNDED")
    assert gone.json["payment"]["status"] == "refunded"
    assert [each["state"] for each in gone.json["refunds"]] == ["done", "done"]


async def test_what_the_table_forbids_is_refused_with_the_reason(client: Client, office: Backoffice, sku: str) -> None:
    """409, and nothing has changed."""
    order_id = await confirmed(client, sku)
    for what in ("deliveries", "refunds"):
        answer = await do(client, order_id, what, None, **({"Idempotency_Key": "R"} if what == "refunds" else {}))
        assert (answer.status, answer.json["type"]) == (409, "/problems/not-permitted"), what
        assert "CONFIRMED" in answer.json["detail"]
    await do(client, order_id, "shipments")
    assert (await do(client, order_id, "cancellations")).json["type"] == "/problems/not-permitted"
    much = {"refund_id": "R-1", "lines": [{"line": 0, "quantity": 3}]}
    assert (await do(client, order_id, "refunds", much)).json["type"] == "/problems/refund-too-large"
    await do(client, order_id, "refunds", {**much, "lines": [{"line": 0, "quantity": 1}]})
    other = await do(client, order_id, "refunds", {**much, "lines": [{"line": 0, "quantity": 2}]})
    assert (other.status, other.json["type"]) == (409, "/problems/refund-conflict")


async def test_a_repeat_is_not_told_what_an_earlier_one_was_told(
    client: Client, office: Backoffice, sku: str, query: Query
) -> None:
    """Both are for one refund: the first came too early, the second moves money. A "no" would have it asked twice."""
    order_id = await confirmed(client, sku)
    office.publishes = False
    wish = {"refund_id": "R-1", "lines": [{"line": 0, "quantity": 1}]}
    early = await decided(client, query, order_id, "refunds", wish, wait=20)
    await decided(client, query, order_id, "shipments", None, wait=0)
    late = await decided(client, query, order_id, "refunds", wish, wait=20)
    office.publishes = True
    answer = await late
    assert (answer.status, [each["refund_id"] for each in answer.json["refunds"]]) == (200, ["R-1"])
    # Its own record was refused; unless it has looked into Postgres since, where the refund is under way by now.
    assert (await early).status in (409, 200)


async def test_a_second_refund_while_one_is_under_way_is_to_be_sent_again(
    client: Client, office: Backoffice, sku: str, query: Query
) -> None:
    """Not a final "no": it says when, and that the same request will do."""
    order_id = await confirmed(client, sku, "10")
    await do(client, order_id, "shipments")
    office.publishes = False  # So that the provider is not asked yet.
    first, second = ({"refund_id": name, "lines": [{"line": 0, "quantity": 1}]} for name in ("R-1", "R-2"))
    await decided(client, query, order_id, "refunds", first, wait=0)
    answer = await decided(client, query, order_id, "refunds", second, wait=20)
    office.publishes = True
    told = await answer
    assert (told.status, told.json["type"]) == (409, "/problems/refund-in-progress")
    assert told.headers["Retry-After"] == "1"
    again = await until(lambda: do(client, order_id, "refunds", second), lambda got: got.status != 409)
    assert [each["refund_id"] for each in again.json["refunds"]] == ["R-1", "R-2"]


async def decided(
    client: Client, query: Query, order_id: str, what: str, body: dict[str, Any] | None, *, wait: int
) -> asyncio.Task[Answer]:
    """A command under way that the agent has answered; the answer may not be published yet."""
    seen = answers_written(query)
    task = asyncio.create_task(do(client, order_id, what, body, Prefer=f"wait={wait}"))
    await until(lambda: asyncio.to_thread(answers_written, query), lambda count: count > seen)
    return task


def answers_written(query: Query) -> int:
    """Answers to commands in the journal."""
    rows = query("SELECT payload FROM journal WHERE topic = %s", catalog.ORDER_EVENTS.name)
    return sum(codec.schema_of(payload) is catalog.ORDER_COMMAND_ANSWERED for (payload,) in rows)


async def test_of_two_refunds_under_one_id_at_once_one_is_told_of_the_conflict(
    client: Client, office: Backoffice, sku: str
) -> None:
    """Each hears the other's answer too."""
    order_id = await confirmed(client, sku, "10")
    await do(client, order_id, "shipments")
    for attempt in range(3):
        wishes = [{"refund_id": f"R-{attempt}", "lines": [{"line": 0, "quantity": n}]} for n in (1, 2)]
        answers = await asyncio.gather(*(do(client, order_id, "refunds", wish) for wish in wishes))
        assert sorted(each.status for each in answers) == [200, 409]
        assert {each.json.get("type") for each in answers} == {None, "/problems/refund-conflict"}


async def test_a_confirmed_order_may_be_cancelled(client: Client, office: Backoffice, sku: str) -> None:
    """And its payment is voided."""
    order_id = await confirmed(client, sku)
    assert (await do(client, order_id, "cancellations", {"reason": "changed"})).json["state"] == "CANCELLED"
    got = await until(
        lambda: client.get(f"/v1/orders/{order_id}"), lambda got: got.json["payment"]["status"] == "voided"
    )
    assert [each["refund_id"] for each in got.json["refunds"]] == ["cancellation"]
    again = await post(client, checkout(order_id, sku))
    assert (again.status, again.json["reason"]) == (409, "cancel")


def issue(query: Query, order_id: str, refund_id: str, number: int) -> None:
    """An invoice of an order, or the credit note of its refund, as the agent writes it."""
    kind = "credit_note" if refund_id else "invoice"
    series_id, prefix = f"demo.{kind}.p00", "CN" if refund_id else "INV"
    query(
        "INSERT INTO series (series_id, seller_id, policy, next_number, last_issued_at)"
        " VALUES (%s, 'demo', 'partitioned', 9, now()) ON CONFLICT DO NOTHING",
        series_id,
    )
    query(
        "INSERT INTO invoices (series_id, number, seller_id, order_id, kind, refund_id, invoice_number, issued_at,"
        " currency, net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset, event_seq)"
        " VALUES (%s, %s, 'demo', %s, %s, %s, %s, now(), 'EUR', 1999, 400, 2399, %s, 0, %s, %s)",
        series_id, number, order_id, kind, refund_id, f"{prefix}-{number}", b"x" * 32, number, number,
    )  # fmt: skip


async def test_the_invoice_of_a_confirmed_order_is_on_its_way(client: Client, office: Backoffice, sku: str) -> None:
    """It is asked for with the confirmation, and a storefront may look for it before it is issued."""
    path = f"/v1/invoices/{await confirmed(client, sku)}"
    coming = await client.get(path)
    assert (coming.status, coming.json["status"]) == (200, "accepted")
    assert "Retry-After" in coming.headers
    document = await client.get(f"{path}/document")
    assert (document.status, document.json["type"]) == (404, "/problems/document-not-stored")
    assert (await client.as_(KEYS["other"]).get(path)).status == 404
    declined = checkout(new_id(), sku, payment_token="tok_decline")
    assert (await post(client, declined, wait=20)).status == 402
    assert (await client.get(f"/v1/invoices/{declined['order_id']}")).status == 404


async def test_credit_notes_are_listed_beside_the_invoice_and_never_instead_of_it(
    client: Client, office: Backoffice, sku: str, query: Query, services: Services
) -> None:
    """Each with its own document."""
    order_id = await confirmed(client, sku)
    path = f"/v1/invoices/{order_id}"
    issue(query, order_id, "R-1", 1)
    assert (await client.get(path)).json["status"] == "accepted"
    issue(query, order_id, "", 1)
    issue(query, order_id, "R/2", 2)
    got = (await client.get(path)).json
    assert (got["invoice_number"], got["links"]["document"]) == ("INV-1", f"{path}/document")
    listed = (await client.get(f"{path}/credit-notes")).json["credit_notes"]
    assert [(each["refund_id"], each["invoice_number"], each["status"]) for each in listed] == [
        ("R-1", "CN-1", "issued"),
        ("R/2", "CN-2", "issued"),
    ]
    assert listed[0]["totals"] == {"net": "19.99", "tax": "4.00", "gross": "23.99"}
    shown = (await client.get(f"/v1/orders/{order_id}")).json
    assert shown["invoice"] == {"number": "INV-1", "status": "issued", "link": path}
    assert [(each["refund_id"], each["number"]) for each in shown["credit_notes"]] == [("R-1", "CN-1"), ("R/2", "CN-2")]
    link = shown["credit_notes"][1]["link"]
    assert (await client.get(link)).json["type"] == "/problems/document-not-stored"
    digest = hashlib.sha256(b"a credit note").digest()
    key = f"invoices/demo/2026/CN-2-{digest.hex()[:16]}.pdf"
    await open_store(load(objects_url=services.objects.as_uri())).put_if_absent(key, b"a credit note")
    query("INSERT INTO documents VALUES ('demo.credit_note.p00', 2, %s, %s, 13, 1, now())", key, digest)
    answer = await client.get(link)
    assert (answer.status, answer.body) == (200, b"a credit note")
    [_, stored] = (await client.get(f"{path}/credit-notes")).json["credit_notes"]
    assert (stored["status"], stored["document"]["link"]) == ("stored", link)
    number = (await client.get("/v1/series/demo.credit_note.p00/numbers/2")).json
    assert (number["order_id"], number["links"]) == (order_id, {"self": path, "document": link})
    assert (await client.get(f"{path}/credit-notes/R-404/document")).status == 404
    other = client.as_(KEYS["other"])
    assert (await other.get(f"{path}/credit-notes")).json["credit_notes"] == []
    assert (await other.get(link)).status == 404


async def test_a_command_without_an_answer_is_202(client: Client, office: Backoffice, sku: str) -> None:
    """At once where that is preferred; when the event doesn't come, Postgres is asked."""
    order_id = await confirmed(client, sku)
    office.publishes = False
    answer = await do(client, order_id, "deliveries", None, Prefer="wait=1")
    assert (answer.status, answer.json["status"]) == (202, "accepted")
    assert 0.9 < answer.seconds < 20
    assert (await do(client, order_id, "shipments")).json["state"] == "SHIPPED"
    answer = await do(client, order_id, "deliveries", None, Prefer="wait=0")
    assert answer.status == 202
    assert answer.seconds < 5


async def test_nothing_happens_to_an_order_that_is_not_there(client: Client, office: Backoffice, sku: str) -> None:
    """404, also for another seller's."""
    order_id = await confirmed(client, sku)
    assert (await do(client, "C-404", "shipments")).json["type"] == "/problems/unknown-order"
    assert (await do(client.as_(KEYS["other"]), order_id, "shipments")).status == 404
    assert (await client.as_(KEYS["other"]).get(f"/v1/orders/{order_id}")).status == 404


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, "refund-id-missing"),
        ({"refund_id": "cancellation"}, "invalid-field"),
        ({"refund_id": "x" * 41}, "invalid-field"),
        ({"refund_id": "R", "lines": []}, "invalid-field"),
        ({"refund_id": "R", "lines": [{"line": 0, "quantity": 0}]}, "invalid-field"),
        ({"refund_id": "R", "lines": [{"line": 0, "quantity": 1}, {"line": 0, "quantity": 1}]}, "invalid-field"),
        ({"refund_id": "R", "lines": [{"line": -1, "quantity": 1}]}, "invalid-field"),
        ({"refund_id": "R", "lines": [{"line": 0, "quantity": "1"}]}, "malformed"),
        ({"refund_id": "R", "reason": "x" * 501}, "invalid-field"),
        ({"refund_id": "R", "reason": "a\x00b"}, "invalid-field"),
        ({"refund_id": "R", "amount": 1.00}, "malformed"),
        ({"refund_id": "R", "amount": "0"}, "invalid-field"),
        ({"refund_id": "R", "amount": "1.00", "lines": [{"line": 0, "quantity": 1}]}, "invalid-field"),
    ],
)
async def test_a_refund_that_is_none_is_refused(client: Client, body: dict[str, Any], kind: str) -> None:
    """Before anything is looked up."""
    answer = await do(client, "C-404", "refunds", body)
    assert answer.json["type"] == f"/problems/{kind}"


async def test_a_customers_orders_are_listed_newest_first(client: Client, office: Backoffice, sku: str) -> None:
    """In pages that a new order doesn't disturb; another customer's and another seller's aren't among them."""
    customer, made = f"C {sku}", []
    for _ in range(5):
        made.append(new_id())
        assert (await post(client, checkout(made[-1], sku, "1", customer=customer), wait=20)).status == 201
        await asyncio.sleep(0.25)  # Five a second are permitted.
    await post(client, checkout(new_id(), sku, "1"), wait=20)
    page = (await client.get(f"/v1/orders?customer={customer}&limit=2")).json
    assert [each["order_id"] for each in page["orders"]] == made[:2:-1]
    await post(client, checkout(new_id(), sku, "1", customer=customer), wait=20)
    rest = (await client.get(f"/v1/orders?customer={customer}&cursor={page['next']}")).json
    assert [each["order_id"] for each in rest["orders"]] == made[2::-1]
    assert rest["next"] is None
    assert set(rest["orders"][0]) == {"order_id", "state", "customer", "currency", "totals", "placed_at", "links"}
    assert (await client.as_(KEYS["other"]).get(f"/v1/orders?customer={customer}")).json["orders"] == []
    for wrong in ("", "?customer=", f"?customer={customer}&limit=101", f"?customer={customer}&cursor=W10"):
        assert (await client.get(f"/v1/orders{wrong}")).status == 422, wrong


async def test_a_refund_that_failed_says_why_in_the_providers_words(
    client: Client, office: Backoffice, sku: str, query: Query
) -> None:
    """As after a refund of the same money in the provider's dashboard."""
    order_id = await confirmed(client, sku)
    assert (await do(client, order_id, "shipments")).status == 200
    refund = {"refund_id": "R-1", "lines": [{"line": 0, "quantity": 1}]}
    assert (await do(client, order_id, "refunds", refund)).status == 200
    path = f"/v1/orders/{order_id}"
    done = await until(lambda: client.get(path), lambda got: got.json["refunds"][0]["state"] == "done")
    assert done.json["refunds"][0]["provider_reason"] is None
    query("UPDATE refunds SET state = 'failed' WHERE order_id = %s", order_id)
    query(
        "UPDATE payment_attempts SET state = 'declined', reason = 'charge_already_refunded'"
        " WHERE order_id = %s AND request_id = 'refund:R-1'",
        order_id,
    )
    [failed] = (await client.get(path)).json["refunds"]
    assert (failed["state"], failed["provider_reason"]) == ("failed", "charge_already_refunded")


async def test_a_line_that_claimed_no_stock_says_so(client: Client, office: Backoffice, sku: str) -> None:
    body = checkout(new_id(), sku)
    body["lines"].append({**body["lines"][0], "sku": "SHIPPING", "quantity": "1", "stock": False})
    answer = await post(client, body, wait=20)
    assert answer.status == 201
    assert [each.get("stock") for each in answer.json["lines"]] == [None, False]
    assert "stock" not in answer.json["lines"][0]
