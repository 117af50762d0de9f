"""The records that rooms pass to each other, as the codec takes and gives them: generated from the Avro schemas.

One type a record, of its newest version. Times are integers of microseconds since 1970, UTC. Don't edit: change the
schema, then run `python -m schemas.generate`.
"""

from typing import TypedDict, final


@final
class Address(TypedDict):
    """A postal address."""

    #: Street and house number.
    street: str
    #: Town or city.
    city: str
    #: Postal code; may be empty where a country has none.
    postal_code: str
    #: ISO 3166-1 alpha-2.
    country: str


@final
class Buyer(TypedDict):
    """Who is invoiced: EN 16931 BG-7."""

    #: Legal or personal name.
    name: str
    #: Where the invoice is sent.
    email: str
    #: VAT identifier, BT-48.
    vat_id: str | None
    #: Postal address.
    address: Address


@final
class RequestedLine(TypedDict):
    """One line as it was ordered."""

    #: The seller's article number.
    sku: str
    #: BT-153.
    description: str
    #: Decimal text, at most 6 decimals; negative for a return. BT-129.
    quantity: str
    #: Decimal text, at most 6 decimals, not negative. BT-146.
    unit_price: str
    #: Percent as decimal text, at most 2 decimals. BT-152.
    vat_rate: str
    #: UNCL5305 code: S, Z, E, AE, K, G, O, L or M. BT-151.
    vat_category: str


@final
class CheckoutRequest(TypedDict):
    """A storefront asks for one order: reserve its lines, take the payment, confirm. Key: order_id in UTF-8."""

    #: When the gateway accepted it, UTC. Not part of the content that a repeat must equal.
    received_at: int
    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: Who buys, as the storefront knows them; 1-64 characters.
    customer: str
    #: The provider's token for the means of payment. Not part of the content that a repeat must equal: a client that
    #: tries again may have a new one; the first is used.
    payment_token: str
    #: ISO 4217.
    currency: str
    #: BT-22.
    note: str | None
    #: Who is invoiced.
    buyer: Buyer
    #: 1-1,000 lines.
    lines: list[RequestedLine]


@final
class Seller(TypedDict):
    """The seller as it was when the invoice was issued."""

    #: BT-27.
    legal_name: str
    #: BT-31.
    vat_id: str | None
    #: BG-5.
    address: Address
    #: Hex digest that names the logo's bytes; they never change under it.
    logo_sha256: str | None


@final
class InvoiceLine(TypedDict):
    """One line of an invoice."""

    #: The seller's article number.
    sku: str
    #: BT-153.
    description: str
    #: Decimal text, at most 6 decimals; negative for a return. BT-129.
    quantity: str
    #: Decimal text, at most 6 decimals, not negative. BT-146.
    unit_price: str
    #: Percent as decimal text, at most 2 decimals. BT-152.
    vat_rate: str
    #: UNCL5305 code: S, Z, E, AE, K, G, O, L or M. BT-151.
    vat_category: str
    #: quantity x unit_price, rounded half away from zero to the currency's minor unit. BT-131.
    net_minor: int


@final
class RateTotal(TypedDict):
    """One VAT category and rate: EN 16931 BG-23."""

    #: BT-118.
    vat_category: str
    #: BT-119, percent, two decimals.
    vat_rate: str
    #: Sum of the lines' net amounts. BT-116.
    taxable_minor: int
    #: taxable x rate, rounded once. BT-117.
    tax_minor: int


@final
class Totals(TypedDict):
    """Document totals: EN 16931 BG-22, in minor units of the currency."""

    #: BT-109.
    net_minor: int
    #: BT-110.
    tax_minor: int
    #: BT-112.
    gross_minor: int
    #: VAT breakdown.
    per_rate: list[RateTotal]


