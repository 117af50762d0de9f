"""What is asked of a payment provider next, and when: an attempt's rules and its retries.

Everything here follows from one thought: an attempt whose outcome is unknown may have had its effect. So nothing is
sent twice without asking in between, and nothing is given up without making sure that it can have no effect any more.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from domain.invoice import check_order_id
from domain.numbering import SELLER_ID
from domain.order import OrderIdentity


class Action(StrEnum):
    """What the provider is asked to do."""

    AUTHORIZE = "authorize"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class AttemptState(StrEnum):
    """Where an attempt stands."""

    OPEN = "open"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    FAILED = "failed"


#: Reasons of our own for an attempt that failed; all others are the provider's.
GAVE_UP = "gave-up"
NOT_AUTHORIZED = "not-authorized"
NOT_CAPTURED = "not-captured"
#: Reason of an attempt that succeeded without us: a refund that somebody made at the provider itself.
MADE_AT_PROVIDER = "made-at-provider"
#: Of the provider's own words so much is kept. Longer, or with control characters, nobody who reads the attempt's event
#: could take them, and the order would never hear of its payment.
REFERENCE_CHARS_MAX = 255
DECLINE_CODE_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Succeeded:
    """It is done. `reference` is the provider's own id of the payment."""

    reference: str = ""


@dataclass(frozen=True, slots=True)
class Declined:
    """The provider says no, for good. `reason` is its code."""

    reason: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider knows nothing of it: it had no effect so far."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The provider is still at it."""


@dataclass(frozen=True, slots=True)
class PaymentIdentity:
    """An order's payment, as its provider finds it."""

    seller_id: str
    order_id: str
    #: The provider's own id of it.
    reference: str

    @property
    def payment_key(self) -> str:
        """The key under which it was authorised."""
        return provider_key(self.seller_id, self.order_id, Action.AUTHORIZE)


@dataclass(frozen=True, slots=True)
class ProviderRefund:
    """A refund that the provider has made, whoever asked for it. Refunds that failed are none."""

    #: The provider's own id of it.
    refund: str
    #: 0 for an amount that the currency can't express.
    amount_minor: int
    currency: str
    #: Of the attempt, if we asked for it; empty if somebody else did.
    provider_key: str = ""
    #: Not certain yet: it may still fail.
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class ListedRefund:
    """A refund in the provider's list of those of all payments. Refunds that failed are none."""

    #: The order that its payment names.
    order: OrderIdentity
    #: The provider's own id of it.
    refund: str
    #: Of the attempt, if we asked for it; empty if somebody else did.
    provider_key: str = ""


@dataclass(frozen=True, slots=True)
class RefundPage:
    """A part of the provider's list of refunds, without those of payments that are not gapless'."""

    refunds: Sequence[ListedRefund]
    #: The provider's own id of the refund after which the next page begins; None on the last page.
    after: str | None


ProviderAnswer = Succeeded | Declined
Known = Succeeded | Declined | Absent | Pending


@dataclass(frozen=True, slots=True)
class Prior:
    """The attempt that must have succeeded before this one."""

    state: AttemptState
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing that is asked of the provider, as its row has it."""

    seller_id: str
    order_id: str
    request_id: str
    partition: int
    action: Action
    amount_minor: int
    currency: str
    #: Asking again under it has no second effect.
    provider_key: str
    #: How often it was taken up, this time included.
    tries: int
    #: The provider may have heard of it: it was taken up before, and what became of that is not known.
    may_have_acted: bool
    #: The time for an authorisation is over.
    expired: bool = False
    #: Somebody has decided to void it, and the provider may act on that at any time: it can't succeed any more.
    settling: bool = False
    #: How long ago its row was made.
    age_seconds: float = 0.0
    #: For all but an authorisation: the order's authorisation, and its capture, as far as there are any.
    authorization: Prior | None = None
    capture: Prior | None = None

    @property
    def payment_key(self) -> str:
        """The key under which the order's payment was authorised: the payment itself."""
        return provider_key(self.seller_id, self.order_id, Action.AUTHORIZE)


@dataclass(frozen=True, slots=True)
class Finish:
    """The attempt's outcome is certain."""

    state: AttemptState
    reference: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done now: take it up again later."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the provider what it knows."""


@dataclass(frozen=True, slots=True)
class Send:
    """Ask the provider to act."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Void the authorisation under its own key, known to the provider or not: one still on its way finds it void."""


