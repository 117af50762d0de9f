"""The orders agent against a real Postgres: every state by the table, each step in the journal, stock in step."""

from datetime import timedelta
from typing import Any

import pytest

from schemas import catalog, codec
from tests.integration.shop import HOLD, Shop, checkout_body, command, paid, shop

__all__ = ["shop"]

ORDERS, STOCK, REQUESTS = catalog.ORDER_EVENTS, catalog.INVENTORY_EVENTS, catalog.INVOICE_REQUESTS


async def confirmed(shop: Shop, order_id: str = "A", *lines: tuple[str, int]) -> None:
    shop.stock("S-1", 10)
    await shop.checkout(checkout_body(order_id, *(lines or (("S-1", 2),))))
    await shop.pay(order_id)
    assert shop.state(order_id) == "CONFIRMED"


def payments(shop: Shop) -> list[tuple[str, int]]:
    return [(e["request_id"], e["amount_minor"]) for name, e in shop.events(ORDERS) if name == "PaymentRequested"]


async def test_an_authorised_payment_confirms_the_order_and_asks_for_its_invoice(shop: Shop) -> None:
    await confirmed(shop)
    assert shop.history("A")[-1] == ("CONFIRMED", "payment-authorized")
    [(name, request)] = shop.events(REQUESTS)
    assert (name, request["order_id"], request["kind"]) == ("InvoiceRequest", "A", "invoice")
    assert shop.level("S-1")[:2] == (10, 2)
    changed = [event for name, event in shop.events(ORDERS) if name == "OrderStateChanged"]
    assert [(e["version"], e["from_state"], e["to_state"]) for e in changed] == [(3, "PAYMENT_PENDING", "CONFIRMED")]


@pytest.mark.parametrize(("outcome", "reason"), [("declined", "payment-declined"), ("failed", "payment-failed")])
async def test_a_payment_that_fails_gives_the_stock_back(shop: Shop, outcome: str, reason: str) -> None:
    shop.stock("S-1", 10)
    await shop.checkout(checkout_body("A", ("S-1", 2)))
    await shop.pay("A", outcome, reason="insufficient_funds")
    assert shop.history("A")[-1] == ("CANCELLED", reason)
    assert shop.level("S-1") == (10, 0, 2)
    assert shop.events(STOCK)[-1][1]["cause"] == "released"
    assert shop.events(REQUESTS) == []
    assert payments(shop) == []


async def test_a_payment_that_the_ledger_does_not_know_confirms_nothing(shop: Shop) -> None:
    shop.stock("S-1", 10)
    await shop.checkout(checkout_body("A"))
    forged = paid("A", "succeeded", "authorize", "authorize")
    await shop.worker.run(shop.orders, shop.batch(catalog.PAYMENT_EVENTS.name, [forged]))
    assert shop.state("A") == "PAYMENT_PENDING"
    assert len(shop.events(catalog.DEAD_LETTERS)) == 1


async def test_shipping_captures_and_takes_the_pieces_out(shop: Shop) -> None:
    await confirmed(shop)
    assert (await shop.command("A", "ship"))["outcome"] == "applied"
    assert shop.state("A") == "SHIPPED"
    assert shop.level("S-1")[:2] == (8, 0)
    assert payments(shop) == [("capture", 2400)]
    assert (await shop.command("A", "deliver"))["outcome"] == "applied"
    assert shop.state("A") == "DELIVERED"


async def test_a_shipment_is_told_with_its_parcel(shop: Shop) -> None:
    """In the order's history and in its event, and in no other step; a repeat changes nothing."""
    await confirmed(shop)
    parcel = {"carrier": "DHL", "tracking_number": "00340", "tracking_url": "https://dhl.example/00340"}
    await shop.command("A", "ship", parcel=parcel)
    await shop.command("A", "ship", parcel={**parcel, "tracking_number": "1"})
    await shop.command("A", "deliver")
    [(history,)] = shop.query("SELECT history FROM orders WHERE order_id = 'A'")
    assert [(step["to"], step.get("parcel")) for step in history][-2:] == [("SHIPPED", parcel), ("DELIVERED", None)]
    steps = [event for name, event in shop.events(catalog.ORDER_EVENTS) if name == "OrderStateChanged"]
    assert [(each["to_state"], each["parcel"]) for each in steps] == [
        ("CONFIRMED", None), ("SHIPPED", parcel), ("DELIVERED", None)
    ]  # fmt: skip


async def test_a_command_twice_is_one_step(shop: Shop) -> None:
    await confirmed(shop)
    for _ in range(3):
        assert (await shop.command("A", "ship"))["outcome"] == "applied"
    assert payments(shop) == [("capture", 2400)]
    assert shop.level("S-1")[:2] == (8, 0)


