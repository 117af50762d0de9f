"""The records that rooms pass to each other, as the codec takes and gives them: generated from the Avro schemas.

One type a record, of its newest version. A field that came later and may be absent may be left out where a record is
made; a decoded record has it. Times are integers of microseconds since 1970, UTC. Don't edit: change the schema, then
run `python -m schemas.generate`.
"""

from typing import NotRequired, TypedDict, final


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
    #: BT-36, BT-51, BT-76.
    line2: NotRequired[str]
    #: BT-162, BT-163, BT-165.
    line3: NotRequired[str]
    #: Region, province or state. BT-39, BT-54, BT-79.
    subdivision: NotRequired[str]


@final
class Identifier(TypedDict):
    """An identifier and who gives it out."""

    #: As it was given.
    id: str
    #: ISO 6523 or EAS code; may be empty for a legal identifier.
    scheme: str


@final
class Contact(TypedDict):
    """Whom to ask: EN 16931 BG-6, BG-9."""

    #: BT-41, BT-56.
    name: str
    #: BT-42, BT-57.
    phone: str
    #: BT-43, BT-58.
    email: str


@final
class PartyDetails(TypedDict):
    """What few parties say."""

    #: BT-28, BT-45.
    trading_name: str
    #: Such as a SIREN or HRB number. BT-30, BT-47.
    legal_id: Identifier | None
    #: Where e-invoices go. BT-34, BT-49.
    electronic_address: Identifier | None
    #: BG-6, BG-9.
    contact: Contact | None


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
    #: What few buyers say; null for all others.
    details: NotRequired[PartyDetails | None]


@final
class Allowance(TypedDict):
    """An allowance, or a charge where it stands among the charges: EN 16931 BG-20, BG-21, BG-27, BG-28."""

    #: Decimal text in the currency's decimals; negative on what is returned. BT-92, BT-99, BT-136, BT-141.
    amount: str
    #: Decimal text; empty if the amount is none of a base. BT-94, BT-101, BT-138, BT-143.
    percent: str
    #: Decimal text; what the percent is of. BT-93, BT-100, BT-137, BT-142.
    base_amount: str
    #: UNCL5305 code; empty on a line, whose own counts. BT-95, BT-102.
    vat_category: str
    #: Percent as decimal text, at most 4 decimals; empty on a line. BT-96, BT-103.
    vat_rate: str
    #: Why, in words. BT-97, BT-104, BT-139, BT-144.
    reason: str
    #: UNCL5189 code of an allowance, UNCL7161 code of a charge. BT-98, BT-105, BT-140, BT-145.
    reason_code: str


@final
class Period(TypedDict):
    """From and to which day, YYYY-MM-DD; one of both may be empty."""

    #: First day. BT-73, BT-134.
    start: str
    #: Last day. BT-74, BT-135.
    end: str


@final
class LineDetails(TypedDict):
    """What few lines say."""

    #: UN/ECE Recommendation 20 or 21 code; empty for pieces. BT-130.
    unit: str
    #: Decimal text, above zero: the unit price is for so many; empty for one. BT-149.
    base_quantity: str
    #: Decimal text, at most 10 decimals: the unit price before its discount; empty if there is none. BT-148.
    gross_price: str
    #: Decimal text, at most 10 decimals: gross price less unit price; empty if there is none. BT-147.
    price_discount: str
    #: BG-27.
    allowances: list[Allowance]
    #: BG-28.
    charges: list[Allowance]
    #: BG-26.
    period: Period | None
    #: Line breaks are kept. BT-127.
    note: str
    #: Line of the buyer's order. BT-132.
    order_line: str
    #: The buyer's article number. BT-156.
    buyer_item_id: str
    #: False for what claims no stock, such as shipping; otherwise null.
    stock: bool | None


@final
class RequestedLine(TypedDict):
    """One line as it was ordered."""

    #: The seller's article number.
    sku: str
    #: BT-153.
    description: str
    #: Decimal text, at most 6 decimals; negative for a return. BT-129.
    quantity: str
    #: Decimal text, at most 10 decimals, not negative. BT-146.
    unit_price: str
    #: Percent as decimal text, at most 4 decimals. BT-152.
    vat_rate: str
    #: UNCL5305 code: S, Z, E, AE, K, G, O, L or M. BT-151.
    vat_category: str
    #: What few lines say; null for all others.
    details: NotRequired[LineDetails | None]


@final
class Accounting(TypedDict):
    """The seller's currency for tax."""

    #: ISO 4217. BT-6.
    currency: str
    #: Decimal text, at most 10 decimals: so much of it is one of the invoice's currency.
    exchange_rate: str


