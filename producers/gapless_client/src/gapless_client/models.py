"""The bodies of requests and responses. Generated: don't edit, run `make ops`."""

from typing import Any, Literal, NotRequired, TypedDict


class Address(TypedDict):
    """A postal address."""

    street: str
    city: str
    postal_code: str
    country: str
    line2: NotRequired[str | None]
    line3: NotRequired[str | None]
    subdivision: NotRequired[str | None]


class Identifier(TypedDict):
    """An identifier and its scheme: ISO 6523 of a legal identifier, EAS of an electronic address."""

    id: str
    scheme: NotRequired[str | None]


class ElectronicAddress(TypedDict):
    """Where e-invoices go."""

    id: str
    scheme: str


class Contact(TypedDict):
    """Whom to ask."""

    name: NotRequired[str | None]
    phone: NotRequired[str | None]
    email: NotRequired[str | None]


class Buyer(TypedDict):
    """Who is invoiced."""

    name: str
    email: NotRequired[str | None]
    address: NotRequired[Address | None]
    vat_id: NotRequired[str | None]
    trading_name: NotRequired[str | None]
    legal_id: NotRequired[Identifier | None]
    electronic_address: NotRequired[ElectronicAddress | None]
    contact: NotRequired[Contact | None]


class LineAllowance(TypedDict):
    """An allowance of a line: an amount, or a percentage of quantity x price (BG-27)."""

    amount: NotRequired[str | None]
    percent: NotRequired[str | None]
    base_amount: NotRequired[str | None]
    reason: NotRequired[str | None]
    reason_code: NotRequired[str | None]


class LineCharge(TypedDict):
    """A charge on a line: an amount, or a percentage of quantity x price (BG-28)."""

    amount: NotRequired[str | None]
    percent: NotRequired[str | None]
    base_amount: NotRequired[str | None]
    reason: NotRequired[str | None]
    reason_code: NotRequired[str | None]


class Period(TypedDict):
    """From and to which day."""

    start: NotRequired[str | None]
    end: NotRequired[str | None]


class Line(TypedDict):
    """A line; amounts are decimal strings, so that no client rounds them."""

    sku: str
    description: str
    quantity: str
    unit_price: str
    vat_rate: str
    vat_category: Literal["S", "Z", "E", "AE", "K", "G", "O", "L", "M"]
    net: NotRequired[str | None]
    unit: NotRequired[str | None]
    base_quantity: NotRequired[str | None]
    gross_price: NotRequired[str | None]
    price_discount: NotRequired[str | None]
    allowances: NotRequired[list[LineAllowance] | None]
    charges: NotRequired[list[LineCharge] | None]
    period: NotRequired[Period | None]
    note: NotRequired[str | None]
    order_line: NotRequired[str | None]
    buyer_item_id: NotRequired[str | None]
    stock: NotRequired[bool | None]


class Totals(TypedDict):
    """The totals that the caller expects; each one given is compared."""

    net: NotRequired[str]
    tax: NotRequired[str]
    gross: NotRequired[str]
    payable: NotRequired[str]


class DocumentAllowance(TypedDict):
    """An allowance of the whole document: an amount, or a percentage of the lines of its category and rate (BG-20)."""

    vat_category: Literal["S", "Z", "E", "AE", "K", "G", "O", "L", "M"]
    vat_rate: str
    amount: NotRequired[str | None]
    percent: NotRequired[str | None]
    base_amount: NotRequired[str | None]
    reason: NotRequired[str | None]
    reason_code: NotRequired[str | None]


class DocumentCharge(TypedDict):
    """A charge on the whole document: an amount, or a percentage of the lines of its category and rate (BG-21)."""

    vat_category: Literal["S", "Z", "E", "AE", "K", "G", "O", "L", "M"]
    vat_rate: str
    amount: NotRequired[str | None]
    percent: NotRequired[str | None]
    base_amount: NotRequired[str | None]
    reason: NotRequired[str | None]
    reason_code: NotRequired[str | None]


