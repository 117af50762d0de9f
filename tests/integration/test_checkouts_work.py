"""The checkouts agent's batches against a real Postgres: all lines or none, in the order of arrival, never oversold."""

import asyncio
from typing import Any

import pytest

from schemas import catalog, codec
from streams.engine.work import OUTAGE_RETRIES
from tests.integration.shop import Query, Shop, checkout_body, shop
from tests.integration.test_invoices_work import FakeTable
from tests.records import written

__all__ = ["shop"]

ORDERS, STOCK = catalog.ORDER_EVENTS, catalog.INVENTORY_EVENTS


async def test_an_order_claims_its_stock_and_asks_for_its_payment(shop: Shop) -> None:
    shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A", ("S-1", 2)))
    assert shop.level("S-1") == (5, 2, 1)
    assert shop.history("A") == [("PLACED", "placed"), ("PAYMENT_PENDING", "payment-requested")]
    [(name, placed)] = shop.events(ORDERS)
    assert (name, placed["gross_minor"], placed["version"]) == ("OrderPlaced", 2400, 2)
    [(_, change)] = shop.events(STOCK)
    assert change["cause"] == "reserved"
    assert change["changes"] == [{"sku": "S-1", "quantity": 2, "on_hand": 5, "reserved": 2, "version": 1}]


async def test_offset_order_decides_who_gets_the_last_piece(shop: Shop) -> None:
    shop.stock("S-1", 2)
    await shop.checkout(*(checkout_body(name) for name in "ABCD"))
    assert [shop.state(name) for name in "ABCD"] == ["PAYMENT_PENDING", "PAYMENT_PENDING", "REFUSED", "REFUSED"]
    refused = [event for name, event in shop.events(ORDERS) if name == "OrderRefused"]
    assert [each["short"] for each in refused] == [[{"sku": "S-1", "wanted": 1, "free": 0}]] * 2
    assert shop.level("S-1") == (2, 2, 2)


async def test_all_lines_or_none(shop: Shop) -> None:
    shop.stock("S-1", 5)
    shop.stock("S-2", 1)
    await shop.checkout(checkout_body("A", ("S-1", 1), ("S-2", 2)), checkout_body("B", ("S-1", 5), ("S-2", 1)))
    assert shop.state("A") == "REFUSED"
    assert shop.state("B") == "PAYMENT_PENDING"
    assert shop.level("S-1")[1] == 5


async def test_several_lines_of_one_sku_are_counted_together(shop: Shop) -> None:
    shop.stock("S-1", 3)
    await shop.checkout(checkout_body("A", ("S-1", 2), ("S-1", 2)))
    assert shop.state("A") == "REFUSED"
    await shop.checkout(checkout_body("B", ("S-1", 2), ("S-1", 1)))
    assert shop.level("S-1") == (3, 3, 1)


async def test_a_sku_that_was_never_stocked_is_short(shop: Shop) -> None:
    await shop.checkout(checkout_body("A", ("S-9", 1)))
    assert shop.state("A") == "REFUSED"


async def test_a_repeated_order_claims_once_with_and_without_the_table(shop: Shop) -> None:
    shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A"), checkout_body("A"))
    await shop.checkout(checkout_body("A", payment_token="tok_other"))
    shop.table.numbers.clear()
    shop.table.covered = (0, shop.offsets[catalog.CHECKOUT_REQUESTS.name])
    # The table swears that it has seen everything and that A is new: the unique constraint knows better.
    await shop.checkout(checkout_body("A"), checkout_body("B"))
    assert shop.level("S-1") == (5, 2, 2)
    assert shop.names(ORDERS) == ["OrderPlaced", "OrderPlaced"]


async def test_a_refusal_is_final_for_its_id(shop: Shop) -> None:
    await shop.checkout(checkout_body("A"))
    shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A"))
    assert shop.state("A") == "REFUSED"
    assert shop.level("S-1") == (5, 0, 0)


async def test_other_content_under_the_same_id_is_a_conflict(shop: Shop) -> None:
    shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A"), checkout_body("A", customer="C-18"), checkout_body("A", ("S-1", 2)))
    assert shop.names(ORDERS) == ["OrderPlaced", "OrderConflicted", "OrderConflicted"]
    assert shop.query("SELECT kind, outcome FROM refused_requests") == [("checkout", "conflict")] * 2
    assert shop.level("S-1")[1] == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"customer": " "}, "invalid-field"),
        ({"customer": "x" * 255}, "invalid-field"),
        ({"customer": "C\0"}, "invalid-field"),
        ({"payment_token": "two words"}, "invalid-field"),
        ({"currency": "eur"}, "invalid-field"),
        ({"seller_id": "nobody"}, "unknown-seller"),
    ],
)
async def test_a_broken_rule_is_a_rejection(shop: Shop, changes: dict[str, str], reason: str) -> None:
    shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A", **changes))
    assert shop.query("SELECT kind, outcome, reason FROM refused_requests") == [("checkout", "rejected", reason)]
    assert shop.names(ORDERS) == ["OrderRejected"]
    assert shop.level("S-1")[1] == 0


