"""Who may be invoiced without an address: by country, up to its amount and no cent more."""

from typing import Any

import pytest

from domain.invoice import Priced, price
from domain.iso import CURRENCY_EXPONENTS
from domain.money import minor_text
from domain.records import InvoiceRequest
from domain.rules import EU, SellerFacts, check_rules
from domain.simplified import LIMITS, check_simplified
from gateway.http.bodies import NO_ADDRESS
from tests.unit.domain.test_invoice import line, request

#: By their laws, tax included.
MORE = {
    "AT": "400 EUR", "CH": "400 CHF", "CZ": "10000 CZK", "DE": "250 EUR", "DK": "3000 DKK", "ES": "400 EUR",
    "FI": "400 EUR", "GB": "250 GBP", "IT": "400 EUR", "PL": "450 PLN", "SE": "4000 SEK",
}  # fmt: skip


def at_a_till(currency: str, gross_minor: int, *, category: str = "Z", **buyer: Any) -> tuple[InvoiceRequest, Priced]:
    item = line(unit_price=minor_text(gross_minor, currency), quantity="1", vat_rate="0", vat_category=category)
    nobody = {"name": "Guest", "email": "", "vat_id": None, "address": NO_ADDRESS, **buyer}
    asked = request(lines=[item], currency=currency, buyer=nobody)
    priced = price(asked)
    assert isinstance(priced, Priced), priced
    return asked, priced


@pytest.mark.parametrize("country", [*sorted(EU), "GB", "CH"])
def test_up_to_the_countrys_amount_and_no_cent_more(country: str) -> None:
    amount, currency = MORE.get(country, "100 EUR").split()
    most = int(amount) * 10 ** CURRENCY_EXPONENTS[currency]
    assert check_simplified(*at_a_till(currency, most, vat_id="IT00743110157"), country) is None
    refusal = check_simplified(*at_a_till(currency, most + 1, vat_id="IT00743110157"), country)
    assert refusal is not None
    assert refusal.field == "buyer.address"
    assert f"{amount} {currency} ({LIMITS[country].law})" in refusal.detail


@pytest.mark.parametrize("country", sorted(EU))
def test_a_hundred_euros_are_permitted_everywhere_in_the_eu(country: str) -> None:
    """By the Directive, also to sellers of other currencies."""
    assert check_simplified(*at_a_till("EUR", 100_00, vat_id="IT00743110157"), country) is None
    assert check_simplified(*at_a_till("USD", 1), country) is not None


def test_euros_are_no_currency_of_limits_elsewhere() -> None:
    for country in ("GB", "CH"):
        assert check_simplified(*at_a_till("EUR", 1), country) is not None
    assert check_simplified(*at_a_till("USD", 10**9), "US") is None


def test_italy_wants_an_identifier_in_the_addresses_place() -> None:
    refusal = check_simplified(*at_a_till("EUR", 10_00), "IT")
    assert refusal is not None
    assert "legal_id" in refusal.detail
    details = {"trading_name": "", "legal_id": {"id": "RSSMRA80A01H501U", "scheme": ""}, "electronic_address": None}
    assert check_simplified(*at_a_till("EUR", 10_00, details={**details, "contact": None}), "IT") is None
    assert check_simplified(*at_a_till("EUR", 10_00, vat_id="IT00743110157"), "IT") is None


@pytest.mark.parametrize("category", ["AE", "K"])
def test_reverse_charge_and_supplies_within_the_eu_need_an_address(category: str) -> None:
    asked, priced = at_a_till("EUR", 10_00, category=category)
    refusal = check_rules(asked, priced, SellerFacts("DE", "DE136695976"))
    assert refusal is not None
    assert "220a (2)" in refusal.detail
