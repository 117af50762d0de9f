"""/v1/catalogue: a seller's products, for anybody; from the cache, also while Postgres is unavailable."""

import asyncio
import contextlib
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TypedDict

import msgspec
from aiohttp import web

from admission.admission import Admission
from admission.product_cache import FRESH_SECONDS, PRODUCTS_MAX, CachedCopy, CopyState, ProductCache
from admission.unavailable import RedisUnavailableError
from domain.numbering import SELLER_ID
from domain.product import CATEGORY, check_product_id
from domain.refusals import INVALID_FIELD, Refusal
from gateway.http import parameters, problems, telemetry
from gateway.http.openapi import DeclaredResponse, Parameter, open_operation, whole
from gateway.http.parameters import entity_tags
from gateway.http.problems import ProblemError
from gateway.products.product_shapes import PRODUCT, ProductView, shown
from gateway.products.product_writing import cursor_of
from sinks.microbatch import MicroBatch
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.products_reader import ProductIdentity, ProductsReader

#: How long a browser or a CDN may show its copy without asking: a change of a price or of stock is seen within this.
_MAX_AGE_SECONDS = 1
#: How long they may show it if this gateway does not answer.
_STALE_IF_ERROR_SECONDS = 24 * 3600
#: How long a list of ids is used again, and how many lists a gateway remembers for when Postgres is unavailable.
_LIST_SECONDS, _LISTS_MAX = 1.0, 1_000
_PACE_SECONDS = 0.002
#: How often one looks whether another reader has filled the cache, and for how long.
_LOOK_SECONDS, _LOOKS_MAX = 0.02, 50

_SELLER = Parameter(
    "seller_id", "path", {"type": "string", "pattern": whole(SELLER_ID)}, "Whose catalogue.", required=True
)
_IF_NONE_MATCH = Parameter("If-None-Match", "header", {"type": "string"}, "The ETag of one's own copy.")
_CACHE_STATUS = "Cache-Status"
_PAGE_HEADERS = ("Cache-Control", "Surrogate-Key", _CACHE_STATUS)
_HEADERS = ("ETag", *_PAGE_HEADERS)


class ProductRating(TypedDict):
    """How published reviews rate all SKUs of a product: the average has two decimals, and is null without reviews."""

    count: int
    average: str | None


class CatalogueProduct(ProductView):
    """A product as buyers see it; `in_stock` has the SKUs of which there are pieces, null where that is not known."""

    rating: ProductRating
    in_stock: list[str] | None


class CatalogueList(TypedDict):
    """A page of a catalogue."""

    products: list[CatalogueProduct]
    next: str | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A product as it was found."""

    #: `CatalogueProduct` as JSON, without its stock.
    text: str
    #: Of RFC 9211, what is said of the copy.
    status: str
    is_stale: bool = False


class _Known(msgspec.Struct, frozen=True, gc=False):
    """What of a product's JSON is needed besides."""

    version: int
    variants: list["_KnownVariant"]
    rating: "_KnownRating"


class _KnownVariant(msgspec.Struct, frozen=True, gc=False):
    sku: str


class _KnownRating(msgspec.Struct, frozen=True, gc=False):
    count: int
    average: str | None


class OfferedVariant(msgspec.Struct, frozen=True, gc=False):
    """A SKU and its price."""

    sku: str
    unit_price: str


class OfferedText(msgspec.Struct, frozen=True, gc=False):
    """A product's name in a language."""

    language: str
    name: str


class Offer(msgspec.Struct, frozen=True, gc=False):
    """What of a product a cart needs."""

    texts: list[OfferedText]
    currency: str
    vat_category: str
    vat_rate: str
    prices_include_tax: bool
    variants: list[OfferedVariant]

    def price_of(self, sku: str) -> str | None:
        """The price of one of its SKUs; None if it does not sell it."""
        return next((each.unit_price for each in self.variants if each.sku == sku), None)