@final
class CreditNoteIssued(TypedDict):
    """A refund or cancellation has its credit note and its number. Key: order_id in UTF-8."""

    #: Whose invoice.
    seller_id: str
    #: The storefront's order id.
    order_id: str
    #: The refund it credits; cancellation for a cancelled order.
    refund_id: str
    #: Always credit_note.
    kind: str
    #: The series that the number belongs to.
    series_id: str
    #: 1, 2, 3 ... in the series, without a gap.
    number: int
    #: The credit note's own number, as printed. BT-1.
    invoice_number: str
    #: The invoice it corrects, as printed. BT-25.
    preceding_invoice_number: str
    #: UTC; never decreases within a series.
    issued_at: int
    #: YYYY-MM-DD in the seller's time zone. BT-2.
    issue_date: str
    #: Why, in words; may be empty.
    reason: str
    #: ISO 4217. BT-5.
    currency: str
    #: BT-22.
    note: str | None
    #: Who is invoiced.
    buyer: Buyer
    #: Who invoices.
    seller: Seller
    #: What is credited, in positive quantities.
    lines: list[InvoiceLine]
    #: What is credited, positive.
    totals: Totals
    #: The template that the document is made with: with this event it decides every byte.
    template_version: int


@final
class CreditNoteRequest(TypedDict):
    """A refund or cancellation asks for its credit note. Key: order_id in UTF-8."""

    #: When it was decided, UTC.
    received_at: int
    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: The refund, unique within the order; cancellation for a cancelled order.
    refund_id: str
    #: Why, in words; may be empty.
    reason: str
    #: ISO 4217.
    currency: str
    #: BT-22.
    note: str | None
    #: Who is invoiced.
    buyer: Buyer
    #: In the order of the request.
    lines: list[InvoiceLine]
    #: What is due.
    totals: Totals


@final
class DeadLetter(TypedDict):
    """A record that could not be decoded or applied, with all that is needed to send it again. Key: the record's
    key."""

    #: Who could not apply it.
    agent: str
    #: Where it stands.
    source_topic: str
    #: Its partition.
    source_partition: int
    #: Its offset.
    source_offset: int
    #: The record's key.
    key: bytes | None
    #: The record's value; null for a tombstone.
    value: bytes | None
    #: Why, in one line.
    error: str
    #: UTC.
    occurred_at: int


@final
class InvoiceDocumentStored(TypedDict):
    """An invoice's document is in the object store. Key: order_id in UTF-8."""

    #: Whose invoice.
    seller_id: str
    #: The storefront's order id.
    order_id: str
    #: invoice or credit_note.
    kind: str
    #: The series.
    series_id: str
    #: The number in the series.
    number: int
    #: As printed.
    invoice_number: str
    #: Key in the object store.
    key: str
    #: Hex digest of the document.
    sha256: str
    #: Size of the document.
    size_bytes: int
    #: application/pdf.
    media_type: str
    #: The template that it was made with.
    template_version: int
    #: UTC.
    stored_at: int


@final
class InvoiceIssued(TypedDict):
    """An order has its invoice and its number. Key: order_id in UTF-8."""

    #: Whose invoice.
    seller_id: str
    #: The storefront's order id.
    order_id: str
    #: Always invoice.
    kind: str
    #: The series that the number belongs to.
    series_id: str
    #: 1, 2, 3 ... in the series, without a gap.
    number: int
    #: As printed. BT-1.
    invoice_number: str
    #: UTC; never decreases within a series.
    issued_at: int
    #: YYYY-MM-DD in the seller's time zone. BT-2.
    issue_date: str
    #: ISO 4217. BT-5.
    currency: str
    #: BT-22.
    note: str | None
    #: Who is invoiced.
    buyer: Buyer
    #: Who invoices.
    seller: Seller
    #: In the order of the request.
    lines: list[InvoiceLine]
    #: What is due.
    totals: Totals
    #: The template that the document is made with: with this event it decides every byte.
    template_version: int


@final
class InvoiceRequest(TypedDict):
    """A storefront asks for one invoice for one order. Key: order_id in UTF-8."""

    #: When the gateway accepted it, UTC. Not part of the content that a repeat must equal.
    received_at: int
    #: Whose invoice: with order_id and kind the identity of the request.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: Must be invoice: credit notes are asked for with CreditNoteRequest.
    kind: str
    #: ISO 4217.
    currency: str
    #: BT-22.
    note: str | None
    #: Who is invoiced.
    buyer: Buyer
    #: 1-1,000 lines.
    lines: list[RequestedLine]