async def test_negative_zero_is_placed_as_zero(shop: Shop) -> None:
    """In the event, and in the invoice that the order will ask for."""
    shop.stock("S-1", 5)
    body = checkout_body("A")
    body["lines"][0] |= {"unit_price": "-0.00", "vat_rate": "-0.0", "vat_category": "Z"}
    await shop.checkout(body)
    [(_, placed)] = shop.events(ORDERS)
    assert placed["lines"][0]["unit_price"] == "0.00"
    [(request,)] = shop.query("SELECT invoice_request FROM orders")
    _, invoice = codec.decode(request, catalog.INVOICE_REQUEST, bytes_max=10_000)
    assert (invoice["lines"][0]["unit_price"], invoice["lines"][0]["vat_rate"]) == ("0.00", "0.0")


@pytest.mark.parametrize("sku", [".", ".."])
async def test_a_sku_that_no_url_can_hold_is_rejected(shop: Shop, sku: str) -> None:
    """Nobody could set its stock."""
    await shop.checkout(checkout_body("A", (sku, 1)))
    assert shop.query("SELECT reason, detail FROM refused_requests") == [
        ("invalid-field", "lines[0].sku: must not be . or .., which clients take out of a URL")
    ]


@pytest.mark.parametrize("customer", ["", "x" * 242 + "@example.com"])
async def test_a_guest_and_an_e_mail_address_are_customers(shop: Shop, customer: str) -> None:
    """A guest's is empty."""
    shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A", customer=customer))
    assert shop.query("SELECT customer, state FROM orders") == [(customer, "PAYMENT_PENDING")]
    [(name, placed)] = shop.events(ORDERS)
    assert (name, placed["customer"]) == ("OrderPlaced", customer)
    await shop.checkout(checkout_body("A", customer=customer), checkout_body("A", customer="C-18"))
    assert shop.names(ORDERS) == ["OrderPlaced", "OrderConflicted"]


@pytest.mark.parametrize("quantity", ["0", "-1", "1.5", "1000001", "1e3"])
async def test_quantities_are_whole_pieces(shop: Shop, quantity: str) -> None:
    body = checkout_body("A")
    body["lines"][0]["quantity"] = quantity
    await shop.checkout(body)
    assert shop.query("SELECT reason FROM refused_requests") == [("invalid-field",)]


async def test_an_id_with_an_invoice_of_its_own_is_rejected(shop: Shop) -> None:
    shop.stock("S-1", 5)
    shop.query(
        "INSERT INTO invoices (series_id, number, seller_id, order_id, kind, invoice_number, issued_at, currency,"
        " net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset, event_seq)"
        " VALUES ('demo.invoice.p00', 1, 'demo', 'A', 'invoice', 'X', now(), 'EUR', 0, 0, 0, '', 0, 0, 1)"
    )
    await shop.checkout(checkout_body("A"))
    assert shop.query("SELECT reason FROM refused_requests") == [("already-invoiced",)]


@pytest.mark.parametrize("value", [None, b"junk", written(catalog.CHECKOUT_REQUEST, checkout_body("nul\0"))])
async def test_bad_bytes_become_a_dead_letter_and_only_they_stop(shop: Shop, value: bytes | None) -> None:
    shop.stock("S-1", 5)
    await shop.checkout(checkout_body("A"), value, checkout_body("B"))
    assert [shop.state(name) for name in "AB"] == ["PAYMENT_PENDING"] * 2
    [(_, letter)] = shop.events(catalog.DEAD_LETTERS)
    assert (letter["agent"], letter["source_offset"], letter["value"]) == ("checkouts", 1, value)


async def test_four_partitions_at_once_never_oversell_and_never_lock_each_other_out(
    shop: Shop, ledger_url: str, query: Query
) -> None:
    names = [f"S-{number}" for number in range(8)]
    for name in names:
        shop.stock(name, 60)
    partitions = [Shop(ledger_url, query, partition=number, table=FakeTable()) for number in range(4)]
    retries = OUTAGE_RETRIES.labels("checkouts")
    before = retries._value.get()

    async def sell(each: Shop) -> None:
        for number in range(5):
            # SKUs in a different order in each partition: only sorted locks keep them from waiting in a ring.
            order = names[each.partition * 2 :] + names[: each.partition * 2]
            await each.checkout(*(
                checkout_body(f"{each.partition}-{number}-{n}", *((sku, 1) for sku in order)) for n in range(20)
            ))  # fmt: skip

    await asyncio.gather(*map(sell, partitions))
    for each in partitions:
        await each.close()
    # A deadlock would be waited out like an outage, and nobody would notice but by the time it takes.
    assert retries._value.get() == before
    assert {shop.level(name)[:2] for name in names} == {(60, 60)}
    assert query("SELECT state, count(*) FROM orders GROUP BY state ORDER BY state") == [
        ("PAYMENT_PENDING", 60),
        ("REFUSED", 340),
    ]
    versions: dict[str, list[int]] = {}
    for _, event in shop.events(STOCK):
        for change in event["changes"]:
            versions.setdefault(change["sku"], []).append(change["version"])
    assert all(sorted(each) == list(range(1, 61)) for each in versions.values())


async def test_a_stale_worker_claims_nothing_again(shop: Shop, ledger_url: str, query: Query) -> None:
    shop.stock("S-1", 100)
    batch: list[Any] = [checkout_body(f"O-{number}") for number in range(50)]
    zombie = Shop(ledger_url, query, table=FakeTable())
    await asyncio.gather(shop.checkout(*batch), zombie.checkout(*batch))
    await zombie.close()
    assert shop.level("S-1") == (100, 50, 50)
