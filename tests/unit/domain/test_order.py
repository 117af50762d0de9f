"""An order's life: what the table permits, what it forbids and says about it, and what a history may show."""

import pytest

from domain.order import (
    CLAIMING,
    COMMANDS,
    OBEYED,
    RETAKEN,
    TABLE,
    PaymentAction,
    State,
    Step,
    StockAction,
    Taken,
    Trigger,
    forbid,
    is_walk,
    late_payment,
    step,
)
from domain.refusals import NOT_PERMITTED

S, T = State, Trigger


def history(*steps: tuple[State, str]) -> list[Taken]:
    """A history that passes through these states for these reasons, a second between them."""
    before = [None, *(to for to, _ in steps)]
    return [
        Taken(version, before[version - 1], to, reason, "", version * 1_000_000)
        for version, (to, reason) in enumerate(steps, 1)
    ]


PENDING = ((S.PLACED, "placed"), (S.PAYMENT_PENDING, "payment-requested"))
CONFIRMED = (*PENDING, (S.CONFIRMED, "payment-authorized"))
EXPIRED = (*PENDING, (S.CANCELLED, "hold-expired"))


def test_a_paid_order_is_confirmed_and_its_invoice_asked_for() -> None:
    assert step(S.PAYMENT_PENDING, T.PAYMENT_AUTHORIZED) == Step(S.CONFIRMED, invoices=True)


@pytest.mark.parametrize("trigger", [T.PAYMENT_DECLINED, T.PAYMENT_FAILED, T.HOLD_EXPIRED, T.CANCEL])
def test_an_order_that_is_not_paid_gives_its_stock_back(trigger: Trigger) -> None:
    assert step(S.PAYMENT_PENDING, trigger) == Step(S.CANCELLED, stock=StockAction.RELEASE)


def test_the_money_is_taken_when_the_goods_leave_and_not_before() -> None:
    captures = [pair for pair, each in TABLE.items() if each.payment is PaymentAction.CAPTURE]
    assert captures == [(S.CONFIRMED, T.SHIP)]
    assert TABLE[S.CONFIRMED, T.SHIP].stock is StockAction.SHIP


def test_a_cancelled_confirmed_order_gives_back_stock_and_money() -> None:
    assert step(S.CONFIRMED, T.CANCEL) == Step(S.CANCELLED, stock=StockAction.RELEASE, payment=PaymentAction.VOID)


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
    last_reason: str, stock_is_free: bool, expected: Step
) -> None:
    assert late_payment(last_reason, stock_is_free=stock_is_free) is expected


def test_a_late_payment_that_revives_nothing_is_voided() -> None:
    late = TABLE[S.CANCELLED, T.PAYMENT_AUTHORIZED]
    assert (late.to, late.stock, late.payment) == (S.CANCELLED, None, PaymentAction.VOID)
    assert Step(S.CONFIRMED, stock=StockAction.RETAKE, invoices=True) == RETAKEN


def test_a_forbidden_command_is_told_what_would_have_been_right() -> None:
    refusal = forbid(S.REFUSED, T.CANCEL)
    assert (refusal.reason, refusal.field) == (NOT_PERMITTED, "action")
    assert refusal.detail == "an order that is REFUSED can't cancel; it must be CONFIRMED or PAYMENT_PENDING"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_obeyed_only_where_it_can_have_been_and_is_not_permitted_again(command: Trigger) -> None:
    """Else a repeat would be carried out twice, or something be answered that never was."""
    obeyed = OBEYED.get(command, frozenset())
    assert not {state for state in obeyed if step(state, command)}
    targets = {each.to for (_, trigger), each in TABLE.items() if trigger is command}
    assert targets - {S.SHIPPED, S.DELIVERED} <= obeyed or command is T.REFUND


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
def test_a_history_from_the_table_is_a_walk(steps: tuple[tuple[State, str], ...]) -> None:
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
        [*_TAKEN[:2], Taken(3, S.PLACED, S.CONFIRMED, "payment-authorized", "", 0)],
        [_TAKEN[0], Taken(2, S.CANCELLED, S.CONFIRMED, "payment-authorized", "", 0)],
        [_TAKEN[0], Taken(3, S.PLACED, S.PAYMENT_PENDING, "payment-requested", "", 0)],
    ],
)
def test_a_history_that_the_table_did_not_write_is_no_walk(broken: list[Taken]) -> None:
    assert not is_walk(broken)


def test_orders_that_may_still_be_sold_or_given_up_hold_their_stock() -> None:
    assert {S.PLACED, S.PAYMENT_PENDING, S.CONFIRMED} == CLAIMING