@pytest.mark.parametrize("action", ["ship", "deliver", "refund"])
async def test_a_command_that_the_table_forbids_is_refused_with_the_reason(shop: Shop, action: str) -> None:
    shop.stock("S-1", 10)
    await shop.checkout(checkout_body("A"))
    answer = await shop.command("A", action, **({"refund_id": "R-1"} if action == "refund" else {}))
    assert (answer["outcome"], answer["reason"]) == ("refused", "not-permitted")
    assert "PAYMENT_PENDING" in answer["detail"]
    assert shop.state("A") == "PAYMENT_PENDING"


async def test_a_command_on_an_unknown_order_is_refused(shop: Shop) -> None:
    assert (await shop.command("nobody's", "cancel"))["reason"] == "unknown-order"


async def test_cancelling_before_the_payment_voids_what_is_authorised_later(shop: Shop) -> None:
    shop.stock("S-1", 10)
    await shop.checkout(checkout_body("A"))
    await shop.command("A", "cancel", reason="changed my mind")
    assert shop.history("A")[-1] == ("CANCELLED", "cancel")
    assert shop.level("S-1")[:2] == (10, 0)
    await shop.pay("A")
    # Stock is free, but nobody wants the order any more.
    assert shop.state("A") == "CANCELLED"
    assert shop.level("S-1")[:2] == (10, 0)
    assert payments(shop) == [("void", 1200)]
    assert shop.events(REQUESTS) == []


async def test_cancelling_a_confirmed_order_voids_and_credits_its_invoice(shop: Shop) -> None:
    await confirmed(shop)
    await shop.command("A", "cancel", reason="lost")
    assert shop.state("A") == "CANCELLED"
    assert shop.level("S-1")[:2] == (10, 0)
    assert payments(shop) == [("void", 2400)]
    assert [name for name, _ in shop.events(REQUESTS)] == ["InvoiceRequest"]
    await shop.pay("A", action="void")
    name, note = shop.events(REQUESTS)[-1]
    assert (name, note["refund_id"], note["totals"]["gross_minor"]) == ("CreditNoteRequest", "cancellation", 2400)
    # The provider's answer again, under another offset: one credit note all the same.
    await shop.pay("A", action="void")
    assert len(shop.events(REQUESTS)) == 2


async def test_an_expired_hold_gives_the_stock_back_once(shop: Shop) -> None:
    shop.stock("S-1", 10)
    await shop.checkout(checkout_body("A"), checkout_body("B"))
    await shop.pay("B")
    shop.now += HOLD - timedelta(seconds=1)
    assert await shop.expire() == 0
    shop.now += timedelta(seconds=2)
    assert await shop.expire() == 1
    assert await shop.expire() == 0
    assert shop.history("A")[-1] == ("CANCELLED", "hold-expired")
    assert shop.state("B") == "CONFIRMED"
    assert shop.level("S-1")[:2] == (10, 1)


async def expired_and_paid(shop: Shop, on_hand: int, *, then: Any = None) -> None:
    shop.stock("S-1", on_hand)
    await shop.checkout(checkout_body("A"))
    shop.now += HOLD
    await shop.expire()
    if then is not None:
        await then()
    await shop.pay("A")


async def test_a_late_payment_takes_the_stock_back_if_there_is_some(shop: Shop) -> None:
    await expired_and_paid(shop, 1)
    assert [state for state, _ in shop.history("A")] == [
        "PLACED", "PAYMENT_PENDING", "CANCELLED", "CONFIRMED",
    ]  # fmt: skip
    assert shop.level("S-1")[:2] == (1, 1)
    assert shop.events(STOCK)[-1][1]["cause"] == "retaken"
    assert [name for name, _ in shop.events(REQUESTS)] == ["InvoiceRequest"]
    assert payments(shop) == []


async def test_a_late_payment_without_stock_is_voided(shop: Shop) -> None:
    await expired_and_paid(shop, 1, then=lambda: shop.checkout(checkout_body("B")))
    assert shop.state("A") == "CANCELLED"
    assert shop.state("B") == "PAYMENT_PENDING"
    assert payments(shop) == [("void", 1200)]
    assert shop.level("S-1")[:2] == (1, 1)


async def test_a_late_payment_that_goes_back_stays_so_when_its_event_comes_again(shop: Shop) -> None:
    """The relay may publish an event twice; by then there may be stock again."""
    await expired_and_paid(shop, 1, then=lambda: shop.checkout(checkout_body("B")))
    assert shop.history("A")[-1] == ("CANCELLED", "late-payment-voided")
    await shop.command("B", "cancel")
    await shop.pay("A")
    assert shop.state("A") == "CANCELLED"
    assert payments(shop) == [("void", 1200)]
    assert shop.level("S-1")[:2] == (1, 0)