class Accounting(TypedDict):
    """The seller's currency for tax: the total tax is stated in it too (BT-111)."""

    currency: str
    exchange_rate: str


class Exemption(TypedDict):
    """Why a category has no tax."""

    vat_category: Literal["S", "Z", "E", "AE", "K", "G", "O", "L", "M"]
    code: NotRequired[str | None]
    reason: NotRequired[str | None]


class DetailsPayment(TypedDict):
    """When and how it is paid, or was."""

    due_date: NotRequired[str | None]
    terms: NotRequired[str | None]
    means: NotRequired[str | None]
    means_text: NotRequired[str | None]
    iban: NotRequired[str | None]
    bic: NotRequired[str | None]
    account_name: NotRequired[str | None]
    card_last_digits: NotRequired[str | None]
    mandate: NotRequired[str | None]
    creditor_id: NotRequired[str | None]
    debited_iban: NotRequired[str | None]
    remittance: NotRequired[str | None]
    paid_at: NotRequired[str | None]


class DeliveryAddress(TypedDict):
    """Where it was delivered."""

    country: str
    street: NotRequired[str | None]
    line2: NotRequired[str | None]
    line3: NotRequired[str | None]
    city: NotRequired[str | None]
    postal_code: NotRequired[str | None]
    subdivision: NotRequired[str | None]


class Delivery(TypedDict):
    """Where and when it was delivered."""

    date: NotRequired[str | None]
    name: NotRequired[str | None]
    location_id: NotRequired[str | None]
    address: NotRequired[DeliveryAddress | None]


class References(TypedDict):
    """Documents that the invoice refers to."""

    buyer_reference: NotRequired[str | None]
    project: NotRequired[str | None]
    contract: NotRequired[str | None]
    purchase_order: NotRequired[str | None]
    sales_order: NotRequired[str | None]
    receiving_advice: NotRequired[str | None]
    despatch_advice: NotRequired[str | None]
    tender: NotRequired[str | None]


class PrecedingInvoice(TypedDict):
    """An earlier invoice."""

    number: str
    issue_date: NotRequired[str | None]


class Note(TypedDict):
    """A note with its subject."""

    text: str
    subject_code: NotRequired[str | None]


class Attachment(TypedDict):
    """A document elsewhere."""

    name: str
    description: NotRequired[str | None]
    url: NotRequired[str | None]


class InvoiceRequest(TypedDict):
    """The body of POST /v1/invoices."""

    currency: str
    buyer: Buyer
    lines: list[Line]
    order_id: NotRequired[str]
    note: NotRequired[str | None]
    totals: NotRequired[Totals | None]
    prices_include_tax: NotRequired[bool | None]
    allowances: NotRequired[list[DocumentAllowance] | None]
    charges: NotRequired[list[DocumentCharge] | None]
    rounding_amount: NotRequired[str | None]
    prepaid_amount: NotRequired[str | None]
    accounting: NotRequired[Accounting | None]
    exemptions: NotRequired[list[Exemption] | None]
    payment: NotRequired[DetailsPayment | None]
    tax_point_date: NotRequired[str | None]
    period: NotRequired[Period | None]
    delivery: NotRequired[Delivery | None]
    references: NotRequired[References | None]
    preceding_invoices: NotRequired[list[PrecedingInvoice] | None]
    notes: NotRequired[list[Note] | None]
    language: NotRequired[str | None]
    attachments: NotRequired[list[Attachment] | None]


class ConflictView(TypedDict):
    """A request that used the order id with different content."""

    detail: str
    occurred_at: str


class DocumentView(TypedDict):
    """A document that is stored."""

    link: str
    sha256: str
    size: int


class InvoiceLinks(TypedDict):
    """Where the order is, and its document."""

    document: NotRequired[str]
    self: str


class RateView(TypedDict):
    """The totals of one VAT category and rate, as decimal texts."""

    tax: str
    taxable: str
    vat_category: str
    vat_rate: str