AttemptStep = Finish | Wait | Ask | Send | Settle

_GIVEN_UP = Finish(AttemptState.FAILED, reason=GAVE_UP)


#: How long after its hold's end an authorisation may still come through.
GIVE_UP_AFTER_HOLD = timedelta(seconds=30)


def provider_key(seller_id: str, order_id: str, request_id: str) -> str:
    """The key of an attempt at the provider: 32 hex digits that follow from the three ids."""
    ids = json.dumps([seller_id, order_id, request_id], ensure_ascii=True).encode()
    return hashlib.sha256(ids).hexdigest()[:32]


def paid_order(seller_id: object, order_id: object) -> OrderIdentity | None:
    """The order that a payment's metadata name; None if they name none: the account is used for other things too."""
    if not isinstance(seller_id, str) or not isinstance(order_id, str):
        return None
    is_ours = SELLER_ID.fullmatch(seller_id) is not None and check_order_id(order_id) is None
    return OrderIdentity(seller_id, order_id) if is_ours else None


def first_step(attempt: Attempt) -> AttemptStep:
    """What to do with an attempt that was just taken up."""
    if attempt.settling:
        # Not asked: it may be there by now, and be void in a moment.
        return Settle()
    if attempt.amount_minor == 0:
        return Finish(AttemptState.SUCCEEDED)
    before = _await_prior(attempt)
    if before is not None:
        return before
    if attempt.may_have_acted:
        return Ask()
    # Nobody ever called, and nobody else will: there is nothing to make sure of.
    return _GIVEN_UP if attempt.expired else Send()


def step_after_asking(attempt: Attempt, known: Known) -> AttemptStep:
    """What to do once the provider has said what it knows of the attempt."""
    if isinstance(known, Absent):
        return Settle() if attempt.expired else Send()
    if isinstance(known, Pending):
        return Wait()
    return finish(known)


def finish(answer: ProviderAnswer) -> Finish:
    """The provider's answer as the attempt's outcome, its words such that they can be stored and passed on."""
    reference = plain(answer.reference, REFERENCE_CHARS_MAX)
    if isinstance(answer, Succeeded):
        return Finish(AttemptState.SUCCEEDED, reference)
    return Finish(AttemptState.DECLINED, reference, plain(answer.reason, DECLINE_CODE_CHARS_MAX) or "declined")


def finish_settled() -> Finish:
    """The outcome of an authorisation that was voided under its own key."""
    return _GIVEN_UP


def plain(words: str, chars_max: int) -> str:
    """What a provider wrote, as one line of so many characters at most: it is nobody's business to check but ours."""
    line = " ".join("".join(each if each.isprintable() else " " for each in words).split())
    return line[:chars_max].rstrip()


def _await_prior(attempt: Attempt) -> AttemptStep | None:
    """What is done about an attempt that stands behind another; None if it may go on."""
    match attempt.action:
        case Action.AUTHORIZE:
            return None
        case Action.REFUND:
            prior, missing = attempt.capture, NOT_CAPTURED
        case Action.CAPTURE | Action.VOID:
            prior, missing = attempt.authorization, NOT_AUTHORIZED
    if prior is None or prior.state is AttemptState.OPEN:
        return Wait()
    if prior.state is AttemptState.SUCCEEDED:
        return None
    # Where nothing was authorised, nothing is left to be voided.
    if attempt.action is Action.VOID:
        return Finish(AttemptState.SUCCEEDED)
    return Finish(AttemptState.FAILED, reason=missing)


def backoff_seconds(tries: int, chance: float, *, first: float = 0.5, longest: float = 60.0) -> float:
    """How long to wait after so many tries: doubled each time up to `longest`, then cut by up to half.

    `chance` lies in [0, 1): without it, what failed together would come back together.
    """
    if not 0 <= chance < 1:
        raise ValueError("chance lies in [0, 1)")
    whole = min(first * 2.0 ** min(max(tries, 1) - 1, 30), longest)
    return whole * (1 - chance / 2)


def action_of(request_id: str) -> Action | None:
    """The action that a request's id stands for; None for an id that is none of ours."""
    name, _, refund_id = request_id.partition(":")
    if name not in _NAMES or bool(refund_id) is not (name == Action.REFUND):
        return None
    return Action(name)


_NAMES: Iterable[str] = frozenset(action.value for action in Action)
