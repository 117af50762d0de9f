"""GET /v1/catalogue/{seller_id}/search: what buyers look for, answered by a search worker."""

from collections.abc import Callable, Mapping

import msgspec
from aiohttp import web

from domain.iso import CURRENCY_EXPONENTS
from domain.money import NotDecimalError, scaled
from domain.numbering import SELLER_ID
from domain.product import CATEGORY
from domain.refusals import INVALID_FIELD, Refusal
from domain.search import (
    HITS_MAX,
    INDEXED_PRICE_DECIMALS,
    QUESTION_CHARS_MAX,
    SORTS,
    SearchAnswer,
    SearchQuestion,
    indexed_price,
)
from domain.terms import LANGUAGE
from domain.texts import SHORT_CHARS_MAX
from gateway.http import parameters, problems
from gateway.http.openapi import DeclaredResponse, Parameter, open_operation, text, whole
from gateway.http.problems import ProblemError
from gateway.products.search_workers import SearchRefusedError, SearchUnavailableError, SearchWorkers

#: How long a browser or a CDN may show its copy: stock in results is about a second old with it.
_MAX_AGE_SECONDS = 1
_RETRY_SECONDS = 2
_PRICE_CHARS_MAX = 20
_RATING_MAX, _RATING_DECIMALS = 5, 2

_SELLER = Parameter(
    "seller_id", "path", {"type": "string", "pattern": whole(SELLER_ID)}, "Whose catalogue.", required=True
)
_PRICE = {"type": "string", "examples": ["19.90"]}
_PARAMETERS = (
    Parameter("q", "query", text(QUESTION_CHARS_MAX), "Words, or a SKU; none for all products."),
    Parameter("lang", "query", {"type": "string", "pattern": whole(LANGUAGE)}, "The buyer's language."),
    Parameter("category", "query", {"type": "string", "pattern": whole(CATEGORY)}, "Only those in this category."),
    Parameter("brand", "query", text(SHORT_CHARS_MAX), "Only those of this brand."),
    Parameter("currency", "query", {"type": "string", "pattern": "^[A-Z]{3}$"}, "Only those with prices in it."),
    Parameter("price_min", "query", _PRICE, "Only those with a lowest price of so much or more."),
    Parameter("price_max", "query", _PRICE, "Only those with a lowest price of so much or less."),
    Parameter("rating_min", "query", {"type": "string", "examples": ["4", "3.5"]}, "Only those rated so or better."),
    Parameter("in_stock", "query", {"type": "boolean", "default": False}, "Only those that are in stock."),
    Parameter(
        "sort", "query", {"type": "string", "enum": list(SORTS)}, "Default: relevance with words, newest without."
    ),
    *parameters.PAGE,
)


class SearchPage(SearchAnswer):
    """A page of what was found."""

    next: str | None


class CatalogueSearch:
    """Reads questions, and passes the workers' answers on."""

    def __init__(self, workers: SearchWorkers) -> None:
        self._workers = workers

    def routes(self) -> list[web.RouteDef]:
        """The resource, open to all as the catalogue is."""
        return [web.get("/v1/catalogue/{seller_id}/search", self.get)]

    @open_operation(
        "Search a seller's products, for buyers",
        DeclaredResponse(200, "A page of hits, and facets", SearchPage, headers=("Cache-Control", "Surrogate-Key")),
        parameters=[_SELLER, *_PARAMETERS],
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD, problems.UNAVAILABLE],
    )
    async def get(self, request: web.Request) -> web.Response:
        """GET /v1/catalogue/{seller_id}/search."""
        seller_id = request.match_info["seller_id"]
        if SELLER_ID.fullmatch(seller_id) is None:
            raise ProblemError(problems.NOT_FOUND, "there is no such seller")
        question = question_of(seller_id, request.query)
        try:
            answer = await self._workers.ask(question)
        except SearchRefusedError as refused:
            raise _refused(refused.field, refused.error) from None
        except SearchUnavailableError:
            raise ProblemError(
                problems.UNAVAILABLE,
                "no search worker answers; the catalogue's lists do",
                retry_after_seconds=_RETRY_SECONDS,
            ) from None
        following = question.offset + question.limit
        has_more = following < min(_total.decode(answer).total, HITS_MAX)
        cursor = msgspec.json.encode(parameters.cursor(following) if has_more else None)
        return web.Response(
            body=b'%b,"next":%b}' % (answer[:-1], cursor),
            content_type="application/json",
            headers={"Cache-Control": f"public, max-age={_MAX_AGE_SECONDS}", "Surrogate-Key": seller_id},
        )


class _Total(msgspec.Struct):
    total: int


_total = msgspec.json.Decoder(_Total)


def question_of(seller_id: str, query: Mapping[str, str]) -> SearchQuestion:
    """The question that a query string asks. Raises `ProblemError` for a parameter that breaks a rule."""
    limit = parameters.limit_of(query)
    [offset] = parameters.read_cursor(query["cursor"], tuple[int]) if "cursor" in query else (0,)
    if not 0 <= offset < HITS_MAX:
        raise parameters.foreign_cursor()
    return SearchQuestion(
        seller_id,
        text=_within(query, "q", QUESTION_CHARS_MAX),
        language=_matching(query, "lang", LANGUAGE.fullmatch, "must be a BCP 47 tag, such as de or pt-BR"),
        category=_matching(query, "category", CATEGORY.fullmatch, "must be a path such as kitchen/mugs"),
        brand=_within(query, "brand", SHORT_CHARS_MAX),
        currency=_matching(query, "currency", CURRENCY_EXPONENTS.__contains__, "must be an ISO 4217 code, such as EUR"),
        price_min=_price(query, "price_min"),
        price_max=_price(query, "price_max"),
        rating_min=_rating(query),
        in_stock=_flag(query, "in_stock"),
        sort=_sort(query),
        limit=min(limit, HITS_MAX - offset),
        offset=offset,
    )


def _within(query: Mapping[str, str], name: str, chars_max: int) -> str:
    value = query.get(name, "")
    if len(value) > chars_max:
        raise _refused(name, f"must have {chars_max} characters or fewer")
    return value


def _matching(query: Mapping[str, str], name: str, is_it: Callable[[str], object], rule: str) -> str:
    value = query.get(name, "")
    if value and not is_it(value):
        raise _refused(name, rule)
    return value


def _price(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name, "")
    if not value:
        return None
    try:
        price = indexed_price(value) if len(value) <= _PRICE_CHARS_MAX else -1
    except NotDecimalError:
        price = -1
    if price < 0:
        raise _refused(
            name, f"must be a decimal text, not below zero, such as 19.90; {INDEXED_PRICE_DECIMALS} decimals count"
        )
    return price


def _rating(query: Mapping[str, str]) -> int | None:
    value = query.get("rating_min", "")
    if not value:
        return None
    try:
        hundredths = scaled(value, _RATING_DECIMALS)
    except NotDecimalError:
        hundredths = -1
    if not 0 <= hundredths <= _RATING_MAX * 100:
        raise _refused("rating_min", f"must be a number of stars from 0 to {_RATING_MAX}, such as 3.5")
    return hundredths


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "false")
    if value not in ("true", "false"):
        raise _refused(name, "must be true or false")
    return value == "true"


def _sort(query: Mapping[str, str]) -> str:
    value = query.get("sort", "")
    if value not in ("", *SORTS):
        raise _refused("sort", f"must be one of {', '.join(SORTS)}")
    return value


def _refused(field: str, rule: str) -> ProblemError:
    return problems.refused(Refusal(INVALID_FIELD, field, rule))
