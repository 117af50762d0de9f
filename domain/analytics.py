"""Analytics: what each event counts as, the steps of a series in a time zone, and what follows from sums.

An amount is in minor units of its currency, and is never added to an amount of another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import NamedTuple

from domain.money import divide_half_away
from domain.order import OrderState, Trigger
from domain.records import (
    CreditNoteIssued,
    InvoiceIssued,
    OrderPlaced,
    OrderRefused,
    OrderStateChanged,
    PaymentAttemptFinished,
    StockChanged,
)
from domain.refusals import INVALID_FIELD, Refusal

_MINUTE_MICROS = 60 * 1_000_000
#: The offset of every time zone now in use is a whole number of these.
QUARTER_MINUTES = 15
#: After this long counts are kept by the quarter of an hour.
MINUTES_KEPT = timedelta(days=2)
#: Of a series: a day of minutes, a month of hours with a day to spare, and more than any range of days below.
POINTS_MAX = 1_500
#: Where cover and conversion are rounded.
COVER_DECIMALS, CONVERSION_DECIMALS = 1, 4


class Counted(StrEnum):
    """What is counted. An event of one topic counts as nothing that an event of another counts as."""

    PLACED = "placed"
    #: For want of stock; has no amount.
    REFUSED = "refused"
    CONFIRMED = "confirmed"
    #: The payment was declined, or given up.
    DECLINED = "declined"
    #: By the storefront, or because the payment did not come in time.
    CANCELLED = "cancelled"
    #: Of the cancelled orders, those that were confirmed before.
    VOIDED = "voided"
    CAPTURED = "captured"
    REFUNDED = "refunded"
    INVOICED = "invoiced"
    CREDITED = "credited"


class Count(NamedTuple):
    """What an event adds to the row of its seller, minute and currency."""

    seller_id: str
    #: Minutes since 1970, UTC.
    minute: int
    #: ISO 4217; empty without an amount.
    currency: str
    what: Counted
    amount_minor: int


class Sold(NamedTuple):
    """What an event adds to the row of a SKU."""

    seller_id: str
    #: The first of its quarter of an hour, in minutes since 1970, UTC.
    minute: int
    sku: str
    #: Empty for pieces.
    currency: str
    pieces: int
    net_minor: int


class OrderAmount(NamedTuple):
    """What an order comes to, with tax."""

    currency: str
    gross_minor: int


def minute_of(micros: int) -> int:
    """The minute of a moment, both since 1970, UTC."""
    return micros // _MINUTE_MICROS


def quarter_of(minute: int) -> int:
    """The first minute of its quarter of an hour."""
    return minute - minute % QUARTER_MINUTES


def count_placed(event: OrderPlaced) -> list[Count]:
    """What an order with stock counts as."""
    minute = minute_of(event["placed_at"])
    return [Count(event["seller_id"], minute, event["currency"], Counted.PLACED, event["gross_minor"])]


def count_refused(event: OrderRefused) -> list[Count]:
    """What an order without stock counts as."""
    return [Count(event["seller_id"], minute_of(event["occurred_at"]), "", Counted.REFUSED, 0)]


def counted_as(from_state: str, to_state: str, reason: str) -> list[Counted]:
    """What a step of an order counts as; nothing, if it neither confirms nor cancels."""
    # A cancelled order is noted as cancelled again where a late payment goes back.
    if from_state == to_state:
        return []
    if to_state == OrderState.CONFIRMED:
        return [Counted.CONFIRMED]
    if to_state != OrderState.CANCELLED:
        return []
    if from_state == OrderState.CONFIRMED:
        return [Counted.CANCELLED, Counted.VOIDED]
    if reason in (Trigger.PAYMENT_DECLINED, Trigger.PAYMENT_FAILED):
        return [Counted.DECLINED]
    return [Counted.CANCELLED]


def count_step(event: OrderStateChanged, order: OrderAmount) -> list[Count]:
    """What a step of an order with this amount counts as."""
    minute = minute_of(event["occurred_at"])
    return [
        Count(event["seller_id"], minute, order.currency, what, order.gross_minor)
        for what in counted_as(event["from_state"], event["to_state"], event["reason"])
    ]


#: By the action that has succeeded. Others move no money.
PAYMENTS = {"capture": Counted.CAPTURED, "refund": Counted.REFUNDED}


def count_payment(event: PaymentAttemptFinished) -> list[Count]:
    """What the provider's answer counts as: money taken or returned, or nothing."""
    what = PAYMENTS.get(event["action"])
    if what is None or event["outcome"] != "succeeded":
        return []
    return [Count(event["seller_id"], minute_of(event["occurred_at"]), event["currency"], what, event["amount_minor"])]


