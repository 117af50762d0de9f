"""Carts, in Redis: what a buyer has chosen, each line with the price that the buyer has seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from importlib.resources import files
from typing import Any

from admission.admission_call import ScriptCalls

CALL_SECONDS_MAX = 0.5
#: Of a cart, from its last use; and of a guest's.
CUSTOMER_SECONDS = 30 * 24 * 3_600
GUEST_SECONDS = 24 * 3_600
#: A cart is a guest's if its id begins so.
GUEST = "guest:"
LINES_MAX = 100
#: Permits any version.
ANY = -1

_SCRIPT = files("admission").joinpath("cart.lua").read_text(encoding="utf-8")


class CartStatus(IntEnum):
    """What became of a change."""

    OK = 0
    #: The cart has another version.
    STALE = 1
    #: It has `LINES_MAX` lines.
    FULL = 2
    #: It is checked out as an order that is not decided.
    CHECKED_OUT = 3
    #: Its lines are in another currency, or with tax where this one is without.
    MIXED = 4
    #: The same line was put too often within a second.
    LIMITED = 5
    #: It was checked out as this order before.
    REPEATED = 6


@dataclass(frozen=True, slots=True)
class CartLine:
    """A line, with the price as it was when it was put."""

    sku: str
    place: int
    quantity: int
    unit_price: str
    currency: str
    prices_include_tax: bool
    product_id: str


@dataclass(frozen=True, slots=True)
class Cart:
    """A cart; `version` is 0 for one that there is not."""

    cart_id: str
    version: int
    #: The order that it is checked out as; empty while it is open.
    order_id: str
    #: Since when, in seconds since 1970.
    checked_out_at: int
    #: What that order was priced as, as `check_out` was told.
    priced: str
    lines: list[CartLine]


@dataclass(frozen=True, slots=True)
class MergeConflict:
    """A line of which fewer pieces were added than wanted."""

    sku: str
    wanted: int
    quantity: int


class Carts:
    """Every method raises `RedisUnavailableError`: then it may have been done."""

    def __init__(self, url: str) -> None:
        """Connects on first use. Raises `ValueError` for an invalid Redis URL."""
        self._calls = ScriptCalls(url, call_seconds_max=CALL_SECONDS_MAX)
        self._script = self._calls.script(_SCRIPT)

    async def get(self, seller_id: str, cart_id: str) -> Cart:
        """The cart; it lives on from now."""
        return _cart(cart_id, await self._run(seller_id, "get", cart_id, _seconds(cart_id)))

    async def put(self, seller_id: str, cart_id: str, line: CartLine, version: int = ANY) -> tuple[CartStatus, Cart]:
        """Set a line; one that is there keeps its place."""
        return await self._change(
            seller_id, "put", cart_id, version, line.sku, line.quantity, line.unit_price, line.currency,
            line.prices_include_tax, line.product_id,
        )  # fmt: skip

    async def remove(self, seller_id: str, cart_id: str, sku: str, version: int = ANY) -> tuple[CartStatus, Cart]:
        """Remove a line, if it is there."""
        return await self._change(seller_id, "put", cart_id, version, sku, 0, "", "", False, "")

    async def merge(
        self, seller_id: str, from_id: str, into_id: str, most: Mapping[str, int]
    ) -> tuple[CartStatus, Cart, list[MergeConflict]]:
        """Add the lines of one cart to those of another, and delete the one. `most` has the pieces that may be had."""
        status, cart, conflicts = await self._run(seller_id, "merge", from_id, into_id, _seconds(into_id), dict(most))
        return CartStatus(status), _cart(into_id, cart), [MergeConflict(*each) for each in conflicts]

    async def check_out(
        self, seller_id: str, cart_id: str, version: int, order_id: str, priced: str
    ) -> tuple[CartStatus, Cart]:
        """Make it this order, unless it is another one already; a repeat (`REPEATED`) finds what it was priced as."""
        return await self._change(seller_id, "check_out", cart_id, version, order_id, priced)

    async def reprice(self, seller_id: str, cart_id: str, version: int, prices: Mapping[str, str]) -> Cart:
        """Set the prices of these SKUs, which the buyer is told."""
        return _cart(cart_id, await self._run(seller_id, "reprice", cart_id, _seconds(cart_id), version, dict(prices)))

    async def reopen(self, seller_id: str, cart_id: str, order_id: str) -> Cart:
        """The order came to nothing: the cart is as it was."""
        return _cart(cart_id, await self._run(seller_id, "reopen", cart_id, _seconds(cart_id), order_id))

    async def finish(self, seller_id: str, cart_id: str, order_id: str) -> None:
        """The order is confirmed: the cart is deleted."""
        await self._run(seller_id, "finish", cart_id, order_id)

    async def delete(self, seller_id: str, cart_id: str) -> bool:
        """Delete a cart; returns whether there was one."""
        [existed] = await self._run(seller_id, "delete", cart_id)
        return bool(existed)

    async def close(self) -> None:
        """Close the connections."""
        await self._calls.close()

    async def _change(self, seller_id: str, command: str, cart_id: str, *more: Any) -> tuple[CartStatus, Cart]:
        status, cart = await self._run(seller_id, command, cart_id, _seconds(cart_id), *more)
        return CartStatus(status), _cart(cart_id, cart)

    async def _run(self, seller_id: str, command: str, *arguments: Any) -> Any:
        return await self._calls.call(self._script, [f"cart:{{{seller_id}}}"], command, arguments)


def is_guest(cart_id: str) -> bool:
    """Whether the cart is that of somebody whom the storefront doesn't know."""
    return cart_id.startswith(GUEST)


def _seconds(cart_id: str) -> int:
    return GUEST_SECONDS if is_guest(cart_id) else CUSTOMER_SECONDS


def _cart(cart_id: str, found: Any) -> Cart:
    version, order_id, at, priced, lines = found
    # An empty table of Lua is an empty map.
    return Cart(cart_id, version, order_id, at, priced, [CartLine(*line) for line in lines or ()])