_FRESH, _FILLED, _OLD, _POSTGRES = (
    telemetry.CATALOGUE_READS.labels(source) for source in ("fresh", "filled", "old", "postgres")
)
_known = msgspec.json.Decoder(_Known)
_offer = msgspec.json.Decoder(Offer)


class Catalogue:
    """Reads products through the cache."""

    def __init__(self, reader: ProductsReader, cache: ProductCache, admission: Admission) -> None:
        self._reader = reader
        self._cache = cache
        self._admission = admission
        self._copies: MicroBatch[ProductIdentity, CachedCopy | None] = MicroBatch(
            self._read_copies, questions_max=PRODUCTS_MAX, calls_max=2, pace_s=_PACE_SECONDS
        )
        #: What this gateway reads from Postgres now, by token: each once for all who asked the cache together.
        #: Who asked later may have been told to read what has changed since.
        self._filling: dict[tuple[ProductIdentity, str], asyncio.Task[str]] = {}
        self._lists: OrderedDict[tuple[str, str | None, str, int], tuple[float, list[str]]] = OrderedDict()

    def routes(self) -> list[web.RouteDef]:
        """The resources, open to all."""
        return [
            web.get("/v1/catalogue/{seller_id}/products", self.get_all),
            web.get("/v1/catalogue/{seller_id}/products/{product_id}", self.get),
        ]

    async def offer(self, seller_id: str, product_id: str) -> Offer | None:
        """What the product costs; None if it is not sold any more. Raises `ProblemError` where nobody can say."""
        found = await self._find(ProductIdentity(seller_id, product_id))
        return None if found is None else _offer.decode(found.text)

    async def in_stock(self, seller_id: str, skus: Sequence[str]) -> Mapping[str, int] | None:
        """The pieces of each SKU that an order would be admitted for; None where nobody can say."""
        pieces = await self._admission.obtainable(seller_id, skus)
        if pieces is None:
            try:
                pieces = await self._reader.available(seller_id, skus)
            except PostgresUnavailableError:
                return None
        return pieces

    async def close(self) -> None:
        """End what is under way."""
        await self._copies.close()
        await asyncio.gather(*self._filling.values(), return_exceptions=True)

    @open_operation(
        "A product, for buyers",
        DeclaredResponse(200, "The product", CatalogueProduct, headers=_HEADERS),
        DeclaredResponse(304, "The caller already has it", headers=_HEADERS),
        parameters=[_SELLER, PRODUCT, _IF_NONE_MATCH],
        problems=[problems.NOT_FOUND, problems.UNAVAILABLE],
    )
    async def get(self, request: web.Request) -> web.Response:
        """GET /v1/catalogue/{seller_id}/products/{product_id}."""
        seller_id, product_id = _seller(request), request.match_info["product_id"]
        if check_product_id(product_id) is not None:
            raise _unknown()
        found = await self._find(ProductIdentity(seller_id, product_id))
        if found is None:
            raise _unknown()
        known = _known.decode(found.text)
        in_stock = await self.in_stock(seller_id, [variant.sku for variant in known.variants])
        tag = f"{known.version}-{_rated(known)}-{_bits(known, in_stock)}"
        headers = _headers(f"{seller_id} {seller_id}/{product_id}", found.status) | {"ETag": f'"{tag}"'}
        theirs = entity_tags(request.headers, "If-None-Match")
        if theirs is not None and theirs.match_weakly(tag):
            return web.Response(status=304, headers=headers)
        return _json(_with_stock(found.text, known, in_stock), headers)

    @open_operation(
        "A seller's products, by id, for buyers",
        DeclaredResponse(200, "A page of them", CatalogueList, headers=_PAGE_HEADERS),
        parameters=[
            _SELLER,
            Parameter(
                "category",
                "query",
                {"type": "string", "pattern": whole(CATEGORY)},
                "Only those in this category, or in one that is part of it.",
            ),
            *parameters.PAGE,
        ],
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD, problems.UNAVAILABLE],
    )
    async def get_all(self, request: web.Request) -> web.Response:
        """GET /v1/catalogue/{seller_id}/products."""
        seller_id, limit, after = _seller(request), parameters.limit_of(request.query), cursor_of(request.query)
        category = request.query.get("category")
        if category is not None and CATEGORY.fullmatch(category) is None:
            raise problems.refused(Refusal(INVALID_FIELD, "category", "must be a path such as kitchen/mugs"))
        ids, is_stale = await self._list(seller_id, category, after, limit + 1)
        found = [
            each
            for each in await asyncio.gather(*(self._find(ProductIdentity(seller_id, each)) for each in ids[:limit]))
            # Deleted meanwhile.
            if each is not None
        ]
        known = [_known.decode(each.text) for each in found]
        in_stock = await self.in_stock(seller_id, [variant.sku for each in known for variant in each.variants])
        parts = [_with_stock(each.text, its, in_stock) for each, its in zip(found, known, strict=True)]
        following = parameters.cursor(ids[limit - 1]) if len(ids) > limit else None
        text = f'{{"products":[{",".join(parts)}],"next":{msgspec.json.encode(following).decode()}}}'
        status = _STALE if is_stale or any(each.is_stale for each in found) else _status("hit")
        return _json(text, _headers(seller_id, status))

    async def _find(self, name: ProductIdentity) -> _Seen | None:
        """The product; None if there is none. Raises `ProblemError` if neither Postgres nor the cache can say."""
        for _ in range(_LOOKS_MAX):
            copy = await self._copies.ask(name)
            if copy is None:
                break
            if copy.state is CopyState.FRESH:
                _FRESH.inc()
                return _seen(copy, _status("hit", ttl=copy.fresh_seconds))
            if copy.state is CopyState.FILL:
                return await self._fill(name, copy)
            if copy.value is not None:
                _OLD.inc()
                return _seen(copy, _status("hit", ttl=min(0, copy.fresh_seconds)))
            # Whoever reads it has it soon.
            await asyncio.sleep(_LOOK_SECONDS)
        try:
            text = await self._read(name)
        except PostgresUnavailableError:
            raise problems.postgres_unavailable() from None
        _POSTGRES.inc()
        return _Seen(text, _status("fwd=miss")) if text else None

    async def _fill(self, name: ProductIdentity, copy: CachedCopy) -> _Seen | None:
        place = name, copy.token
        task = self._filling.get(place)
        if task is None:
            task = self._filling[place] = asyncio.create_task(self._read_and_fill(*place))
            task.add_done_callback(lambda done: self._filled(place, done))
        try:
            # Who goes takes nothing from those who stay.
            text = await asyncio.shield(task)
        except PostgresUnavailableError:
            if copy.value is None:
                raise problems.postgres_unavailable() from None
            _OLD.inc()
            return _seen(copy, _STALE, is_stale=True)
        _FILLED.inc()
        how = "fwd=miss" if copy.value is None else "fwd=stale"
        return _Seen(text, _status(f"{how}; stored", ttl=FRESH_SECONDS)) if text else None

    def _filled(self, place: tuple[ProductIdentity, str], done: asyncio.Task[str]) -> None:
        del self._filling[place]
        if not done.cancelled():
            # Whoever asked may have gone.
            done.exception()

    async def _read_and_fill(self, name: ProductIdentity, token: str) -> str:
        text = await self._read(name)
        with contextlib.suppress(RedisUnavailableError):
            await self._cache.fill(name.seller_id, name.product_id, text, token)
        return text

    async def _read(self, name: ProductIdentity) -> str:
        """The product's JSON, empty for none. Raises `PostgresUnavailableError`."""
        found = await self._reader.product(*name)
        if found is None or found.stored.product is None:
            return ""
        rating: ProductRating = {"count": found.rating.count, "average": found.rating.average}
        product = shown(name.product_id, found.stored.version, found.stored.product)
        return msgspec.json.encode({**product, "rating": rating}).decode()

    async def _read_copies(self, names: list[ProductIdentity]) -> list[CachedCopy | None]:
        """What the cache has of each; None for all of a seller whose copies Redis does not tell."""
        of_seller: dict[str, list[str]] = {}
        for name in dict.fromkeys(names):
            of_seller.setdefault(name.seller_id, []).append(name.product_id)
        found: dict[ProductIdentity, CachedCopy] = {}
        token = uuid.uuid4().hex

        async def read(seller_id: str, product_ids: Sequence[str]) -> None:
            try:
                copies = await self._cache.read(seller_id, product_ids, token)
            except RedisUnavailableError:
                return
            for product_id, copy in zip(product_ids, copies, strict=True):
                found[ProductIdentity(seller_id, product_id)] = copy

        async with asyncio.TaskGroup() as sellers:
            for seller_id, product_ids in of_seller.items():
                sellers.create_task(read(seller_id, product_ids))
        return [found.get(name) for name in names]

    async def _list(self, seller_id: str, category: str | None, after: str, limit: int) -> tuple[list[str], bool]:
        """The ids of a page, and whether they may be old because Postgres is unavailable. Raises `ProblemError`."""
        asked = seller_id, category, after, limit
        known = self._lists.get(asked)
        if known is not None and monotonic() < known[0]:
            return known[1], False
        try:
            ids = await self._reader.product_ids(*asked)
        except PostgresUnavailableError:
            if known is None:
                raise problems.postgres_unavailable() from None
            return known[1], True
        self._lists[asked] = monotonic() + _LIST_SECONDS, ids
        self._lists.move_to_end(asked)
        if len(self._lists) > _LISTS_MAX:
            self._lists.popitem(last=False)
        return ids, False