@final
class InvoiceRequestConflicted(TypedDict):
    """An order id came again with other content; the first stands. Key: order_id in UTF-8."""

    #: Whose order.
    seller_id: str
    #: The id that was used twice.
    order_id: str
    #: invoice or credit_note.
    kind: str
    #: Where the refused request stands.
    source_topic: str
    #: Its partition.
    source_partition: int
    #: Its offset.
    source_offset: int
    #: Hex digest of the refused content.
    content_sha256: str
    #: Hex digest of the content that stands.
    first_content_sha256: str
    #: UTC.
    occurred_at: int


@final
class InvoiceRequestRejected(TypedDict):
    """A well-formed request breaks a rule; it got no number. Key: order_id in UTF-8."""

    #: Whose order.
    seller_id: str
    #: The order.
    order_id: str
    #: invoice or credit_note.
    kind: str
    #: Where the refused request stands.
    source_topic: str
    #: Its partition.
    source_partition: int
    #: Its offset.
    source_offset: int
    #: Name of the refusal, as in the problem types.
    reason: str
    #: Names the field and the fix.
    detail: str
    #: UTC.
    occurred_at: int


@final
class RefundedLine(TypedDict):
    """So much of one line of an order."""

    #: Position of the line in the order, from 0.
    line: int
    #: Whole number of pieces, above 0.
    quantity: int


@final
class OrderCommand(TypedDict):
    """Somebody wants an order to be shipped, delivered, cancelled or refunded. Key: order_id in UTF-8."""

    #: When the gateway accepted it, UTC.
    received_at: int
    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: Unique within the order: ship, deliver and cancel are their own; a refund's is refund: and its refund_id.
    command_id: str
    #: ship, deliver, cancel or refund.
    action: str
    #: Why, in the caller's words; may be empty. Shown in the order's history.
    reason: str
    #: A refund's id, the storefront's own, 1-40 characters; empty for other actions.
    refund_id: str
    #: What to refund; empty for all that is left, and for other actions.
    lines: list[RefundedLine]


@final
class OrderCommandAnswered(TypedDict):
    """A command on an order was applied, or refused by the transition table. Key: order_id in UTF-8."""

    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: Which command.
    command_id: str
    #: ship, deliver, cancel or refund.
    action: str
    #: applied or refused.
    outcome: str
    #: Name of the refusal, as in the problem types; empty if applied.
    reason: str
    #: Why, in words; empty if applied.
    detail: str
    #: UTC.
    occurred_at: int
    #: Partition of the command in order-commands; -1 in records of version 1.
    source_partition: int
    #: Offset of the command in order-commands: with its partition, which of several commands of one command_id is
    #: answered; -1 in records of version 1.
    source_offset: int


@final
class OrderConflicted(TypedDict):
    """An order id came again with other content; the first stands. Key: order_id in UTF-8."""

    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: Where the refused request stands.
    source_topic: str
    #: Its partition.
    source_partition: int
    #: Its offset.
    source_offset: int
    #: Hex digest of the refused content.
    content_sha256: str
    #: Hex digest of the content that stands.
    first_content_sha256: str
    #: UTC.
    occurred_at: int


@final
class OrderLine(TypedDict):
    """One line of an order."""

    #: The seller's article number.
    sku: str
    #: What it is.
    description: str
    #: Whole number of pieces.
    quantity: int
    #: Decimal text.
    unit_price: str
    #: Minor units.
    net_minor: int


@final
class OrderPlaced(TypedDict):
    """An order has its stock; its payment is asked for by this event. Key: order_id in UTF-8."""

    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: Who buys.
    customer: str
    #: ISO 4217.
    currency: str
    #: Minor units of the currency.
    net_minor: int
    #: Minor units.
    tax_minor: int
    #: What is to be paid, in minor units.
    gross_minor: int
    #: In the order of the request.
    lines: list[OrderLine]
    #: Until when the stock is kept without a payment, UTC.
    hold_expires_at: int
    #: PAYMENT_PENDING.
    state: str
    #: 2: PLACED and PAYMENT_PENDING are the first two steps of its history.
    version: int
    #: UTC.
    placed_at: int