async def test_a_payment_told_again_after_the_cancellation_changes_nothing(shop: Shop) -> None:
    await confirmed(shop)
    await shop.command("A", "cancel", reason="lost")
    history = shop.history("A")
    await shop.pay("A")
    assert shop.history("A") == history
    assert payments(shop) == [("void", 2400)]


async def test_who_cancels_an_expired_order_is_not_sold_it_by_a_late_payment(shop: Shop) -> None:
    await expired_and_paid(shop, 1, then=lambda: shop.command("A", "cancel", reason="too slow"))
    steps = [("CANCELLED", "hold-expired"), ("CANCELLED", "cancel"), ("CANCELLED", "late-payment-voided")]
    assert shop.history("A")[2:] == steps
    assert payments(shop) == [("void", 1200)]
    assert shop.level("S-1")[:2] == (1, 0)
    assert (await shop.command("A", "cancel"))["outcome"] == "applied"
    assert len(shop.history("A")) == 5


async def delivered(shop: Shop) -> None:
    await confirmed(shop, "A", ("S-1", 2), ("S-1", 3))
    await shop.command("A", "ship")
    await shop.pay("A", action="capture")
    await shop.command("A", "deliver")


async def test_refunds_by_line_credit_the_invoice_to_the_cent(shop: Shop) -> None:
    await delivered(shop)
    assert (await shop.command("A", "refund", refund_id="R-1", lines=[{"line": 1, "quantity": 1}]))[
        "outcome"
    ] == "applied"
    assert payments(shop)[-1] == ("refund:R-1", 1200)
    assert [name for name, _ in shop.events(REQUESTS)] == ["InvoiceRequest"]
    await shop.pay("A", action="refund", request_id="refund:R-1")
    assert shop.events(REQUESTS)[-1][1]["totals"]["gross_minor"] == 1200
    assert shop.state("A") == "DELIVERED"
    await shop.command("A", "refund", refund_id="R-2")
    assert payments(shop)[-1] == ("refund:R-2", 4800)
    await shop.pay("A", action="refund", request_id="refund:R-2")
    assert shop.history("A")[-1] == ("REFUNDED", "refunded-in-full")
    credited = [note["totals"]["gross_minor"] for name, note in shop.events(REQUESTS) if name == "CreditNoteRequest"]
    assert sum(credited) == 6000


async def test_a_refund_twice_is_one_and_other_lines_under_its_id_are_refused(shop: Shop) -> None:
    await delivered(shop)
    lines = [{"line": 0, "quantity": 1}]
    for _ in range(2):
        assert (await shop.command("A", "refund", refund_id="R-1", lines=lines))["outcome"] == "applied"
    assert payments(shop)[1:] == [("refund:R-1", 1200)]
    answer = await shop.command("A", "refund", refund_id="R-1", lines=[{"line": 1, "quantity": 1}])
    assert answer["reason"] == "refund-conflict"
    answer = await shop.command("A", "refund", refund_id="R-1")
    assert (answer["reason"], payments(shop)[1:]) == ("refund-conflict", [("refund:R-1", 1200)])


async def test_a_refund_of_all_that_is_left_is_the_same_one_again_without_lines(shop: Shop) -> None:
    """By then nothing is left: it is told by what was asked for, not by what there is."""
    await delivered(shop)
    for lines in ([], [], [{"line": 0, "quantity": 2}, {"line": 1, "quantity": 3}]):
        assert (await shop.command("A", "refund", refund_id="R-1", lines=lines))["outcome"] == "applied"
    assert payments(shop)[1:] == [("refund:R-1", 6000)]
    answer = await shop.command("A", "refund", refund_id="R-1", lines=[{"line": 0, "quantity": 2}])
    assert answer["reason"] == "refund-conflict"


async def test_a_refund_from_before_its_wish_was_noted_conflicts_with_no_repeat(shop: Shop) -> None:
    """The release before wrote no note of whether lines were named."""
    await delivered(shop)
    await shop.command("A", "refund", refund_id="R-1", lines=[{"line": 0, "quantity": 1}])
    shop.query("UPDATE refunds SET for_all_left = NULL")
    for lines in ([], [{"line": 0, "quantity": 1}]):
        assert (await shop.command("A", "refund", refund_id="R-1", lines=lines))["outcome"] == "applied"