@final
class Exemption(TypedDict):
    """Why a category has no tax: EN 16931 BG-23."""

    #: UNCL5305 code.
    vat_category: str
    #: VATEX code. BT-121.
    code: str
    #: In words. BT-120.
    reason: str


@final
class Payment(TypedDict):
    """When and how it is paid: EN 16931 BG-16 to BG-19."""

    #: YYYY-MM-DD. BT-9.
    due_date: str
    #: Line breaks are kept. BT-20.
    terms: str
    #: UNCL4461 code. BT-81.
    means: str
    #: BT-82.
    means_text: str
    #: Account to pay into. BT-84.
    iban: str
    #: BT-86.
    bic: str
    #: BT-85.
    account_name: str
    #: 4 to 6 digits of the card used. BT-87.
    card_last_digits: str
    #: Reference of the direct debit's mandate. BT-89.
    mandate: str
    #: BT-90.
    creditor_id: str
    #: BT-91.
    debited_iban: str
    #: Text to pay under. BT-83.
    remittance: str
    #: YYYY-MM-DD on which it was paid, if it was.
    paid_at: str


@final
class Delivery(TypedDict):
    """Where and when it was delivered: EN 16931 BG-13."""

    #: YYYY-MM-DD. BT-72.
    date: str
    #: Who received it. BT-70.
    name: str
    #: BT-71.
    location_id: str
    #: BG-15.
    address: Address | None


@final
class References(TypedDict):
    """Documents that this one refers to."""

    #: BT-10.
    buyer_reference: str
    #: BT-11.
    project: str
    #: BT-12.
    contract: str
    #: BT-13.
    purchase_order: str
    #: BT-14.
    sales_order: str
    #: BT-15.
    receiving_advice: str
    #: BT-16.
    despatch_advice: str
    #: Tender or lot. BT-17.
    tender: str


@final
class PrecedingInvoice(TypedDict):
    """An earlier invoice: EN 16931 BG-3."""

    #: BT-25.
    number: str
    #: YYYY-MM-DD. BT-26.
    issue_date: str


@final
class Note(TypedDict):
    """A note with its subject: EN 16931 BG-1."""

    #: UNCL4451 code; may be empty. BT-21.
    subject_code: str
    #: Line breaks are kept. BT-22.
    text: str


@final
class Attachment(TypedDict):
    """A document elsewhere: EN 16931 BG-24."""

    #: BT-122.
    name: str
    #: BT-123.
    description: str
    #: BT-124.
    url: str


@final
class InvoiceDetails(TypedDict):
    """What few invoices say."""

    #: True if unit prices, allowances and charges hold the tax; otherwise null.
    prices_include_tax: bool | None
    #: Of the document. BG-20.
    allowances: list[Allowance]
    #: Of the document. BG-21.
    charges: list[Allowance]
    #: Decimal text, may be negative: added to what is due, outside of the tax. BT-114.
    rounding_amount: str
    #: Decimal text: paid before. BT-113.
    prepaid_amount: str
    #: If the tax is stated in another currency too.
    accounting: Accounting | None
    #: One for a category.
    exemptions: list[Exemption]
    #: BG-16.
    payment: Payment | None
    #: YYYY-MM-DD. BT-7.
    tax_point_date: str
    #: BG-14.
    period: Period | None
    #: BG-13.
    delivery: Delivery | None
    #: BT-10 to BT-17.
    references: References | None
    #: BG-3.
    preceding_invoices: list[PrecedingInvoice]
    #: Beside the note.
    notes: list[Note]
    #: BCP 47 tag of the document's language, such as pt-BR; empty for the seller's.
    language: str
    #: By link. BG-24.
    attachments: list[Attachment]


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
    #: What few invoices say; null for all others.
    details: NotRequired[InvoiceDetails | None]


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
    #: What few sellers say; null for all others.
    details: NotRequired[PartyDetails | None]
    #: Local tax registration. BT-32.
    tax_number: NotRequired[str]
    #: What the tax is called, such as Sales tax or GST; empty for VAT.
    tax_name: NotRequired[str]
    #: Of the document's rules, #rrggbb; empty for the template's.
    colour: NotRequired[str]
    #: How its invoices are paid that say nothing of it; null if it has not said.
    payment: NotRequired[Payment | None]
    #: BCP 47 tag of the documents that name none.
    language: NotRequired[str]
    #: On invoices that have none. BT-22.
    note: NotRequired[str]


