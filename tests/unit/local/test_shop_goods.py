"""The demo shop's goods are products that the catalogue takes, each with a picture that draws."""

import re
from xml.etree import ElementTree

import msgspec

from domain.product import check, check_product_id
from gateway.products.product_shapes import BulkLine, as_record
from local.shop_goods import categories, goods


def test_there_are_a_thousand_products_each_of_which_is_taken() -> None:
    found = goods()
    assert len(found) == 1_000
    for good in found.values():
        body = msgspec.convert(good.body, BulkLine)
        assert check_product_id(body.product_id) is None
        assert check(as_record(body)) is None
        assert good.on_hand >= 0
    skus = [sku for good in found.values() for sku in good.skus]
    assert len(set(skus)) == len(skus) > 1_000
    assert any(good.on_hand == 0 for good in found.values())


def test_every_product_is_in_a_category_that_the_shop_shows() -> None:
    assert {good.body["categories"][0] for good in goods().values()} < set(categories())


def test_every_picture_draws_and_runs_nothing() -> None:
    """It is small, and holds no script, no style and no link elsewhere."""
    pictures = {good.picture for good in goods().values()}
    assert len(pictures) == 100
    for picture in pictures:
        assert len(picture) < 1_000
        tags = {re.sub("{.*}", "", each.tag) for each in ElementTree.fromstring(picture).iter()}
        assert tags <= {"svg", "rect", "path", "circle"}
