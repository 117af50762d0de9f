"""Where the links of the demo shop's search lead."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from local.shop_search import page_of


def found(*currencies: str) -> dict[str, Any]:
    """An answer of the gateway with a product in each currency."""
    return {
        "facets": {
            "categories": [],
            "brands": [],
            "currencies": [{"value": each, "count": 1} for each in currencies],
            "prices": [{"currency": each, "price_min": "5", "price_max": "10", "count": 1} for each in currencies],
        }
    }


def asked_at(address: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(address).query))


def test_a_band_of_prices_is_of_its_currency() -> None:
    page = page_of({"q": "mug", "cursor": "x"}, found("EUR", "USD"))
    euros, dollars = ((label, asked_at(page["narrowed"]("price", value))) for value, label, *_ in page["prices_found"])
    assert euros == ("5 to 9.99 EUR", {"q": "mug", "currency": "EUR", "price_min": "5", "price_max": "9.99"})
    assert dollars == ("5 to 9.99 USD", {"q": "mug", "currency": "USD", "price_min": "5", "price_max": "9.99"})


def test_a_band_that_is_chosen_is_shown_so_and_can_be_removed() -> None:
    asked = {"q": "mug", "currency": "USD", "price_min": "5", "price_max": "9.99"}
    page = page_of(asked, found("EUR", "USD"))
    assert [chosen for *_, chosen in page["prices_found"]] == [False, True]
    assert asked_at(page["without"]("price")) == {"q": "mug", "currency": "USD"}


def test_an_order_by_price_is_of_one_currency() -> None:
    orders = {value: asked_at(address) for value, _, address in page_of({"q": "mug"}, found("EUR", "USD"))["sorts"]}
    assert orders["price"] == {"q": "mug", "sort": "price", "currency": "EUR"}
    assert orders["-price"] == {"q": "mug", "sort": "-price", "currency": "EUR"}
    assert orders["newest"] == {"q": "mug", "sort": "newest"}
    chosen = page_of({"q": "mug", "currency": "USD"}, found("EUR", "USD"))["sorts"]
    assert asked_at(chosen[1][2]) == {"q": "mug", "sort": "price", "currency": "USD"}


def test_another_currency_leaves_nothing_that_was_said_of_prices() -> None:
    page = page_of({"currency": "USD", "price_min": "5", "sort": "price"}, found("EUR", "USD"))
    assert asked_at(page["narrowed"]("currency", "EUR")) == {"currency": "EUR"}
    assert asked_at(page["without"]("currency")) == {}
    assert [value for value, *_ in page["currencies_found"]] == ["EUR", "USD"]
    assert page_of({}, found("EUR"))["currencies_found"] == []