def _seen(copy: CachedCopy, status: str, *, is_stale: bool = False) -> _Seen | None:
    return _Seen(copy.value, status, is_stale) if copy.value else None


def _status(how: str, ttl: int | None = None) -> str:
    """What RFC 9211 says of the answer."""
    return f"gapless; {how}" if ttl is None else f"gapless; {how}; ttl={ttl}"


#: What is said of an old copy, served because Postgres is unavailable.
_STALE = "gapless; hit; ttl=-1; detail=postgres-unavailable"


def _headers(keys: str, status: str) -> dict[str, str]:
    return {
        "Cache-Control": f"public, max-age={_MAX_AGE_SECONDS}, stale-if-error={_STALE_IF_ERROR_SECONDS}",
        "Surrogate-Key": keys,
        _CACHE_STATUS: status,
    }


def _rated(known: _Known) -> str:
    """What of a rating is shown."""
    return f"{known.rating.count}.{(known.rating.average or '').replace('.', '')}"


def _bits(known: _Known, in_stock: Mapping[str, int] | None) -> str:
    """Which variants are in stock, as a number in hex; `x` where that is not known."""
    if in_stock is None:
        return "x"
    return f"{sum(1 << index for index, each in enumerate(known.variants) if in_stock.get(each.sku, 0) > 0):x}"


def _with_stock(text: str, known: _Known, in_stock: Mapping[str, int] | None) -> str:
    """The product's JSON with what of it is in stock."""
    there = None if in_stock is None else [each.sku for each in known.variants if in_stock.get(each.sku, 0) > 0]
    return f'{text[:-1]},"in_stock":{msgspec.json.encode(there).decode()}}}'


def _json(text: str, headers: Mapping[str, str]) -> web.Response:
    return web.Response(body=text.encode(), content_type="application/json", headers=headers)


def _seller(request: web.Request) -> str:
    seller_id = request.match_info["seller_id"]
    if SELLER_ID.fullmatch(seller_id) is None:
        raise _unknown()
    return seller_id


def _unknown() -> ProblemError:
    return ProblemError(problems.NOT_FOUND, "there is no such product")
