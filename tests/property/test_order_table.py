"""Every state with every trigger, and every way through the table: the claim on stock, and the histories they leave."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.order import (
    CLAIMING,
    COMMANDS,
    LATE_PAYMENT_VOIDED,
    RETAKEN,
    TABLE,
    WALKS,
    OrderState,
    OrderStep,
    PaymentAction,
    StepTaken,
    StockAction,
    Trigger,
    forbid,
    give_up,
    has_obeyed,
    is_walk,
    late_payment,
    step,
)

S, T = OrderState, Trigger
PAIRS = list(product(OrderState, Trigger))
#: Said again, apart from the table: in which states each trigger does anything.
PERMITTED = {
    T.PAYMENT_AUTHORIZED: {S.PAYMENT_PENDING, S.CANCELLED},
    T.PAYMENT_DECLINED: {S.PAYMENT_PENDING},
    T.PAYMENT_FAILED: {S.PAYMENT_PENDING},
    T.HOLD_EXPIRED: {S.PAYMENT_PENDING},
    T.CANCEL: {S.PAYMENT_PENDING, S.CONFIRMED},
    T.SHIP: {S.CONFIRMED},
    T.DELIVER: {S.SHIPPED},
    T.REFUND: {S.SHIPPED, S.DELIVERED},
    T.REFUNDED_IN_FULL: {S.SHIPPED, S.DELIVERED},
}
#: What a step may do to the claim of the state it leaves.
_CLAIMS_AFTER = {None: None, StockAction.RELEASE: False, StockAction.SHIP: False, StockAction.RETAKE: True}
_FINAL = {S.REFUSED, S.REFUNDED}


@pytest.mark.parametrize(("state", "trigger"), PAIRS)
def test_each_trigger_works_where_it_is_permitted_and_nowhere_else(state: OrderState, trigger: Trigger) -> None:
    taken = step(state, trigger)
    assert (taken is not None) == (state in PERMITTED[trigger])
    repeats = trigger in {T.SHIP, T.DELIVER, T.CANCEL} and has_obeyed(trigger, state, was_delivered=False)
    if taken is None and trigger in COMMANDS and not repeats:
        detail = forbid(state, trigger).detail
        assert state.value in detail
        assert all(permitted.value in detail for permitted in PERMITTED[trigger])


@pytest.mark.parametrize(("pair", "taken"), [*TABLE.items(), ((S.CANCELLED, T.PAYMENT_AUTHORIZED), RETAKEN)])
def test_a_step_touches_stock_exactly_where_the_claim_begins_or_ends(
    pair: tuple[OrderState, Trigger], taken: OrderStep
) -> None:
    """`reserved` is the sum over orders in CLAIMING only because of this."""
    before, after = pair[0] in CLAIMING, taken.to in CLAIMING
    expected = after if before != after else None
    assert _CLAIMS_AFTER[taken.stock] is expected


@pytest.mark.parametrize(("pair", "taken"), TABLE.items())
def test_money_is_asked_for_only_where_there_is_an_authorisation(
    pair: tuple[OrderState, Trigger], taken: OrderStep
) -> None:
    state, trigger = pair
    if taken.payment is not None:
        assert state in {S.CONFIRMED, S.SHIPPED, S.DELIVERED} or trigger is T.PAYMENT_AUTHORIZED
    assert taken.invoices == (taken.to is S.CONFIRMED)


@pytest.mark.parametrize("state", OrderState)
def test_every_state_can_be_reached_and_only_final_ones_have_no_way_out(state: OrderState) -> None:
    assert any(to is state for _, to, _ in WALKS)
    assert any(before is state for before, _, _ in WALKS) == (state not in _FINAL)


@dataclass(frozen=True)
class Walker:
    """An order as the orders agent moves it, with its claim, and the payments that were asked for."""

    history: tuple[StepTaken, ...]
    claims: int = 1
    payments: tuple[PaymentAction, ...] = ()
    invoices: int = 0

    @property
    def state(self) -> OrderState:
        return self.history[-1].to_state

    def move(self, trigger: Trigger, *, stock_is_free: bool) -> "Walker":
        """After a trigger; itself where the table says nothing."""
        taken = step(self.state, trigger)
        if trigger is T.CANCEL and give_up(self.state, self.history[-1].reason) is not None:
            entry = StepTaken(len(self.history) + 1, S.CANCELLED, S.CANCELLED, trigger.value, "", 0)
            return replace(self, history=(*self.history, entry))
        if taken is None:
            return self
        if (self.state, trigger) == (S.CANCELLED, T.PAYMENT_AUTHORIZED):
            taken = late_payment(self.history[-1].reason, stock_is_free=stock_is_free)
        moved = replace(
            self,
            claims=self.claims + {None: 0, StockAction.RETAKE: 1}.get(taken.stock, -1),
            payments=(*self.payments, *([taken.payment] if taken.payment else [])),
            invoices=self.invoices + taken.invoices,
        )
        if taken.to is self.state:
            return moved
        entry = StepTaken(len(self.history) + 1, self.state, taken.to, trigger.value, "", 0)
        return replace(moved, history=(*self.history, entry))


PLACED = StepTaken(1, None, S.PLACED, "placed", "", 0)
BORN = Walker((PLACED, StepTaken(2, S.PLACED, S.PAYMENT_PENDING, "payment-requested", "", 0)))
MOVES = st.lists(st.tuples(st.sampled_from(Trigger), st.booleans()), max_size=40)
#: Payments answer once, clocks strike once: what an order may meet in its life, in any order.
ONCE = (T.PAYMENT_AUTHORIZED, T.PAYMENT_DECLINED, T.PAYMENT_FAILED)


@given(MOVES)
def test_the_claim_follows_the_state_whatever_comes(moves: list[tuple[Trigger, bool]]) -> None:
    walker = BORN
    for trigger, stock_is_free in moves:
        walker = walker.move(trigger, stock_is_free=stock_is_free)
        assert walker.claims == (walker.state in CLAIMING)
    assert is_walk(list(walker.history))


@given(MOVES, st.sampled_from(ONCE))
def test_a_payment_that_answers_once_is_invoiced_and_taken_or_given_back_once(
    moves: list[tuple[Trigger, bool]], answer: Trigger
) -> None:
    """The provider gives one answer to an authorisation, however often it is asked."""
    walker, answered, claimed, released = BORN, False, 1, 0
    for trigger, stock_is_free in moves:
        if trigger in ONCE:
            if answered or trigger is not answer:
                continue
            answered = True
        before = walker.claims
        walker = walker.move(trigger, stock_is_free=stock_is_free)
        claimed += walker.claims > before
        released += walker.claims < before
    revived = any(taken.from_state is S.CANCELLED and taken.to_state is S.CONFIRMED for taken in walker.history)
    assert (claimed, released) == (1 + revived, 1 + revived - (walker.state in CLAIMING))
    authorised = answered and answer is T.PAYMENT_AUTHORIZED
    assert walker.invoices == any(taken.to_state is S.CONFIRMED for taken in walker.history) <= authorised
    ends = [payment for payment in walker.payments if payment is not PaymentAction.REFUND]
    assert len(ends) == (authorised and walker.state not in CLAIMING)


@given(MOVES, st.data())
def test_a_history_that_was_altered_is_no_walk(moves: list[tuple[Trigger, bool]], data: st.DataObject) -> None:
    walker = BORN
    for trigger, stock_is_free in moves:
        walker = walker.move(trigger, stock_is_free=stock_is_free)
    index = data.draw(st.integers(0, len(walker.history) - 1))
    taken = walker.history[index]
    another = data.draw(st.sampled_from([state for state in OrderState if state is not taken.to_state]))
    entries = list(walker.history)
    if index + 1 < len(entries):
        assert not is_walk([*entries[:index], replace(taken, to_state=another), *entries[index + 1 :]])
        assert not is_walk([*entries[:index], *entries[index + 1 :]])
    assert not is_walk([*entries[:index], replace(taken, version=taken.version + 1), *entries[index + 1 :]])
    assert not is_walk([*entries[:index], taken, *entries[index:]])
    assert not is_walk([*entries[:index], replace(taken, reason="because"), *entries[index + 1 :]])


def walks(length: int) -> Iterator[tuple[tuple[OrderState | None, OrderState, str], ...]]:
    """Every sequence of that many steps of WALKS that hang together."""
    ways: list[tuple[tuple[OrderState | None, OrderState, str], ...]] = [(way,) for way in WALKS if way[0] is None]
    for _ in range(length - 1):
        ways = [(*way, then) for way in ways for then in WALKS if then[0] is way[-1][1]]
    yield from ways


@pytest.mark.parametrize("length", range(1, 9))
def test_is_walk_agrees_with_every_way_through_the_table(length: int) -> None:
    """All of them, and of those only where a late payment takes up nothing but an expired hold, and goes back once."""
    for way in walks(length):
        history = [StepTaken(version, *step_, "", 0) for version, step_ in enumerate(way, 1)]
        moves_given_up = any(
            to is S.CANCELLED and reason != T.HOLD_EXPIRED and (reason == after or after != LATE_PAYMENT_VOIDED)
            for (_, to, reason), (_, _, after) in pairwise(way)
        )
        assert is_walk(history) is not moves_given_up


@pytest.mark.parametrize(("before", "after"), list(product(OrderState, OrderState)))
def test_no_step_that_the_table_does_not_know_is_a_walk(before: OrderState, after: OrderState) -> None:
    """From each state, reached as it may be, to each other one, for every reason there is."""
    reasons = {reason for _, _, reason in WALKS}
    for way in (way for length in range(1, 6) for way in walks(length) if way[-1][1] is before):
        history = [StepTaken(version, *step_, "", 0) for version, step_ in enumerate(way, 1)]
        for reason in reasons:
            entry = StepTaken(len(history) + 1, before, after, reason, "", 0)
            if (before, after, reason) not in WALKS:
                assert not is_walk([*history, entry])