class InvoiceTotals(TypedDict):
    """Amounts, as decimal texts; what is due, and what leads to it, where the request says more than lines."""

    gross: str
    net: str
    payable: NotRequired[str]
    per_rate: NotRequired[list[RateView]]
    prepaid: NotRequired[str]
    rounding: NotRequired[str]
    tax: str


class InvoiceView(TypedDict):
    """An order that has its number."""

    conflicts: NotRequired[list[ConflictView]]
    currency: str
    document: DocumentView | None
    invoice_number: str
    issued_at: str
    links: InvoiceLinks
    number: int
    order_id: str
    series_id: str
    status: str
    totals: InvoiceTotals


class AcceptedInvoice(TypedDict):
    """An accepted order without a number yet."""

    links: InvoiceLinks
    order_id: str
    status: str


class CreditLine(TypedDict):
    """A part of one line of the invoice; the first line is 0."""

    line: int
    quantity: str


class CreditCommand(TypedDict):
    """The body of a credit; without lines and amount it is of all that is left."""

    credit_note_id: NotRequired[str]
    lines: NotRequired[list[CreditLine] | None]
    amount: NotRequired[str | None]
    reason: NotRequired[str | None]


class CreditNoteView(TypedDict):
    """A credit note; its totals are the amounts returned to the buyer. A refund's has the refund's id as its own."""

    credit_note_id: str
    currency: str
    document: DocumentView | None
    invoice_number: str
    issued_at: str
    number: int
    refund_id: str
    series_id: str
    status: str
    totals: InvoiceTotals


class AcceptedCredit(TypedDict):
    """A credit that is accepted, and not decided yet; `links` lead to the invoice's credit notes."""

    credit_note_id: str
    links: InvoiceLinks
    order_id: str
    status: str


class RejectedCredit(TypedDict):
    """A credit note that was asked for and that its invoice doesn't permit."""

    credit_note_id: str
    detail: str
    reason: str
    rejected_at: str


class CreditNoteList(TypedDict):
    """An order's credit notes, and the latest that were asked for and rejected."""

    credit_notes: list[CreditNoteView]
    order_id: str
    rejected: list[RejectedCredit]


class CreditNoteRequest(TypedDict):
    """The body of POST /v1/credit-notes: what is credited, as an invoice says it. `preceding_invoices` names the one
    invoice that was issued elsewhere."""

    currency: str
    buyer: Buyer
    lines: list[Line]
    note: NotRequired[str | None]
    totals: NotRequired[Totals | None]
    order_id: str
    prices_include_tax: NotRequired[bool | None]
    allowances: NotRequired[list[DocumentAllowance] | None]
    charges: NotRequired[list[DocumentCharge] | None]
    rounding_amount: NotRequired[str | None]
    prepaid_amount: NotRequired[str | None]
    accounting: NotRequired[Accounting | None]
    exemptions: NotRequired[list[Exemption] | None]
    payment: NotRequired[DetailsPayment | None]
    tax_point_date: NotRequired[str | None]
    period: NotRequired[Period | None]
    delivery: NotRequired[Delivery | None]
    references: NotRequired[References | None]
    preceding_invoices: NotRequired[list[PrecedingInvoice] | None]
    notes: NotRequired[list[Note] | None]
    language: NotRequired[str | None]
    attachments: NotRequired[list[Attachment] | None]
    credit_note_id: NotRequired[str]
    reason: NotRequired[str | None]


class RejectedInvoice(TypedDict):
    """A rejected order, which has no number."""

    detail: str
    links: InvoiceLinks
    order_id: str
    reason: str
    rejected_at: str
    status: str


class SeriesView(TypedDict):
    """A series of numbers; all below `next_number` are taken."""

    issued: int
    next_number: int
    policy: str
    series_id: str


class SeriesList(TypedDict):
    """A page of a seller's series."""

    next: str | None
    series: list[SeriesView]


