"""A search in a seller's catalogue: the question, the answer, and what counts as a word.

Questions come from buyers and are never parsed as a language: a word is a word, and everything else separates words.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypedDict

from domain.money import PRICE_DECIMALS, scaled

#: Characters of a question; more help nobody.
QUESTION_CHARS_MAX = 200
#: Words of a question that count: each costs time, and later ones narrow little.
WORDS_MAX = 12
#: Hits that a question can be paged through: whoever wants more narrows it.
HITS_MAX = 1_000
#: Decimals of prices in the index; further ones don't count for filters and for the order.
INDEXED_PRICE_DECIMALS = 4
_PRICE_STEP = int(10 ** (PRICE_DECIMALS - INDEXED_PRICE_DECIMALS))
#: The greatest price that is told apart from greater ones, in units of the fourth decimal: 112 thousand million.
INDEXED_PRICE_MAX = 2**50 - 1

SORTS = ("relevance", "price", "-price", "newest")

# Scripts in which words are not, or not always, between spaces: Thai, Lao, Burmese, Khmer, kana, Han, Hangul.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_MARKS = "\u0300-\u036f"
_WORD = re.compile(rf"[{_UNSPACED}]+|(?:[^\W_{_UNSPACED}]|[{_MARKS}])+")
#: The same for texts in ASCII, in a third of the time.
_ASCII_WORD = re.compile("[A-Za-z0-9]+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")
_ACCENT = re.compile(rf"[{_MARKS}\u064b-\u065f]")
#: Longer texts are no words that come again: remembered, those of hostile questions would take gigabytes.
_REMEMBERED_CHARS_MAX = 32
#: Letters that are written with another base letter where they are missing, and have no decomposition.
_PLAIN = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"})


@dataclass(frozen=True, slots=True)
class SearchQuestion:
    """What a buyer asks for. Prices are in units of `INDEXED_PRICE_DECIMALS`, ratings in hundredths of a star."""

    seller_id: str
    text: str = ""
    #: BCP 47; empty for any.
    language: str = ""
    category: str = ""
    brand: str = ""
    #: ISO 4217; empty for any.
    currency: str = ""
    price_min: int | None = None
    price_max: int | None = None
    rating_min: int | None = None
    in_stock: bool = False
    #: One of `SORTS`; empty for relevance, or newest without a text.
    sort: str = ""
    limit: int = 20
    offset: int = 0

    @property
    def compares_prices(self) -> bool:
        """Whether it needs all prices in one currency."""
        return self.price_min is not None or self.price_max is not None or self.sort in ("price", "-price")


class FacetCount(TypedDict):
    """A value that a question can be narrowed to, and how many products there are then."""

    value: str
    count: int


class PriceBand(TypedDict):
    """Products of a currency from a price on, below another one; null without an end."""

    currency: str
    price_min: str
    price_max: str | None
    count: int


class SearchFacets(TypedDict):
    """How products are spread. Each facet ignores its own filter, so that another value can be chosen."""

    categories: list[FacetCount]
    brands: list[FacetCount]
    currencies: list[FacetCount]
    prices: list[PriceBand]


class SearchImage(TypedDict):
    """A product's main picture."""

    url: str
    alt: str


class SearchRating(TypedDict):
    """Published reviews of all variants; the average has two decimals."""

    count: int
    average: str


class SearchHit(TypedDict):
    """A product that was found. `name_html` and `snippet_html` are escaped, with `<mark>` around what matched."""

    product_id: str
    version: int
    language: str
    name: str
    name_html: str
    snippet_html: str
    brand: str
    price: str
    price_to: str
    currency: str
    prices_include_tax: bool
    image: SearchImage | None
    in_stock: list[str]
    rating: SearchRating | None


class SearchAnswer(TypedDict):
    """What was found. `match`: `all` words, `similar` ones where that found nothing, or `some` of them."""

    hits: list[SearchHit]
    total: int
    match: str
    facets: SearchFacets


class Word(NamedTuple):
    """A word of a text."""

    #: In lower case, with its accents: what stemmers read.
    lower: str
    #: Without accents: what is compared.
    folded: str
    #: Where it is in the text.
    start: int
    end: int
    #: Whether it is a run of a script without spaces, of which pairs of characters are compared.
    is_unspaced: bool


def words(text: str) -> Iterator[Word]:
    """The words of a text, in their order."""
    for match in (_ASCII_WORD if text.isascii() else _WORD).finditer(text):
        found = match.group()
        start, end = match.span()
        # Most words of most texts: a question's answer has some hundreds of them.
        if found.isascii():
            lower = found.lower()
            yield Word(lower, lower, start, end, is_unspaced=False)
        elif folded := fold(found):
            lower = unicodedata.normalize("NFC", found).lower()
            yield Word(lower, folded, start, end, _IS_UNSPACED.match(found) is not None)


def fold(text: str) -> str:
    """The text without case, accents, widths and ligatures: `Öl`, `OL` and `öl` are the same."""
    return _remembered_fold(text) if len(text) <= _REMEMBERED_CHARS_MAX else _fold(text)


def _fold(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_PLAIN)
    return unicodedata.normalize("NFC", _ACCENT.sub("", unicodedata.normalize("NFD", plain)))


_remembered_fold = lru_cache(100_000)(_fold)


def grams(run: str) -> list[str]:
    """The pairs of neighbouring characters of a run without spaces; the character itself where it is alone."""
    return [run[at : at + 2] for at in range(len(run) - 1)] if len(run) > 1 else [run]


def typos_max(word: str) -> int:
    """How many typos are forgiven in a word: none in a short one, and none where digits tell articles apart."""
    if len(word) < 4 or any(character.isdigit() for character in word):
        return 0
    return 1 if len(word) < 8 else 2


def indexed_price(text: str) -> int:
    """A price as the index has it. Raises `NotDecimalError`."""
    return min(scaled(text, PRICE_DECIMALS) // _PRICE_STEP, INDEXED_PRICE_MAX)


def price_text(indexed: int) -> str:
    """The price as decimal text, without needless zeros."""
    whole, rest = divmod(indexed, 10**INDEXED_PRICE_DECIMALS)
    decimals = f"{rest:0{INDEXED_PRICE_DECIMALS}}".rstrip("0")
    return f"{whole}.{decimals.ljust(2, '0')}" if decimals else str(whole)
