"""What few requests say, as JSON and as records: terms, parties, allowances, and the rest of EN 16931.

In JSON all of it stands beside the other fields. In records it is one record, absent in most requests, since each
absent field would cost as much as one that is there.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Annotated, Any, TypeVar, cast

from msgspec import UNSET, Struct, UnsetType

from domain import records
from domain.codes import ALLOWANCE_REASONS, CHARGE_REASONS, ELECTRONIC_ADDRESSES, EXEMPTIONS, PAYMENT_MEANS
from domain.iso import COUNTRIES, CURRENCY_EXPONENTS
from domain.money import DECIMAL, unsigned_zero
from domain.terms import (
    ALLOWANCES_MAX,
    ATTACHMENTS_MAX,
    LINE_ALLOWANCES_MAX,
    NOTES_MAX,
    PRECEDING_INVOICES_MAX,
    VAT_CATEGORIES,
)
from domain.texts import LONG_CHARS_MAX, SHORT_CHARS_MAX, TEXT_CHARS_MAX, in_lines, in_one_line
from gateway.http.openapi import described, limits, whole

_CHARS = TEXT_CHARS_MAX
_Record = TypeVar("_Record")
Absent = UnsetType | None
Decimal = Annotated[str, limits(pattern=whole(DECIMAL))]
_Text = Annotated[str, limits(maxLength=SHORT_CHARS_MAX)]
_Lines = Annotated[str, limits(maxLength=LONG_CHARS_MAX)]
_Day = Annotated[str, limits(format="date")]
_Category = Annotated[str, limits(enum=list(VAT_CATEGORIES))]


class Extra(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A part of a request that few have: every field may be left out or null."""


class Identifier(Extra, frozen=True, kw_only=True):
    """An identifier and its scheme: ISO 6523 of a legal identifier, EAS of an electronic address."""

    id: Annotated[str, limits(minLength=1, maxLength=SHORT_CHARS_MAX)]
    scheme: Annotated[str, described("ISO 6523 or EAS code.")] | Absent = UNSET


class ElectronicAddress(Extra, frozen=True, kw_only=True):
    """Where e-invoices go."""

    id: Annotated[str, limits(minLength=1, maxLength=SHORT_CHARS_MAX)]
    scheme: Annotated[str, limits(enum=sorted(ELECTRONIC_ADDRESSES))]


class Contact(Extra, frozen=True, kw_only=True):
    """Whom to ask."""

    name: Annotated[_Text, described("BT-41, BT-56.")] | Absent = UNSET
    phone: Annotated[_Text, described("BT-42, BT-57.")] | Absent = UNSET
    email: Annotated[_Text, described("BT-43, BT-58.")] | Absent = UNSET


class LineAllowance(Extra, frozen=True, kw_only=True):
    """An allowance of a line: an amount, or a percentage of quantity x price (BG-27)."""

    amount: Annotated[Decimal, described("BT-136.")] | Absent = UNSET
    percent: Annotated[Decimal, described("BT-138.")] | Absent = UNSET
    base_amount: Annotated[Decimal, described("BT-137.")] | Absent = UNSET
    reason: Annotated[_Text, described("BT-139.")] | Absent = UNSET
    reason_code: Annotated[str, limits(enum=sorted(ALLOWANCE_REASONS)), described("UNCL5189, BT-140.")] | Absent = UNSET


class LineCharge(Extra, frozen=True, kw_only=True):
    """A charge on a line: an amount, or a percentage of quantity x price (BG-28)."""

    amount: Annotated[Decimal, described("BT-141.")] | Absent = UNSET
    percent: Annotated[Decimal, described("BT-143.")] | Absent = UNSET
    base_amount: Annotated[Decimal, described("BT-142.")] | Absent = UNSET
    reason: Annotated[_Text, described("BT-144.")] | Absent = UNSET
    reason_code: Annotated[str, limits(enum=sorted(CHARGE_REASONS)), described("UNCL7161, BT-145.")] | Absent = UNSET


class DocumentAllowance(Extra, frozen=True, kw_only=True):
    """An allowance of the whole document: an amount, or a percentage of the lines of its category and rate (BG-20)."""

    vat_category: Annotated[_Category, described("BT-95.")]
    vat_rate: Annotated[Decimal, described("BT-96.")]
    amount: Annotated[Decimal, described("BT-92.")] | Absent = UNSET
    percent: Annotated[Decimal, described("BT-94.")] | Absent = UNSET
    base_amount: Annotated[Decimal, described("BT-93.")] | Absent = UNSET
    reason: Annotated[_Text, described("BT-97.")] | Absent = UNSET
    reason_code: Annotated[str, limits(enum=sorted(ALLOWANCE_REASONS)), described("UNCL5189, BT-98.")] | Absent = UNSET