async def test_a_delivery_repeated_after_a_refund_in_full_is_answered_as_the_first_time(shop: Shop) -> None:
    await delivered(shop)
    await shop.command("A", "refund", refund_id="R-1")
    await shop.pay("A", action="refund", request_id="refund:R-1")
    assert shop.state("A") == "REFUNDED"
    for repeated in ("ship", "deliver"):
        assert (await shop.command("A", repeated))["outcome"] == "applied"
    assert (await shop.command("A", "refund", refund_id="R-1"))["outcome"] == "applied"


async def test_an_answer_names_the_record_that_it_answers(shop: Shop) -> None:
    """Two commands for the same thing share their id, and may be answered differently."""
    shop.stock("S-1", 10)
    await shop.checkout(checkout_body("A"))
    early = await shop.command("A", "ship")
    await shop.pay("A")
    late = await shop.command("A", "ship")
    assert [each["outcome"] for each in (early, late)] == ["refused", "applied"]
    assert [(each["source_partition"], each["source_offset"]) for each in (early, late)] == [(0, 0), (0, 1)]


async def test_refunds_of_an_order_come_one_after_the_other(shop: Shop) -> None:
    await delivered(shop)
    lines = [{"line": 0, "quantity": 1}]
    await shop.command("A", "refund", refund_id="R-1", lines=lines)
    answer = await shop.command("A", "refund", refund_id="R-2", lines=lines)
    assert (answer["reason"], "under way" in answer["detail"]) == ("refund-in-progress", True)
    await shop.pay("A", "declined", action="refund", request_id="refund:R-1")
    assert (await shop.command("A", "refund", refund_id="R-2", lines=lines))["outcome"] == "applied"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([{"line": 0, "quantity": 3}], "refund-too-large"),
        ([{"line": 0, "quantity": 1}, {"line": 0, "quantity": 2}], "refund-too-large"),
        ([{"line": 7, "quantity": 1}], "invalid-field"),
        ([{"line": 0, "quantity": 0}], "invalid-field"),
        ([{"line": 0, "quantity": -1}], "invalid-field"),
    ],
)
async def test_no_more_is_refunded_than_was_bought(shop: Shop, lines: list[dict[str, int]], reason: str) -> None:
    await delivered(shop)
    assert (await shop.command("A", "refund", refund_id="R-1", lines=lines))["reason"] == reason
    assert payments(shop) == [("capture", 6000)]


async def test_a_refund_that_fails_may_be_asked_for_again_under_another_id(shop: Shop) -> None:
    await delivered(shop)
    await shop.command("A", "refund", refund_id="R-1")
    await shop.pay("A", "declined", action="refund", request_id="refund:R-1")
    assert shop.query("SELECT sum(refunded)::int FROM order_lines") == [(0,)]
    # The same again is answered as it was: it was accepted, and the order's view says that it has failed.
    assert (await shop.command("A", "refund", refund_id="R-1"))["outcome"] == "applied"
    assert payments(shop)[1:] == [("refund:R-1", 6000)]
    assert (await shop.command("A", "refund", refund_id="R-2"))["outcome"] == "applied"
    await shop.pay("A", action="refund", request_id="refund:R-2")
    assert shop.state("A") == "REFUNDED"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"junk",
        command("A", "dance"),
        command("A", "cancel", reason="nul\0"),
        command("A", "cancel", reason="x" * 501),
        command("nul\0", "cancel"),
        command("A", "cancel", seller_id="../etc"),
        codec.encode(catalog.PAYMENT_ATTEMPT_FINISHED, codec.decode(
            paid("A", "succeeded", "authorize", "authorize"), catalog.PAYMENT_ATTEMPT_FINISHED, bytes_max=10**6)[1]),
    ],
)  # fmt: skip
async def test_bad_commands_become_dead_letters_and_only_they_stop(shop: Shop, value: bytes | None) -> None:
    shop.stock("S-1", 10)
    await shop.checkout(checkout_body("A"))
    await shop.worker.run(shop.orders, shop.batch(catalog.ORDER_COMMANDS.name, [value, command("A", "cancel")]))
    assert shop.state("A") == "CANCELLED"
    assert len(shop.events(catalog.DEAD_LETTERS)) == 1


async def test_one_batch_may_take_an_order_several_steps(shop: Shop) -> None:
    await confirmed(shop)
    values = [command("A", "ship"), command("A", "deliver"), command("A", "refund", refund_id="R-1")]
    await shop.worker.run(shop.orders, shop.batch(catalog.ORDER_COMMANDS.name, values))
    assert shop.state("A") == "DELIVERED"
    assert payments(shop) == [("capture", 2400), ("refund:R-1", 2400)]
    assert [event["command_id"] for name, event in shop.events(ORDERS) if name == "OrderCommandAnswered"] == [
        "ship",
        "deliver",
        "refund:R-1",
    ]