@final
class InvoiceLine(TypedDict):
    """One line of an invoice."""

    #: The seller's article number.
    sku: str
    #: BT-153.
    description: str
    #: Decimal text, at most 6 decimals; negative for a return. BT-129.
    quantity: str
    #: Decimal text, at most 10 decimals, not negative. BT-146.
    unit_price: str
    #: Percent as decimal text, at most 4 decimals. BT-152.
    vat_rate: str
    #: UNCL5305 code: S, Z, E, AE, K, G, O, L or M. BT-151.
    vat_category: str
    #: Without tax, with the line's allowances and charges, rounded half away from zero to the currency's minor unit.
    #: BT-131.
    net_minor: int
    #: What few lines say; null for all others.
    details: NotRequired[LineDetails | None]


@final
class RateTotal(TypedDict):
    """One VAT category and rate: EN 16931 BG-23."""

    #: BT-118.
    vat_category: str
    #: BT-119, percent, two decimals, or up to four where it has them.
    vat_rate: str
    #: Sum of the lines' net amounts, less allowances, plus charges. BT-116.
    taxable_minor: int
    #: taxable x rate, rounded once; where prices include tax, gross x rate / (100 + rate). BT-117.
    tax_minor: int


@final
class TotalsDetails(TypedDict):
    """The totals of an invoice with allowances, charges, or amounts paid or rounded, in minor units."""

    #: Sum of the lines' net amounts. BT-106.
    lines_minor: int
    #: Of the document, without tax. BT-107.
    allowances_minor: int
    #: Of the document, without tax. BT-108.
    charges_minor: int
    #: BT-113.
    prepaid_minor: int
    #: BT-114.
    rounding_minor: int
    #: Gross less prepaid, plus rounding. BT-115.
    payable_minor: int
    #: The tax in minor units of the accounting currency. BT-111.
    accounting_tax_minor: int | None


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
    #: Null where the lines are all there is: then what is due is the gross total.
    details: NotRequired[TotalsDetails | None]


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
    #: What few invoices say; null for all others.
    details: NotRequired[InvoiceDetails | None]
    #: YYYY-MM-DD of the invoice that it corrects. BT-26.
    preceding_issue_date: NotRequired[str]
    #: YYYY-MM-DD on which the money was known to be returned, the way it came; empty if the invoice was asked for
    #: directly.
    paid_on: NotRequired[str]
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


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
    #: What few invoices say; null for all others.
    details: NotRequired[InvoiceDetails | None]


@final
class CreditedPart(TypedDict):
    """A part of one line of an invoice."""

    #: The line's position, from 0.
    line: int
    #: Decimal text, above zero, at most 6 decimals.
    quantity: str


@final
class CreditRequest(TypedDict):
    """A storefront asks to credit an invoice that was asked for directly: lines, an amount, or all that is left. Key:
    order_id in UTF-8."""

    #: When the gateway accepted it, UTC. Not part of the content that a repeat must equal.
    received_at: int
    #: Whose invoice: with order_id its identity.
    seller_id: str
    #: The invoice's order id.
    order_id: str
    #: 1-40 characters, unique within the order.
    credit_note_id: str
    #: Why, in words, printed on the credit note; may be empty.
    reason: str
    #: What is credited; empty for an amount, and for all that is left.
    lines: list[CreditedPart]
    #: Decimal text, with tax; empty for lines, and for all that is left.
    amount: str


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


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
    #: What few invoices say; null for all others.
    details: NotRequired[InvoiceDetails | None]
    #: YYYY-MM-DD on which the payment of the checkout's order was known; empty if it was asked for directly.
    paid_on: NotRequired[str]
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


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
    #: What few invoices say; null for all others.
    details: NotRequired[InvoiceDetails | None]


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


@final
class RefundedLine(TypedDict):
    """So much of one line of an order."""

    #: Position of the line in the order, from 0.
    line: int
    #: Whole number of pieces, above 0.
    quantity: int


@final
class Parcel(TypedDict):
    """What a shipment is sent as."""

    #: Who carries it, as buyers know it; may be empty.
    carrier: str
    #: The carrier's number of it; may be empty.
    tracking_number: str
    #: The carrier's page about it, https; may be empty.
    tracking_url: str


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
    #: What to refund; empty for all that is left, for an amount, and for other actions.
    lines: list[RefundedLine]
    #: Decimal text with tax: what to refund; empty for lines, for all that is left, and for other actions.
    amount: NotRequired[str]
    #: Of a shipment, if the storefront names one; null for other actions.
    parcel: NotRequired[Parcel | None]


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


@final
class OrderLine(TypedDict):
    """One line of an order."""

    #: The seller's article number.
    sku: str
    #: What it is.
    description: str
    #: Whole number of pieces; negative for a discount.
    quantity: int
    #: Decimal text.
    unit_price: str
    #: Minor units.
    net_minor: int
    #: False for what claims no stock, such as shipping; otherwise null.
    stock: NotRequired[bool | None]


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


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
    #: Of the step to SHIPPED, if the storefront has named one.
    parcel: NotRequired[Parcel | None]
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


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
    #: What has happened, in the provider's words, such as charge.refunded; null if the gateway did not note it.
    kind: NotRequired[str | None]


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


