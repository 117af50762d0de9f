"""A question as queries of the index, in steps: all words, then words that are similar, then some of them.

What a document is worth depends on the question and on the document alone: not on how often a word is used elsewhere,
and not on how the index is stored. So two workers put the same products into the same order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tantivy import FieldType, Occur, Query, Searcher

from domain.search import (
    INDEXED_PRICE_DECIMALS,
    INDEXED_PRICE_MAX,
    FacetCount,
    PriceBand,
    SearchFacets,
    SearchQuestion,
    fold,
    grams,
    price_text,
    typos_max,
)
from search.asked_words import AskedWord, asked_words
from search.documents import COMPOUND_FIELDS, WORD_FIELDS
from search.index import SCHEMA
from search.stems import may_end_compound
from search.synonyms import Synonyms

#: What a match is worth by its field, for each kind of match.
_WORTH = {"name": 10.0, "label": 7.0, "body": 3.0}
_EXACT, _STEM, _PREFIX, _COMPOUND, _SIMILAR = 1.0, 0.9, 0.8, 0.7, 0.5
#: What a synonym's match is worth, of what the word itself would be worth in the same place.
_SYNONYM = 0.75
#: A word that may be missing, such as `the`.
_STOP_WORD_WORTH = 0.2
#: A product that is asked for by its id or one of its SKUs comes first.
_CODE_WORTH = 1_000.0
_FACET_VALUES_MAX = 50
#: Languages of a seller's products, and currencies: more than there are.
_TRAITS_MAX = 200
#: Where bands of prices begin, in units of the index: 0, then 1, 2, 5, 10, 20, 50 … up to 100,000.
_UNIT = 10**INDEXED_PRICE_DECIMALS
_BAND_STARTS = (0, *(step * 10**power * _UNIT for power in range(5) for step in (1, 2, 5)), 100_000 * _UNIT)

ALL, SIMILAR, SOME = "all", "similar", "some"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is understood: `match` is how its words were compared."""

    question: SearchQuestion
    words: tuple[AskedWord, ...]
    match: str
    #: The text's part; None without words.
    text: Query | None


def readings(question: SearchQuestion, languages: Sequence[str], synonyms: Synonyms | None = None) -> Iterator[Asked]:
    """The question as it may be understood, the strictest first.

    Its words are compared in `languages`; `synonyms` are the seller's in them.
    """
    asked = asked_words(question.text, languages)
    if synonyms is not None:
        asked = synonyms.given_to(asked)
    if not asked:
        yield Asked(question, (), ALL, None)
        return
    code = _worth(_term("code", fold(question.text.strip())), _CODE_WORTH)
    for match in (ALL, SIMILAR, SOME):
        text = Query.boolean_query([(Occur.Should, code), (Occur.Should, _words_query(asked, match))])
        yield Asked(question, asked, match, text)


def finds_something(asked: Asked, searcher: Searcher) -> bool:
    """Whether the seller has any product with the text, whatever else is asked for: what filters hide is no typo."""
    parts = [_of_seller(asked.question.seller_id), *([] if asked.text is None else [asked.text])]
    return bool(searcher.search(_both(*parts), limit=1, count=False).hits)


def traits_of(seller_id: str, searcher: Searcher) -> tuple[list[str], list[str]]:
    """The languages of the seller's products, and their currencies."""
    names = ("language", "currency")
    wanted = {name: {"terms": {"field": name, "size": _TRAITS_MAX}} for name in names}
    found = searcher.aggregate(_of_seller(seller_id), wanted)
    languages, currencies = (sorted(str(each["key"]) for each in found[name]["buckets"]) for name in names)
    return languages, currencies


def query_of(asked: Asked, without: str = "") -> Query:
    """What finds the products; `without` leaves out the filter of that name: category, brand, currency or price."""
    question = asked.question
    parts = [_of_seller(question.seller_id)]
    if asked.text is not None:
        parts.append(asked.text)
    if question.category and without != "category":
        parts.append(_silent(_term("category", question.category)))
    if question.brand and without != "brand":
        parts.append(_silent(_term("brand", question.brand)))
    if question.currency and without != "currency":
        parts.append(_silent(_term("currency", question.currency)))
    if (question.price_min is not None or question.price_max is not None) and without != "price":
        parts.append(_between("price", question.price_min or 0, question.price_max))
    if question.rating_min is not None:
        parts.append(_between("rating", question.rating_min, None))
    if question.in_stock:
        parts.append(_between("in_stock", 1, None))
    return _both(*parts)


def facets_of(asked: Asked, searcher: Searcher, currencies: Sequence[str], total: int) -> SearchFacets:
    """How the products are spread.

    `currencies` are those of the seller's products, `total` is how many products were found.
    """
    question = asked.question
    filtered = {
        "category": bool(question.category),
        "brand": bool(question.brand),
        "currency": bool(question.currency),
        "price": question.price_min is not None or question.price_max is not None,
    }
    edges = zip(_BAND_STARTS, (*_BAND_STARTS[1:], INDEXED_PRICE_MAX + 1), strict=True)
    bands = {"range": {"field": "price", "ranges": [{"from": float(a), "to": float(b)} for a, b in edges]}}
    of_currency = {"terms": {"field": "currency", "size": _TRAITS_MAX}}
    wanted: dict[str, dict[str, Any]] = {
        "category": {"terms": {"field": "category", "size": _FACET_VALUES_MAX}},
        "brand": {"terms": {"field": "brand", "size": _FACET_VALUES_MAX}},
        "price": bands,
        "currency": of_currency,
    }
    # Most sellers have one currency: there is nothing to count then, and nothing to tell apart.
    only = question.currency or next(iter(currencies), "")
    if len(currencies) == 1 and only in currencies:
        del wanted["currency"]
    if len(currencies) > 1 and not question.currency:
        wanted["price"] = {**of_currency, "aggs": {"bands": bands}}
    # One pass for all that have no filter of their own, and one for each that has.
    together = {name: facet for name, facet in wanted.items() if not filtered[name]}
    found = searcher.aggregate(query_of(asked), together) if together else {}
    for name in wanted.keys() - together.keys():
        found |= searcher.aggregate(query_of(asked, without=name), {name: wanted[name]})
    counted: list[FacetCount] = [{"value": only, "count": total}] if total else []
    return {
        "categories": _counts(found["category"]),
        "brands": _counts(found["brand"]),
        "currencies": _counts(found["currency"]) if "currency" in found else counted,
        "prices": _bands(found["price"], only),
    }


