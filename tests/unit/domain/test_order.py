"""An order's life: what the table permits, what it forbids and says about it, and what a history may show."""

import pytest

from domain.order import (
    CLAIMING,
    COMMANDS,
    RETAKEN,
    TABLE,
    OrderState,
    OrderStep,
    PaymentAction,
    StepTaken,
    StockAction,
    Trigger,
    forbid,
    has_obeyed,
    is_walk,
    late_payment,
    step,
)
from domain.refusals import NOT_PERMITTED

S, T = OrderState, Trigger


def history(*steps: tuple[OrderState, str]) -> list[StepTaken]:
    """A history that passes through these states for these reasons, a second between them."""
    before = [None, *(to for to, _ in steps)]
    return [
        StepTaken(version, before[version - 1], to, reason, "", version * 1_000_000)
        for version, (to, reason) in enumerate(steps, 1)
    ]


PENDING = ((S.PLACED, "placed"), (S.PAYMENT_PENDING, "payment-requested"))
CONFIRMED = (*PENDING, (S.CONFIRMED, "payment-authorized"))
EXPIRED = (*PENDING, (S.CANCELLED, "hold-expired"))


def test_a_paid_order_is_confirmed_and_its_invoice_asked_for() -> None:
    assert step(S.PAYMENT_PENDING, T.PAYMENT_AUTHORIZED) == OrderStep(S.CONFIRMED, invoices=True)


@pytest.mark.parametrize("trigger", [T.PAYMENT_DECLINED, T.PAYMENT_FAILED, T.HOLD_EXPIRED, T.CANCEL])
def test_an_order_that_is_not_paid_gives_its_stock_back(trigger: Trigger) -> None:
    assert step(S.PAYMENT_PENDING, trigger) == OrderStep(S.CANCELLED, stock=StockAction.RELEASE)


def test_the_money_is_taken_when_the_goods_leave_and_not_before() -> None:
    captures = [pair for pair, each in TABLE.items() if each.payment is PaymentAction.CAPTURE]
    assert captures == [(S.CONFIRMED, T.SHIP)]
    assert TABLE[S.CONFIRMED, T.SHIP].stock is StockAction.SHIP


def test_a_cancelled_confirmed_order_gives_back_stock_and_money() -> None:
    assert step(S.CONFIRMED, T.CANCEL) == OrderStep(S.CANCELLED, stock=StockAction.RELEASE, payment=PaymentAction.VOID)


def test_what_has_left_can_be_refunded_and_no_longer_cancelled() -> None:
    assert step(S.SHIPPED, T.CANCEL) is None
    assert {state for state, trigger in TABLE if trigger is T.REFUND} == {S.SHIPPED, S.DELIVERED}


@pytest.mark.parametrize(
    ("last_reason", "stock_is_free", "expected"),
    [
        ("hold-expired", True, RETAKEN),
        ("hold-expired", False, TABLE[S.CANCELLED, T.PAYMENT_AUTHORIZED]),
        ("cancel", True, TABLE[S.CANCELLED, T.PAYMENT_AUTHORIZED]),
        ("payment-declined", True, TABLE[S.CANCELLED, T.PAYMENT_AUTHORIZED]),
        ("payment-failed", True, TABLE[S.CANCELLED, T.PAYMENT_AUTHORIZED]),
    ],
)
def test_a_late_payment_revives_an_expired_order_only_and_only_with_stock(
    last_reason: str, stock_is_free: bool, expected: OrderStep
) -> None:
    assert late_payment(last_reason, stock_is_free=stock_is_free) is expected


def test_a_late_payment_that_revives_nothing_is_voided() -> None:
    late = TABLE[S.CANCELLED, T.PAYMENT_AUTHORIZED]
    assert (late.to, late.stock, late.payment) == (S.CANCELLED, None, PaymentAction.VOID)
    assert OrderStep(S.CONFIRMED, stock=StockAction.RETAKE, invoices=True) == RETAKEN


