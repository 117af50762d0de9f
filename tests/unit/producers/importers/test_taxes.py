"""Which lines bear which tax: concluded from amounts, and refused where the amounts don't tell."""

from decimal import Decimal

import pytest

from producers.importers.shop_order import Part, Tax, UntellableError
from producers.importers.taxes import assign, rate_of, split

MINOR = Decimal("0.01")


def part(amount: str, kind: str = "item", tax: str | None = None, *, is_taxable: bool = True) -> Part:
    own = None if tax is None else Decimal(tax)
    return Part(kind, 2, "Thing", Decimal(amount), is_taxable=is_taxable, tax=own)  # type: ignore[arg-type]


def rates(parts: list[Part], *taxes: tuple[str, str | None], discount: str = "0", included: bool = False) -> list[str]:
    named = [Tax("Tax", "Tax", Decimal(amount), rate and Decimal(rate)) for amount, rate in taxes]  # type: ignore[arg-type]
    made = assign(parts, Decimal(discount), named, included=included, minor=MINOR, row=2)
    return [f"{rate.normalize():f}" for rate in made.rates]


@pytest.mark.parametrize(
    ("tax", "base", "rate"),
    [
        ("93.00", "465.00", "20"),
        ("9.98", "100.00", "9.98"),
        ("997.50", "10000.00", "9.975"),
        ("0.17", "0.83", "20"),
        ("80.00", "100.00", None),
        ("0.00", "1.00", None),
        ("1.00", "0.00", None),
    ],
)
def test_a_rate_has_the_fewest_decimals_that_make_the_tax(tax: str, base: str, rate: str | None) -> None:
    found = rate_of(Decimal(tax), Decimal(base), Decimal("0.005"))
    assert (None if found is None else f"{found.normalize():f}") == rate


def test_a_share_is_whole_and_all_of_them_are_the_amount() -> None:
    assert split(Decimal("10.00"), [Decimal(1)] * 3, MINOR) == [Decimal("3.34"), Decimal("3.33"), Decimal("3.33")]
    assert split(Decimal("1.00"), [Decimal(0), Decimal(0)], MINOR) == [0, 0]


def test_a_discount_that_only_taxed_items_bear_is_found() -> None:
    """5.00 off 20.00 taxed, none off 20.00 untaxed: 10% of 15.00."""
    parts = [part("20.00"), part("20.00", is_taxable=False)]
    made = assign(
        parts, Decimal(5), [Tax("Tax", "T", Decimal("1.50"), Decimal(10))], included=False, minor=MINOR, row=2
    )
    assert (made.rates, made.shares) == ((Decimal(10), Decimal(0)), (Decimal("5.00"), Decimal(0)))


def test_tax_on_shipping_alone() -> None:
    assert rates([part("30.00", is_taxable=False), part("4.90", "shipping")], ("0.29", "6")) == ["0", "6"]


def test_tax_on_an_item_that_the_export_calls_untaxed() -> None:
    assert rates([part("120.00", is_taxable=False)], ("8.40", "7")) == ["7"]


def test_tax_on_duties() -> None:
    assert rates([part("164.02"), part("34.88", "shipping"), part("3.98", "duties")], ("34.49", "17")) == ["17"] * 3


def test_parts_with_their_own_tax_have_their_own_rates() -> None:
    parts = [part("100.00", tax="21.00"), part("10.00", tax="0.90"), part("5.00", "shipping", tax="1.05")]
    assert rates(parts) == ["21", "9", "21"]
    with pytest.raises(UntellableError, match=r"no rate makes 9\.00 of 10\.00"):
        rates([part("10.00", tax="9.00")])


def test_a_rate_that_fits_goods_with_shipping_is_likelier_than_an_odd_one_without() -> None:
    assert rates([part("10.00"), part("5.00", "shipping")], ("3.00", None)) == ["20", "20"]


def test_two_unnamed_taxes_are_one() -> None:
    assert rates([part("55.00")], ("2.20", None), ("0.39", None)) == ["4.7"]


def test_more_than_two_rates_inside_prices_are_not_taken_apart() -> None:
    with pytest.raises(UntellableError, match="which lines bear which of 3 taxes is not said"):
        rates(
            [part("12.10"), part("10.90"), part("10.60")], ("2.10", "21"), ("0.90", "9"), ("0.60", "6"), included=True
        )
