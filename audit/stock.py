"""Stock: rows agree with orders, and each SKU's changes follow from each other."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from audit import order_statements, statements
from audit.cursors import Levels, Sku, SkuCursor
from audit.report import AuditReport
from audit.snapshot import Snapshot
from domain.order import CLAIMING, OrderState
from domain.records import SkuChange, StockChanged
from schemas.catalog import INVENTORY_EVENTS, STOCK_CHANGED
from schemas.codec import DecodeError, decode

#: A change and its seq in the journal.
_Entry: TypeAlias = tuple[int, StockChanged]

_SHIPPED = frozenset(OrderState) - CLAIMING - {OrderState.CANCELLED, OrderState.REFUSED}
#: By cause, the effect of one piece on pieces on hand, on reserved ones, and on those sold so far.
_EFFECTS = {
    "reserved": (0, 1, 1),
    "retaken": (0, 1, 1),
    "released": (0, -1, -1),
    "shipped": (-1, -1, 0),
    "adjusted": (1, 0, 0),
    # Recorded as the difference to the stock before.
    "set": (1, 0, 0),
}


#: By cause, the effect of one piece on pieces that orders claim, and on shipped ones.
_CLAIMS = {"reserved": (1, 0), "retaken": (1, 0), "released": (-1, 0), "shipped": (-1, 1)}


def check_stock(snapshot: Snapshot, report: AuditReport, levels: Levels) -> None:
    """Check all events, then all rows; `levels` must be empty before."""
    streams = [_events(snapshot, partition) for partition in range(snapshot.partitions)]
    Replay(report, levels).run(streams)
    without_row = set(levels)
    claiming, shipped = [state.value for state in CLAIMING], [state.value for state in _SHIPPED]
    rows = snapshot.stream(order_statements.STOCK, claiming=claiming, shipped=shipped)
    for seller_id, sku, on_hand, reserved, version, claimed, sent in rows:
        report.counts["skus"] += 1
        without_row.discard((seller_id, sku))
        level = levels.own((seller_id, sku))
        level.claimed, level.sent = claimed, sent
        judge_row(report, (seller_id, sku), level, on_hand, reserved, version)
    for sku in without_row:
        report.add("stock", _where(*sku), "has events, but neither a row nor an order")


def take_claim(levels: Levels, sku: Sku, cause: str, quantity: int) -> None:
    """Apply a step of an order, by its row and its lines."""
    by_claimed, by_sent = _CLAIMS[cause]
    level = levels.own(sku)
    level.claimed += by_claimed * quantity
    level.sent += by_sent * quantity


def judge_row(
    report: AuditReport, sku: Sku, level: SkuCursor, on_hand: int | None, reserved: int | None, version: int | None
) -> None:
    """Compare a row of stock, or a missing one, with the SKU's events and orders."""
    where = _where(*sku)
    if on_hand is None or reserved is None or version is None:
        report.add("stock", where, "is in events and orders, but has no row")
        return
    claimed, sent = level.claimed, level.sent
    if not 0 <= reserved <= on_hand:
        report.add("stock", where, f"{reserved} of {on_hand} are reserved")
    if reserved != claimed:
        report.add("stock", where, f"{reserved} are reserved, but open orders claim {claimed}")
    if (on_hand, reserved, version) != (level.on_hand, level.reserved, level.version):
        ours = f"{reserved} of {on_hand} reserved in version {version}"
        theirs = f"{level.reserved} of {level.on_hand} in version {level.version}"
        report.add("stock", where, f"has {ours}, but its last event {theirs}")
    if (level.sold, level.shipped) != (claimed + sent, sent):
        ours = f"{claimed + sent} pieces, of which {sent} were sent off"
        theirs = f"events say {level.sold} and {level.shipped}"
        report.add("stock", where, f"orders have {ours}, but {theirs}")


class Replay:
    """Replays changes of SKUs in a possible order. Memory: a level per SKU."""

    def __init__(self, report: AuditReport, levels: Levels) -> None:
        self._report = report
        self._levels = levels

    def run(self, streams: Sequence[Iterator[_Entry]]) -> None:
        """Merge the partitions' events.

        Versions are assigned under the SKU's lock, and so commit in the journal's order. Therefore some partition's
        next event is always the next for all its SKUs, unless a version is missing.
        """
        heads = {number: first for number, stream in enumerate(streams) if (first := next(stream, None)) is not None}
        while heads:
            ready = [number for number, head in heads.items() if self._hole(head) == 0]
            # None is ready, so a version is missing: continue after the smallest hole.
            for number in ready or [min(heads, key=lambda number: self._hole(heads[number]))]:
                self._take(number, heads.pop(number))
                for entry in streams[number]:
                    if self._hole(entry):
                        heads[number] = entry
                        break
                    self._take(number, entry)

    def _hole(self, entry: _Entry) -> int:
        """The number of versions missing before the event's changes."""
        _, event = entry
        missing = 0
        for change in event["changes"]:
            level = self._levels.find((event["seller_id"], change["sku"]))
            missing += max(0, change["version"] - 1 - (0 if level is None else level.version))
        return missing

    def _take(self, partition: int, entry: _Entry) -> None:
        seq, event = entry
        self._report.counts["stock changes"] += len(event["changes"])
        for change in event["changes"]:
            level = self._levels.own((event["seller_id"], change["sku"]))
            where = _where(event["seller_id"], change["sku"])
            for what in _compare(level, event["cause"], change):
                self._report.add("stock", where, f"{what} ({INVENTORY_EVENTS.name}/{partition} seq {seq})")
            _, _, sold = _EFFECTS.get(event["cause"], (0, 0, 0))
            level.sold += sold * change["quantity"]
            level.shipped += change["quantity"] if event["cause"] == "shipped" else 0
            level.on_hand, level.reserved = change["on_hand"], change["reserved"]
            level.version = max(level.version, change["version"])


def _events(snapshot: Snapshot, partition: int) -> Iterator[_Entry]:
    rows = snapshot.stream(statements.JOURNAL, topic=INVENTORY_EVENTS.name, partition=partition)
    for seq, _, payload, _ in rows:
        try:
            _, event = decode(payload, STOCK_CHANGED, bytes_max=INVENTORY_EVENTS.value_bytes_max)
        except DecodeError:
            # Reported by the comparison of events with orders.
            continue
        yield seq, event


def _compare(level: SkuCursor, cause: str, change: SkuChange) -> Iterator[str]:
    """Yield what is wrong with a change after `level`."""
    version, on_hand, reserved, quantity = change["version"], change["on_hand"], change["reserved"], change["quantity"]
    if not 0 <= reserved <= on_hand:
        yield f"{reserved} of {on_hand} are reserved in version {version}"
    if version <= level.version:
        yield f"version {version} exists twice, or after {level.version}"
        return
    if version != level.version + 1:
        missing = f"{level.version + 1}" if version == level.version + 2 else f"{level.version + 1} to {version - 1}"
        yield f"has no version {missing}"
        return
    if cause not in _EFFECTS:
        yield f"version {version} has the unknown cause {cause}"
        return
    by_hand, by_reserved, _ = _EFFECTS[cause]
    expected = level.on_hand + by_hand * quantity, level.reserved + by_reserved * quantity
    if (on_hand, reserved) != expected:
        was = f"{level.reserved} of {level.on_hand} reserved"
        yield f"version {version} ({quantity} {cause}) makes {reserved} of {on_hand} out of {was}"


def _where(seller_id: str, sku: str) -> str:
    return f"stock {seller_id}/{sku}"