class NumberView(TypedDict):
    """The invoice or credit note that has a number."""

    currency: str
    document: DocumentView | None
    invoice_number: str
    issued_at: str
    links: InvoiceLinks
    number: int
    order_id: str
    series_id: str
    status: str
    totals: InvoiceTotals


class LinkRequest(TypedDict):
    """A request for a link."""

    expires_in: NotRequired[int]


class LinkView(TypedDict):
    """A link that anyone who has it may follow until it expires."""

    expires_at: str
    url: str


class CheckoutRequest(TypedDict):
    """The body of POST /v1/checkouts: the invoice's content, the customer and the means of payment."""

    currency: str
    buyer: Buyer
    lines: list[Line]
    order_id: NotRequired[str]
    note: NotRequired[str | None]
    totals: NotRequired[Totals | None]
    prices_include_tax: NotRequired[bool | None]
    allowances: NotRequired[list[DocumentAllowance] | None]
    charges: NotRequired[list[DocumentCharge] | None]
    rounding_amount: NotRequired[str | None]
    prepaid_amount: NotRequired[str | None]
    accounting: NotRequired[Accounting | None]
    exemptions: NotRequired[list[Exemption] | None]
    payment: NotRequired[DetailsPayment | None]
    tax_point_date: NotRequired[str | None]
    period: NotRequired[Period | None]
    delivery: NotRequired[Delivery | None]
    references: NotRequired[References | None]
    preceding_invoices: NotRequired[list[PrecedingInvoice] | None]
    notes: NotRequired[list[Note] | None]
    language: NotRequired[str | None]
    attachments: NotRequired[list[Attachment] | None]
    payment_token: str
    customer: NotRequired[str | None]


class CartCheckout(TypedDict):
    """A checkout of what is in a cart, at the catalogue's prices."""

    cart: str
    payment_token: str
    buyer: Buyer
    order_id: NotRequired[str]
    customer: NotRequired[str | None]
    note: NotRequired[str | None]
    totals: NotRequired[Totals | None]


class OrderCreditNote(TypedDict):
    """A credit note, in short; `link` is its document."""

    link: str
    number: str
    refund_id: str
    status: str


class ParcelView(TypedDict):
    """What a shipment is sent as; texts that were not given are empty."""

    carrier: str
    tracking_number: str
    tracking_url: str


Step = TypedDict(
    "Step",
    {
        "at": str,
        "detail": str,
        "from": str | None,
        "parcel": NotRequired[ParcelView],
        "reason": str,
        "to": str,
        "version": int,
    },
)


class OrderInvoice(TypedDict):
    """The order's invoice, in short."""

    link: str
    number: str
    status: str


class OrderLine(TypedDict):
    """A line, and how many of its pieces were refunded; `stock` is false where it claimed none."""

    description: str
    line: int
    quantity: int
    refunded: int
    sku: str
    stock: NotRequired[bool]
    unit_price: str
    vat_category: str
    vat_rate: str


class OrderLinks(TypedDict):
    """Where the order is, and its invoice."""

    invoice: str
    self: str


class OrderShapesPayment(TypedDict):
    """Where the money is; `reason` is the provider's."""

    authorized: str
    captured: str
    reason: str | None
    refunded: str
    status: str


class RefundedLine(TypedDict):
    """Pieces of a line."""

    line: int
    quantity: int


class Refund(TypedDict):
    """A refund; `credit_note` is its number, once it has one; a failed one has `provider_reason`. `origin` is
    `request`, or `provider` if it was made in the payment provider's dashboard."""

    amount: str
    credit_note: str | None
    lines: list[RefundedLine]
    origin: str
    provider_reason: str | None
    reason: str
    refund_id: str
    requested_at: str
    state: str


class ShortSku(TypedDict):
    """A SKU of which there was not enough."""

    free: int
    sku: str
    wanted: int


class OrderTotals(TypedDict):
    """Amounts, as decimal texts."""

    gross: str
    net: str
    tax: str


