"""What a product must be."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from domain.product import check, check_product_id, found_in
from domain.records import Product

MUG: Product = {
    "texts": [{"language": "en", "name": "Mug", "description": "For café crème."}],
    "brand": "Atelier",
    "categories": [{"path": "kitchen/mugs"}, {"path": "gifts"}],
    "attributes": [{"name": "material", "value": "stoneware"}],
    "images": [{"url": "https://img.example/mug.svg", "alt": "A mug"}],
    "currency": "EUR",
    "vat_category": "S",
    "vat_rate": "20.00",
    "prices_include_tax": True,
    "variants": [{"sku": "MUG", "unit_price": "9.90", "attributes": []}],
}


def changed(change: Callable[[Any], object]) -> Product:
    made = copy.deepcopy(MUG)
    change(made)
    return made


def test_a_product_may_be_so() -> None:
    assert check(MUG) is None
    assert check(changed(lambda each: each["images"][0].update(url="/shop/pictures/mug.svg"))) is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda each: each["texts"].clear(), "texts"),
        (lambda each: each["texts"].append(each["texts"][0]), "texts[1].language"),
        (lambda each: each["texts"][0].update(language="english!"), "texts[0].language"),
        (lambda each: each["texts"][0].update(name=" "), "texts[0].name"),
        (lambda each: each["texts"][0].update(description="\0"), "texts[0].description"),
        (lambda each: each.update(brand="x" * 201), "brand"),
        (lambda each: each["categories"][0].update(path="Kitchen"), "categories[0]"),
        (lambda each: each["categories"][1].update(path="kitchen/mugs"), "categories[1]"),
        (lambda each: each["attributes"].append(each["attributes"][0]), "attributes[1].name"),
        (lambda each: each["images"][0].update(url="javascript:alert(1)"), "images[0].url"),
        (lambda each: each["images"][0].update(url="//elsewhere.example/x"), "images[0].url"),
        (lambda each: each.update(currency="EURO"), "currency"),
        (lambda each: each.update(vat_category="X"), "vat_category"),
        (lambda each: each.update(vat_rate="a fifth"), "vat_rate"),
        (lambda each: each.update(vat_category="E"), "vat_rate"),
        (lambda each: each["variants"].clear(), "variants"),
        (lambda each: each["variants"].append(each["variants"][0]), "variants[1].sku"),
        (lambda each: each["variants"][0].update(sku=".."), "variants[0].sku"),
        (lambda each: each["variants"][0].update(unit_price="-1"), "variants[0].unit_price"),
        (lambda each: each["variants"][0].update(unit_price="1e3"), "variants[0].unit_price"),
        (lambda each: each["attributes"][0].update(value=""), "attributes[0].value"),
    ],
)  # fmt: skip
def test_a_rule_that_is_broken_is_named_by_its_field(change: Callable[[Any], object], field: str) -> None:
    refusal = check(changed(change))
    assert refusal is not None
    assert refusal.field == field


@pytest.mark.parametrize("product_id", ["mug", "M-1.2_3~4", "0", "x" * 64])
def test_a_product_may_be_called_so(product_id: str) -> None:
    assert check_product_id(product_id) is None


@pytest.mark.parametrize("product_id", ["", "-mug", "a b", "é", "a/b", ".", "x" * 65, "mug\n"])
def test_a_product_may_not_be_called_so(product_id: str) -> None:
    assert check_product_id(product_id) is not None


def test_a_product_is_found_in_the_categories_that_its_own_are_part_of() -> None:
    assert found_in(MUG) == ["kitchen", "kitchen/mugs", "gifts"]