def test_a_forbidden_command_is_told_what_would_have_been_right() -> None:
    refusal = forbid(S.REFUSED, T.CANCEL)
    assert (refusal.reason, refusal.field) == (NOT_PERMITTED, "action")
    assert refusal.detail == "an order that is REFUSED can't cancel; it must be CONFIRMED or PAYMENT_PENDING"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_obeyed_only_where_it_can_have_been_and_is_not_permitted_again(command: Trigger) -> None:
    """Else a repeat would be carried out twice, or something be answered that never was."""
    if command is T.REFUND:
        return
    obeyed = {state for state in S if has_obeyed(command, state, was_delivered=state is S.DELIVERED)}
    assert not {state for state in obeyed if step(state, command)}
    targets = {each.to for (_, trigger), each in TABLE.items() if trigger is command}
    assert targets <= obeyed


def test_a_delivery_is_obeyed_for_ever_also_after_a_refund_in_full() -> None:
    assert has_obeyed(T.DELIVER, S.REFUNDED, was_delivered=True)
    assert not has_obeyed(T.DELIVER, S.REFUNDED, was_delivered=False)
    assert not has_obeyed(T.DELIVER, S.SHIPPED, was_delivered=False)


@pytest.mark.parametrize(
    "steps",
    [
        ((S.REFUSED, "out-of-stock"),),
        ((S.PLACED, "placed"),),
        PENDING,
        CONFIRMED,
        (*CONFIRMED, (S.SHIPPED, "ship"), (S.DELIVERED, "deliver"), (S.REFUNDED, "refunded-in-full")),
        (*CONFIRMED, (S.SHIPPED, "ship"), (S.REFUNDED, "refunded-in-full")),
        (*CONFIRMED, (S.CANCELLED, "cancel")),
        (*EXPIRED, (S.CONFIRMED, "payment-authorized")),
        (*EXPIRED, (S.CONFIRMED, "payment-authorized"), (S.CANCELLED, "cancel")),
    ],
)
def test_a_history_from_the_table_is_a_walk(steps: tuple[tuple[OrderState, str], ...]) -> None:
    assert is_walk(history(*steps))


_TAKEN = history(*CONFIRMED)


@pytest.mark.parametrize(
    "broken",
    [
        [],
        history((S.CONFIRMED, "payment-authorized")),
        history((S.REFUSED, "placed")),
        history(*PENDING, (S.SHIPPED, "ship")),
        history(*PENDING, (S.CONFIRMED, "ship")),
        history(*CONFIRMED, (S.CONFIRMED, "payment-authorized")),
        # Whoever cancelled or was declined has given the order up.
        history(*PENDING, (S.CANCELLED, "cancel"), (S.CONFIRMED, "payment-authorized")),
        history(*PENDING, (S.CANCELLED, "payment-declined"), (S.CONFIRMED, "payment-authorized")),
        # A version missing, twice, not from 1; a step from elsewhere.
        [_TAKEN[0], _TAKEN[2]],
        [_TAKEN[0], _TAKEN[0], *_TAKEN[1:]],
        _TAKEN[1:],
        [_TAKEN[1], _TAKEN[0]],
        [*_TAKEN[:2], StepTaken(3, S.PLACED, S.CONFIRMED, "payment-authorized", "", 0)],
        [_TAKEN[0], StepTaken(2, S.CANCELLED, S.CONFIRMED, "payment-authorized", "", 0)],
        [_TAKEN[0], StepTaken(3, S.PLACED, S.PAYMENT_PENDING, "payment-requested", "", 0)],
    ],
)
def test_a_history_that_the_table_did_not_write_is_no_walk(broken: list[StepTaken]) -> None:
    assert not is_walk(broken)


def test_orders_that_may_still_be_sold_or_given_up_hold_their_stock() -> None:
    assert {S.PLACED, S.PAYMENT_PENDING, S.CONFIRMED} == CLAIMING
