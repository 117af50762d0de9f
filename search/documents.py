"""What stands in the index: products as they are searched, what is known of SKUs, and the positions.

A document's `source` is all that it was made from. So a change of stock makes a product's document again without a
question to anybody.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from tantivy import Document, Schema, SchemaBuilder

from domain.product import found_in, skus_of
from domain.records import Product, SynonymGroup
from domain.review import average_hundredths
from domain.search import fold, grams, indexed_price, words
from search.stems import compound_ends, primary, stem

#: Counts the changes of what stands in the index, or how words are cut: an index of another version is rebuilt.
INDEX_VERSION = 4

#: Fields of words, with their stems' fields: of names, of what sorts products, and of what describes them.
WORD_FIELDS = ("name", "label", "body")
#: Those with a field of what their compounds end with. Descriptions have none: there, ends of other words are many.
COMPOUND_FIELDS = ("name", "label")
HEAD = "head"

# In stock first, then short names, among what matches equally. Below the difference of two kinds of match.
_IN_STOCK_WEIGHT = 0.05
_SHORT_NAME_WEIGHT = 0.04
_TIE_WEIGHT = 0.001
_TIE_BITS = 13
_ENDS_REMEMBERED = 10_000


class Level(msgspec.Struct, frozen=True, array_like=True):
    """The pieces of a SKU that may be claimed, by the version of its stock."""

    available: int
    version: int


class Rating(msgspec.Struct, frozen=True, array_like=True):
    """How many published reviews an article has, the sum of their stars, and the version of its rating."""

    count: int
    stars: int
    version: int


class Article(msgspec.Struct, frozen=True):
    """What is known of a SKU, whether or not a product sells it."""

    seller_id: str
    sku: str
    level: Level | None = None
    rating: Rating | None = None

    @property
    def key(self) -> str:
        """Its document."""
        return article_key(self.seller_id, self.sku)


class IndexedProduct(msgspec.Struct, frozen=True):
    """A product as its last event has it; `product` is None if it was deleted."""

    seller_id: str
    product_id: str
    version: int
    #: Microseconds since 1970, UTC.
    changed_at: int
    product: Product | None

    @property
    def key(self) -> str:
        """Its document."""
        return product_key(self.seller_id, self.product_id)


class GivenSynonyms(msgspec.Struct, frozen=True):
    """A seller's synonyms as their last event has them."""

    seller_id: str
    version: int
    groups: list[SynonymGroup]

    @property
    def key(self) -> str:
        """Its document."""
        return synonyms_key(self.seller_id)


class Position(msgspec.Struct, frozen=True):
    """The first offset of a partition that the index does not account for, and the topic that it was counted in."""

    topic: str
    partition: int
    next_offset: int
    topic_id: str

    @property
    def key(self) -> str:
        """Its document."""
        return f"position/{self.topic}/{self.partition}"


class Head(msgspec.Struct, frozen=True):
    """Of which version the index is."""

    version: int

    @property
    def key(self) -> str:
        """Its document."""
        return HEAD


class Shown(msgspec.Struct, frozen=True):
    """What of a product stands in results, in all its languages."""

    product: IndexedProduct
    in_stock: list[str]
    rating_count: int
    stars: int


def product_key(seller_id: str, product_id: str) -> str:
    """The key of a product's document."""
    return f"product/{seller_id}/{product_id}"


def article_key(seller_id: str, sku: str) -> str:
    """The key of a SKU's document; also what a product's `sells` has."""
    return f"article/{seller_id}/{sku}"


def synonyms_key(seller_id: str) -> str:
    """The key of the document of a seller's synonyms."""
    return f"synonyms/{seller_id}"