def count_issued(event: InvoiceIssued | CreditNoteIssued, what: Counted) -> list[Count]:
    """What an invoice or a credit note counts as."""
    return [
        Count(
            event["seller_id"], minute_of(event["issued_at"]), event["currency"], what, event["totals"]["gross_minor"]
        )
    ]


def sold_amounts(event: InvoiceIssued | CreditNoteIssued, sign: int) -> list[Sold]:
    """What the lines of an invoice (`sign` 1) or a credit note (-1) come to, for lines that name a SKU."""
    minute = quarter_of(minute_of(event["issued_at"]))
    return [
        Sold(event["seller_id"], minute, line["sku"], event["currency"], 0, sign * line["net_minor"])
        for line in event["lines"]
        if line["sku"]
    ]


#: How many pieces a change sells, per piece of its quantity. Others sell none: shipping, and the seller's own changes.
_SELLS = {"reserved": 1, "retaken": 1, "released": -1}


def sold_pieces(event: StockChanged) -> list[Sold]:
    """What a change of stock sells, or takes back."""
    sells = _SELLS.get(event["cause"])
    if sells is None:
        return []
    minute = quarter_of(minute_of(event["occurred_at"]))
    return [
        Sold(event["seller_id"], minute, change["sku"], "", sells * change["quantity"], 0)
        for change in event["changes"]
    ]


class Step(StrEnum):
    """The length of a series' steps."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


_LENGTHS = {Step.MINUTE: timedelta(minutes=1), Step.HOUR: timedelta(hours=1)}


@dataclass(frozen=True, slots=True)
class Range:
    """A part of time, cut into steps that are whole in a time zone."""

    #: When each step begins, in the zone, and when the last one ends.
    bounds: tuple[datetime, ...]

    @property
    def since(self) -> datetime:
        """When it begins."""
        return self.bounds[0]

    @property
    def until(self) -> datetime:
        """When it ends, exclusively."""
        return self.bounds[-1]

    @property
    def minutes(self) -> list[int]:
        """The bounds in minutes since 1970."""
        return [int(bound.timestamp()) // 60 for bound in self.bounds]


def cut(since: datetime, until: datetime, step: Step, zone: tzinfo) -> Range | Refusal:
    """The steps that have a part of `since` to `until`, whole: days of 23 and 25 hours where the clock is changed.

    Refuses a range that is empty or has more than `POINTS_MAX` steps.
    """
    if since >= until:
        return Refusal(INVALID_FIELD, "until", "must be later than since")
    # Moments in one zone would be compared by the clock on the wall.
    until = until.astimezone(UTC)
    bounds: list[datetime] = []
    for bound in _bounds(since, step, zone):
        bounds.append(bound)
        if bound >= until:
            break
        if len(bounds) > POINTS_MAX:
            detail = f"a series has at most {POINTS_MAX:,} points: ask for less time, or for larger steps"
            return Refusal(INVALID_FIELD, "step", detail)
    return Range(tuple(bounds))


def _bounds(since: datetime, step: Step, zone: tzinfo) -> Iterator[datetime]:
    if step is Step.DAY:
        day = since.astimezone(zone).date()
        while True:
            # Where midnight is skipped, the first moment of the day. In UTC, so that moments can be compared.
            yield datetime.combine(day, time(), zone).astimezone(UTC).astimezone(zone)
            day += timedelta(days=1)
    length = _LENGTHS[step]
    # Whole by the clock on the wall, which may be apart from UTC by half an hour.
    local = since.astimezone(zone)
    into = timedelta(
        minutes=local.minute if step is Step.HOUR else 0, seconds=local.second, microseconds=local.microsecond
    )
    at = since.astimezone(UTC) - into
    while True:
        yield at.astimezone(zone)
        at += length


def share(part: int, whole: int) -> str | None:
    """`part / whole` as decimal text, rounded; None if there is no whole."""
    return (
        None if whole <= 0 else _decimal(divide_half_away(part * 10**CONVERSION_DECIMALS, whole), CONVERSION_DECIMALS)
    )


def cover_days(available: int, sold: int, days: int) -> str | None:
    """How many days the pieces available last, if as many are sold as in the last `days`; None if none were."""
    return (
        None if sold <= 0 else _decimal(divide_half_away(available * days * 10**COVER_DECIMALS, sold), COVER_DECIMALS)
    )


def _decimal(scaled: int, decimals: int) -> str:
    sign = "-" if scaled < 0 else ""
    whole, fraction = divmod(abs(scaled), 10**decimals)
    return f"{sign}{whole}.{fraction:0{decimals}}"
