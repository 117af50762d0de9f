"""Carts over HTTP: chosen, merged, and checked out at the catalogue's prices, with the agents behind them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio

from runtime.publisher import OverloadedError, Publisher
from tests.conftest import Services
from tests.integration.backoffice import Backoffice
from tests.integration.gateways import KEYS, Answer, Client, Topics, link_to, order, running, through, until
from tests.integration.test_gateway_orders import new_id
from tests.integration.test_products import product, put

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
async def office(services: Services, ledger: str, topics: Topics) -> AsyncIterator[Backoffice]:
    """Somebody who decides what the gateway accepts."""
    async with Backoffice(services, ledger, topics) as made:
        yield made


@pytest.fixture(autouse=True)
async def stock_is_of_postgres(services: Services) -> None:
    """Redis has no complete copy of it, whatever tests before have copied."""
    async with redis.asyncio.Redis.from_url(services.redis_url) as server:
        await server.delete("stock:{demo}:complete")


@pytest.fixture
def cart() -> str:
    """A customer's cart that no other test has: Redis outlives a test."""
    return f"C-{uuid4().hex[:12]}"


async def choose(client: Client, cart: str, sku: str, quantity: int = 1, **headers: str) -> Answer:
    """Put pieces of the SKU, sold by the product of the same name, into the cart."""
    body = {"product_id": sku, "quantity": quantity}
    return await client.call("PUT", f"/v1/carts/{cart}/lines/{sku}", headers, json=body)


async def sell(client: Client, query: Query, *skus: str, price: str = "9.90", on_hand: int = 10) -> None:
    """Products of one SKU each, with stock."""
    for sku in skus:
        assert (await put(client, sku, product(sku, variants=[{"sku": sku, "unit_price": price}]))).status < 300
        query("INSERT INTO stock (seller_id, sku, on_hand, version) VALUES ('demo', %s, %s, 1) ON CONFLICT DO NOTHING",
              sku, on_hand)  # fmt: skip


async def check_out(client: Client, cart: str, order_id: str, wait: int = 20, **changes: Any) -> Answer:
    """POST /v1/checkouts of the cart."""
    body = {"cart": cart, "order_id": order_id, "buyer": order(None)["buyer"], "payment_token": "tok_ok", **changes}
    return await client.call("POST", "/v1/checkouts", {"Prefer": f"wait={wait}"}, json=body)


def skus_of(cart: Any) -> list[tuple[str, int]]:
    return [(line["sku"], line["quantity"]) for line in cart["lines"]]


def new_skus(count: int) -> list[str]:
    name = uuid4().hex[:12]
    return [f"S-{name}-{number}" for number in range(count)]


async def test_lines_are_put_changed_and_taken_out(client: Client, query: Query, cart: str) -> None:
    """They keep the order in which they were put, and the cart counts its changes."""
    one, other = new_skus(2)
    await sell(client, query, one, other)
    empty = await client.get(f"/v1/carts/{cart}")
    assert (empty.status, empty.json["lines"], empty.headers["ETag"]) == (200, [], '"0"')
    await choose(client, cart, one, 2)
    await choose(client, cart, other)
    again = await choose(client, cart, one, 3)
    assert (skus_of(again.json), again.json["version"]) == ([(one, 3), (other, 1)], 3)
    assert again.json["lines"][0] == {
        "sku": one, "product_id": one, "name": "Mug", "quantity": 3,
        "unit_price": "9.90", "unit_price_now": "9.90", "available": 10,
    }  # fmt: skip
    assert (again.json["currency"], again.json["prices_include_tax"], again.json["state"]) == ("EUR", True, "OPEN")
    less = await client.call("DELETE", f"/v1/carts/{cart}/lines/{one}")
    assert skus_of(less.json) == [(other, 1)]
    assert skus_of((await client.get(f"/v1/carts/{cart}")).json) == [(other, 1)]
    assert (await client.call("DELETE", f"/v1/carts/{cart}")).status == 204
    assert (await client.call("DELETE", f"/v1/carts/{cart}")).status == 404
    assert (await client.as_(KEYS["other"]).get(f"/v1/carts/{cart}")).json["lines"] == []


async def test_what_is_not_sold_can_not_be_put(client: Client, query: Query, cart: str) -> None:
    one, other = new_skus(2)
    await sell(client, query, one)
    assert (await choose(client, cart, other)).status == 404
    assert (await choose(client.as_(KEYS["other"]), cart, one)).status == 404
    assert (await choose(client, cart, one, 0)).json["field"] == "quantity"
    await choose(client, cart, one)
    dollars = product(other, currency="USD")
    await put(client, other, dollars)
    mixed = await choose(client, cart, other)
    assert (mixed.status, mixed.json["field"]) == (422, "product_id")