class UncreditedRefund(TypedDict):
    """A refund made in the payment provider's dashboard that has no credit note; `reason` says why, in words."""

    amount: str
    currency: str
    provider_refund: str
    reason: str


class OrderView(TypedDict):
    """An order that was decided, in full; a guest's has no customer."""

    conflicts: NotRequired[list[ConflictView]]
    credit_notes: list[OrderCreditNote]
    currency: str
    customer: str | None
    history: list[Step]
    hold_expires_at: NotRequired[str]
    invoice: OrderInvoice | None
    lines: list[OrderLine]
    links: OrderLinks
    order_id: str
    payment: OrderShapesPayment | None
    placed_at: str
    refunds: list[Refund]
    short: NotRequired[list[ShortSku]]
    state: str
    totals: OrderTotals
    uncredited_refunds: NotRequired[list[UncreditedRefund]]
    version: int


class SelfLink(TypedDict):
    """Where the order is."""

    self: str


class AcceptedOrder(TypedDict):
    """An accepted order that is not decided yet."""

    links: SelfLink
    order_id: str
    state: str


class CartLineView(TypedDict):
    """A line: the price that the buyer has seen, and the one of now, null if it is not sold or nobody can say."""

    available: int | None
    name: str | None
    product_id: str
    quantity: int
    sku: str
    unit_price: str
    unit_price_now: str | None


class CartView(TypedDict):
    """A cart; `order_id` is the order that it is checked out as."""

    cart_id: str
    currency: str | None
    lines: list[CartLineView]
    order_id: str | None
    prices_include_tax: bool | None
    state: str
    version: int


class CartLineChange(TypedDict):
    """How many pieces of a product's SKU."""

    product_id: str
    quantity: int


class CartMerge(TypedDict):
    """Whose lines are added."""

    source: str


class MergeConflictView(TypedDict):
    """A line of which fewer pieces were added than wanted."""

    quantity: int
    sku: str
    wanted: int


class MergedCart(TypedDict):
    """The cart after a merge."""

    cart: CartView
    conflicts: list[MergeConflictView]


class OrderSummary(TypedDict):
    """An order in a list; a guest's has no customer."""

    currency: str
    customer: str | None
    links: SelfLink
    order_id: str
    placed_at: str
    state: str
    totals: OrderTotals


class OrderList(TypedDict):
    """A page of a customer's orders."""

    next: str | None
    orders: list[OrderSummary]


class WaitingOrder(TypedDict):
    """An order on the waitlist; place 1 is next. It is accepted only once it gets stock."""

    links: SelfLink
    order_id: str
    state: str
    waitlist_position: int


class RejectedOrder(TypedDict):
    """A request that became no order."""

    detail: str
    links: SelfLink
    order_id: str
    reason: str
    rejected_at: str
    state: str


class ParcelBody(TypedDict):
    """What a shipment is sent as; buyers are shown it. It names a carrier or a tracking number."""

    carrier: NotRequired[str]
    tracking_number: NotRequired[str]
    tracking_url: NotRequired[str]


class ShipCommand(TypedDict):
    """The body of a shipment."""

    reason: NotRequired[str | None]
    parcel: NotRequired[ParcelBody | None]


class AcceptedCommand(TypedDict):
    """A command that is accepted, and not answered yet."""

    action: str
    links: SelfLink
    order_id: str
    status: str


class PlainCommand(TypedDict):
    """The body of a command; `reason` is shown in the order's history."""

    reason: NotRequired[str | None]


class RefundLine(TypedDict):
    """Pieces of one line of the order; the first line is 0."""

    line: int
    quantity: int


class RefundCommand(TypedDict):
    """The body of a refund; without lines and amount it is for all that is left."""

    reason: NotRequired[str | None]
    refund_id: NotRequired[str]
    lines: NotRequired[list[RefundLine] | None]
    amount: NotRequired[str | None]


class StockLevel(TypedDict):
    """A SKU's stock."""

    available: int
    on_hand: int
    reserved: int
    sku: str
    version: int


