"""Events as changes of the index. Only versions count: what is older than what is there does nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Message

from domain.numbering import SELLER_ID
from domain.product import check, check_product_id, skus_of
from domain.synonyms import check as check_synonyms
from schemas import catalog
from schemas.codec import DecodeError, decode
from search.documents import Article, GivenSynonyms, IndexedProduct, Level, Position, Rating, article_key
from search.index import CatalogueIndex

#: What a worker follows.
TOPICS = (catalog.CATALOGUE_EVENTS, catalog.INVENTORY_EVENTS, catalog.REVIEW_EVENTS)


@dataclass(slots=True)
class Changes:
    """What events have said since the last commit: of each product, SKU, rating and seller's synonyms the newest."""

    products: dict[str, IndexedProduct] = field(default_factory=dict)
    articles: dict[str, Article] = field(default_factory=dict)
    #: By seller.
    synonyms: dict[str, GivenSynonyms] = field(default_factory=dict)
    #: (topic, partition) → the first offset that was not read.
    next_offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many documents they are about, at least."""
        return len(self.products) + len(self.articles) + len(self.synonyms)

    def read(self, message: Message) -> None:
        """Add what a record says. Raises `DecodeError`, and then it counts as read all the same."""
        topic, partition = message.topic() or "", message.partition() or 0
        self.next_offsets[topic, partition] = (message.offset() or 0) + 1
        value = message.value()
        if value is None:
            raise DecodeError("a tombstone: the record has no value")
        _READERS[topic](self, value)

    def _read_catalogue(self, value: bytes) -> None:
        events = catalog.CATALOGUE_EVENTS
        schema, body = decode(value, *events.schemas, bytes_max=events.value_bytes_max)
        if catalog.SYNONYMS_CHANGED.describes(body, schema):
            given = given_synonyms(body)
            before = self.synonyms.get(given.seller_id)
            if before is None or given.version > before.version:
                self.synonyms[given.seller_id] = given
            return
        found = indexed(body)
        known = self.products.get(found.key)
        if known is None or found.version > known.version:
            self.products[found.key] = found

    def _read_stock(self, value: bytes) -> None:
        _, body = decode(value, catalog.STOCK_CHANGED, bytes_max=catalog.INVENTORY_EVENTS.value_bytes_max)
        _check_seller(body["seller_id"])
        for each in body["changes"]:
            level = Level(each["on_hand"] - each["reserved"], each["version"])
            self._merge(Article(body["seller_id"], each["sku"], level=level))

    def _read_review(self, value: bytes) -> None:
        _, body = decode(value, catalog.REVIEW_CHANGED, bytes_max=catalog.REVIEW_EVENTS.value_bytes_max)
        _check_seller(body["seller_id"])
        its = body["rating"]
        stars = (its["one"], its["two"], its["three"], its["four"], its["five"])
        self._merge(Article(body["seller_id"], body["sku"], rating=rating(stars, its["version"])))

    def _merge(self, article: Article) -> None:
        known = self.articles.get(article.key)
        self.articles[article.key] = article if known is None else newest(known, article)


_READERS: Mapping[str, Callable[[Changes, bytes], None]] = {
    catalog.CATALOGUE_EVENTS.name: Changes._read_catalogue,
    catalog.INVENTORY_EVENTS.name: Changes._read_stock,
    catalog.REVIEW_EVENTS.name: Changes._read_review,
}


def apply(index: CatalogueIndex, changes: Changes, topic_ids: Mapping[str, str]) -> set[str]:
    """Write the changes with the positions that they lead to, and commit; the sellers for whose buyers it changes."""
    known = index.articles(changes.articles.keys())
    articles = {key: newest(known[key], each) if key in known else each for key, each in changes.articles.items()}
    articles = {key: each for key, each in articles.items() if each != known.get(key)}
    there = {key: shown.product for key, shown in index.products(changes.products.keys()).items()}
    products = {
        key: each
        for key, each in changes.products.items()
        if key not in there or each.version > there[key].version
    }  # fmt: skip
    for key, shown in index.products(articles.keys(), "sells").items():
        products.setdefault(key, shown.product)
    sold = {
        article_key(each.seller_id, sku)
        for each in products.values()
        if each.product is not None
        for sku in skus_of(each.product)
    }
    around = index.articles(sold - articles.keys()) | articles
    for product in products.values():
        index.put_product(product, around)
    index.put("article", articles.values())
    given_before = index.synonyms(changes.synonyms)
    given = [
        each
        for seller_id, each in changes.synonyms.items()
        if seller_id not in given_before or each.version > given_before[seller_id].version
    ]
    index.put("synonyms", given)
    index.put(
        "position",
        [
            Position(topic, partition, next_offset, topic_ids[topic])
            for (topic, partition), next_offset in changes.next_offsets.items()
        ],
    )
    index.commit()
    return {each.seller_id for each in products.values()} | {each.seller_id for each in given}


def indexed(event: Mapping[str, Any]) -> IndexedProduct:
    """A product as its event has it. Raises `DecodeError` for one that breaks the catalogue's rules."""
    _check_seller(event["seller_id"])
    product = event["product"]
    refusal = check_product_id(event["product_id"]) or (None if product is None else check(product))
    if refusal is not None:
        raise DecodeError(str(refusal))
    return IndexedProduct(event["seller_id"], event["product_id"], event["version"], event["occurred_at"], product)


def given_synonyms(event: Mapping[str, Any]) -> GivenSynonyms:
    """A seller's synonyms as their event has them. Raises `DecodeError` for those that break the rules."""
    _check_seller(event["seller_id"])
    refusal = check_synonyms(event["groups"])
    if refusal is not None:
        raise DecodeError(str(refusal))
    return GivenSynonyms(event["seller_id"], event["version"], event["groups"])


def rating(stars: tuple[int, int, int, int, int], version: int) -> Rating:
    """A rating from how many reviews gave 1, 2 … 5 stars."""
    return Rating(sum(stars), sum(each * count for each, count in enumerate(stars, 1)), version)


def newest(one: Article, other: Article) -> Article:
    """What is known of a SKU from both."""
    return Article(one.seller_id, one.sku, _newer(one.level, other.level), _newer(one.rating, other.rating))


def _newer(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return one or other
    return other if other.version > one.version else one


def _check_seller(seller_id: str) -> None:
    if SELLER_ID.fullmatch(seller_id) is None:
        raise DecodeError("seller_id must be 1 to 40 of a-z, 0-9 and -")
