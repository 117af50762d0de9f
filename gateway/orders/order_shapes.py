"""The types of orders in responses; the OpenAPI document is generated from them."""

from typing import NotRequired, TypedDict

from gateway.invoices.invoice_views import ConflictView


class SelfLink(TypedDict):
    """Where the order is."""

    self: str


class OrderLinks(SelfLink):
    """Where the order is, and its invoice."""

    invoice: str


class AcceptedOrder(TypedDict):
    """An accepted order that is not decided yet."""

    order_id: str
    state: str
    links: SelfLink


class WaitingOrder(AcceptedOrder):
    """An order on the waitlist; place 1 is next. It is accepted only once it gets stock."""

    waitlist_position: int


class RejectedOrder(AcceptedOrder):
    """A request that became no order."""

    reason: str
    detail: str
    rejected_at: str


class OrderTotals(TypedDict):
    """Amounts, as decimal texts."""

    net: str
    tax: str
    gross: str


class OrderSummary(AcceptedOrder):
    """An order in a list; a guest's has no customer."""

    customer: str | None
    currency: str
    totals: OrderTotals
    placed_at: str


class OrderLine(TypedDict):
    """A line, and how many of its pieces were refunded; `stock` is false where it claimed none."""

    line: int
    sku: str
    description: str
    quantity: int
    unit_price: str
    vat_rate: str
    vat_category: str
    refunded: int
    stock: NotRequired[bool]


class ParcelView(TypedDict):
    """What a shipment is sent as; texts that were not given are empty."""

    carrier: str
    tracking_number: str
    tracking_url: str


#: One entry of an order's history; a shipment's may have its parcel.
Step = TypedDict(
    "Step",
    {
        "version": int,
        "from": str | None,
        "to": str,
        "reason": str,
        "detail": str,
        "at": str,
        "parcel": NotRequired[ParcelView],
    },
)


class Payment(TypedDict):
    """Where the money is; `reason` is the provider's."""

    status: str
    authorized: str
    captured: str
    refunded: str
    reason: str | None


class RefundedLine(TypedDict):
    """Pieces of a line."""

    line: int
    quantity: int


class Refund(TypedDict):
    """A refund; `credit_note` is its number, once it has one; a failed one has `provider_reason`.

    `origin` is `request`, or `provider` if it was made in the payment provider's dashboard.
    """

    refund_id: str
    state: str
    origin: str
    amount: str
    reason: str
    lines: list[RefundedLine]
    requested_at: str
    credit_note: str | None
    provider_reason: str | None


class UncreditedRefund(TypedDict):
    """A refund made in the payment provider's dashboard that has no credit note; `reason` says why, in words."""

    provider_refund: str
    amount: str
    currency: str
    reason: str


class OrderInvoice(TypedDict):
    """The order's invoice, in short."""

    number: str
    status: str
    link: str


class OrderCreditNote(OrderInvoice):
    """A credit note, in short; `link` is its document."""

    refund_id: str


class ShortSku(TypedDict):
    """A SKU of which there was not enough."""

    sku: str
    wanted: int
    free: int


class OrderView(TypedDict):
    """An order that was decided, in full; a guest's has no customer."""

    order_id: str
    state: str
    version: int
    customer: str | None
    currency: str
    totals: OrderTotals
    lines: list[OrderLine]
    placed_at: str
    history: list[Step]
    payment: Payment | None
    refunds: list[Refund]
    invoice: OrderInvoice | None
    credit_notes: list[OrderCreditNote]
    links: OrderLinks
    hold_expires_at: NotRequired[str]
    short: NotRequired[list[ShortSku]]
    conflicts: NotRequired[list[ConflictView]]
    uncredited_refunds: NotRequired[list[UncreditedRefund]]
