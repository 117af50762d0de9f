"""Mails: in every language, whole in both forms, and safe whatever buyers and sellers are called."""

import re
from dataclasses import fields
from html.parser import HTMLParser
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.mail.languages import de, en, es, fr, it, ja, nl, pl, pt
from documents.mail.mail import (
    LINES_MAX,
    Amounts,
    Attached,
    Linked,
    Mail,
    Shop,
    TooLarge,
    disabled_mail,
    document_mail,
    order_mail,
    test_mail,
)
from documents.mail.words import MailWords
from documents.tracking.words import WORDS as TRACKING_WORDS
from domain.iso import COUNTRIES, CURRENCY_EXPONENTS
from tests.invoice_events import address
from tests.unit.documents.cases import allowance, credit_note, details, invoice

# It is no test.
asked_for_test = test_mail
del test_mail

LANGUAGES = {
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
SHOP = Shop("Acme GmbH", address("Main Street 1", "Berlin", "10115", "DE"), tax_id="DE123456789", language="en")
URL = "https://pay.example/d/token?a=1&b=2"


class Shown(HTMLParser):
    """What a reader of the HTML sees, and where links lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []
        self.tags: set[str] = set()
        self._is_hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._is_hidden = tag in ("style", "title")
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        self._is_hidden = False

    def handle_data(self, data: str) -> None:
        if not self._is_hidden:
            self.text += data


def order(**changed: Any) -> Any:
    """The request that an order keeps."""
    event = invoice()
    kept = {name: event[name] for name in ("seller_id", "order_id", "kind", "currency", "note", "buyer", "lines")}
    return {**kept, "details": None, **changed}


def buyer(country: str = "FR", **changed: Any) -> Any:
    """A buyer of a country."""
    made = {"name": "Zoë O'Neil", "email": "zoe@example.com", "vat_id": None, "details": None}
    return {**made, "address": address("Rue 1", "Lieu", "75001", country), **changed}


AMOUNTS = Amounts(5_808, 971, 6_779)


def all_of(tag: str) -> list[Mail]:
    """Every mail in a language."""
    event, credit = invoice(details=details(language=tag)), credit_note()
    credit["details"] = details(language=tag)
    shop = Shop("Acme GmbH", SHOP.address, language=tag)
    types = ("order.confirmed", "order.shipped", "order.delivered")
    return [
        *(order_mail(each, SHOP, order(details=details(language=tag)), AMOUNTS) for each in types),
        order_mail("order.shipped", SHOP, order(details=details(language=tag)), AMOUNTS, URL),
        *(document_mail(SHOP, event, each) for each in (Attached(), Linked(URL), TooLarge())),
        document_mail(SHOP, credit, Attached()),
        disabled_mail(shop, "https://shop.example/hooks", is_gone=False, days=5),
        disabled_mail(shop, "https://shop.example/hooks", is_gone=True, days=5),
        asked_for_test(shop),
    ]


@pytest.mark.parametrize("tag", LANGUAGES)
def test_every_mail_says_the_same_in_text_and_in_html(tag: str) -> None:
    for mail in all_of(tag):
        assert mail.language.partition("-")[0] == tag
        shown = Shown(mail.html)
        assert f'<html lang="{mail.language}">' in mail.html
        assert mail.subject in shown.text
        seen = re.sub(r"\s+", " ", shown.text)
        for line in filter(None, mail.text.splitlines()):
            if line.strip() in ("--", ""):
                continue
            for part in re.split(r" x |: ", line):
                assert re.sub(r"\s+", " ", part).strip(" :") in seen or part == URL, (part, seen)
        assert not {"img", "script", "link", "iframe"} & shown.tags
        assert "{" not in mail.text + mail.subject


@pytest.mark.parametrize("tag", LANGUAGES)
def test_each_text_holds_in_every_language_what_it_holds_in_english(tag: str) -> None:
    for field in fields(MailWords):
        braces = [
            {name for _, name, _, _ in Formatter().parse(getattr(words, field.name)) if name}
            for words in (LANGUAGES["en"], LANGUAGES[tag])
        ]
        assert braces[0] == braces[1], field.name
        assert getattr(LANGUAGES[tag], field.name).strip()


@pytest.mark.parametrize(
    ("tag", "country", "of_seller", "expected"),
    [
        ("it", "FR", "de", "it"),
        ("pt-BR", "FR", "de", "pt"),
        ("", "FR", "de", "fr"),
        ("", "AT", "en", "de"),
        ("", "CH", "fr", "fr"),
        ("", "CH", "en", "de"),
        ("", "SE", "nl", "nl"),
        ("", "SE", "", "en"),
        ("", "", "pl", "pl"),
        ("sv", "FR", "de", "en"),
    ],
)
def test_the_documents_language_comes_first_then_the_buyers_then_the_sellers(
    tag: str, country: str, of_seller: str, expected: str
) -> None:
    shop = Shop("Acme", SHOP.address, language=of_seller)
    asked = order(details=details(language=tag), buyer=buyer(country))
    assert order_mail("order.confirmed", shop, asked, AMOUNTS).language.partition("-")[0] == expected


@pytest.mark.parametrize("tag", LANGUAGES)
def test_a_mail_about_an_order_leads_to_the_orders_page(tag: str) -> None:
    mail = order_mail("order.shipped", SHOP, order(details=details(language=tag)), AMOUNTS, URL)
    assert f"{TRACKING_WORDS[tag].follow}: {URL}" in mail.text
    assert Shown(mail.html).links == [URL]


def test_a_confirmation_lists_the_lines_the_sums_and_where_it_goes() -> None:
    delivery = {
        "date": "",
        "name": "Lager Süd",
        "location_id": "",
        "address": address("Hafen 9", "Hamburg", "20457", "DE"),
    }
    asked = order(
        details=details(language="de", delivery=delivery, charges=[allowance("4.90")], allowances=[allowance("1.00")])
    )
    text = order_mail("order.confirmed", SHOP, asked, AMOUNTS).text
    for part in (
        "Café crème, 250 g",
        "39,98\u00a0€",
        "4,90\u00a0€",
        "-1,00\u00a0€",
        "58,08\u00a0€",
        "9,71\u00a0€",
        "67,79\u00a0€",
    ):
        assert part in text
    assert "Lager Süd\nHafen 9\n20457 Hamburg\nDeutschland" in text


def test_an_order_without_tax_has_one_sum() -> None:
    text = order_mail("order.confirmed", SHOP, order(buyer=buyer("GB")), Amounts(5_808, 0, 5_808)).text
    assert text.count("€58.08") == 1


def test_every_currency_and_country_can_be_mailed() -> None:
    """What can't be written would stop all other mails too."""
    for currency in CURRENCY_EXPONENTS:
        assert order_mail("order.confirmed", SHOP, order(currency=currency), AMOUNTS).text
    for country in COUNTRIES:
        assert document_mail(SHOP, invoice(buyer=buyer(country)), Attached()).text


def test_of_a_long_order_the_rest_is_counted() -> None:
    event = invoice()
    mail = order_mail(
        "order.shipped", SHOP, order(lines=event["lines"][:1] * (LINES_MAX + 7), buyer=buyer("GB")), AMOUNTS
    )
    assert mail.text.count("Café crème") == LINES_MAX
    assert "and 7 more" in mail.text


def test_a_document_comes_attached_linked_or_not_at_all() -> None:
    event = invoice(details=details(language="en"))
    attached, linked, neither = (document_mail(SHOP, event, each) for each in (Attached(), Linked(URL), TooLarge()))
    assert "Attached as a PDF" in attached.text
    assert URL in linked.text
    assert Shown(linked.html).links == [URL]
    assert "too large" in neither.text
    for mail in (attached, linked, neither):
        assert event["invoice_number"] in mail.text


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }} {% for x in y %} {subject} {0}",
    "Zoë\r\nBcc: eve@evil.example",
    "Zoë\u2028Bcc: eve@evil.example",
    "\u202eKcatta\u2066",
    "\x00\x1b[2J",
    "&lt;b&gt;",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text_in_their_line(name: str) -> None:
    event = invoice(buyer=buyer(name=name), order_id=name[:64])
    event["seller"] |= {"legal_name": name}
    shop = Shop(name, SHOP.address, trading_name=name)
    calm = Shop("Acme", SHOP.address)
    pairs = [
        (document_mail(shop, event, Attached()), document_mail(calm, invoice(buyer=buyer()), Attached())),
        (
            order_mail("order.shipped", shop, order(buyer=buyer(name=name)), AMOUNTS),
            order_mail("order.shipped", calm, order(buyer=buyer()), AMOUNTS),
        ),
        (asked_for_test(shop), asked_for_test(calm)),
    ]
    for mail, harmless in pairs:
        assert Shown(mail.html).tags == Shown(harmless.html).tags
        assert Shown(mail.html).links == Shown(harmless.html).links
        assert len(mail.text.splitlines()) == len(harmless.text.splitlines())
        assert "\n" not in mail.subject
        assert "\r" not in mail.subject
        assert not {"\u202e", "\u2066", "\x00", "\x1b"} & {*mail.text, *mail.html, *mail.subject}
        assert "49" not in Shown(mail.html).text


@pytest.mark.parametrize(
    ("name", "is_used"),
    [
        ("Zoë O'Neil", True),
        ("J.R. Smith Jr.", True),
        ("Müller & Söhne GmbH", True),
        ("WIN at http://evil.example", False),
        ("You won: evil.example", False),
        ("www.evil", False),
        ("write to eve@evil", False),
        ("Z" * 61, False),
        ("", False),
    ],
)
def test_a_name_that_could_be_an_advertisement_greets_nobody(name: str, is_used: bool) -> None:
    """Anybody may order in any name, with an address that is somebody else's."""
    mail = order_mail("order.shipped", SHOP, order(buyer=buyer("GB", name=name)), AMOUNTS)
    assert mail.text.startswith(f"Hello {name}," if is_used else "Hello,")


@given(st.text(max_size=60))
def test_any_name_leaves_the_mail_as_it_is(name: str) -> None:
    mail = order_mail("order.shipped", SHOP, order(buyer=buyer("GB", name=name)), AMOUNTS)
    first, second = mail.text.split("\n")[:2]
    assert first.startswith("Hello")
    assert first.endswith(",")
    assert second == ""
    mail.text.encode()
