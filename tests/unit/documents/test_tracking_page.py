"""The tracking page: in every language, for every state, loading nothing, and safe whatever it shows is called."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.mail.mail import Shop
from documents.tracking.page import (
    ACCEPTED,
    LINES_MAX,
    REJECTED,
    TrackedDocument,
    TrackedOrder,
    TrackedRefund,
    TrackedStep,
    expired_page,
    order_page,
    unavailable_page,
    unknown_page,
)
from documents.tracking.words import EN, WORDS, TrackingWords
from domain.order import OrderState
from tests.invoice_events import address
from tests.unit.documents.cases import invoice
from tests.unit.documents.test_mail import AMOUNTS, Shown

SHOP = Shop("Acme GmbH", address("Main Street 1", "Berlin", "10115", "DE"), tax_id="DE123456789", colour="#aa3300")
AT = 1_795_000_000
HOUR = 3_600
PARCEL: Any = {"carrier": "DHL", "tracking_number": "00340", "tracking_url": "https://dhl.example/t?a=1&b=2"}
STATES = [*OrderState, ACCEPTED, REJECTED]
PATH = [OrderState.PLACED, OrderState.PAYMENT_PENDING, OrderState.CONFIRMED, OrderState.SHIPPED, OrderState.DELIVERED]


def tracked(state: str = OrderState.CONFIRMED, *steps: str, **changes: Any) -> TrackedOrder:
    """An order that has taken these steps, an hour between them; its own state's without any."""
    walked = steps or (PATH[: PATH.index(OrderState(state)) + 1] if state in PATH else [OrderState.PLACED])
    made = TrackedOrder(
        order_id="A-1",
        state=state,
        shop=SHOP,
        time_zone="Europe/Berlin",
        country="FR",
        currency="EUR",
        amounts=AMOUNTS,
        steps=[TrackedStep(each, AT + number * HOUR) for number, each in enumerate(walked)],
        lines=invoice()["lines"],
    )
    return replace(made, **changes)


def shown(order: TrackedOrder, *urls: str, known_at: datetime | None = None) -> Shown:
    """What a reader sees."""
    return Shown(order_page(order, urls, known_at).html)


@pytest.mark.parametrize("code", WORDS)
@pytest.mark.parametrize("state", STATES)
def test_every_state_is_told_in_every_language(code: str, state: str) -> None:
    page = order_page(tracked(state, language=code), [])
    assert page.language == code
    assert f'<html lang="{code}">' in page.html
    seen = Shown(page.html)
    sentences = {
        *(WORDS[code].received, WORDS[code].awaiting_payment, WORDS[code].confirmed, WORDS[code].shipped),
        *(WORDS[code].delivered, WORDS[code].cancelled, WORDS[code].refunded, WORDS[code].refused),
    }
    assert sum(each in seen.text for each in sentences) == 1
    assert len(page.html.encode()) < 50_000


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_no_language_lacks_a_word(words: TrackingWords) -> None:
    """Each holds what the English text holds, and is another text."""
    for field in fields(TrackingWords):
        text, english = getattr(words, field.name), getattr(EN, field.name)
        assert text.strip() == text != ""
        assert [name for _, name, *_ in Formatter().parse(text)] == [name for _, name, *_ in Formatter().parse(english)]
    assert words is EN or sum(getattr(words, each.name) == getattr(EN, each.name) for each in fields(words)) <= 2


def test_the_language_is_that_of_the_buyers_country_unless_the_order_names_one() -> None:
    assert "Votre commande A-1" in shown(tracked()).text
    assert "Zamówienie A-1" in shown(tracked(country="PL")).text
    assert "Your order A-1" in shown(tracked(language="en-GB")).text


def test_steps_are_those_taken_and_those_to_come() -> None:
    html = order_page(tracked(OrderState.SHIPPED, language="en"), []).html
    assert [each.partition("<")[0] for each in html.split('<li class="done"')[1:]] == [
        ">",
        ">",
        ' aria-current="step">',
    ]
    assert html.count("(to come)") == 1
    # An hour ahead of UTC, where the seller is.
    assert 'datetime="2026-11-18T14:06:40Z">18 November 2026, 3:06\u202fpm<' in html


