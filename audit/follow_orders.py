"""Compares what new events say of orders and stock with the present rows."""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b
from itertools import islice

from audit import order_statements, statements
from audit.answers import AnswerCheck
from audit.cursors import Levels, Sku
from audit.events import JournalEntry
from audit.numbers import judge_ids, judge_orders
from audit.orders import (
    attempt_entries,
    claims,
    judge_difference,
    judge_order,
    order_entries,
    order_name,
    read_events,
    refund_entries,
    refused_entries,
    told,
)
from audit.payments import Money, Pending, judge_money
from audit.report import AuditReport
from audit.snapshot import Snapshot
from audit.stock import Replay, judge_row, take_claim
from audit.tally import Entry
from domain.records import StockChanged
from schemas import catalog

_BATCH = 500
#: Orders whose events are remembered, 8 bytes per event: what a row says beyond them has no event.
_REMEMBERED_MAX = 50_000
Order = tuple[str, str]


class Remembered:
    """Digests of all that events have said of the most recent orders."""

    def __init__(self) -> None:
        self._digests: OrderedDict[Order, Counter[int]] = OrderedDict()

    def of(self, order: Order) -> Counter[int] | None:
        """The digests of an order; None if it is not remembered."""
        return self._digests.get(order)

    def keep(self, digests: dict[Order, Counter[int]]) -> None:
        """Remember all digests of some orders, and forget the least recent ones."""
        for order, each in digests.items():
            self._digests[order] = each
            self._digests.move_to_end(order)
        while len(self._digests) > _REMEMBERED_MAX:
            self._digests.popitem(last=False)