def make_schema() -> Schema:
    """The fields. Those of words have no positions: what is searched are words, not phrases."""
    builder = SchemaBuilder()
    for name in ("key", "kind", "seller", "sells", "code", "language"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic", fast=name in ("kind", "language"))
    for name in WORD_FIELDS:
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="basic")
        builder.add_text_field(f"{name}_stem", tokenizer_name="whitespace", index_option="basic")
    for name in COMPOUND_FIELDS:
        builder.add_text_field(f"{name}_end", tokenizer_name="whitespace", index_option="basic")
    for name in ("category", "brand", "currency"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic", fast=True)
    for name in ("price", "rating", "in_stock", "by_price", "by_newest"):
        builder.add_unsigned_field(name, indexed=True, fast=True)
    builder.add_float_field("weight", fast=True)
    builder.add_bytes_field("source", stored=True)
    return builder.build()


def plain_document(kind: str, source: Article | GivenSynonyms | Position | Head) -> Document:
    """The document of what is no product."""
    document = Document()
    document.add_text("key", source.key)
    document.add_text("kind", kind)
    document.add_bytes("source", msgspec.json.encode(source))
    return document


def product_document(indexed: IndexedProduct, articles: Mapping[str, Article]) -> Document:
    """A product's document; `articles` has what is known of its SKUs, by SKU.

    A deleted one has its key and its version alone, so that no question finds it and no older event brings it back.
    """
    document = Document()
    document.add_text("key", indexed.key)
    product = indexed.product
    in_stock = [] if product is None else [sku for sku in skus_of(product) if _pieces(articles.get(sku)) > 0]
    ratings = [] if product is None else [each.rating for sku in skus_of(product) if (each := articles.get(sku))]
    count = sum(rating.count for rating in ratings if rating is not None)
    stars = sum(rating.stars for rating in ratings if rating is not None)
    document.add_bytes("source", msgspec.json.encode(Shown(indexed, in_stock, count, stars)))
    if product is None:
        document.add_text("kind", "deleted")
        return document
    document.add_text("kind", "product")
    document.add_text("seller", indexed.seller_id)
    for sku in skus_of(product):
        document.add_text("sells", article_key(indexed.seller_id, sku))
    for code in {fold(code) for code in (indexed.product_id, *skus_of(product))}:
        document.add_text("code", code)
    for language in {primary(text["language"]) for text in product["texts"]}:
        document.add_text("language", language)
    for field, (found, stems) in _words(product).items():
        document.add_text(field, " ".join(found))
        document.add_text(f"{field}_stem", " ".join(stems))
        if field in COMPOUND_FIELDS:
            document.add_text(f"{field}_end", " ".join({end for term in stems for end in end_terms(term)}))
    for category in found_in(product):
        document.add_text("category", category)
    if product["brand"]:
        document.add_text("brand", product["brand"])
    document.add_text("currency", product["currency"])
    price = min(indexed_price(each["unit_price"]) for each in product["variants"])
    tie = int.from_bytes(hashlib.blake2b(indexed.key.encode(), digest_size=4).digest()) % (1 << _TIE_BITS)
    document.add_unsigned("price", price)
    document.add_unsigned("rating", average_hundredths(stars, count) if count else 0)
    document.add_unsigned("in_stock", int(bool(in_stock)))
    # Products of one price or one instant have an order too, the same in every index.
    document.add_unsigned("by_price", (price << _TIE_BITS) + tie)
    document.add_unsigned("by_newest", (max(0, indexed.changed_at) // 1_000 << _TIE_BITS) + tie)
    name_words = min(sum(1 for _ in words(text["name"])) or 1 for text in product["texts"])
    document.add_float(
        "weight",
        _IN_STOCK_WEIGHT * bool(in_stock) + _SHORT_NAME_WEIGHT / name_words + _TIE_WEIGHT * tie / (1 << _TIE_BITS),
    )
    return document


def stem_terms(languages: Iterable[str], word: str) -> list[str]:
    """The terms of a word's stems, one for each of the languages that has stems."""
    return [f"{language}:{fold(found)}" for language in languages if (found := stem(language, word)) is not None]


@lru_cache(_ENDS_REMEMBERED)
def end_terms(stem_term: str) -> tuple[str, ...]:
    """The terms of what a word may end with, by the term of its stem."""
    language, _, found = stem_term.partition(":")
    return tuple(f"{language}:{end}" for end in compound_ends(language, found))


def _pieces(article: Article | None) -> int:
    return 0 if article is None or article.level is None else article.level.available


def _words(product: Product) -> dict[str, tuple[set[str], set[str]]]:
    """Field → words and stems."""
    found: dict[str, tuple[set[str], set[str]]] = {field: (set(), set()) for field in WORD_FIELDS}

    def add(field: str, language: str, text: str) -> None:
        its_words, stems = found[field]
        for word in words(text):
            if word.is_unspaced:
                its_words.update(word.folded, grams(word.folded))
            else:
                its_words.add(word.folded)
                stems.update(stem_terms([language], word.lower))

    default = primary(product["texts"][0]["language"])
    for text in product["texts"]:
        add("name", primary(text["language"]), text["name"])
        add("body", primary(text["language"]), text["description"])
    attributes = [*product["attributes"], *(each for variant in product["variants"] for each in variant["attributes"])]
    for label in (product["brand"], *found_in(product), *(each["value"] for each in attributes)):
        add("label", default, label)
    for each in attributes:
        add("body", default, each["name"])
    for image in product["images"]:
        add("body", default, image["alt"])
    return found


def decoded(source: bytes, kind: type[Any]) -> Any:
    """A document's source."""
    return msgspec.json.decode(source, type=kind)