class DocumentCharge(Extra, frozen=True, kw_only=True):
    """A charge on the whole document: an amount, or a percentage of the lines of its category and rate (BG-21)."""

    vat_category: Annotated[_Category, described("BT-102.")]
    vat_rate: Annotated[Decimal, described("BT-103.")]
    amount: Annotated[Decimal, described("BT-99.")] | Absent = UNSET
    percent: Annotated[Decimal, described("BT-101.")] | Absent = UNSET
    base_amount: Annotated[Decimal, described("BT-100.")] | Absent = UNSET
    reason: Annotated[_Text, described("BT-104.")] | Absent = UNSET
    reason_code: Annotated[str, limits(enum=sorted(CHARGE_REASONS)), described("UNCL7161, BT-105.")] | Absent = UNSET


class Period(Extra, frozen=True, kw_only=True):
    """From and to which day."""

    start: Annotated[_Day, described("BT-73, BT-134.")] | Absent = UNSET
    end: Annotated[_Day, described("BT-74, BT-135.")] | Absent = UNSET


class Accounting(Extra, frozen=True, kw_only=True):
    """The seller's currency for tax: the total tax is stated in it too (BT-111)."""

    currency: Annotated[str, limits(enum=sorted(CURRENCY_EXPONENTS)), described("BT-6.")]
    exchange_rate: Annotated[Decimal, described("So much of it is one of the invoice's currency.")]


class Exemption(Extra, frozen=True, kw_only=True):
    """Why a category has no tax."""

    vat_category: _Category
    code: Annotated[str, limits(enum=sorted(EXEMPTIONS)), described("VATEX, BT-121.")] | Absent = UNSET
    reason: Annotated[str, limits(maxLength=500), described("BT-120.")] | Absent = UNSET


class Payment(Extra, frozen=True, kw_only=True):
    """When and how it is paid, or was."""

    due_date: Annotated[_Day, described("BT-9.")] | Absent = UNSET
    terms: Annotated[_Lines, described("BT-20.")] | Absent = UNSET
    means: Annotated[str, limits(enum=sorted(PAYMENT_MEANS)), described("UNCL4461, BT-81.")] | Absent = UNSET
    means_text: Annotated[_Text, described("BT-82.")] | Absent = UNSET
    iban: Annotated[str, described("Account to pay into, BT-84.")] | Absent = UNSET
    bic: Annotated[str, described("BT-86.")] | Absent = UNSET
    account_name: Annotated[_Text, described("BT-85.")] | Absent = UNSET
    card_last_digits: Annotated[str, described("4 to 6 digits, BT-87.")] | Absent = UNSET
    mandate: Annotated[_Text, described("Of a direct debit, BT-89.")] | Absent = UNSET
    creditor_id: Annotated[str, described("BT-90.")] | Absent = UNSET
    debited_iban: Annotated[str, described("BT-91.")] | Absent = UNSET
    remittance: Annotated[_Text, described("Text to pay under, BT-83.")] | Absent = UNSET
    paid_at: Annotated[_Day, described("The day on which it was paid.")] | Absent = UNSET


class DeliveryAddress(Extra, frozen=True, kw_only=True):
    """Where it was delivered."""

    country: Annotated[str, limits(enum=sorted(COUNTRIES)), described("BT-80.")]
    street: Annotated[str, limits(maxLength=_CHARS["buyer.address.street"]), described("BT-75.")] | Absent = UNSET
    line2: Annotated[_Text, described("BT-76.")] | Absent = UNSET
    line3: Annotated[_Text, described("BT-165.")] | Absent = UNSET
    city: Annotated[str, limits(maxLength=_CHARS["buyer.address.city"]), described("BT-77.")] | Absent = UNSET
    postal_code: Annotated[str, limits(maxLength=_CHARS["buyer.address.postal_code"]), described("BT-78.")] | Absent = (
        UNSET
    )
    subdivision: Annotated[_Text, described("BT-79.")] | Absent = UNSET


class Delivery(Extra, frozen=True, kw_only=True):
    """Where and when it was delivered."""

    date: Annotated[_Day, described("BT-72.")] | Absent = UNSET
    name: Annotated[_Text, described("BT-70.")] | Absent = UNSET
    location_id: Annotated[_Text, described("BT-71.")] | Absent = UNSET
    address: DeliveryAddress | Absent = UNSET