async def test_a_change_is_made_only_to_the_cart_that_was_seen(client: Client, query: Query, cart: str) -> None:
    [sku] = new_skus(1)
    await sell(client, query, sku)
    await choose(client, cart, sku)
    assert (await choose(client, cart, sku, 2, If_Match='"1"')).json["version"] == 2
    stale = await choose(client, cart, sku, 3, If_Match='"1"')
    assert (stale.status, stale.json["type"], stale.headers["ETag"]) == (412, "/problems/precondition-failed", '"2"')
    answers = await asyncio.gather(*(choose(client, cart, sku, 4, If_Match='"2"') for _ in range(5)))
    assert sorted(each.status for each in answers) == [200, 412, 412, 412, 412]


async def test_a_cart_has_a_hundred_lines_at_most(client: Client, cart: str) -> None:
    skus = new_skus(101)
    variants = [{"sku": sku, "unit_price": "1"} for sku in skus]
    await put(client, skus[0], product(variants=variants))
    body = {"product_id": skus[0], "quantity": 1}
    answers = [await client.call("PUT", f"/v1/carts/{cart}/lines/{sku}", json=body) for sku in skus]
    assert [each.status for each in answers] == [200] * 100 + [422]
    assert [sku for sku, _ in skus_of((await client.get(f"/v1/carts/{cart}")).json)] == skus[:100]


async def test_a_line_may_be_put_five_times_a_second(
    client: Client, services: Services, ledger: str, topics: Topics, query: Query, cart: str
) -> None:
    """Over all gateways, and it is nothing to other lines and carts."""
    one, other = new_skus(2)
    await sell(client, query, one, other)
    async with running(services, ledger, topics) as second:
        answers = await asyncio.gather(*(choose((client, second)[at % 2], cart, one, at + 1) for at in range(80)))
    # How long it took them decides how many more than the five that were there at once.
    refused = [each for each in answers if each.status == 429]
    assert 5 <= len(answers) - len(refused) < 80
    assert {(each.json["type"], each.json["field"]) for each in refused} == {("/problems/too-many-requests", "sku")}
    assert {each.headers["Retry-After"] for each in refused} == {"1"}
    assert (await choose(client, cart, other)).status == 200
    assert (await choose(client, f"{cart}-2", one)).status == 200
    async with redis.asyncio.Redis.from_url(services.redis_url) as server:
        # It expires, or has.
        assert await server.pttl(f"cart:{{demo}}-puts:{len(cart)}:{cart}:{one}") in (-2, *range(1_001))
    await until(lambda: choose(client, cart, one, 9), lambda answer: answer.status == 200)


async def test_a_cart_lives_for_thirty_days_and_a_guests_for_one(
    client: Client, query: Query, services: Services, cart: str
) -> None:
    [sku] = new_skus(1)
    await sell(client, query, sku)
    for name, days in ((cart, 30), (f"guest:{cart}", 1)):
        await choose(client, name, sku)
        async with redis.asyncio.Redis.from_url(services.redis_url) as server:
            assert 0 < days * 86_400 - await server.ttl(f"cart:{{demo}}:{name}") + 1 < 60


async def test_a_guests_cart_is_added_at_login_up_to_what_may_be_had(client: Client, query: Query, cart: str) -> None:
    """What is not added as wanted is told. The guest's cart is no more, so a repeat adds nothing."""
    one, two, three = new_skus(3)
    await sell(client, query, one, two, three, on_hand=5)
    query("UPDATE stock SET reserved = 5 WHERE sku = %s", three)
    guest = f"guest:{cart}"
    await choose(client, cart, one, 3)
    for sku, quantity in ((one, 4), (two, 1), (three, 2)):
        await choose(client, guest, sku, quantity)
    merged = await client.call("POST", f"/v1/carts/{cart}/merge", json={"source": guest})
    assert skus_of(merged.json["cart"]) == [(one, 5), (two, 1)]
    assert merged.json["conflicts"] == [
        {"sku": one, "wanted": 7, "quantity": 5}, {"sku": three, "wanted": 2, "quantity": 0},
    ]  # fmt: skip
    again = await client.call("POST", f"/v1/carts/{cart}/merge", json={"source": guest})
    assert (again.json["conflicts"], again.json["cart"]["version"]) == ([], merged.json["cart"]["version"])
    assert (await client.call("POST", f"/v1/carts/{cart}/merge", json={"source": cart})).json["field"] == "source"


