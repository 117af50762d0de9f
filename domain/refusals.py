"""Refusals: the answers "no" that the domain gives as values, never as exceptions."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule forbids what was asked.

    `reason` is a stable name, the last part of the problem type that HTTP answers; `field` is the path of what is
    wrong, such as `lines[0].vat_rate`; `detail` says what is wrong with it and what would be right.
    """

    reason: str
    field: str
    detail: str

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}"


INVALID_FIELD = "invalid-field"
NEGATIVE_TOTAL = "negative-total"
TOTALS_DISAGREE = "totals-disagree"
#: A rule of EN 16931 or of the law forbids it to this seller.
TAX_RULE = "tax-rule"
UNKNOWN_SELLER = "unknown-seller"
#: The order's state forbids the command.
NOT_PERMITTED = "not-permitted"
#: More of a line is to be refunded than is left of it.
REFUND_TOO_LARGE = "refund-too-large"
#: More of an invoice is to be credited than is left of it.
CREDIT_TOO_LARGE = "credit-too-large"
#: A refund's id came again with other lines.
REFUND_CONFLICT = "refund-conflict"
#: Another refund of the order is not finished; this one may be sent again.
REFUND_IN_PROGRESS = "refund-in-progress"
#: There is no such order.
UNKNOWN_ORDER = "unknown-order"
#: The order id has an invoice that was asked for directly.
ALREADY_INVOICED = "already-invoiced"
#: The order id belongs to a checkout.
ALREADY_ORDERED = "already-ordered"

#: Every reason, for the documentation and the HTTP problem types.
REASONS = (
    INVALID_FIELD,
    NEGATIVE_TOTAL,
    TOTALS_DISAGREE,
    TAX_RULE,
    UNKNOWN_SELLER,
    NOT_PERMITTED,
    REFUND_TOO_LARGE,
    CREDIT_TOO_LARGE,
    REFUND_CONFLICT,
    REFUND_IN_PROGRESS,
    UNKNOWN_ORDER,
    ALREADY_INVOICED,
    ALREADY_ORDERED,
)