class References(Extra, frozen=True, kw_only=True):
    """Documents that the invoice refers to."""

    buyer_reference: Annotated[_Text, described("BT-10.")] | Absent = UNSET
    project: Annotated[_Text, described("BT-11.")] | Absent = UNSET
    contract: Annotated[_Text, described("BT-12.")] | Absent = UNSET
    purchase_order: Annotated[_Text, described("BT-13.")] | Absent = UNSET
    sales_order: Annotated[_Text, described("BT-14.")] | Absent = UNSET
    receiving_advice: Annotated[_Text, described("BT-15.")] | Absent = UNSET
    despatch_advice: Annotated[_Text, described("BT-16.")] | Absent = UNSET
    tender: Annotated[_Text, described("BT-17.")] | Absent = UNSET


class PrecedingInvoice(Extra, frozen=True, kw_only=True):
    """An earlier invoice."""

    number: Annotated[str, limits(minLength=1, maxLength=SHORT_CHARS_MAX), described("BT-25.")]
    issue_date: Annotated[_Day, described("BT-26.")] | Absent = UNSET


class Note(Extra, frozen=True, kw_only=True):
    """A note with its subject."""

    text: Annotated[str, limits(minLength=1, maxLength=LONG_CHARS_MAX), described("BT-22.")]
    subject_code: Annotated[str, limits(pattern="^[A-Z]{3}$"), described("UNCL4451, BT-21.")] | Absent = UNSET


class Attachment(Extra, frozen=True, kw_only=True):
    """A document elsewhere."""

    name: Annotated[str, limits(minLength=1, maxLength=SHORT_CHARS_MAX), described("BT-122.")]
    description: Annotated[_Text, described("BT-123.")] | Absent = UNSET
    url: Annotated[str, limits(maxLength=LONG_CHARS_MAX), described("BT-124.")] | Absent = UNSET


class LineExtras(Extra, frozen=True, kw_only=True):
    """What few lines have."""

    unit: Annotated[str, described("UN/ECE Recommendation 20 or 21 code, BT-130.")] | Absent = UNSET
    base_quantity: Annotated[Decimal, described("The unit price is for so many, BT-149.")] | Absent = UNSET
    gross_price: Annotated[Decimal, described("Unit price before its discount, BT-148.")] | Absent = UNSET
    price_discount: Annotated[Decimal, described("BT-147.")] | Absent = UNSET
    allowances: Annotated[list[LineAllowance], limits(maxItems=LINE_ALLOWANCES_MAX)] | Absent = UNSET
    charges: Annotated[list[LineCharge], limits(maxItems=LINE_ALLOWANCES_MAX)] | Absent = UNSET
    period: Period | Absent = UNSET
    note: Annotated[_Lines, described("BT-127.")] | Absent = UNSET
    order_line: Annotated[_Text, described("Line of the buyer's order, BT-132.")] | Absent = UNSET
    buyer_item_id: Annotated[_Text, described("BT-156.")] | Absent = UNSET
    stock: Annotated[bool, described("False for what claims no stock, such as shipping.")] | Absent = UNSET


class PartyExtras(Extra, frozen=True, kw_only=True):
    """What few parties have."""

    trading_name: Annotated[_Text, described("BT-45.")] | Absent = UNSET
    legal_id: Annotated[Identifier, described("Such as a SIREN, BT-47.")] | Absent = UNSET
    electronic_address: Annotated[ElectronicAddress, described("BT-49.")] | Absent = UNSET
    contact: Annotated[Contact, described("BG-9.")] | Absent = UNSET


class InvoiceExtras(Extra, frozen=True, kw_only=True):
    """What few invoices have."""

    prices_include_tax: Annotated[bool, described("Prices, allowances and charges hold the tax.")] | Absent = UNSET
    allowances: Annotated[list[DocumentAllowance], limits(maxItems=ALLOWANCES_MAX)] | Absent = UNSET
    charges: Annotated[list[DocumentCharge], limits(maxItems=ALLOWANCES_MAX)] | Absent = UNSET
    rounding_amount: Annotated[Decimal, described("BT-114.")] | Absent = UNSET
    prepaid_amount: Annotated[Decimal, described("BT-113.")] | Absent = UNSET
    accounting: Accounting | Absent = UNSET
    exemptions: Annotated[list[Exemption], limits(maxItems=len(VAT_CATEGORIES))] | Absent = UNSET
    payment: Payment | Absent = UNSET
    tax_point_date: Annotated[_Day, described("BT-7.")] | Absent = UNSET
    period: Annotated[Period, described("BG-14.")] | Absent = UNSET
    delivery: Delivery | Absent = UNSET
    references: References | Absent = UNSET
    preceding_invoices: Annotated[list[PrecedingInvoice], limits(maxItems=PRECEDING_INVOICES_MAX)] | Absent = UNSET
    notes: Annotated[list[Note], limits(maxItems=NOTES_MAX)] | Absent = UNSET
    language: Annotated[str, described("Of the document: BCP 47, such as pt-BR.")] | Absent = UNSET
    attachments: Annotated[list[Attachment], limits(maxItems=ATTACHMENTS_MAX)] | Absent = UNSET


