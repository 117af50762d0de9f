"""Answers questions from the index."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import msgspec
from tantivy import Order, Searcher, SearchResult

from domain.records import Product, ProductText
from domain.review import average_text
from domain.search import SearchAnswer, SearchHit, SearchImage, SearchQuestion, SearchRating, indexed_price
from search.documents import GivenSynonyms, Shown
from search.highlighting import Marker, rendered
from search.index import CatalogueIndex, source_of
from search.queries import Asked, facets_of, finds_something, query_of, readings, traits_of
from search.stems import STEMMERS, primary
from search.synonyms import Synonyms

_shown = msgspec.json.Decoder(Shown)


class SeveralCurrenciesError(Exception):
    """The question compares prices that are in several currencies, and names none of them."""

    def __init__(self, currencies: Sequence[str]) -> None:
        super().__init__(f"must be named, one of {', '.join(currencies)}: the seller has prices in all of these")


class Versions:
    """Counts the changes of each seller's part of the index, so that what is remembered of it is known to be old."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._of_seller: dict[str, int] = {}

    def of(self, seller_id: str) -> int:
        """How often it has changed since the process began."""
        return self._of_seller.get(seller_id, 0)

    def changed(self, seller_ids: set[str]) -> None:
        """A commit has changed these."""
        with self._lock:
            for seller_id in seller_ids:
                self._of_seller[seller_id] = self._of_seller.get(seller_id, 0) + 1


@dataclass(frozen=True, slots=True)
class _Seller:
    """What is remembered of a seller's part of the index, at its version."""

    version: int
    #: Those of the products.
    languages: list[str]
    currencies: list[str]
    given: GivenSynonyms | None
    #: Languages → the synonyms that were given, in these.
    synonyms: dict[tuple[str, ...], Synonyms] = field(default_factory=dict)

    def synonyms_in(self, languages: Sequence[str]) -> Synonyms | None:
        """The seller's synonyms; None without any."""
        if self.given is None:
            return None
        # All languages without stems are the same here: whatever buyers name, there are no more than these.
        key = tuple(each for each in languages if each in STEMMERS)
        found = self.synonyms.get(key)
        if found is None:
            found = self.synonyms[key] = Synonyms(self.given.groups, key)
        return found


class Searching:
    """Answers from one index; in any thread."""

    def __init__(self, index: CatalogueIndex, versions: Versions) -> None:
        self._index = index
        self._versions = versions
        self._sellers: dict[str, _Seller] = {}

    def answer(self, question: SearchQuestion) -> SearchAnswer:
        """What the question finds, in the state of the last commit. Raises `SeveralCurrenciesError`."""
        # Read before the searcher: a commit between the two leaves what is remembered too old, never too new.
        seller = self._seller(question.seller_id)
        if question.compares_prices and not question.currency and len(seller.currencies) > 1:
            raise SeveralCurrenciesError(seller.currencies)
        searcher = self._index.searcher
        asked, found = self._found(question, seller, searcher)
        marker = Marker(asked.words, asked.match)
        # Its stubs lack it.
        total: int = found.count  # type: ignore[attr-defined]
        hits = [_hit(_shown.decode(source_of(searcher, at)), question.language, marker) for _, at in found.hits]
        return {
            "hits": hits,
            "total": total,
            "match": asked.match,
            "facets": facets_of(asked, searcher, seller.currencies, total),
        }

    def _found(self, question: SearchQuestion, seller: _Seller, searcher: Searcher) -> tuple[Asked, SearchResult]:
        """The strictest reading that finds something, and what it finds; if none does, the last."""
        languages = [primary(question.language)] if question.language else seller.languages
        for asked in readings(question, languages, seller.synonyms_in(languages)):
            found = _search(asked, searcher)
            # Its stubs lack it.
            if found.count or finds_something(asked, searcher):  # type: ignore[attr-defined]
                break
        return asked, found

    def _seller(self, seller_id: str) -> _Seller:
        version = self._versions.of(seller_id)
        known = self._sellers.get(seller_id)
        if known is not None and known.version == version:
            return known
        given = self._index.synonyms([seller_id]).get(seller_id)
        found = _Seller(version, *traits_of(seller_id, self._index.searcher), given)
        if known is not None and given is not None and known.given == given:
            # Products change often, and synonyms seldom.
            found.synonyms.update(known.synonyms)
        # Anybody may ask for any seller: of those that there are not nothing is remembered.
        if found.languages or given is not None:
            self._sellers[seller_id] = found
        return found


def _search(asked: Asked, searcher: Searcher) -> SearchResult:
    question, query = asked.question, query_of(asked)
    sort = question.sort or ("relevance" if asked.text is not None else "newest")
    if sort == "relevance":
        return searcher.search(query, limit=question.limit, offset=question.offset, weight_by_field="weight")
    return searcher.search(
        query,
        limit=question.limit,
        offset=question.offset,
        order_by_field="by_newest" if sort == "newest" else "by_price",
        order=Order.Asc if sort == "price" else Order.Desc,
    )


def _hit(shown: Shown, wanted: str, marker: Marker) -> SearchHit:
    indexed = shown.product
    product = indexed.product
    if product is None:
        raise ValueError("a deleted product was found")
    text = _text_in(product, wanted) if wanted else _text_most_marked(product, marker)
    described = text if text["description"] else product["texts"][0]
    language = primary(text["language"])
    prices = sorted((each["unit_price"] for each in product["variants"]), key=indexed_price)
    images = product["images"]
    image: SearchImage | None = {"url": images[0]["url"], "alt": images[0]["alt"]} if images else None
    rating: SearchRating | None = None
    if shown.rating_count:
        rating = {"count": shown.rating_count, "average": average_text(shown.stars, shown.rating_count)}
    return {
        "product_id": indexed.product_id,
        "version": indexed.version,
        "language": text["language"],
        "name": text["name"],
        "name_html": rendered(text["name"], marker.spans(text["name"], language, is_name=True)),
        "snippet_html": marker.snippet(described["description"], primary(described["language"])),
        "brand": product["brand"],
        "price": prices[0],
        "price_to": prices[-1],
        "currency": product["currency"],
        "prices_include_tax": product["prices_include_tax"],
        "image": image,
        "in_stock": shown.in_stock,
        "rating": rating,
    }


def _text_most_marked(product: Product, marker: Marker) -> ProductText:
    """The text in the buyer's language, as far as it can be told: the one in whose name most matches."""
    return max(
        product["texts"], key=lambda each: len(marker.spans(each["name"], primary(each["language"]), is_name=True))
    )


def _text_in(product: Product, language: str) -> ProductText:
    """The product in this language, in another form of it, or in its default language."""
    wanted = language.lower()
    for is_it in (lambda each: each.lower() == wanted, lambda each: primary(each) == primary(wanted)):
        for text in product["texts"]:
            if is_it(text["language"]):
                return text
    return product["texts"][0]