def _words_query(asked: Sequence[AskedWord], match: str) -> Query:
    required = [_word_query(each, match) for each in asked if each.is_required]
    optional = [_scaled(_word_query(each, match), _STOP_WORD_WORTH) for each in asked if not each.is_required]
    if match == SOME:
        core = Query.boolean_query(
            [(Occur.Should, each) for each in required], minimum_number_should_match=(len(required) + 1) // 2
        )
    else:
        core = _both(*required)
    if not optional:
        return core
    return Query.boolean_query([(Occur.Must, core), *((Occur.Should, each) for each in optional)])


def _word_query(asked: AskedWord, match: str) -> Query:
    """The best of all ways in which a document has the word, or one of its synonyms.

    Those of several words stand for each of them: a document with a synonym has them all.
    """
    if not asked.synonyms:
        return _itself_query(asked, match)
    itself = _itself_query(asked, match)
    share = _SYNONYM * _matches(asked)
    instead = [
        _scaled(_words_query(each, ALL), share / sum(_matches(word) for word in each if word.is_required))
        for each in asked.synonyms
    ]
    return Query.disjunction_max_query([itself, *instead])


def _matches(asked: AskedWord) -> int:
    """Of how many matches the word's worth is the sum."""
    return len(grams(asked.word.folded)) if asked.word.is_unspaced else 1


def _itself_query(asked: AskedWord, match: str) -> Query:
    word = asked.word
    if word.is_unspaced:
        return _both(*(_in_any_field(partial(_having, gram)) for gram in grams(word.folded)))

    ends = [stem for stem in asked.stems if may_end_compound(*stem.split(":"))]

    def ways(field: str) -> list[tuple[Query, float]]:
        found = [(_term(field, word.folded), _EXACT)]
        found += [(_term(f"{field}_stem", stem), _STEM) for stem in asked.stems]
        if field in COMPOUND_FIELDS:
            found += [(_term(f"{field}_end", stem), _COMPOUND) for stem in ends]
        if asked.is_prefix:
            found.append((_like(field, word.folded, 0, is_prefix=True), _PREFIX))
        typos = 0 if match == ALL else typos_max(word.folded)
        if typos:
            found.append((_like(field, word.folded, typos, is_prefix=asked.is_prefix), _SIMILAR))
        return found

    return _in_any_field(ways)


def _having(term: str, field: str) -> list[tuple[Query, float]]:
    return [(_term(field, term), _EXACT)]


def _in_any_field(ways: Callable[[str], list[tuple[Query, float]]]) -> Query:
    return Query.disjunction_max_query(
        [_worth(query, _WORTH[field] * share) for field in WORD_FIELDS for query, share in ways(field)]
    )


def _like(field: str, word: str, typos: int, *, is_prefix: bool) -> Query:
    return Query.fuzzy_term_query(SCHEMA, field, word, typos, transposition_cost_one=True, prefix=is_prefix)


def _term(field: str, value: str) -> Query:
    return Query.term_query(SCHEMA, field, value, "basic")


def _between(field: str, at_least: int, at_most: int | None) -> Query:
    return _silent(Query.range_query(SCHEMA, field, FieldType.Unsigned, at_least, at_most))


def _of_seller(seller_id: str) -> Query:
    """What every question is bound to: no other seller's products are ever found."""
    return _silent(_term("seller", seller_id))


def _both(*queries: Query) -> Query:
    return Query.boolean_query([(Occur.Must, each) for each in queries])


def _worth(query: Query, worth: float) -> Query:
    return Query.const_score_query(query, worth)


def _scaled(query: Query, share: float) -> Query:
    return Query.boost_query(query, share)


def _silent(query: Query) -> Query:
    """The query as a filter, which makes no document worth more."""
    return _worth(query, 0.0)


def _counts(found: dict[str, Any]) -> list[FacetCount]:
    counts: list[FacetCount] = [{"value": str(each["key"]), "count": each["doc_count"]} for each in found["buckets"]]
    # Equal counts in one order, in every worker.
    return sorted(counts, key=lambda each: (-each["count"], each["value"]))


def _bands(found: dict[str, Any], only: str) -> list[PriceBand]:
    """The bands that products are in; `only` is their currency, unless it was counted by currency."""
    counted = {str(each["key"]): each["bands"] for each in found["buckets"] if "bands" in each} or {only: found}
    return [
        _band(currency, bucket)
        for currency in sorted(counted)
        for bucket in counted[currency]["buckets"]
        if bucket["doc_count"]
    ]


def _band(currency: str, bucket: dict[str, Any]) -> PriceBand:
    start, end = int(bucket.get("from", 0)), int(bucket.get("to", INDEXED_PRICE_MAX + 1))
    return {
        "currency": currency,
        "price_min": price_text(start),
        "price_max": None if end > _BAND_STARTS[-1] else price_text(end),
        "count": bucket["doc_count"],
    }