class OrderRound:
    """One round: `take` receives the new rows of the journal, then `finish` compares."""

    def __init__(self, snapshot: Snapshot, report: AuditReport, remembered: Remembered) -> None:
        self._snapshot = snapshot
        self._report = report
        self._remembered = remembered
        self._answers = AnswerCheck(snapshot, report)
        self._told: dict[Order, list[str]] = {}
        self._born: set[Order] = set()
        self._versions: dict[Order, set[int]] = {}
        self._stock: dict[int, list[tuple[int, StockChanged]]] = {}
        self._skus: set[Sku] = set()
        #: Decided orders, by partition.
        self.decided: Counter[int] = Counter()
        #: What the checked orders still wait for.
        self.pending: Pending = set()
        self.digests: dict[Order, Counter[int]] = {}

    @property
    def orders(self) -> Collection[Order]:
        """The orders to check."""
        return self._told.keys()

    def touch(self, order: Order) -> None:
        """Check this order, too."""
        self._told.setdefault(order, [])

    def take(self, topic: str, partition: int, entries: Sequence[JournalEntry]) -> None:
        """Add rows of one journal partition."""
        answers = []
        for entry, schema, event in read_events(self._report, topic, partition, entries):
            if catalog.ORDER_COMMAND_ANSWERED.describes(event, schema):
                answers.append((entry.seq, event))
            order = str(event["seller_id"]), str(event["order_id"])
            if catalog.STOCK_CHANGED.describes(event, schema):
                self._stock.setdefault(partition, []).append((entry.seq, event))
                self._skus.update((event["seller_id"], each["sku"]) for each in event["changes"])
            if not event["order_id"]:
                continue
            its = self._told.setdefault(order, [])
            its += [each.what for each in told(partition, schema, event, entry.payload)]
            if schema in (catalog.ORDER_PLACED, catalog.ORDER_REFUSED):
                self._born.add(order)
                self.decided[partition] += 1
            if schema is catalog.ORDER_PLACED:
                self._versions.setdefault(order, set()).add(1)
            elif catalog.ORDER_STATE_CHANGED.describes(event, schema):
                self._versions.setdefault(order, set()).add(event["version"])
        self._answers.take(partition, answers)

    def finish(self, levels: Levels, more_skus: Collection[Sku]) -> None:
        """Compare the orders, then the stock of their SKUs and of `more_skus`."""
        Replay(self._report, levels).run([iter(self._stock.get(each, ())) for each in range(self._snapshot.partitions)])
        remaining = iter(self._told)
        while batch := list(islice(remaining, _BATCH)):
            self._check_orders(batch, levels)
        self._check_stock(levels, sorted(self._skus | set(more_skus)))

    def _check_orders(self, orders: Sequence[Order], levels: Levels) -> None:
        sellers, ids = zip(*orders, strict=True)
        keys: dict[str, list[str]] = {"seller_ids": list(sellers), "order_ids": list(ids)}
        rows = self._snapshot.dicts(order_statements.ORDERS_OF, **keys)
        refunds = self._snapshot.dicts(order_statements.REFUNDS_OF, **keys)
        refused = self._snapshot.rows(order_statements.REFUSED_OF, topic=catalog.CHECKOUT_REQUESTS.name, **keys)
        finished = self._snapshot.rows(order_statements.ATTEMPTS_FINISHED_OF, **keys)
        said: dict[str, Counter[str]] = {}
        for row in rows:
            judge_order(self._report, row)
            for cause, sku, quantity in claims(row, self._versions.get((row["seller_id"], row["order_id"]), ())):
                take_claim(levels, (row["seller_id"], sku), cause, quantity)
                self._skus.add((row["seller_id"], sku))
            _count(said, order_entries(row))
        for entries in (refused_entries(refused), attempt_entries(finished), refund_entries(refunds)):
            _count(said, entries)
        for order in orders:
            self._compare(order, said.get(order_name(*order), Counter()))
        self._report.counts["orders"] += len(rows)
        self.pending |= judge_money(
            self._report,
            Money(
                self._snapshot.dicts(order_statements.MONEY_OF, **keys),
                refunds,
                self._snapshot.rows(order_statements.ATTEMPTS_WITHOUT_ORDER_OF, **keys),
                self._snapshot.rows(order_statements.LINES_REFUNDED_OTHERWISE_OF, **keys),
                self._snapshot.rows(order_statements.CREDIT_NOTES_WITHOUT_REFUND_OF, **keys),
                self._snapshot.rows(order_statements.CREDITS_AMISS_OF, **keys),
                self._snapshot.rows(order_statements.UNCREDITED_OF, **keys),
            ),
        )
        judge_orders(
            self._report,
            self._snapshot.rows(statements.ORDERS_TWICE_OF, **keys),
            self._snapshot.rows(statements.CREDITED_TOO_MUCH_OF, **keys),
        )
        judge_ids(self._report, self._snapshot.rows(order_statements.IDS_AMISS_OF, **keys))

    def _compare(self, order: Order, said: Counter[str]) -> None:
        """Compare what the rows say of an order with what its events have said, and how often."""
        where, now = order_name(*order), Counter(self._told[order])
        for what, times in (now - said).items():
            judge_difference(self._report, Entry(where, what), -times)
        before = Counter() if order in self._born else self._remembered.of(order)
        if before is None:
            # First seen since the start, and older: what its rows say beyond the new events was said before.
            before = _digests(said - now)
        known = before + _digests(now)
        for what, times in said.items():
            if times > (events := known[_digest(what)]):
                judge_difference(self._report, Entry(where, what), times - events)
        lost = sum((before - _digests(said)).values())
        if lost:
            self._report.add("order", where, f"has no row for {lost} things that its events have said before")
        self.digests[order] = known

    def _check_stock(self, levels: Levels, skus: Sequence[Sku]) -> None:
        if not skus:
            return
        self._report.counts["skus"] += len(skus)
        sellers, names = zip(*skus, strict=True)
        found = self._snapshot.rows(order_statements.LEVELS_OF, seller_ids=list(sellers), skus=list(names))
        rows = {(seller_id, sku): level for seller_id, sku, *level in found}
        for sku in skus:
            judge_row(self._report, sku, levels.own(sku), *rows.get(sku, (None, None, None)))


def _count(said: dict[str, Counter[str]], entries: Iterator[Entry]) -> None:
    for where, what in entries:
        said.setdefault(where, Counter())[what] += 1


def _digests(said: Counter[str]) -> Counter[int]:
    return Counter({_digest(what): times for what, times in said.items()})


def _digest(what: str) -> int:
    return int.from_bytes(blake2b(what.encode(), digest_size=8).digest())