@final
class ShortLine(TypedDict):
    """What was missing of one SKU."""

    #: The SKU.
    sku: str
    #: Pieces, all lines of the order together.
    wanted: int
    #: Pieces that were free, in the order of arrival.
    free: int


@final
class OrderRefused(TypedDict):
    """There was not enough stock for all lines, so none was taken; final for this order_id. Key: order_id in UTF-8."""

    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: Who wanted to buy.
    customer: str
    #: SKUs that were short.
    short: list[ShortLine]
    #: UTC.
    occurred_at: int


@final
class OrderRejected(TypedDict):
    """A well-formed checkout request breaks a rule; there is no order. Key: order_id in UTF-8."""

    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: Where the refused request stands.
    source_topic: str
    #: Its partition.
    source_partition: int
    #: Its offset.
    source_offset: int
    #: Name of the refusal, as in the problem types.
    reason: str
    #: Names the field and the fix.
    detail: str
    #: UTC.
    occurred_at: int


@final
class OrderStateChanged(TypedDict):
    """An order took a step of its transition table. Key: order_id in UTF-8."""

    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: 1, 2, 3 ... in the order's history: PLACED is 1.
    version: int
    #: The state it left.
    from_state: str
    #: The state it is in.
    to_state: str
    #: Why, by name: payment-authorized, payment-declined, hold-expired, shipped ...
    reason: str
    #: Why, in words; may be empty.
    detail: str
    #: The command that asked for it; empty if none did.
    command_id: str
    #: UTC.
    occurred_at: int


@final
class PaymentAttemptFinished(TypedDict):
    """The provider's answer is known. Key: order_id in UTF-8."""

    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: authorize, capture, void, or refund: and the refund's id.
    request_id: str
    #: authorize, capture, void or refund.
    action: str
    #: succeeded, declined or failed. Failed: given up, and made sure at the provider that it has no effect.
    outcome: str
    #: Minor units.
    amount_minor: int
    #: ISO 4217.
    currency: str
    #: local or stripe.
    provider: str
    #: The provider's own id of the payment; may be empty where there is none.
    reference: str
    #: The provider's code for a decline or failure; empty if it succeeded.
    reason: str
    #: How often the provider was asked to act.
    tries: int
    #: UTC.
    occurred_at: int


@final
class PaymentNotice(TypedDict):
    """The provider says that something has happened to a payment. A hint to ask; its content decides nothing. Key:
    order_id in UTF-8."""

    #: UTC.
    received_at: int
    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: local or stripe.
    provider: str
    #: The provider's id of the notice.
    event_id: str


@final
class PaymentRequested(TypedDict):
    """The order wants its payment captured, voided or refunded. Authorisation is asked for by OrderPlaced itself. Key:
    order_id in UTF-8."""

    #: Whose order: with order_id its identity.
    seller_id: str
    #: 1-64 characters, the storefront's own.
    order_id: str
    #: Unique within the order: capture, void, or refund: and the refund's id.
    request_id: str
    #: capture, void or refund.
    action: str
    #: Minor units.
    amount_minor: int
    #: ISO 4217.
    currency: str
    #: UTC.
    occurred_at: int


@final
class SkuChange(TypedDict):
    """What became of one SKU."""

    #: The SKU.
    sku: str
    #: Pieces; below 0 for an adjustment downwards.
    quantity: int
    #: Pieces in the warehouse, after this change.
    on_hand: int
    #: Pieces claimed by open orders, after this change.
    reserved: int
    #: 1, 2, 3 ... of the SKU, without a gap: orders changes across partitions.
    version: int


@final
class StockChanged(TypedDict):
    """Stock was claimed, given back, sent off or set. Key: order_id in UTF-8, or the sku where no order is behind
    it."""

    #: Whose order: with order_id its identity.
    seller_id: str
    #: The order behind it; empty for a change by the seller.
    order_id: str
    #: reserved, released, retaken, shipped, adjusted or set.
    cause: str
    #: One per SKU, by SKU.
    changes: list[SkuChange]
    #: UTC.
    occurred_at: int
