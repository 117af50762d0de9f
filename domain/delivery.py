"""What becomes of a delivery after a try: it has arrived, is tried again later, or is given up."""

from dataclasses import dataclass
from enum import StrEnum


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    OPEN = "open"
    DELIVERED = "delivered"
    #: Given up; it keeps its place in the sequence of its order, and can be replayed.
    DEAD = "dead"
    #: A mail that was taken, and came back for good.
    BOUNCED = "bounced"


#: States of deliveries that can be replayed.
FINISHED = (DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.BOUNCED)


class Channel(StrEnum):
    """How deliveries leave the house."""

    WEBHOOK = "webhook"
    EMAIL = "email"


@dataclass(frozen=True, slots=True)
class Answered:
    """The receiver answered with this HTTP status."""

    status: int
    #: What its `Retry-After` asks for; None without one.
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No answer came, or the receiver was not called at all."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver will never take it, as it has said or as its rules say: another try would end the same."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """What carries the deliveries of all, such as our own mail server, could not be asked: this was no try."""

    reason: str


Answer = Answered | Unanswered | Refused | Unreachable


@dataclass(frozen=True, slots=True)
class Arrived:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class Again:
    """It is tried again, so many seconds from now; where `is_counted` is false, as if it had not been tried."""

    after_seconds: float
    is_counted: bool = True


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It has been tried often enough, or was refused."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """The receiver wants nothing any more (410): the endpoint is disabled, and the delivery waits with it."""


Fate = Arrived | Again | GivenUp | Unwanted

#: After each try, until the next one: over three days in all, as Standard Webhooks recommends.
RETRY_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
TRIES_MAX = len(RETRY_SECONDS) + 1
#: What failed together must not come back together: each pause is up to so much longer.
JITTER = 0.2
#: A receiver can't put a delivery off for longer.
RETRY_AFTER_SECONDS_MAX = 86_400.0
#: An endpoint that takes nothing for so long is disabled.
FAILING_DAYS_MAX = 5
GONE = 410


def fate(answer: Answer, tries: int, chance: float, retry_seconds: tuple[float, ...] = RETRY_SECONDS) -> Fate:
    """What becomes of a delivery after `tries` tries, this one included. `chance` lies in [0, 1).

    Any 2xx says that it has arrived. A redirect is a failure: the seller signs up an address, not where that leads to.
    """
    if not 0 <= chance < 1:
        raise ValueError("chance lies in [0, 1)")
    asked = 0.0
    if isinstance(answer, Refused):
        return GivenUp()
    if isinstance(answer, Unreachable):
        return Again(retry_seconds[0] * (1 + JITTER * chance), is_counted=False)
    if isinstance(answer, Answered):
        if 200 <= answer.status < 300:
            return Arrived()
        if answer.status == GONE:
            return Unwanted()
        asked = min(answer.retry_after_seconds or 0.0, RETRY_AFTER_SECONDS_MAX)
    if tries > len(retry_seconds):
        return GivenUp()
    return Again(max(retry_seconds[tries - 1] * (1 + JITTER * chance), asked))
