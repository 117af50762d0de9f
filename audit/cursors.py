"""How far an audit has read: what a follower needs to continue without reading history again."""

from collections import ChainMap
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

Output = tuple[str, int]
#: A seller's SKU.
Sku = tuple[str, str]


class Walked(NamedTuple):
    """A series, read up to a number."""

    number: int = 0
    issued_at: datetime = datetime.min.replace(tzinfo=UTC)


class Read(NamedTuple):
    """A partition of an output topic, read up to an offset."""

    next_offset: int = 0
    #: The highest seq read; None if retention has deleted all records before `next_offset`.
    seq: int | None = 0


@dataclass(slots=True)
class SkuCursor:
    """A SKU's state by its events, and its pieces by its orders."""

    on_hand: int = 0
    reserved: int = 0
    version: int = 0
    #: By the events: pieces reserved less those released, and pieces shipped.
    sold: int = 0
    shipped: int = 0
    #: By the orders: pieces of orders with a claim, and of shipped ones.
    claimed: int = 0
    sent: int = 0

    def copy(self) -> "SkuCursor":
        """An independent copy."""
        return SkuCursor(*(getattr(self, name) for name in self.__slots__))


class Levels:
    """The levels of all SKUs. Changes are made to copies until `keep`."""

    def __init__(self, kept: MutableMapping[Sku, SkuCursor]) -> None:
        self._kept = kept
        self.changed: dict[Sku, SkuCursor] = {}

    def find(self, sku: Sku) -> SkuCursor | None:
        """The SKU's level, for reading; None if unknown."""
        return self.changed.get(sku) or self._kept.get(sku)

    def own(self, sku: Sku) -> SkuCursor:
        """The SKU's level, for changing; created if unknown."""
        level = self.changed.get(sku)
        if level is None:
            kept = self._kept.get(sku)
            level = self.changed[sku] = SkuCursor() if kept is None else kept.copy()
        return level

    def keep(self) -> None:
        """Adopt all changes."""
        self._kept.update(self.changed)
        self.changed = {}

    def __iter__(self) -> Iterator[Sku]:
        yield from self.changed
        yield from (sku for sku in self._kept if sku not in self.changed)


@dataclass(slots=True)
class Cursors:
    """Filled by a full audit, advanced by each round of a follower. Memory: a row per series, a level per SKU."""

    series: MutableMapping[str, Walked] = field(default_factory=dict)
    #: By series and partition: the last number whose event was seen, and its date.
    dates: MutableMapping[tuple[str, int], tuple[int, str]] = field(default_factory=dict)
    #: The last seq of each journal partition.
    journal: MutableMapping[Output, int] = field(default_factory=dict)
    topics: MutableMapping[Output, Read] = field(default_factory=dict)
    #: (agent, topic, partition) → the first offset not yet handled.
    positions: MutableMapping[tuple[str, str, int], int] = field(default_factory=dict)
    levels: MutableMapping[Sku, SkuCursor] = field(default_factory=dict)
    #: When the latest of the redriven dead letters that were checked was redriven; None before the first.
    redriven_at: datetime | None = None
    #: Documents not yet stored, and orders with what they wait for, as found by the full audit.
    documents: set[tuple[str, int]] = field(default_factory=set)
    pending: set[tuple[tuple[str, str], str]] = field(default_factory=set)

    def staged(self) -> "Cursors":
        """An overlay that can be advanced and discarded, without copying. Levels have `Levels` instead."""
        return Cursors(
            ChainMap({}, self.series),
            ChainMap({}, self.dates),
            ChainMap({}, self.journal),
            ChainMap({}, self.topics),
            ChainMap({}, self.positions),
            self.levels,
            self.redriven_at,
        )

    def keep(self, staged: "Cursors") -> None:
        """Adopt the progress of an overlay."""
        for name in ("series", "dates", "journal", "topics", "positions"):
            getattr(self, name).update(getattr(staged, name).maps[0])
        self.redriven_at = staged.redriven_at
