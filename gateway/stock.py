"""GET and PUT /v1/stock: what the seller has in the warehouse."""

from datetime import UTC, datetime
from typing import Annotated, TypedDict

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from domain.checkout import SKU_CHARS_MAX, check_name
from domain.refusals import INVALID_FIELD, Refusal
from gateway import bodies, order_views, paging, problems
from gateway.answers import json_answer, postgres_away
from gateway.auth import KeyRing
from gateway.intake import Intake, read_body
from gateway.openapi import Answer, Parameter, limits, operation, text
from gateway.order_shapes import StockLevel
from gateway.problems import ProblemError
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.orders_reader import OrdersReader
from sinks.postgres.stock import Adjust, Held, KeyTaken, SetOnHand, Stock, Wish

#: Pieces of one SKU. Far from what 64 bits hold, and a slip of the finger is seen.
ON_HAND_MAX = 1_000_000_000
KEY_CHARS_MAX = 64


class StockChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Either the pieces that are there, or an adjustment and its key."""

    on_hand: Annotated[int, limits(minimum=0, maximum=ON_HAND_MAX)] | UnsetType = UNSET
    adjust: Annotated[int, limits(minimum=-ON_HAND_MAX, maximum=ON_HAND_MAX)] | UnsetType = UNSET
    key: Annotated[str, limits(minLength=1, maxLength=KEY_CHARS_MAX)] | UnsetType = UNSET


class StockList(TypedDict):
    """A page of a seller's stock."""

    stock: list[StockLevel]
    next: str | None


_SKU = Parameter("sku", "path", text(SKU_CHARS_MAX), "The article's number.", required=True)

_decoder = msgspec.json.Decoder(StockChange)


class StockKeeping:
    """Shows and sets stock."""

    def __init__(self, keys: KeyRing, intake: Intake, reader: OrdersReader, stock: Stock) -> None:
        self._keys = keys
        self._intake = intake
        self._reader = reader
        self._stock = stock

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        return [
            web.get("/v1/stock", self.get_all),
            web.get("/v1/stock/{sku}", self.get),
            web.put("/v1/stock/{sku}", self.put),
        ]

    @operation(
        "Set or adjust a SKU's stock",
        Answer(200, "The stock as it is now", StockLevel),
        body=StockChange,
        parameters=[_SKU],
        problems=[problems.INVALID_FIELD, problems.STOCK_RESERVED, problems.ADJUSTMENT_CONFLICT],
    )
    async def put(self, request: web.Request) -> web.Response:
        """PUT /v1/stock/{sku}."""
        seller_id = await self._keys.seller_of(request)
        sku = request.match_info["sku"]
        refusal = check_name("sku", sku, SKU_CHARS_MAX)
        if refusal is not None:
            raise problems.refused(refusal)
        with self._intake.place(request):
            wish = read(seller_id, sku, await read_body(request))
            try:
                result = await self._stock.change(wish, datetime.now(UTC))
            except PostgresUnavailableError:
                raise ProblemError(
                    problems.UNAVAILABLE,
                    "Postgres gives no answer: whether the change was made is unknown, and making it again is harmless",
                    retry_after_seconds=2,
                ) from None
        if isinstance(result, Held):
            raise ProblemError(
                problems.STOCK_RESERVED,
                f"{result.on_hand} pieces are there, and open orders hold {result.reserved}",
                more={"sku": sku, "on_hand": result.on_hand, "reserved": result.reserved},
            )
        if isinstance(result, KeyTaken):
            raise ProblemError(
                problems.ADJUSTMENT_CONFLICT, f"this key stands for an adjustment by {result.adjust}", field="key"
            )
        return json_answer(order_views.stock(result))

    @operation("A SKU's stock", Answer(200, "The stock", StockLevel), parameters=[_SKU], problems=[problems.NOT_FOUND])
    async def get(self, request: web.Request) -> web.Response:
        """GET /v1/stock/{sku}."""
        seller_id = await self._keys.seller_of(request)
        sku = request.match_info["sku"]
        row = None
        if check_name("sku", sku, SKU_CHARS_MAX) is None:
            try:
                row = await self._reader.stock(seller_id, sku)
            except PostgresUnavailableError:
                raise postgres_away() from None
        if row is None:
            raise ProblemError(problems.NOT_FOUND, "this SKU never had stock")
        return json_answer(order_views.stock(row))

    @operation(
        "All stock, by SKU",
        Answer(200, "A page of it", StockList),
        parameters=paging.PARAMETERS,
        problems=[problems.INVALID_FIELD],
    )
    async def get_all(self, request: web.Request) -> web.Response:
        """GET /v1/stock, in the order of the SKUs."""
        seller_id = await self._keys.seller_of(request)
        limit = paging.limit_of(request.query)
        after = ""
        if "cursor" in request.query:
            (after,) = paging.read_cursor(request.query["cursor"], tuple[str])
            if check_name("sku", after, SKU_CHARS_MAX) is not None:
                raise paging.foreign_cursor()
        try:
            found = await self._reader.stock_list(seller_id, after, limit + 1)
        except PostgresUnavailableError:
            raise postgres_away() from None
        following = paging.cursor(found[limit - 1].sku) if len(found) > limit else None
        return json_answer({"stock": [order_views.stock(row) for row in found[:limit]], "next": following})


def read(seller_id: str, sku: str, body: bytes) -> Wish:
    """What is to become of the stock; raises `ProblemError`."""
    change = bodies.decode_small(_decoder, body)
    if change.on_hand is not UNSET and change.adjust is UNSET and change.key is UNSET:
        if not 0 <= change.on_hand <= ON_HAND_MAX:
            raise _invalid("on_hand", f"must be from 0 to {ON_HAND_MAX}")
        return SetOnHand(seller_id, sku, change.on_hand)
    if change.adjust is UNSET or change.on_hand is not UNSET:
        raise _invalid("on_hand", "give either on_hand, or adjust and its key")
    if change.key is UNSET:
        raise _invalid("key", "is missing: without one, an adjustment sent again could not be told from a second one")
    refusal = check_name("key", change.key, KEY_CHARS_MAX)
    if refusal is not None:
        raise problems.refused(refusal)
    if change.adjust == 0 or abs(change.adjust) > ON_HAND_MAX:
        raise _invalid("adjust", f"must be from -{ON_HAND_MAX} to {ON_HAND_MAX}, and not 0")
    return Adjust(seller_id, sku, change.adjust, change.key)


def _invalid(field: str, detail: str) -> ProblemError:
    return problems.refused(Refusal(INVALID_FIELD, field, detail))
