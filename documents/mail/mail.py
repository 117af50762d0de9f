"""E-mails to buyers and sellers: subject, plain text and HTML, in the buyer's language.

Pure: the same arguments give the same mail. Texts from outside are made safe here, and escaped by the templates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from babel.languages import get_official_languages
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from documents.mail.languages import de, en, es, fr, it, ja, nl, pl, pt
from documents.mail.texts import one_line, salutation_name
from documents.mail.words import MailWords
from documents.template_2.language import Language, language_of
from documents.template_2.titles import title
from documents.tracking.words import WORDS as TRACKING_WORDS
from domain.amounts import line_minor
from domain.money import minor
from domain.records import Address, CreditNoteIssued, InvoiceIssued, InvoiceRequest, RequestedLine

#: Lines of an order that its mails list.
LINES_MAX = 50
#: Where a seller has no colour.
ACCENT = "#3b6ea5"
_CANCELLATION = "cancellation"
#: By the code of a language.
MAIL_WORDS = {
    "en": en.WORDS,
    "de": de.WORDS,
    "fr": fr.WORDS,
    "es": es.WORDS,
    "it": it.WORDS,
    "pl": pl.WORDS,
    "nl": nl.WORDS,
    "pt": pt.WORDS,
    "ja": ja.WORDS,
}


@dataclass(frozen=True, slots=True)
class Mail:
    """What a mail says; `language` is a BCP 47 tag."""

    language: str
    subject: str
    text: str
    html: str


class SellerRow(Protocol):
    """What of a seller's row buyers are shown; empty texts for what it doesn't say."""

    @property
    def legal_name(self) -> str: ...
    @property
    def trading_name(self) -> str: ...
    @property
    def street(self) -> str: ...
    @property
    def city(self) -> str: ...
    @property
    def postal_code(self) -> str: ...
    @property
    def country(self) -> str: ...
    @property
    def vat_id(self) -> str: ...
    @property
    def tax_name(self) -> str: ...
    @property
    def contact_phone(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def colour(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Shop:
    """A seller as buyers are shown it."""

    legal_name: str
    address: Address
    #: Empty where there is none.
    trading_name: str = ""
    tax_id: str = ""
    tax_name: str = ""
    phone: str = ""
    #: BCP 47 tag.
    language: str = ""
    #: #rrggbb
    colour: str = ""

    @classmethod
    def of(cls, row: SellerRow) -> "Shop":
        """The shop of a seller's row."""
        return cls(
            legal_name=row.legal_name,
            address={
                "street": row.street,
                "city": row.city,
                "postal_code": row.postal_code,
                "country": row.country,
            },
            trading_name=row.trading_name,
            tax_id=row.vat_id,
            tax_name=row.tax_name,
            phone=row.contact_phone,
            language=row.language,
            colour=row.colour,
        )

    @property
    def name(self) -> str:
        """As buyers know it."""
        return one_line(self.trading_name or self.legal_name)


@dataclass(frozen=True, slots=True)
class Amounts:
    """What an order amounts to, in minor units."""

    net_minor: int
    tax_minor: int
    gross_minor: int


@dataclass(frozen=True, slots=True)
class Attached:
    """The document is in the mail."""


