"""The rules of payment attempts: what is asked next, how long to wait, when to leave the provider alone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.checkout import check_name
from domain.order import REASON_CHARS_MAX
from domain.payment import (
    Absent,
    Action,
    Ask,
    Attempt,
    AttemptState,
    AttemptStep,
    Declined,
    Finish,
    Pending,
    Prior,
    Send,
    Settle,
    Succeeded,
    Wait,
    action_of,
    backoff_seconds,
    finish,
    first_step,
    provider_key,
    step_after_asking,
)


def attempt(action: Action = Action.AUTHORIZE, **changes: object) -> Attempt:
    request_id = "refund:R-1" if action is Action.REFUND else action.value
    key = provider_key("demo", "A", request_id)
    made = Attempt("demo", "A", request_id, 0, action, 100, "EUR", key, tries=1, may_have_acted=False)
    return replace(made, **changes)  # type: ignore[arg-type]


DONE, OPEN, NO = Prior(AttemptState.SUCCEEDED, "pi_1"), Prior(AttemptState.OPEN), Prior(AttemptState.DECLINED)


@pytest.mark.parametrize(
    ("given_attempt", "step"),
    [
        (attempt(), Send()),
        (attempt(may_have_acted=True), Ask()),
        (attempt(may_have_acted=True, expired=True), Ask()),
        (attempt(expired=True), Finish(AttemptState.FAILED, reason="gave-up")),
        (attempt(may_have_acted=True, expired=True, settling=True), Settle()),
        (attempt(amount_minor=0, may_have_acted=True), Finish(AttemptState.SUCCEEDED)),
        (attempt(Action.CAPTURE), Wait()),
        (attempt(Action.CAPTURE, authorization=OPEN), Wait()),
        (attempt(Action.CAPTURE, authorization=DONE), Send()),
        (attempt(Action.CAPTURE, authorization=DONE, may_have_acted=True), Ask()),
        (attempt(Action.CAPTURE, authorization=NO), Finish(AttemptState.FAILED, reason="not-authorized")),
        (attempt(Action.VOID, authorization=OPEN), Wait()),
        (attempt(Action.VOID, authorization=DONE), Send()),
        (attempt(Action.VOID, authorization=NO), Finish(AttemptState.SUCCEEDED)),
        (attempt(Action.REFUND, authorization=DONE), Wait()),
        (attempt(Action.REFUND, authorization=DONE, capture=OPEN), Wait()),
        (attempt(Action.REFUND, authorization=DONE, capture=DONE), Send()),
        (attempt(Action.REFUND, authorization=DONE, capture=NO), Finish(AttemptState.FAILED, reason="not-captured")),
    ],
)
def test_the_first_step_follows_from_what_may_have_happened(given_attempt: Attempt, step: AttemptStep) -> None:
    assert first_step(given_attempt) == step


@pytest.mark.parametrize(
    ("known", "expired", "step"),
    [
        (Absent(), False, Send()),
        (Absent(), True, Settle()),
        (Pending(), False, Wait()),
        (Pending(), True, Wait()),
        (Succeeded("pi_1"), False, Finish(AttemptState.SUCCEEDED, "pi_1")),
        # Late, but so it is: whether it may still be of use is not for payments to say.
        (Succeeded("pi_1"), True, Finish(AttemptState.SUCCEEDED, "pi_1")),
        (Declined("no", "pi_1"), True, Finish(AttemptState.DECLINED, "pi_1", "no")),
    ],
)
def test_what_the_provider_knows_decides_the_next_step(
    known: Succeeded | Declined | Absent | Pending, expired: bool, step: AttemptStep
) -> None:
    assert step_after_asking(attempt(may_have_acted=True, expired=expired), known) == step


@given(
    st.sampled_from(Action),
    st.booleans(),
    st.sampled_from([None, DONE, OPEN, NO]),
    st.sampled_from([None, DONE, OPEN, NO]),
)
def test_what_may_have_acted_is_never_sent_unasked(
    action: Action, expired: bool, authorization: Prior | None, capture: Prior | None
) -> None:
    taken = attempt(action, may_have_acted=True, expired=expired, authorization=authorization, capture=capture)
    assert not isinstance(first_step(taken), Send | Settle)


def test_a_key_follows_from_its_ids_and_from_nothing_else() -> None:
    assert provider_key("demo", "A", "authorize") == provider_key("demo", "A", "authorize")
    keys = {provider_key(*ids) for ids in (("a", "bc", "d"), ("ab", "c", "d"), ("a", "b", "cd"), ("a", "b", 'c", "d'))}
    assert len(keys) == 4
    assert all(len(key) == 32 and key.isalnum() for key in keys)


def test_a_payments_key_is_its_authorisations() -> None:
    assert attempt(Action.REFUND).payment_key == attempt().provider_key


@pytest.mark.parametrize(
    ("request_id", "action"),
    [
        ("authorize", Action.AUTHORIZE),
        ("capture", Action.CAPTURE),
        ("void", Action.VOID),
        ("refund:R-1", Action.REFUND),
        ("refund:a:b", Action.REFUND),
        ("refund", None),
        ("refund:", None),
        ("capture:2", None),
        ("steal", None),
        ("", None),
    ],
)
def test_a_request_id_names_its_action(request_id: str, action: Action | None) -> None:
    assert action_of(request_id) is action


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_backoff_doubles_up_to_its_longest_and_is_cut_by_half_at_most(tries: int, chance: float) -> None:
    whole = min(0.5 * 2 ** min(tries - 1, 100), 60.0)
    assert whole / 2 <= backoff_seconds(tries, chance) <= whole
    assert backoff_seconds(tries, 0.0) == whole


@given(st.text(), st.text())
def test_what_a_provider_writes_can_be_stored_and_read_again(reference: str, reason: str) -> None:
    """As one line without control characters, and never without a word for a decline."""
    finished = finish(Declined(reason, reference))
    assert check_name("reason", finished.reason, REASON_CHARS_MAX) is None
    assert "\0" not in finished.reference and len(finished.reference) <= 255
    assert finish(Declined("card\ndeclined", "pi_1")) == Finish(AttemptState.DECLINED, "pi_1", "card declined")


def test_the_backoff_wants_a_chance() -> None:
    with pytest.raises(ValueError, match="chance"):
        backoff_seconds(1, 1.0)
