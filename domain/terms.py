"""What few requests say, checked field by field: terms, parties, allowances, and all that EN 16931 knows besides lines.

The path of a field in a refusal is that of the JSON request, where all of it stands beside the other fields.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from domain.codes import (
    ALLOWANCE_REASONS,
    CHARGE_REASONS,
    ELECTRONIC_ADDRESSES,
    EXEMPTIONS,
    IDENTIFIERS,
    PAYMENT_MEANS,
    UNITS,
)
from domain.iso import COUNTRIES, CURRENCY_EXPONENTS
from domain.money import PRICE_DECIMALS, RATE_DECIMALS, RATE_MAX, SCALE_DECIMALS, NotDecimalError, minor, scaled
from domain.records import (
    Accounting,
    Address,
    Allowance,
    CreditNoteRequest,
    Delivery,
    InvoiceDetails,
    InvoiceLine,
    InvoiceRequest,
    LineDetails,
    PartyDetails,
    Payment,
    Period,
    RequestedLine,
)
from domain.refusals import INVALID_FIELD, Refusal
from domain.texts import (
    LONG_CHARS_MAX,
    TEXT_CHARS_MAX,
    check_date,
    check_lines,
    check_text,
    first_refusal,
    short_texts,
)

#: UNCL5305 codes that EN 16931 permits; True where the rate must be zero (BR-Z-5, BR-E-5, BR-AE-5, BR-IC-5, BR-G-5).
VAT_CATEGORIES: dict[str, bool] = {
    "S": False,
    "Z": True,
    "E": True,
    "AE": True,
    "K": True,
    "G": True,
    "O": True,
    "L": False,
    "M": False,
}
#: How many of each an invoice, or a line of it, may have.
ALLOWANCES_MAX = 100
LINE_ALLOWANCES_MAX = 20
NOTES_MAX = 20
ATTACHMENTS_MAX = 50
PRECEDING_INVOICES_MAX = 500

LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}", re.ASCII)
_SUBJECT_CODE = re.compile(r"[A-Z]{3}", re.ASCII)
_CARD_DIGITS = re.compile(r"[0-9]{4,6}", re.ASCII)
_CREDITOR_ID = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{1,31}", re.ASCII)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_URL = re.compile(r"https?://[^\s]+")
#: Decimal fields of a line, each with the most decimals.
_LINE_AMOUNTS = {"base_quantity": SCALE_DECIMALS, "gross_price": PRICE_DECIMALS, "price_discount": PRICE_DECIMALS}


def check_terms(request: InvoiceRequest | CreditNoteRequest) -> Refusal | None:
    """The first rule broken by what few requests say; None at once for all others."""
    details = request.get("details")
    buyer = request["buyer"]
    refusal = None
    if details is not None:
        refusal = first_refusal(_details(details, request["currency"]))
    if refusal is None and buyer.get("details"):
        refusal = first_refusal(check_party("buyer.", buyer["details"]))
    if refusal is None:
        refusal = check_address_lines("buyer.address.", buyer["address"])
    if refusal is not None:
        return refusal
    for index, line in enumerate(request["lines"]):
        its = line.get("details")
        if its is not None:
            refusal = first_refusal(_line(line, its, request["currency"]))
            if refusal is not None:
                return Refusal(refusal.reason, f"lines[{index}].{refusal.field}", refusal.detail)
    return None


def check_address_lines(path: str, address: Address) -> Refusal | None:
    """What few addresses have; their other fields are checked where they stand."""
    if not (address.get("line2") or address.get("line3") or address.get("subdivision")):
        return None
    return first_refusal(short_texts(path, address, "line2", "line3", "subdivision"))


def check_party(path: str, party: PartyDetails | None) -> Iterator[Refusal | None]:
    """Names and identifiers of a buyer or a seller; those of the paths begin with `path`."""
    if party is None:
        return
    yield from short_texts(path, party, "trading_name")
    for name, schemes, is_needed in (
        ("legal_id", IDENTIFIERS, False),
        ("electronic_address", ELECTRONIC_ADDRESSES, True),
    ):
        identifier = party["legal_id"] if name == "legal_id" else party["electronic_address"]
        if identifier is None:
            continue
        yield check_text(f"{path}{name}.id", identifier["id"], 200, required=True)
        if (is_needed or identifier["scheme"]) and identifier["scheme"] not in schemes:
            rule = "BR-CL-25" if is_needed else "BR-CL-11"
            yield _invalid(f"{path}{name}.scheme", f"must be a code of the list of {rule}, such as {min(schemes)}")
    contact = party["contact"]
    if contact is not None:
        yield from short_texts(f"{path}contact.", contact, "name", "phone", "email")
        if contact["email"] and _EMAIL.fullmatch(contact["email"]) is None:
            yield _invalid(f"{path}contact.email", "must be an e-mail address, such as zoe@example.com")


def check_payment(path: str, payment: Payment) -> Iterator[Refusal | None]:
    """When and how it is paid."""
    yield check_date(f"{path}due_date", payment["due_date"])
    yield check_date(f"{path}paid_at", payment["paid_at"])
    yield check_lines(f"{path}terms", payment["terms"], LONG_CHARS_MAX)
    yield from short_texts(path, payment, "means_text", "account_name", "mandate", "remittance")
    if payment["means"] and payment["means"] not in PAYMENT_MEANS:
        yield _invalid(f"{path}means", "must be a UNCL4461 code, such as 58 for a SEPA transfer (BR-CL-16)")
    for name in ("iban", "debited_iban"):
        text = payment["iban"] if name == "iban" else payment["debited_iban"]
        if text:
            yield _check_iban(f"{path}{name}", text)
    if payment["bic"]:
        yield _check_bic(f"{path}bic", payment["bic"])
    if payment["card_last_digits"] and _CARD_DIGITS.fullmatch(payment["card_last_digits"]) is None:
        yield _invalid(f"{path}card_last_digits", "must be the last 4 to 6 digits of the card's number (BR-51)")
    if payment["creditor_id"] and _CREDITOR_ID.fullmatch(payment["creditor_id"]) is None:
        yield _invalid(f"{path}creditor_id", "must be a SEPA creditor identifier, such as DE98ZZZ09999999999")
    if payment["means"] in ("30", "58") and not payment["iban"]:
        yield _invalid(f"{path}iban", "must be given for a credit transfer (BR-61)")


def _details(details: InvoiceDetails, currency: str) -> Iterator[Refusal | None]:
    for name, allowances, codes in (
        ("allowances", details["allowances"], ALLOWANCE_REASONS),
        ("charges", details["charges"], CHARGE_REASONS),
    ):
        yield from _allowances(name, allowances, currency, codes, ALLOWANCES_MAX)
        for index, each in enumerate(allowances):
            yield from check_category(f"{name}[{index}].", each["vat_category"], each["vat_rate"])
    yield _check_amount("rounding_amount", details["rounding_amount"], currency)
    yield _check_amount("prepaid_amount", details["prepaid_amount"], currency)
    yield from _accounting(details["accounting"], currency)
    yield from _exemptions(details)
    if details["payment"] is not None:
        yield from check_payment("payment.", details["payment"])
    yield check_date("tax_point_date", details["tax_point_date"])
    yield from _period("period.", details["period"])
    yield from _delivery(details["delivery"])
    if details["references"] is not None:
        yield from short_texts("references.", details["references"], *details["references"])
    yield _check_count("preceding_invoices", details["preceding_invoices"], PRECEDING_INVOICES_MAX)
    for index, preceding in enumerate(details["preceding_invoices"]):
        path = f"preceding_invoices[{index}]."
        yield check_text(f"{path}number", preceding["number"], 200, required=True)
        yield check_date(f"{path}issue_date", preceding["issue_date"])
    yield from _notes(details)
    if details["language"] and LANGUAGE.fullmatch(details["language"]) is None:
        yield _invalid("language", "must be a BCP 47 tag, such as de or pt-BR")
    yield _check_count("attachments", details["attachments"], ATTACHMENTS_MAX)
    for index, attachment in enumerate(details["attachments"]):
        path = f"attachments[{index}]."
        yield check_text(f"{path}name", attachment["name"], 200, required=True)
        yield from short_texts(path, attachment, "description")
        yield check_text(f"{path}url", attachment["url"], LONG_CHARS_MAX)
        if attachment["url"] and _URL.fullmatch(attachment["url"]) is None:
            yield _invalid(f"{path}url", "must begin with https:// or http://")


def check_category(path: str, category: str, rate_text: str) -> Iterator[Refusal | None]:
    """A category and its rate."""
    rate_is_zero = VAT_CATEGORIES.get(category)
    if rate_is_zero is None:
        yield _invalid(f"{path}vat_category", f"must be one of {', '.join(VAT_CATEGORIES)}")
        return
    try:
        rate = scaled(rate_text, RATE_DECIMALS)
    except NotDecimalError:
        yield _invalid(f"{path}vat_rate", f"must be a decimal text with at most {RATE_DECIMALS} decimals, such as 20")
        return
    yield check_rate(path, category, rate)


@lru_cache(maxsize=1_024)
def check_rate(path: str, category: str, rate: int) -> Refusal | None:
    """A rate in 10^-4 percent of one of the `VAT_CATEGORIES`."""
    if not 0 <= rate <= RATE_MAX:
        return _invalid(f"{path}vat_rate", "must be between 0 and 100")
    if VAT_CATEGORIES[category] and rate:
        return _invalid(f"{path}vat_rate", f"must be 0 in category {category}")
    if category == "S" and not rate:
        return _invalid(f"{path}vat_rate", "must be above 0 in category S (BR-S-5): zero-rated is Z, exempt is E")
    return None


def _line(line: RequestedLine | InvoiceLine, details: LineDetails, currency: str) -> Iterator[Refusal | None]:
    if details["unit"] and details["unit"] not in UNITS:
        yield _invalid("unit", "must be a UN/ECE Recommendation 20 code, such as KGM or HUR (BR-CL-23)")
    for name, decimals in _LINE_AMOUNTS.items():
        text = str(details[name])  # type: ignore[literal-required]
        yield _check_decimal(name, text, decimals)
    if details["base_quantity"] and scaled(details["base_quantity"], SCALE_DECIMALS) == 0:
        yield _invalid("base_quantity", "must be above zero")
    yield _check_price(line, details)
    yield from _allowances("allowances", details["allowances"], currency, ALLOWANCE_REASONS, LINE_ALLOWANCES_MAX)
    yield from _allowances("charges", details["charges"], currency, CHARGE_REASONS, LINE_ALLOWANCES_MAX)
    for name, its in (("allowances", details["allowances"]), ("charges", details["charges"])):
        for index, each in enumerate(its):
            if each["vat_category"] or each["vat_rate"]:
                yield _invalid(f"{name}[{index}].vat_category", "must be left out: it is that of the line")
    yield from _period("period.", details["period"])
    yield check_lines("note", details["note"], LONG_CHARS_MAX)
    yield from short_texts("", details, "order_line", "buyer_item_id")


def _check_price(line: RequestedLine | InvoiceLine, details: LineDetails) -> Refusal | None:
    """BR-28, and BT-146 as BT-148 less BT-147."""
    gross, discount = details["gross_price"], details["price_discount"]
    if not gross:
        return _invalid("gross_price", "must be given beside price_discount") if discount else None
    try:
        price = scaled(line["unit_price"], PRICE_DECIMALS)
    except NotDecimalError:  # It is refused with the line's other amounts.
        return None
    if discount and scaled(gross, PRICE_DECIMALS) - scaled(discount, PRICE_DECIMALS) != price:
        return _invalid("unit_price", f"must be the gross price less its discount: {gross} - {discount}")
    return None


def _allowances(
    name: str, allowances: Sequence[Allowance], currency: str, codes: frozenset[str], count_max: int
) -> Iterator[Refusal | None]:
    yield _check_count(name, allowances, count_max)
    for index, each in enumerate(allowances):
        path = f"{name}[{index}]."
        if not each["amount"]:
            yield _invalid(f"{path}amount", "must be given, or a percent")
            continue
        yield _check_amount(f"{path}amount", each["amount"], currency)
        yield _check_amount(f"{path}base_amount", each["base_amount"], currency)
        yield _check_decimal(f"{path}percent", each["percent"], RATE_DECIMALS)
        yield _check_percent(path, each, currency)
        yield check_text(f"{path}reason", each["reason"], 200)
        if each["reason_code"] and each["reason_code"] not in codes:
            rule = "BR-CL-19" if codes is ALLOWANCE_REASONS else "BR-CL-20"
            yield _invalid(f"{path}reason_code", f"must be a code of the list of {rule}, such as {min(codes)}")


def _check_percent(path: str, allowance: Allowance, currency: str) -> Refusal | None:
    """The amount is the percentage of the base, give or take what rounding elsewhere may have come to."""
    if not allowance["percent"] or not allowance["base_amount"]:
        return None
    exact = minor(allowance["base_amount"], currency) * scaled(allowance["percent"], RATE_DECIMALS)
    if abs(minor(allowance["amount"], currency) * RATE_MAX - exact) > 2 * RATE_MAX:
        detail = f"must be {allowance['percent']} percent of {allowance['base_amount']}"
        return _invalid(f"{path}amount", detail)
    return None


def _accounting(accounting: Accounting | None, currency: str) -> Iterator[Refusal | None]:
    if accounting is None:
        return
    if accounting["currency"] not in CURRENCY_EXPONENTS or accounting["currency"] == currency:
        yield _invalid("accounting.currency", "must be an ISO 4217 code in capitals, other than the invoice's")
    yield _check_decimal("accounting.exchange_rate", accounting["exchange_rate"] or "-", PRICE_DECIMALS)
    if scaled(accounting["exchange_rate"], PRICE_DECIMALS) == 0:
        yield _invalid("accounting.exchange_rate", "must be above zero")


def _exemptions(details: InvoiceDetails) -> Iterator[Refusal | None]:
    seen: set[str] = set()
    yield _check_count("exemptions", details["exemptions"], len(VAT_CATEGORIES))
    for index, each in enumerate(details["exemptions"]):
        path = f"exemptions[{index}]."
        if each["vat_category"] not in VAT_CATEGORIES or each["vat_category"] in seen:
            yield _invalid(f"{path}vat_category", f"must be one of {', '.join(VAT_CATEGORIES)}, each once")
        seen.add(each["vat_category"])
        if each["code"] and each["code"] not in EXEMPTIONS:
            yield _invalid(f"{path}code", "must be a VATEX code, such as VATEX-EU-AE (BR-CL-22)")
        yield check_lines(f"{path}reason", each["reason"], 500)
        if not each["code"] and not each["reason"]:
            yield _invalid(f"{path}reason", "must be given, or a code")


def _notes(details: InvoiceDetails) -> Iterator[Refusal | None]:
    yield _check_count("notes", details["notes"], NOTES_MAX)
    for index, note in enumerate(details["notes"]):
        yield check_lines(f"notes[{index}].text", note["text"], LONG_CHARS_MAX, required=True)
        if note["subject_code"] and _SUBJECT_CODE.fullmatch(note["subject_code"]) is None:
            yield _invalid(f"notes[{index}].subject_code", "must be a UNCL4451 code, such as AAI")


def _delivery(delivery: Delivery | None) -> Iterator[Refusal | None]:
    if delivery is None:
        return
    yield check_date("delivery.date", delivery["date"])
    yield from short_texts("delivery.", delivery, "name", "location_id")
    address = delivery["address"]
    if address is None:
        return
    path = "delivery.address."
    yield check_lines(f"{path}street", address["street"], TEXT_CHARS_MAX["buyer.address.street"])
    yield check_text(f"{path}city", address["city"], TEXT_CHARS_MAX["buyer.address.city"])
    yield check_text(f"{path}postal_code", address["postal_code"], TEXT_CHARS_MAX["buyer.address.postal_code"])
    yield check_address_lines(path, address)
    if address["country"] not in COUNTRIES:
        yield _invalid(f"{path}country", "must be an ISO 3166-1 alpha-2 code in capitals, such as FR (BR-57)")


def _period(path: str, period: Period | None) -> Iterator[Refusal | None]:
    if period is None:
        return
    yield check_date(f"{path}start", period["start"])
    yield check_date(f"{path}end", period["end"])
    if period["start"] and period["end"] and period["end"] < period["start"]:
        rule = "BR-29" if path == "period." else "BR-30"
        yield _invalid(f"{path}end", f"must not be before the start ({rule})")


def _check_amount(field: str, text: str, currency: str) -> Refusal | None:
    if text:
        try:
            minor(text, currency)
        except NotDecimalError:
            decimals = CURRENCY_EXPONENTS[currency]
            return _invalid(field, f"must be a decimal text with at most {decimals} decimals, such as 19")
    return None


def _check_decimal(field: str, text: str, decimals: int) -> Refusal | None:
    if text:
        try:
            if scaled(text, decimals) < 0:
                return _invalid(field, "must not be negative")
        except NotDecimalError:
            return _invalid(field, f"must be a decimal text with at most {decimals} decimals, such as 19.99")
    return None


def _check_count(field: str, items: Sequence[object], count_max: int) -> Refusal | None:
    return _invalid(field, f"must be {count_max} at most, not {len(items)}") if len(items) > count_max else None


@lru_cache(maxsize=4_096)
def _check_iban(field: str, text: str) -> Refusal | None:
    # Loaded with the first account that is named: few invoices name one, and its registries take long to read.
    from schwifty import IBAN
    from schwifty.exceptions import SchwiftyException

    try:
        IBAN(text)
    except SchwiftyException:
        return _invalid(field, "must be an IBAN, whose check digits agree, such as DE89370400440532013000")
    return None


@lru_cache(maxsize=4_096)
def _check_bic(field: str, text: str) -> Refusal | None:
    from schwifty import BIC
    from schwifty.exceptions import SchwiftyException

    try:
        BIC(text)
    except SchwiftyException:
        return _invalid(field, "must be a BIC, such as DEUTDEFF")
    return None


def _invalid(field: str, detail: str) -> Refusal:
    return Refusal(INVALID_FIELD, field, detail)
