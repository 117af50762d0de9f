"""An order's tracking page: how it is doing, in the buyer's language, as one HTML file that loads nothing.

Pure: the same arguments give the same page. Texts from outside are made safe here, and escaped by the template.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import format_time
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from documents.mail.mail import (
    ACCENT,
    MAIL_WORDS,
    Amounts,
    Extras,
    Shop,
    footer_of,
    language_for,
    line_view,
    sums,
)
from documents.mail.texts import one_line
from documents.template_2.language import Language
from documents.template_2.titles import title
from documents.tracking.words import WORDS, TrackingWords
from domain.issuing import CREDIT_NOTE, INVOICE
from domain.order import OrderState
from domain.records import Parcel, RequestedLine

#: Lines that the page lists.
LINES_MAX = 50
#: What an order is before it is decided, and what a request is that became none.
ACCEPTED, REJECTED = "accepted", "rejected"
_DEFAULT_TAG = "en"
_NOTHING, _NO_EXTRAS = Amounts(0, 0, 0), Extras()


@dataclass(frozen=True, slots=True)
class TrackedStep:
    """A state that the order has come to; `at` in seconds since 1970."""

    state: str
    at: int


@dataclass(frozen=True, slots=True)
class TrackedDocument:
    """A stored document. `refund_id` is empty for the invoice."""

    number: str
    refund_id: str
    is_cancellation: bool = False


@dataclass(frozen=True, slots=True)
class TrackedRefund:
    """Money on its way back, or there; `at` in seconds since 1970."""

    amount_minor: int
    is_done: bool
    at: int


@dataclass(frozen=True, slots=True)
class TrackedOrder:
    """All that the page says: it can be kept, and shown again while the ledger is unavailable."""

    order_id: str
    #: One of `OrderState`, `ACCEPTED` or `REJECTED`.
    state: str
    shop: Shop
    #: The seller's, by its IANA name.
    time_zone: str
    #: BCP 47, empty where nobody has said; and the buyer's country, empty where there is none.
    language: str = ""
    country: str = ""
    currency: str = ""
    amounts: Amounts = _NOTHING
    extras: Extras = _NO_EXTRAS
    steps: list[TrackedStep] = field(default_factory=list)
    lines: list[RequestedLine] = field(default_factory=list)
    #: Lines beyond those listed.
    lines_left: int = 0
    parcel: Parcel | None = None
    refunds: list[TrackedRefund] = field(default_factory=list)
    documents: list[TrackedDocument] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """A page; `style` is what its style element holds, and all that it loads."""

    language: str
    html: str
    style: str


def order_page(order: TrackedOrder, document_urls: Sequence[str], known_at: datetime | None = None) -> Page:
    """The page of an order. `document_urls` are those of its documents; `known_at` is set where it may be outdated."""
    language, _ = language_for(order.language, order.country, order.shop)
    words = WORDS[language.code]
    zone = ZoneInfo(order.time_zone)
    values = {
        "sentence": _sentence(words, order.state),
        "stale": "" if known_at is None else words.stale.format(time=_time(language, known_at, zone)),
        "words": words,
        "steps": _steps(language, words, order, zone),
        "parcel": _parcel(order.parcel),
        "lines": [line_view(language, each, order.currency) for each in order.lines],
        "more_lines": MAIL_WORDS[language.code].more_lines.format(count=order.lines_left) if order.lines_left else "",
        "heads": {
            "description": language.words.description,
            "quantity": language.words.quantity,
            "amount": MAIL_WORDS[language.code].amount,
        },
        "sums": sums(language, order.shop, order.currency, order.amounts, order.extras),
        "refunds": [
            {
                "amount": language.amount(each.amount_minor, order.currency),
                "state": words.refund_done if each.is_done else words.refund_requested,
                **_moment(language, each.at, zone),
            }
            for each in order.refunds
        ],
        "documents": [
            {"name": _name(language, order, document), "url": url}
            for document, url in zip(order.documents, document_urls, strict=True)
        ],
    }
    heading = MAIL_WORDS[language.code].confirmed_subject.format(order=one_line(order.order_id))
    return _write("order.html", language, heading, order.shop, values)


def unknown_page(tags: Sequence[str]) -> Page:
    """Of a link that leads nowhere; `tags` are the languages that the reader wants, the best first."""
    words = WORDS[_known(tags)]
    return _notice(tags, words.unknown_title, words.unknown)


def expired_page(tags: Sequence[str]) -> Page:
    """Of a link that has expired."""
    words = WORDS[_known(tags)]
    return _notice(tags, words.expired_title, words.expired)


def unavailable_page(tags: Sequence[str]) -> Page:
    """Of an order that can't be read now."""
    words = WORDS[_known(tags)]
    return _notice(tags, words.unavailable_title, words.unavailable)