class StockList(TypedDict):
    """A page of a seller's stock."""

    next: str | None
    stock: list[StockLevel]


class StockChange(TypedDict):
    """Either the pieces that are there, or an adjustment and its key."""

    on_hand: NotRequired[int]
    adjust: NotRequired[int]
    key: NotRequired[str]


class ProductAttributeView(TypedDict):
    """A property by its name."""

    name: str
    value: str


class ProductImageView(TypedDict):
    """A picture."""

    alt: str
    url: str


class ProductTextView(TypedDict):
    """A product in one language."""

    description: str
    language: str
    name: str


class ProductVariantView(TypedDict):
    """What is sold: one SKU and its price."""

    attributes: list[ProductAttributeView]
    sku: str
    unit_price: str


class ProductView(TypedDict):
    """A product."""

    attributes: list[ProductAttributeView]
    brand: str
    categories: list[str]
    currency: str
    images: list[ProductImageView]
    prices_include_tax: bool
    product_id: str
    texts: list[ProductTextView]
    variants: list[ProductVariantView]
    vat_category: str
    vat_rate: str
    version: int


class ProductList(TypedDict):
    """A page of a seller's products."""

    next: str | None
    products: list[ProductView]


class ProductText(TypedDict):
    """A product in one language."""

    language: str
    name: str
    description: NotRequired[str]


class ProductAttribute(TypedDict):
    """A property by its name."""

    name: str
    value: str


class ProductVariant(TypedDict):
    """What is sold: one SKU and its price."""

    sku: str
    unit_price: str
    attributes: NotRequired[list[ProductAttribute]]


class ProductImage(TypedDict):
    """A picture, and what it shows for those who do not see it."""

    url: str
    alt: NotRequired[str]


class ProductBody(TypedDict):
    """All of a product but its id."""

    texts: list[ProductText]
    currency: str
    vat_category: Literal["S", "Z", "E", "AE", "K", "G", "O", "L", "M"]
    vat_rate: str
    variants: list[ProductVariant]
    prices_include_tax: NotRequired[bool]
    brand: NotRequired[str]
    categories: NotRequired[list[str]]
    attributes: NotRequired[list[ProductAttribute]]
    images: NotRequired[list[ProductImage]]


class ProductRating(TypedDict):
    """How published reviews rate all SKUs of a product: the average has two decimals, and is null without reviews."""

    average: str | None
    count: int


class CatalogueProduct(TypedDict):
    """A product as buyers see it; `in_stock` has the SKUs of which there are pieces, null where that is not known."""

    attributes: list[ProductAttributeView]
    brand: str
    categories: list[str]
    currency: str
    images: list[ProductImageView]
    in_stock: list[str] | None
    prices_include_tax: bool
    product_id: str
    rating: ProductRating
    texts: list[ProductTextView]
    variants: list[ProductVariantView]
    vat_category: str
    vat_rate: str
    version: int


class CatalogueList(TypedDict):
    """A page of a catalogue."""

    next: str | None
    products: list[CatalogueProduct]


class FacetCount(TypedDict):
    """A value that a question can be narrowed to, and how many products there are then."""

    count: int
    value: str


class PriceBand(TypedDict):
    """Products of a currency from a price on, below another one; null without an end."""

    count: int
    currency: str
    price_max: str | None
    price_min: str


class SearchFacets(TypedDict):
    """How products are spread. Each facet ignores its own filter, so that another value can be chosen."""

    brands: list[FacetCount]
    categories: list[FacetCount]
    currencies: list[FacetCount]
    prices: list[PriceBand]


class SearchImage(TypedDict):
    """A product's main picture."""

    alt: str
    url: str


class SearchRating(TypedDict):
    """Published reviews of all variants; the average has two decimals."""

    average: str
    count: int