#: Fields of texts that keep their line breaks; in all others each becomes a space.
_IN_LINES = frozenset({"terms", "text", "note", "street"})
_DECIMALS = frozenset(
    {"amount", "percent", "base_amount", "vat_rate", "rounding_amount", "prepaid_amount", "exchange_rate"}
    | {"base_quantity", "gross_price", "price_discount"}
)
_Parts = Sequence[Extra] | Absent
_of_line = attrgetter(*LineExtras.__struct_fields__)
_of_party = attrgetter(*PartyExtras.__struct_fields__)
_of_invoice = attrgetter(*InvoiceExtras.__struct_fields__)
_NO_LINE = (UNSET,) * len(LineExtras.__struct_fields__)
_NO_PARTY = (UNSET,) * len(PartyExtras.__struct_fields__)
_NO_INVOICE = (UNSET,) * len(InvoiceExtras.__struct_fields__)


def line_details(line: LineExtras) -> records.LineDetails | None:
    """What few lines say; None if this one says none of it."""
    if _of_line(line) == _NO_LINE:
        return None
    texts = ("unit", "base_quantity", "gross_price", "price_discount", "note", "order_line", "buyer_item_id")
    details: records.LineDetails = {
        **_texts(line, texts),  # type: ignore[typeddict-item]
        "allowances": _allowances(line.allowances),
        "charges": _allowances(line.charges),
        "period": _part(line.period, records.Period),
        # True is what all others are.
        "stock": False if line.stock is False else None,
    }
    return details if _says(details) else None


def party_details(party: PartyExtras) -> records.PartyDetails | None:
    """What few parties say; None if this one says none of it."""
    if _of_party(party) == _NO_PARTY:
        return None
    details: records.PartyDetails = {
        "trading_name": in_one_line(party.trading_name or ""),
        "legal_id": _part(party.legal_id, records.Identifier),
        "electronic_address": _part(party.electronic_address, records.Identifier),
        "contact": _part(party.contact, records.Contact),
    }
    return details if _says(details) else None


def invoice_details(request: InvoiceExtras) -> records.InvoiceDetails | None:
    """What few invoices say; None if this one says none of it."""
    if _of_invoice(request) == _NO_INVOICE:
        return None
    texts = ("rounding_amount", "prepaid_amount", "tax_point_date", "language")
    details: records.InvoiceDetails = {
        **_texts(request, texts),  # type: ignore[typeddict-item]
        "prices_include_tax": True if request.prices_include_tax is True else None,
        "allowances": _allowances(request.allowances),
        "charges": _allowances(request.charges),
        "accounting": _part(request.accounting, records.Accounting),
        "exemptions": _parts(request.exemptions, records.Exemption),
        "payment": _part(request.payment, records.Payment),
        "period": _part(request.period, records.Period),
        "delivery": _delivery(request.delivery),
        "references": _part(request.references, records.References),
        "preceding_invoices": _parts(request.preceding_invoices, records.PrecedingInvoice),
        "notes": _parts(request.notes, records.Note),
        "attachments": _parts(request.attachments, records.Attachment),
    }
    return details if _says(details) else None


def _delivery(delivery: Delivery | Absent) -> records.Delivery | None:
    if not isinstance(delivery, Delivery):
        return None
    its: records.Delivery = {
        **_texts(delivery, ("date", "name", "location_id")),  # type: ignore[typeddict-item]
        "address": _part(delivery.address, records.Address),
    }
    return its if _says(its) else None


def _allowances(given: _Parts) -> list[records.Allowance]:
    names = tuple(records.Allowance.__annotations__)
    return [cast(records.Allowance, _texts(each, names)) for each in given or ()]


def _parts(given: _Parts, record: type[_Record]) -> list[_Record]:
    return [cast(_Record, _texts(each, tuple(record.__annotations__))) for each in given or ()]


def _part(given: Extra | Absent, record: type[_Record]) -> _Record | None:
    """A record of texts; None if all of them are empty."""
    if not isinstance(given, Extra):
        return None
    texts = _texts(given, tuple(record.__annotations__))
    return cast(_Record, texts) if _says(texts) else None


def _texts(given: Extra, names: Sequence[str]) -> dict[str, str]:
    return {name: _text(name, getattr(given, name, None) or "") for name in names}


def _text(name: str, text: str) -> str:
    if name in _DECIMALS:
        return unsigned_zero(text)
    return in_lines(text) if name in _IN_LINES else in_one_line(text)


def _says(record: Any) -> bool:
    # False is said: a line without stock.
    return any(value is False or bool(value) for value in record.values())
