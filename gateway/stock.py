"""GET and PUT /v1/stock: what the seller has in the warehouse."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, TypedDict

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from domain.checkout import SKU_CHARS_MAX, check_name, check_sku
from domain.refusals import INVALID_FIELD, Refusal
from gateway.http import bodies, parameters, problems
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, Parameter, limits, operation, text
from gateway.http.parameters import entity_tags
from gateway.http.problems import ProblemError
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.orders_reader import OrdersReader, StockRow
from sinks.postgres.stock import Adjust, Held, KeyTaken, SetOnHand, Stale, Stock, Wish

#: Pieces of one SKU. Far from what 64 bits hold, and a slip of the finger is seen.
ON_HAND_MAX = 1_000_000_000
KEY_CHARS_MAX = 64


class StockChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Either the pieces that are there, or an adjustment and its key."""

    on_hand: Annotated[int, limits(minimum=0, maximum=ON_HAND_MAX)] | UnsetType = UNSET
    adjust: Annotated[int, limits(minimum=-ON_HAND_MAX, maximum=ON_HAND_MAX)] | UnsetType = UNSET
    key: Annotated[str, limits(minLength=1, maxLength=KEY_CHARS_MAX)] | UnsetType = UNSET


class StockLevel(TypedDict):
    """A SKU's stock."""

    sku: str
    on_hand: int
    reserved: int
    available: int
    version: int


class StockList(TypedDict):
    """A page of a seller's stock."""

    stock: list[StockLevel]
    next: str | None


_SKU = Parameter("sku", "path", text(SKU_CHARS_MAX), "The article's number.", required=True)

_IF_MATCH = Parameter(
    "If-Match", "header", {"type": "string"}, "The ETag of the stock that may be changed, or several, or `*` for any."
)
_IF_NONE_MATCH_PUT = Parameter("If-None-Match", "header", {"type": "string"}, "`*`: only a SKU without stock is set.")
_IF_NONE_MATCH_GET = Parameter("If-None-Match", "header", {"type": "string"}, "The ETag of one's own copy.")

_decoder = msgspec.json.Decoder(StockChange)