class SearchHit(TypedDict):
    """A product that was found. `name_html` and `snippet_html` are escaped, with `<mark>` around what matched."""

    brand: str
    currency: str
    image: SearchImage | None
    in_stock: list[str]
    language: str
    name: str
    name_html: str
    price: str
    price_to: str
    prices_include_tax: bool
    product_id: str
    rating: SearchRating | None
    snippet_html: str
    version: int


class SearchPage(TypedDict):
    """A page of what was found."""

    facets: SearchFacets
    hits: list[SearchHit]
    match: str
    next: str | None
    total: int


class SynonymGroupView(TypedDict):
    """Words that mean the same; or, with `also_finds`, words whose question finds these as well."""

    also_finds: list[str]
    words: list[str]


class SynonymsView(TypedDict):
    """All synonyms of a seller; version 0 before the first change."""

    groups: list[SynonymGroupView]
    version: int


class SynonymGroup(TypedDict):
    """Words that mean the same; or, with `also_finds`, words whose question finds these as well."""

    words: list[str]
    also_finds: NotRequired[list[str]]


class SynonymsBody(TypedDict):
    """All synonyms of a seller."""

    groups: list[SynonymGroup]


class ReviewView(TypedDict):
    """A review; only a published one may be shown. A withdrawn one has 0 stars and no words."""

    author: str
    body: str
    changed_at: str
    line: int
    order_id: str
    reason: str
    sku: str
    stars: int
    state: str
    title: str
    version: int
    written_at: str


class ReviewBody(TypedDict):
    """What a buyer says of a line of an order that was delivered."""

    stars: int
    title: NotRequired[str]
    body: NotRequired[str]
    author: NotRequired[str]
    customer: NotRequired[str]


class ModerationBody(TypedDict):
    """What the shop decides about a review; `version` is the one that was read."""

    action: Literal["approve", "reject"]
    version: int
    reason: NotRequired[str]


class ReviewList(TypedDict):
    """A page of reviews."""

    next: str | None
    reviews: list[ReviewView]


class Stars(TypedDict):
    """Published reviews by their stars."""

    five: int
    four: int
    one: int
    three: int
    two: int


class RatingView(TypedDict):
    """How the published reviews of an article rate it; the average has two decimals, and is null without any."""

    average: str | None
    count: int
    sku: str
    stars: Stars


class SalesAmounts(TypedDict):
    """Of one currency, in decimal text; `revenue` is what was confirmed, less what was voided."""

    captured: str
    credited: str
    currency: str
    invoiced: str
    placed: str
    refunded: str
    revenue: str


class SalesFigures(TypedDict):
    """What was counted in a part of time. `conversion` is the part of the orders placed or refused that was confirmed.
    It is null without any."""

    amounts: list[SalesAmounts]
    cancelled: int
    captures: int
    confirmed: int
    conversion: str | None
    credit_notes: int
    declined: int
    invoices: int
    placed: int
    refunds: int
    refused: int
    voided: int


class SalesStep(TypedDict):
    """A step of a series: from `at` to the next step's."""

    at: str
    figures: SalesFigures


class SalesSeries(TypedDict):
    """A series, and its totals. `counted_since` is null if every event there ever was is counted."""

    counted_since: str | None
    since: str
    step: str
    steps: list[SalesStep]
    totals: SalesFigures
    until: str
    zone: str


class SkuNet(TypedDict):
    """Invoiced less credited, without tax."""

    currency: str
    net: str


class SkuSalesView(TypedDict):
    """A SKU. `cover_days`: how long what is available lasts, at the rate of the last 7 days; null if none was sold."""

    amounts: list[SkuNet]
    available: int | None
    cover_days: str | None
    on_hand: int | None
    sku: str
    sold: int
    sold_in_7_days: int


class SkuSalesList(TypedDict):
    """SKUs, those first that were asked for first."""

    counted_since: str | None
    since: str
    skus: list[SkuSalesView]
    until: str
    zone: str


class EndpointView(TypedDict):
    """An endpoint; `public_key` verifies v1a signatures."""

    created_at: str
    description: str
    disabled_reason: str | None
    events: list[str]
    failing_since: str | None
    id: str
    state: str
    url: str