def _notice(tags: Sequence[str], heading: str, sentence: str) -> Page:
    nobody = Shop("", {"street": "", "city": "", "postal_code": "", "country": ""})
    language, _ = language_for(_known(tags), "", nobody)
    return _write("page.html", language, heading, None, {"sentence": sentence})


def _known(tags: Sequence[str]) -> str:
    codes = (tag.partition("-")[0].lower() for tag in tags)
    return next((code for code in codes if code in WORDS), _DEFAULT_TAG)


def _sentence(words: TrackingWords, state: str) -> str:
    return {
        ACCEPTED: words.received,
        OrderState.PLACED: words.awaiting_payment,
        OrderState.PAYMENT_PENDING: words.awaiting_payment,
        OrderState.CONFIRMED: words.confirmed,
        OrderState.SHIPPED: words.shipped,
        OrderState.DELIVERED: words.delivered,
        OrderState.REFUNDED: words.refunded,
        OrderState.CANCELLED: words.cancelled,
        OrderState.REFUSED: words.refused,
        REJECTED: words.refused,
    }[state]


def _steps(language: Language, words: TrackingWords, order: TrackedOrder, zone: ZoneInfo) -> list[dict[str, Any]]:
    names = {
        OrderState.PLACED: words.step_ordered,
        OrderState.CONFIRMED: words.step_confirmed,
        OrderState.SHIPPED: words.step_shipped,
        OrderState.DELIVERED: words.step_delivered,
        OrderState.CANCELLED: words.step_cancelled,
        OrderState.REFUNDED: words.step_refunded,
    }
    taken: dict[OrderState, int] = {}
    for each in order.steps:
        state = OrderState(each.state)
        # An order whose payment came late was cancelled, and is no more.
        if state in names and (state is not OrderState.CANCELLED or order.state == OrderState.CANCELLED):
            taken.setdefault(state, each.at)
    shown: list[dict[str, Any]] = [
        {"name": names[state], "is_current": False, **_moment(language, at, zone)} for state, at in taken.items()
    ]
    if shown:
        shown[-1]["is_current"] = True
    path = (OrderState.PLACED, OrderState.CONFIRMED, OrderState.SHIPPED, OrderState.DELIVERED)
    if order.state in (ACCEPTED, OrderState.PAYMENT_PENDING, *path):
        shown += [{"name": names[each], "at": ""} for each in path if each not in taken]
    return shown


def _parcel(parcel: Parcel | None) -> dict[str, str] | None:
    if parcel is None:
        return None
    # The agent has checked that it begins with https://.
    return {
        "carrier": one_line(parcel["carrier"]),
        "number": one_line(parcel["tracking_number"]),
        "url": parcel["tracking_url"],
    }


def _name(language: Language, order: TrackedOrder, document: TrackedDocument) -> str:
    titled = title(
        CREDIT_NOTE if document.refund_id else INVOICE,
        language.code,
        order.shop.address["country"],
        order.shop.tax_id,
        simplified=not order.country,
        cancelled=document.is_cancellation,
    )
    return f"{titled} {one_line(document.number)}"


def _moment(language: Language, at: int, zone: ZoneInfo) -> dict[str, str]:
    moment = datetime.fromtimestamp(at, UTC)
    return {"at": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "time": _time(language, moment, zone)}


def _time(language: Language, moment: datetime, zone: ZoneInfo) -> str:
    local = moment.astimezone(zone)
    return f"{language.date(local.date().isoformat())}, {format_time(local, 'short', zone, locale=language.locale)}"


def _write(template: str, language: Language, heading: str, shop: Shop | None, values: dict[str, Any]) -> Page:
    accent = ACCENT if shop is None else shop.colour or ACCENT
    style = f":root {{ --accent: {accent}; }}\n{_style()}"
    html = (
        _templates()
        .get_template(template)
        .render(
            language=language.tag,
            title=heading,
            shop="" if shop is None else shop.name,
            style=style,
            footer=[] if shop is None else footer_of(language, shop),
            **values,
        )
    )
    return Page(language.tag, html, style)


@lru_cache(maxsize=1)
def _style() -> str:
    return files("documents.tracking").joinpath("templates", "tracking.css").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("documents.tracking"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