async def test_a_checkout_costs_what_the_catalogue_says(
    client: Client, office: Backoffice, query: Query, cart: str
) -> None:
    """The client can't choose a price. After the confirmation the cart is no more."""
    one, other = new_skus(2)
    await sell(client, query, one, other, price="12.00")
    await choose(client, cart, one, 2)
    await choose(client, cart, other)
    order_id = new_id()
    answer = await check_out(client, cart, order_id)
    assert (answer.status, answer.json["state"], answer.json["customer"]) == (201, "CONFIRMED", cart)
    assert answer.json["totals"] == {"net": "30.00", "tax": "6.00", "gross": "36.00"}
    assert [(each["sku"], each["quantity"], each["description"]) for each in answer.json["lines"]] == [
        (one, 2, "Mug"), (other, 1, "Mug"),
    ]  # fmt: skip
    assert (await client.get(f"/v1/carts/{cart}")).json["lines"] == []
    chosen = await check_out(client, cart, order_id, lines=[])
    assert (chosen.status, chosen.json["field"]) == (400, "lines")


async def test_a_new_price_is_told_before_it_is_paid(
    client: Client, office: Backoffice, query: Query, cart: str
) -> None:
    """Once the buyer was told, the checkout goes through; what is sold no more must be taken out."""
    one, other = new_skus(2)
    await sell(client, query, one, other)
    await choose(client, cart, one)
    await choose(client, cart, other)
    await sell(client, query, one, price="11.00")
    await client.call("DELETE", f"/v1/products/{other}")
    seen = (await client.get(f"/v1/carts/{cart}")).json["lines"]
    assert [(line["unit_price"], line["unit_price_now"]) for line in seen] == [("9.90", "11.00"), ("9.90", None)]
    order_id = new_id()
    told = await check_out(client, cart, order_id)
    assert (told.status, told.json["type"]) == (409, "/problems/cart-changed")
    assert told.json["lines"] == [
        {"sku": one, "unit_price": "9.90", "unit_price_now": "11.00"},
        {"sku": other, "unit_price": "9.90", "unit_price_now": None},
    ]
    again = await check_out(client, cart, order_id)
    assert [each["sku"] for each in again.json["lines"]] == [other]
    await client.call("DELETE", f"/v1/carts/{cart}/lines/{other}")
    paid = await check_out(client, cart, order_id)
    assert (paid.status, paid.json["totals"]["gross"]) == (201, "11.00")


async def test_a_cart_whose_payment_is_declined_is_open_again(
    client: Client, office: Backoffice, query: Query, cart: str
) -> None:
    """Meanwhile nobody changes it, nor checks it out as another order."""
    [sku] = new_skus(1)
    await sell(client, query, sku)
    await choose(client, cart, sku)
    declined = await check_out(client, cart, new_id(), payment_token="tok_decline")
    assert (declined.status, declined.json["type"]) == (402, "/problems/payment-declined")
    assert (await client.get(f"/v1/carts/{cart}")).json["state"] == "OPEN"
    first = new_id()
    pending = await check_out(client, cart, first, wait=0, payment_token="tok_never")
    assert pending.status == 202
    shown = (await client.get(f"/v1/carts/{cart}")).json
    assert (shown["state"], shown["order_id"], skus_of(shown)) == ("CHECKED_OUT", first, [(sku, 1)])
    locked = await choose(client, cart, sku, 5)
    assert (locked.status, locked.json["type"], locked.json["order_id"]) == (409, "/problems/cart-checked-out", first)
    assert (await check_out(client, cart, new_id())).json["type"] == "/problems/cart-checked-out"
    await until(
        lambda: client.get(f"/v1/orders/{first}"), lambda got: got.json["state"] in ("PLACED", "PAYMENT_PENDING")
    )
    await client.call("POST", f"/v1/orders/{first}/cancellations", {"Prefer": "wait=20"}, json={})
    opened = await until(lambda: client.get(f"/v1/carts/{cart}"), lambda got: got.json["state"] == "OPEN")
    assert skus_of(opened.json) == [(sku, 1)]


async def test_a_cart_stays_checked_out_while_a_late_payment_may_confirm_its_expired_order(
    client: Client, office: Backoffice, query: Query, cart: str
) -> None:
    """Open, it would be bought twice. A command that cancels the order gives it up for good."""
    [sku] = new_skus(1)
    await sell(client, query, sku)
    await choose(client, cart, sku)
    order_id = new_id()
    assert (await check_out(client, cart, order_id, wait=0, payment_token="tok_never")).status == 202
    await until(
        lambda: client.get(f"/v1/orders/{order_id}"), lambda got: got.json["state"] in ("PLACED", "PAYMENT_PENDING")
    )
    step = {"version": 3, "from": "PAYMENT_PENDING", "to": "CANCELLED", "reason": "hold-expired", "detail": "", "at": 3}
    query(
        "UPDATE orders SET state = 'CANCELLED', version = 3, history = history || %s::jsonb WHERE order_id = %s",
        json.dumps([step]), order_id,
    )  # fmt: skip
    again = await check_out(client, cart, order_id, payment_token="tok_never")
    assert (again.status, again.json["reason"]) == (409, "hold-expired")
    assert (await client.get(f"/v1/carts/{cart}")).json["state"] == "CHECKED_OUT"
    assert (await check_out(client, cart, new_id())).json["type"] == "/problems/cart-checked-out"
    await client.call("POST", f"/v1/orders/{order_id}/cancellations", {"Prefer": "wait=20"}, json={})
    opened = await until(lambda: client.get(f"/v1/carts/{cart}"), lambda got: got.json["state"] == "OPEN")
    assert skus_of(opened.json) == [(sku, 1)]