class EndpointList(TypedDict):
    """The seller's endpoints, and every type of event with its meaning."""

    endpoints: list[EndpointView]
    event_types: dict[str, str]


class NewEndpoint(TypedDict):
    """Where webhooks are sent; without `events`, all of them."""

    url: str
    events: NotRequired[list[str]]
    description: NotRequired[str]


class CreatedEndpoint(TypedDict):
    """A new endpoint, with what its deliveries are verified with."""

    created_at: str
    description: str
    disabled_reason: str | None
    events: list[str]
    failing_since: str | None
    id: str
    public_key: str
    secret: str
    state: str
    url: str


class EndpointChange(TypedDict):
    """What is to be different; what is left out stays."""

    url: NotRequired[str]
    events: NotRequired[list[str]]
    description: NotRequired[str]
    state: NotRequired[Literal["active", "paused"]]


class EndpointSecrets(TypedDict):
    """What deliveries are verified with: `secret` for v1 signatures, `public_key` for v1a."""

    public_key: str
    secret: str


class TestSent(TypedDict):
    """The delivery that was written."""

    delivery_id: str


class DeliveryView(TypedDict):
    """A delivery; `status` and `error` are of its last try, `bounced_at` and `bounce` of a mail that came back."""

    attempts: int
    bounce: str | None
    bounced_at: str | None
    created_at: str
    error: str | None
    finished_at: str | None
    id: str
    next_try_at: str | None
    order_id: str | None
    sequence: int
    state: str
    status: int | None
    type: str


class DeliveryList(TypedDict):
    """A page of deliveries."""

    deliveries: list[DeliveryView]
    next: str | None


class AttemptView(TypedDict):
    """A try: without a status, `error` says why no answer came; `answer` is the beginning of the answer's body."""

    answer: str
    at: str
    error: str | None
    seconds: float
    status: int | None
    url: str


class DeliveryDetailsView(TypedDict):
    """A delivery with what is sent, and its tries, oldest first."""

    attempts: int
    bounce: str | None
    bounced_at: str | None
    created_at: str
    error: str | None
    finished_at: str | None
    id: str
    next_try_at: str | None
    order_id: str | None
    payload: str
    sequence: int
    state: str
    status: int | None
    tries: list[AttemptView]
    type: str


class ReplayRequest(TypedDict):
    """Which finished deliveries are sent again: those that meet every condition; a dry run only counts them."""

    delivery_ids: NotRequired[list[str]]
    order_id: NotRequired[str]
    state: NotRequired[Literal["delivered", "dead", "bounced"]]
    since: NotRequired[str]
    until: NotRequired[str]
    dry_run: NotRequired[bool]


class Replayed(TypedDict):
    """How many deliveries are sent again, or with a dry run would be."""

    count: int
    dry_run: bool


class EmailSettingsView(TypedDict):
    """The settings, `failing_since` while no mail can be handed over, and every type of mail with its meaning."""

    created_at: str
    documents: str
    event_types: dict[str, str]
    events: list[str]
    failing_since: str | None
    reply_to: str
    sender: str
    state: str


class EmailRequest(TypedDict):
    """Who e-mail comes from, and what is sent: without `events`, everything; `documents` are attached or linked."""

    sender: str
    reply_to: NotRequired[str]
    events: NotRequired[list[str]]
    documents: NotRequired[Literal["attached", "link"]]
    state: NotRequired[Literal["active", "paused"]]


class EmailTestRequest(TypedDict):
    """Where a test mail goes."""

    to: str


class BounceRequest(TypedDict):
    """A mail that came back: its `Message-ID`, why, and whether for good."""

    message_id: str
    reason: str
    permanent: bool


class Problem(TypedDict):
    """An RFC 9457 error; some kinds have more members. `type` never changes, `field` is the offending field's path."""

    detail: str
    field: NotRequired[str]
    status: int
    title: str
    type: str