@pytest.mark.parametrize(
    ("state", "steps", "names", "to_come"),
    [
        ("PAYMENT_PENDING", (), ["Ordered"], 3),
        ("CANCELLED", ("PLACED", "PAYMENT_PENDING", "CANCELLED", "CANCELLED"), ["Ordered", "Cancelled"], 0),
        # The payment came late, and there was stock.
        ("CONFIRMED", ("PLACED", "PAYMENT_PENDING", "CANCELLED", "CONFIRMED"), ["Ordered", "Confirmed"], 2),
        (
            "REFUNDED",
            ("PLACED", "PAYMENT_PENDING", "CONFIRMED", "SHIPPED", "REFUNDED"),
            ["Ordered", "Confirmed", "Shipped", "Refunded"],
            0,
        ),
        ("REFUSED", ("REFUSED",), [], 0),
    ],
)
def test_steps_make_sense_however_an_order_ended(
    state: str, steps: tuple[str, ...], names: list[str], to_come: int
) -> None:
    html = order_page(tracked(state, *steps, language="en"), []).html
    taken = [each.partition("<span>")[2].partition("<")[0] for each in html.split('<li class="done"')[1:]]
    assert taken == names
    assert html.count("(to come)") == to_come
    assert html.count('aria-current="step"') == bool(names)


def test_the_parcel_can_be_followed() -> None:
    seen = shown(tracked(OrderState.SHIPPED, parcel=PARCEL, language="de"))
    assert "DHL" in seen.text
    assert "00340" in seen.text
    assert seen.links == ["https://dhl.example/t?a=1&b=2"]


def test_documents_refunds_and_what_was_bought_are_listed() -> None:
    documents = [TrackedDocument("INV-1", ""), TrackedDocument("CN-1", "R-1")]
    refunds = [TrackedRefund(2_399, True, AT), TrackedRefund(100, False, AT)]
    seen = shown(
        tracked(OrderState.DELIVERED, documents=documents, refunds=refunds, language="en", lines_left=3),
        "../d/a",
        "../d/b",
    )
    assert seen.links == ["../d/a", "../d/b"]
    assert "Invoice INV-1" in seen.text
    assert "Credit note CN-1" in seen.text
    assert "€23.99 – paid back" in seen.text
    assert "€1.00 – under way" in seen.text
    for amount in ("€58.08", "€9.71", "€67.79"):
        assert amount in seen.text
    assert "and 3 more" in seen.text


def test_a_page_that_may_be_outdated_says_since_when() -> None:
    at = datetime(2026, 11, 29, 13, 3, tzinfo=UTC)
    assert "Dies ist der Stand vom 29. November 2026, 14:03." in shown(tracked(language="de"), known_at=at).text
    assert "Stand" not in shown(tracked(language="de")).text


@pytest.mark.parametrize(
    ("tags", "language"), [(["fr-CA", "de"], "fr"), (["xx", "pl"], "pl"), ([], "en"), (["xx"], "en")]
)
def test_what_shows_no_order_speaks_as_its_reader_wants(tags: list[str], language: str) -> None:
    words = WORDS[language]
    for page, text in (
        (unknown_page(tags), words.unknown_title),
        (expired_page(tags), words.expired_title),
        (unavailable_page(tags), words.unavailable),
    ):
        assert page.language.partition("-")[0] == language
        assert text in Shown(page.html).text


def test_the_longest_page_is_small() -> None:
    line = {**invoice()["lines"][0], "description": "A very long name of an article " * 6}
    page = order_page(
        tracked(
            OrderState.DELIVERED,
            lines=[line] * LINES_MAX,
            lines_left=950,
            refunds=[TrackedRefund(100, True, AT)] * 50,
            documents=[TrackedDocument(f"CN-{number}", "R") for number in range(50)],
        ),
        [f"../d/{'x' * 200}"] * 50,
    )
    assert len(page.html.encode()) < 50_000


@given(text=st.text(max_size=60))
def test_whatever_is_shown_stays_text(text: str) -> None:
    hostile = f"<script>alert(1)</script>\"'{text}"
    parcel: Any = {"carrier": hostile, "tracking_number": hostile, "tracking_url": f"https://dhl.example/{hostile}"}
    order = tracked(
        OrderState.SHIPPED,
        order_id=hostile,
        shop=replace(SHOP, trading_name=hostile, legal_name=hostile, phone=hostile),
        lines=[{**invoice()["lines"][0], "description": hostile}],
        documents=[TrackedDocument(hostile, "")],
        parcel=parcel,
    )
    page = order_page(order, ["../d/x"])
    plain = order_page(tracked(OrderState.SHIPPED, parcel=PARCEL, documents=[TrackedDocument("I", "")]), ["../d/x"])
    assert Shown(page.html).tags == Shown(plain.html).tags
    assert "<script" not in page.html


def test_the_page_loads_nothing_and_has_the_colour_of_the_shop() -> None:
    page = order_page(tracked(), [])
    assert Shown(page.html).tags.isdisjoint({"script", "img", "link", "iframe", "form", "input", "object"})
    assert " style=" not in page.html
    assert f"<style>{page.style}</style>" in page.html
    assert "--accent: #aa3300" in page.style
    assert "url(" not in page.style
    assert "@import" not in page.style
