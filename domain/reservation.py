"""Who gets the stock: all lines of an order or none, in the order of arrival."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Sku(NamedTuple):
    """A seller's article."""

    seller_id: str
    sku: str


@dataclass(frozen=True, slots=True)
class Level:
    """A row of stock: pieces in the warehouse, pieces claimed by open orders, and how often the row has changed."""

    on_hand: int
    reserved: int
    version: int

    @property
    def free(self) -> int:
        """Pieces that may be claimed."""
        return self.on_hand - self.reserved


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one SKU for one order: pieces moved, and the level after it."""

    sku: Sku
    quantity: int
    after: Level


@dataclass(frozen=True, slots=True)
class Short:
    """One SKU of which there was not enough. Values, not an error: the order is refused with them."""

    sku: str
    wanted: int
    free: int


@dataclass(slots=True)
class Shelf:
    """Levels as a transaction changes them, one order after the other. Holds every SKU that it will be asked for."""

    levels: dict[Sku, Level]
    #: SKUs that were changed, and so must be written.
    changed: set[Sku] = field(default_factory=set)

    def reserve(self, wanted: Mapping[Sku, int]) -> list[Change] | list[Short]:
        """Claim all of `wanted`, or nothing and say what is short. A SKU without a row has no stock."""
        short = [
            Short(sku.sku, pieces, self._free(sku))
            for sku, pieces in sorted(wanted.items())
            if pieces > self._free(sku)
        ]
        if short:
            return short
        return [self._change(sku, pieces, on_hand=0, reserved=pieces) for sku, pieces in sorted(wanted.items())]

    def release(self, claimed: Mapping[Sku, int]) -> list[Change]:
        """Give a claim back."""
        return [self._change(sku, pieces, on_hand=0, reserved=-pieces) for sku, pieces in sorted(claimed.items())]

    def ship(self, claimed: Mapping[Sku, int]) -> list[Change]:
        """A claim leaves the warehouse."""
        return [self._change(sku, pieces, on_hand=-pieces, reserved=-pieces) for sku, pieces in sorted(claimed.items())]

    def _free(self, sku: Sku) -> int:
        level = self.levels.get(sku)
        return 0 if level is None else level.free

    def _change(self, sku: Sku, pieces: int, *, on_hand: int, reserved: int) -> Change:
        before = self.levels[sku]
        after = Level(before.on_hand + on_hand, before.reserved + reserved, before.version + 1)
        if not 0 <= after.reserved <= after.on_hand:
            # A bug, or a row changed behind our back: written, it would be an oversell.
            raise ValueError(f"{sku} would be {after}")
        self.levels[sku] = after
        self.changed.add(sku)
        return Change(sku, pieces, after)


def wanted_of(seller_id: str, lines: Iterable[tuple[str, int]]) -> dict[Sku, int]:
    """Pieces per SKU of an order's `(sku, quantity)` lines: several lines of one SKU are counted together.

    A line without a SKU, such as shipping, claims no stock.
    """
    wanted: dict[Sku, int] = {}
    for name, quantity in lines:
        if not name:
            continue
        sku = Sku(seller_id, name)
        wanted[sku] = wanted.get(sku, 0) + quantity
    return wanted