@final
class ProductText(TypedDict):
    """A product in one language."""

    #: BCP 47 tag, such as en or pt-BR.
    language: str
    #: In one line.
    name: str
    #: May have line breaks; may be empty.
    description: str


@final
class ProductCategory(TypedDict):
    """Where a product is found."""

    #: From the widest to the narrowest, such as kitchen/mugs.
    path: str


@final
class ProductAttribute(TypedDict):
    """A property by its name."""

    #: Such as material.
    name: str
    #: Such as stoneware.
    value: str


@final
class ProductImage(TypedDict):
    """A picture."""

    #: https, http, or a path of the shop's own.
    url: str
    #: What it shows, for those who do not see it; may be empty.
    alt: str


@final
class ProductVariant(TypedDict):
    """What is sold: one SKU and its price."""

    #: The SKU; no two products of a seller share one.
    sku: str
    #: Decimal text, in the product's currency.
    unit_price: str
    #: What tells it from the other variants, such as colour.
    attributes: list[ProductAttribute]


@final
class Product(TypedDict):
    """What a seller offers."""

    #: One per language; the first is the default.
    texts: list[ProductText]
    #: May be empty.
    brand: str
    #: It is in each, and in those that these are part of.
    categories: list[ProductCategory]
    #: Of all variants.
    attributes: list[ProductAttribute]
    #: The first is the main one.
    images: list[ProductImage]
    #: ISO 4217.
    currency: str
    #: UNCL5305, as of an order's line.
    vat_category: str
    #: Percent, as decimal text.
    vat_rate: str
    #: Whether prices hold the tax.
    prices_include_tax: bool
    #: One at least.
    variants: list[ProductVariant]


@final
class ProductChanged(TypedDict):
    """A product was put or deleted. Key: product_id in UTF-8."""

    #: Whose product: with product_id its identity.
    seller_id: str
    #: The product's id.
    product_id: str
    #: 1, 2, 3 ... of the product, without a gap, also through deletions.
    version: int
    #: The product as it is now; null if it was deleted.
    product: Product | None
    #: UTC.
    occurred_at: int


@final
class ArticleRating(TypedDict):
    """How the published reviews of an article rate it."""

    #: 1, 2, 3 ... of the SKU's rating, without a gap: keep the greatest.
    version: int
    #: Published reviews with 1 star.
    one: int
    #: With 2 stars.
    two: int
    #: With 3 stars.
    three: int
    #: With 4 stars.
    four: int
    #: With 5 stars.
    five: int


@final
class ReviewChanged(TypedDict):
    """A review was written, changed, moderated or withdrawn. Key: the SKU in UTF-8."""

    #: Whose article.
    seller_id: str
    #: The article.
    sku: str
    #: The product that sells the article; null if none does.
    product_id: str | None
    #: The order whose line is reviewed: with seller_id and line the review's identity.
    order_id: str
    #: Position of the line in the order, from 0.
    line: int
    #: 1, 2, 3 ... of the review, without a gap.
    version: int
    #: pending, published, rejected or withdrawn: only a published one may be shown.
    state: str
    #: 1 to 5; 0 for a withdrawn one.
    stars: int
    #: May be empty.
    title: str
    #: May have line breaks; may be empty.
    body: str
    #: The author's name as it is to be shown; may be empty.
    author: str
    #: The article's after this change.
    rating: ArticleRating
    #: UTC.
    occurred_at: int
    #: The header ce_id: topic, partition and seq. Null until the journal numbers it.
    event_id: str | None


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
    #: The header ce_id: topic, partition and seq. Null in records from before this version.
    event_id: NotRequired[str | None]


@final
class SynonymWord(TypedDict):
    """A word, or some in a row."""

    #: As the seller wrote it, in one line.
    text: str


@final
class SynonymGroup(TypedDict):
    """Words that a question may use for each other."""

    #: What is asked for; without also_finds each finds what the others do.
    words: list[SynonymWord]
    #: What a question for one of the words finds too; none finds the words. May be empty.
    also_finds: list[SynonymWord]


@final
class SynonymsChanged(TypedDict):
    """A seller's synonyms for search were put. Key: seller_id in UTF-8."""

    #: Whose synonyms: their identity.
    seller_id: str
    #: 1, 2, 3 ... of the seller's synonyms, without a gap.
    version: int
    #: All of them; none if the seller has taken them back.
    groups: list[SynonymGroup]
    #: UTC.
    occurred_at: int
