"""Random orders, rendered as Shopify would export them, come back with the buyer's totals."""

import tempfile
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.iso import CURRENCY_EXPONENTS
from tests.unit.producers.importers.exports import ORDER, body, priced, read

_RATES = ("20", "21", "5.5", "6.625", "9.975", "0.25")


@dataclass(frozen=True)
class Sold:
    price_minor: int
    quantity: int
    discount_percent: int
    is_taxable: bool


@dataclass(frozen=True)
class Shop:
    currency: str
    items: tuple[Sold, ...]
    shipping_minor: int
    is_shipping_taxed: bool
    is_shipping_free: bool
    discount_percent: int
    tip_minor: int
    duties_minor: int
    rates: tuple[str, ...]
    prices_include_tax: bool


sold = st.builds(
    Sold,
    price_minor=st.integers(1, 100_000),
    quantity=st.integers(1, 12),
    discount_percent=st.sampled_from((0, 0, 10, 50)),
    is_taxable=st.sampled_from((True, True, True, False)),
)
shops = st.builds(
    Shop,
    currency=st.sampled_from(("EUR", "USD", "JPY", "KWD")),
    items=st.lists(sold, min_size=1, max_size=6).map(tuple),
    shipping_minor=st.sampled_from((0, 495, 1_000)),
    is_shipping_taxed=st.booleans(),
    is_shipping_free=st.booleans(),
    discount_percent=st.sampled_from((0, 0, 15, 100)),
    tip_minor=st.sampled_from((0, 0, 300)),
    duties_minor=st.sampled_from((0, 0, 398)),
    rates=st.lists(st.sampled_from(_RATES), max_size=3, unique=True).map(tuple),
    prices_include_tax=st.booleans(),
)


def export(shop: Shop) -> tuple[list[dict[str, str]], int, int]:
    """The rows, the total and the taxes in minor units, as Shopify adds them up: tax is rounded line by line."""
    exponent = CURRENCY_EXPONENTS[shop.currency]
    unit = Decimal(1).scaleb(-exponent)

    def text(minor: int) -> str:
        return format(minor * unit, "f")

    own = [each.price_minor * each.quantity * each.discount_percent // 100 for each in shop.items]
    amounts = [each.price_minor * each.quantity - off for each, off in zip(shop.items, own, strict=True)]
    order_off = [amount * shop.discount_percent // 100 for amount in amounts]
    bases = [amount - off for amount, off in zip(amounts, order_off, strict=True)]
    shipping_off = shop.shipping_minor if shop.is_shipping_free else 0
    taxed = [base for base, each in zip(bases, shop.items, strict=True) if each.is_taxable]
    if shop.is_shipping_taxed:
        taxed.append(shop.shipping_minor - shipping_off)
    together = sum(map(Decimal, shop.rates), Decimal(0))
    below = 100 + together if shop.prices_include_tax else Decimal(100)
    taxes = [
        sum(int((base * Decimal(rate) / below).quantize(Decimal(1), ROUND_HALF_UP)) for base in taxed)
        for rate in shop.rates
    ]
    subtotal = sum(bases)
    total = subtotal + shop.shipping_minor - shipping_off + shop.tip_minor + shop.duties_minor
    if not shop.prices_include_tax:
        total += sum(taxes)
    discount = sum(own) + sum(order_off) + shipping_off
    head = {name: value for name, value in ORDER.items() if not name.startswith(("Tax ", "Lineitem"))}
    head |= {"Currency": shop.currency, "Subtotal": text(subtotal), "Shipping": text(shop.shipping_minor)}
    head |= {"Taxes": text(sum(taxes)), "Total": text(total), "Discount Amount": text(discount)}
    head |= {"Duties": text(shop.duties_minor)}
    for number, (rate, tax) in enumerate(zip(shop.rates, taxes, strict=True), 1):
        head |= {f"Tax {number} Name": f"State Tax {rate}%", f"Tax {number} Value": text(tax)}
    rows: list[dict[str, str]] = [
        {
            "Name": ORDER["Name"],
            "Lineitem quantity": str(each.quantity),
            "Lineitem name": f"Thing {index}",
            "Lineitem price": text(each.price_minor),
            "Lineitem discount": text(off),
            "Lineitem taxable": str(each.is_taxable).lower(),
        }
        for index, (each, off) in enumerate(zip(shop.items, own, strict=True))
    ]
    if shop.tip_minor:
        tip = {"Lineitem quantity": "1", "Lineitem name": "Tip", "Lineitem price": text(shop.tip_minor)}
        rows.append({"Name": ORDER["Name"], **tip, "Lineitem taxable": "false"})
    rows[0] = head | rows[0]
    return rows, total, sum(taxes)


@settings(max_examples=150, deadline=None)
@given(shops)
def test_an_order_comes_back_with_the_total_and_the_tax_that_the_buyer_saw(shop: Shop) -> None:
    rows, total, taxes = export(shop)
    with tempfile.TemporaryDirectory() as folder:
        (order,) = read(Path(folder), *rows)
    result, made = priced(order), body(order)
    assert Decimal(made.get("prepaid_amount", "0")) == total * Decimal(1).scaleb(-CURRENCY_EXPONENTS[shop.currency])
    assert result.payable_minor == 0
    # Shopify rounds each line's taxes, an invoice the tax of each rate: by a line and a tax, half a minor unit each.
    most = (len(shop.items) + 1) * max(1, len(shop.rates))
    assert abs(result.tax_minor - taxes) <= most
    assert abs(result.gross_minor - total) <= (0 if shop.prices_include_tax else most)
    tips = 1 if shop.tip_minor else 0
    assert len(made["lines"]) == len(shop.items) + tips
    assert sum(1 for each in made.get("charges", [])) == bool(shop.shipping_minor) + bool(shop.duties_minor)
