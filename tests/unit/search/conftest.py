"""An index of the demo shop's goods."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.search import SearchAnswer, SearchQuestion
from gateway.products.product_shapes import BulkLine, ProductBody, as_record
from local.shop_goods import goods
from search.documents import INDEX_VERSION, Article, Head, IndexedProduct, Level
from search.index import CatalogueIndex, IndexFolder
from search.searching import Searching, Versions

Ask = Callable[..., SearchAnswer]


def indexed(product_id: str, body: dict[str, Any], seller_id: str = "demo", changed_at: int = 0) -> IndexedProduct:
    """A product as its event has it."""
    return IndexedProduct(seller_id, product_id, 1, changed_at, as_record(msgspec.convert(body, ProductBody)))


def index_of(folder: Path, products: Iterable[IndexedProduct], articles: Iterable[Article] = ()) -> CatalogueIndex:
    """An index of these products."""
    made = IndexFolder(folder)
    index = made.new()
    known = {each.key: each for each in articles}
    index.put("head", [Head(INDEX_VERSION)], is_new=True)
    index.put("article", known.values(), is_new=True)
    for product in products:
        index.put_product(product, known, is_new=True)
    index.commit()
    index.close()
    made.finish()
    made.close()
    return made.open()


def asking(index: CatalogueIndex) -> Ask:
    """Asks the index, for the seller `demo` unless said otherwise."""
    searching = Searching(index, Versions())

    def ask(text: str = "", seller_id: str = "demo", **more: Any) -> SearchAnswer:
        return searching.answer(SearchQuestion(seller_id, text, **more))

    return ask


@pytest.fixture(scope="session")
def ask_goods(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Asks an index of all of the demo shop's goods."""
    bodies = [msgspec.convert(good.body, BulkLine) for good in goods().values()]
    products = [IndexedProduct("demo", body.product_id, 1, at, as_record(body)) for at, body in enumerate(bodies)]
    articles = [Article("demo", sku, Level(good.on_hand, 1)) for good in goods().values() for sku in good.skus]
    return asking(index_of(tmp_path_factory.mktemp("goods"), products, articles))