class StockKeeping:
    """Shows and sets stock."""

    def __init__(self, intake: Intake, reader: OrdersReader, stock: Stock, partitions: Callable[[], int]) -> None:
        """`partitions` says how many each topic has, or raises `ProblemError` where that is not known."""
        self._intake = intake
        self._reader = reader
        self._stock = stock
        self._partitions = partitions

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        return [
            web.get("/v1/stock", self.get_all),
            web.get("/v1/stock/{sku}", self.get),
            web.put("/v1/stock/{sku}", self.put),
        ]

    @operation(
        "Set or adjust a SKU's stock",
        DeclaredResponse(200, "The stock as it is now", StockLevel, headers=("ETag",)),
        body=StockChange,
        parameters=[_SKU, _IF_MATCH, _IF_NONE_MATCH_PUT],
        problems=[
            problems.INVALID_FIELD,
            problems.STOCK_RESERVED,
            problems.ADJUSTMENT_CONFLICT,
            problems.PRECONDITION_FAILED,
        ],
    )
    async def put(self, request: web.Request, seller_id: str) -> web.Response:
        """PUT /v1/stock/{sku}."""
        sku = request.match_info["sku"]
        refusal = check_sku(sku)
        if refusal is not None:
            raise problems.refused(refusal)
        with self._intake.place(request, seller_id):
            wish = read(seller_id, sku, await read_body(request))
            partitions = self._partitions()
            try:
                result = await self._stock.change(
                    wish, partitions, datetime.now(UTC), parameters.permits(request.headers)
                )
            except PostgresUnavailableError:
                raise ProblemError(
                    problems.UNAVAILABLE,
                    f"Postgres does not answer, so it is unknown whether the change was made: {_how_to_repeat(wish)}",
                    retry_after_seconds=2,
                ) from None
        if isinstance(result, Stale):
            raise _stale(sku, result.version)
        if isinstance(result, Held):
            raise ProblemError(
                problems.STOCK_RESERVED,
                f"{result.on_hand} pieces are on hand, and open orders claim {result.reserved}",
                more={"sku": sku, "on_hand": result.on_hand, "reserved": result.reserved},
            )
        if isinstance(result, KeyTaken):
            raise ProblemError(
                problems.ADJUSTMENT_CONFLICT,
                f"`key` was already used for an adjustment by {result.adjust}",
                field="key",
            )
        return json_answer(_shown(result), headers=_etag(result.version))

    @operation(
        "A SKU's stock",
        DeclaredResponse(200, "The stock", StockLevel, headers=("ETag",)),
        DeclaredResponse(304, "The caller already has it", headers=("ETag",)),
        parameters=[_SKU, _IF_NONE_MATCH_GET],
        problems=[problems.NOT_FOUND],
    )
    async def get(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/stock/{sku}."""
        sku = request.match_info["sku"]
        row = None
        if check_sku(sku) is None:
            try:
                row = await self._reader.stock(seller_id, sku)
            except PostgresUnavailableError:
                raise problems.postgres_unavailable() from None
        if row is None:
            raise ProblemError(problems.NOT_FOUND, "this SKU never had stock")
        known = entity_tags(request.headers, "If-None-Match")
        if known is not None and known.match_weakly(_tag(row.version)):
            return web.Response(status=304, headers=_etag(row.version))
        return json_answer(_shown(row), headers=_etag(row.version))

    @operation(
        "All stock, by SKU",
        DeclaredResponse(200, "A page of it", StockList),
        parameters=parameters.PAGE,
        problems=[problems.INVALID_FIELD],
    )
    async def get_all(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/stock, in the order of the SKUs."""
        limit = parameters.limit_of(request.query)
        after = ""
        if "cursor" in request.query:
            (after,) = parameters.read_cursor(request.query["cursor"], tuple[str])
            if check_sku(after) is not None:
                raise parameters.foreign_cursor()
        try:
            found = await self._reader.stock_list(seller_id, after, limit + 1)
        except PostgresUnavailableError:
            raise problems.postgres_unavailable() from None
        following = parameters.cursor(found[limit - 1].sku) if len(found) > limit else None
        return json_answer({"stock": [_shown(row) for row in found[:limit]], "next": following})


def read(seller_id: str, sku: str, body: bytes) -> Wish:
    """The requested change of stock, in pieces. Raises `ProblemError` for a field that breaks a rule."""
    change = bodies.decode_small(_decoder, body)
    if change.on_hand is not UNSET and change.adjust is UNSET and change.key is UNSET:
        if not 0 <= change.on_hand <= ON_HAND_MAX:
            raise _invalid("on_hand", f"must be from 0 to {ON_HAND_MAX}")
        return SetOnHand(seller_id, sku, change.on_hand)
    if change.adjust is UNSET or change.on_hand is not UNSET:
        raise _invalid("on_hand", "give either on_hand, or adjust and its key")
    if change.key is UNSET:
        raise _invalid(
            "key", "is missing: without it, a repeated adjustment could not be distinguished from a second one"
        )
    refusal = check_name("key", change.key, KEY_CHARS_MAX)
    if refusal is not None:
        raise problems.refused(refusal)
    if change.adjust == 0 or abs(change.adjust) > ON_HAND_MAX:
        raise _invalid("adjust", f"must be from -{ON_HAND_MAX} to {ON_HAND_MAX}, and not 0")
    return Adjust(seller_id, sku, change.adjust, change.key)


def _shown(row: StockRow) -> StockLevel:
    return {
        "sku": row.sku,
        "on_hand": row.on_hand,
        "reserved": row.reserved,
        "available": row.on_hand - row.reserved,
        "version": row.version,
    }


def _tag(version: int) -> str:
    # Each change of a row, by orders too, has the next version.
    return str(version)


def _etag(version: int) -> dict[str, str]:
    return {"ETag": f'"{_tag(version)}"'}


def _stale(sku: str, version: int | None) -> ProblemError:
    if version is None:
        return ProblemError(
            problems.PRECONDITION_FAILED, "this SKU never had stock: send no If-Match", more={"sku": sku}
        )
    return ProblemError(
        problems.PRECONDITION_FAILED,
        f"this SKU is at version {version}, to which If-Match or If-None-Match doesn't permit a change:"
        " read the stock and decide again",
        headers=_etag(version),
        more={"sku": sku, "version": version},
    )


def _how_to_repeat(wish: Wish) -> str:
    if isinstance(wish, Adjust):
        return "send it again, its key makes it once"
    return "read the stock before you set it again, or pieces shipped meanwhile come back; send If-Match with it"


def _invalid(field: str, detail: str) -> ProblemError:
    return problems.refused(Refusal(INVALID_FIELD, field, detail))