async def test_a_cart_whose_order_was_confirmed_while_nobody_waited_is_gone(
    client: Client, office: Backoffice, query: Query, cart: str
) -> None:
    """A repeat of the checkout is the same order, at the price of the first time."""
    [sku] = new_skus(1)
    await sell(client, query, sku)
    await choose(client, cart, sku)
    order_id = new_id()
    assert (await check_out(client, cart, order_id, wait=0)).status == 202
    await sell(client, query, sku, price="99.00")
    again = await check_out(client, cart, order_id)
    assert (again.status, again.json["totals"]["gross"]) == (201, "9.90")
    got = await until(lambda: client.get(f"/v1/carts/{cart}"), lambda answer: answer.json["lines"] == [])
    assert got.json["state"] == "OPEN"


async def test_a_repeat_that_is_refused_opens_no_cart_whose_first_checkout_was_accepted(
    client: Client, query: Query, cart: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be bought twice: once as the order that is not decided yet, and once as another."""
    [sku] = new_skus(1)
    await sell(client, query, sku)
    await choose(client, cart, sku)
    order_id = new_id()
    assert (await check_out(client, cart, order_id, wait=0)).status == 202

    async def refuse(*_: Any) -> Any:
        raise OverloadedError

    monkeypatch.setattr(Publisher, "publish", refuse)
    refused = await check_out(client, cart, order_id, wait=0)
    assert (refused.status, refused.json["type"]) == (503, "/problems/overloaded")
    shown = (await client.get(f"/v1/carts/{cart}")).json
    assert (shown["state"], shown["order_id"]) == ("CHECKED_OUT", order_id)
    assert (await check_out(client, cart, new_id())).json["type"] == "/problems/cart-checked-out"


async def test_a_cart_under_an_order_id_that_is_taken_is_open_again(client: Client, query: Query, cart: str) -> None:
    """The order with this id was never the cart's: confirmed, it would take the cart away."""
    one, other = new_skus(2)
    await sell(client, query, one, other)
    await choose(client, cart, one)
    await choose(client, f"{cart}-2", other)
    order_id = new_id()
    assert (await check_out(client, f"{cart}-2", order_id, wait=0)).status == 202
    taken = await check_out(client, cart, order_id)
    assert (taken.status, taken.json["type"]) == (409, "/problems/conflict")
    shown = (await client.get(f"/v1/carts/{cart}")).json
    assert (shown["state"], skus_of(shown)) == ("OPEN", [(one, 1)])


async def test_a_cart_that_is_checked_out_is_not_added_and_its_order_is_named(
    client: Client, query: Query, cart: str
) -> None:
    [sku] = new_skus(1)
    await sell(client, query, sku)
    guest, order_id = f"guest:{cart}", new_id()
    await choose(client, guest, sku)
    assert (await check_out(client, guest, order_id, wait=0)).status == 202
    locked = await client.call("POST", f"/v1/carts/{cart}/merge", json={"source": guest})
    assert (locked.status, locked.json["type"]) == (409, "/problems/cart-checked-out")
    assert (locked.json["order_id"], order_id in locked.json["detail"]) == (order_id, True)


async def test_out_of_stock_leaves_the_cart_open(client: Client, office: Backoffice, query: Query, cart: str) -> None:
    [sku] = new_skus(1)
    await sell(client, query, sku, on_hand=1)
    await choose(client, cart, sku, 2)
    short = await check_out(client, cart, new_id())
    assert (short.status, short.json["type"]) == (409, "/problems/out-of-stock")
    shown = (await client.get(f"/v1/carts/{cart}")).json
    assert (shown["state"], shown["lines"][0]["available"]) == ("OPEN", 1)


async def test_an_empty_cart_is_no_order(client: Client, cart: str) -> None:
    empty = await check_out(client, cart, new_id())
    assert (empty.status, empty.json["field"]) == (422, "cart")


async def test_without_redis_there_are_no_carts_and_all_else_goes_on(
    services: Services, ledger: str, topics: Topics, cart: str
) -> None:
    link = await link_to(services.redis_url)
    async with running(services, ledger, topics, redis_url=through(link, services.redis_url)) as client:
        await link.cut()
        lost = await client.get(f"/v1/carts/{cart}")
        assert (lost.status, lost.headers["Retry-After"]) == (503, "1")
        assert (await client.post(order(new_id()))).status == 202