@dataclass(frozen=True, slots=True)
class Linked:
    """The document is at this URL."""

    url: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The document is larger than mails may be."""


Enclosure = Attached | Linked | TooLarge


def order_mail(
    event_type: str, shop: Shop, order: InvoiceRequest, amounts: Amounts, tracking_url: str | None = None
) -> Mail:
    """What tells of an order's progress: `order.confirmed`, `order.shipped` or `order.delivered`.

    `tracking_url` is the order's page, if there is one.
    """
    details = order["details"] if "details" in order else None  # noqa: SIM401 - the default's type would be lost.
    language, words = language_for(details["language"] if details else "", order["buyer"]["address"]["country"], shop)
    order_id = one_line(order["order_id"])
    subject, sentence = {
        "order.confirmed": (words.confirmed_subject, words.confirmed),
        "order.shipped": (words.shipped_subject, words.shipped),
        "order.delivered": (words.delivered_subject, words.delivered),
    }[event_type]
    facts: list[dict[str, Any]] = []
    if event_type == "order.confirmed":
        facts = sums(language, shop, order["currency"], amounts, extras_of(order))
    delivery = details["delivery"] if details else None
    address: list[str] = []
    if delivery is not None and delivery["address"] is not None and event_type != "order.delivered":
        address = [one_line(delivery["name"]), *_address(language, delivery["address"])]
    listed = order["lines"][:LINES_MAX]
    left = len(order["lines"]) - len(listed)
    return _write(
        shop,
        language,
        words,
        subject=subject.format(order=order_id),
        hello=_hello(words, order["buyer"]["name"]),
        sentences=[sentence.format(order=order_id)],
        link=None if tracking_url is None else {"text": TRACKING_WORDS[language.code].follow, "url": tracking_url},
        lines=[line_view(language, line, order["currency"]) for line in listed],
        more_lines=words.more_lines.format(count=left) if left else "",
        facts=facts,
        address=[part for part in address if part],
    )


def document_mail(shop: Shop, event: InvoiceIssued | CreditNoteIssued, enclosure: Enclosure) -> Mail:
    """What brings an invoice or a credit note."""
    details = event["details"] if "details" in event else None  # noqa: SIM401 - the default's type would be lost.
    buyer, seller = event["buyer"], event["seller"]
    language, words = language_for(details["language"] if details else "", buyer["address"]["country"], shop)
    titled = title(
        event["kind"],
        language.code,
        seller["address"]["country"],
        seller["vat_id"] or "",
        simplified=not buyer["address"]["country"],
        cancelled=event.get("refund_id") == _CANCELLATION,
    )
    order_id = one_line(event["order_id"])
    named = f"{titled} {one_line(event['invoice_number'])}"
    said, link = words.attached, None
    if isinstance(enclosure, Linked):
        said, link = words.linked, {"text": words.link, "url": enclosure.url}
    elif isinstance(enclosure, TooLarge):
        said = words.too_large
    tax = one_line(shop.tax_name) or language.words.tax
    is_credit = "refund_id" in event
    total = language.words.credited if is_credit else language.words.total_gross.format(tax=tax)
    facts = [
        _fact(language.words.issue_date, language.date(event["issue_date"])),
        _fact(total, language.amount(event["totals"]["gross_minor"], event["currency"]), is_total=True),
    ]
    return _write(
        shop,
        language,
        words,
        subject=words.document_subject.format(title=titled, order=order_id),
        hello=_hello(words, buyer["name"]),
        sentences=[said.format(title=named, order=order_id)],
        link=link,
        facts=facts,
    )


def disabled_mail(shop: Shop, url: str, *, is_gone: bool, days: int) -> Mail:
    """What tells a seller that its webhook endpoint at `url` was disabled: after 410, or after so many days."""
    language, words = language_for(shop.language, shop.address["country"], shop)
    said = words.disabled_gone if is_gone else words.disabled_failing
    return _write(
        shop,
        language,
        words,
        subject=words.disabled_subject,
        hello=_hello(words, shop.name),
        sentences=[said.format(url=one_line(url), days=days), words.disabled_next],
        questions="",
    )


def test_mail(shop: Shop) -> Mail:
    """What somebody asked for to see whether mails arrive."""
    language, words = language_for(shop.language, shop.address["country"], shop)
    return _write(
        shop,
        language,
        words,
        subject=words.test_subject.format(shop=shop.name),
        hello=words.hello_nobody,
        sentences=[words.test.format(shop=shop.name)],
        questions="",
    )


def language_for(tag: str, country: str, shop: Shop) -> tuple[Language, MailWords]:
    """The document's own language, or the one of the buyer's country that we write, or the seller's, or English."""
    if not tag:
        official = get_official_languages(country, de_facto=True) if country else ()
        spoken = [code for code in official if code in MAIL_WORDS]
        of_seller = shop.language.partition("-")[0].lower()
        tag = shop.language if not spoken or of_seller in spoken else spoken[0]
    language = language_of(tag, country or shop.address["country"])
    return language, MAIL_WORDS[language.code]


def _hello(words: MailWords, name: str) -> str:
    known = salutation_name(name)
    return words.hello.format(name=known) if known else words.hello_nobody


def line_view(language: Language, line: RequestedLine, currency: str) -> dict[str, str]:
    """A line as it is listed."""
    details = line.get("details")
    number, unit = language.quantity(line["quantity"], details["unit"] if details else "")
    return {
        "description": one_line(line["description"]),
        "quantity": f"{number}\u00a0{unit}".strip(),
        "amount": language.amount(line_minor(line, currency), currency),
    }


@dataclass(frozen=True, slots=True)
class Extras:
    """Allowances and charges of the whole order, in minor units; None where it has none."""

    allowances_minor: int | None = None
    charges_minor: int | None = None


def extras_of(order: InvoiceRequest) -> Extras:
    """The order's."""
    details = order["details"] if "details" in order else None  # noqa: SIM401 - the default's type would be lost.
    allowances, charges = (details["allowances"], details["charges"]) if details else ([], [])
    return Extras(
        -sum(minor(each["amount"], order["currency"]) for each in allowances) if allowances else None,
        sum(minor(each["amount"], order["currency"]) for each in charges) if charges else None,
    )


def sums(language: Language, shop: Shop, currency: str, amounts: Amounts, extras: Extras) -> list[dict[str, Any]]:
    """What stands below the lines, each with `name`, `value` and `is_total`."""
    words = language.words
    tax = one_line(shop.tax_name) or words.tax
    facts = []
    for label, extra_minor in ((words.allowances, extras.allowances_minor), (words.charges, extras.charges_minor)):
        if extra_minor is not None:
            facts.append(_fact(label, language.amount(extra_minor, currency)))
    if amounts.tax_minor:
        facts.append(_fact(words.total_net.format(tax=tax), language.amount(amounts.net_minor, currency)))
        facts.append(_fact(tax, language.amount(amounts.tax_minor, currency)))
    total = words.total_gross.format(tax=tax)
    facts.append(_fact(total, language.amount(amounts.gross_minor, currency), is_total=True))
    return facts


def _fact(name: str, value: str, *, is_total: bool = False) -> dict[str, Any]:
    return {"name": name, "value": value, "is_total": is_total}


def _address(language: Language, address: Address) -> list[str]:
    town = " ".join(part for part in (one_line(address["postal_code"]), one_line(address["city"])) if part)
    country = language.country(address["country"]) if address["country"] else ""
    more = (address.get("line2", ""), address.get("line3", ""))
    parts = (one_line(address["street"]), *map(one_line, more), town, one_line(address.get("subdivision", "")), country)
    return [part for part in parts if part]


def footer_of(language: Language, shop: Shop) -> list[str]:
    """Who the seller is, part by part."""
    tax = one_line(shop.tax_name) or language.words.tax
    tax_id = one_line(shop.tax_id)
    parts = (
        one_line(shop.legal_name),
        ", ".join(_address(language, shop.address)),
        f"{language.words.tax_id.format(tax=tax)}: {tax_id}" if tax_id else "",
        one_line(shop.phone),
    )
    return [part for part in parts if part]


def _write(
    shop: Shop,
    language: Language,
    words: MailWords,
    *,
    subject: str,
    hello: str,
    sentences: Sequence[str],
    link: dict[str, str] | None = None,
    lines: Sequence[dict[str, str]] = (),
    more_lines: str = "",
    facts: Sequence[dict[str, Any]] = (),
    address: Sequence[str] = (),
    questions: str | None = None,
) -> Mail:
    values = {
        "language": language.tag,
        "subject": subject,
        "shop": shop.name,
        "accent": shop.colour or ACCENT,
        "hello": hello,
        "sentences": sentences,
        "link": link,
        "lines": lines,
        "more_lines": more_lines,
        "heads": {
            "description": language.words.description,
            "quantity": language.words.quantity,
            "amount": words.amount,
        },
        "facts": facts,
        "address": address,
        "deliver_to": words.deliver_to,
        "questions": words.questions if questions is None else questions,
        "automatic": words.automatic,
        "footer": footer_of(language, shop),
    }
    templates = _templates()
    text = templates.get_template("mail.txt").render(values)
    return Mail(language.tag, subject, text, templates.get_template("mail.html").render(values))


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("documents.mail"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
