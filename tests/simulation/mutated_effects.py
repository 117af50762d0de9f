"""Mutations of repeats, numbers and stock: plausible mistakes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from domain import numbering
from domain.issuing import Content, Decision, decide
from domain.reservation import Change, Shelf, Short
from streams import invoices
from streams.engine.batch import Batch
from streams.order_book import OrderBook
from tests.simulation import statements
from tests.simulation.cluster import Rules
from tests.simulation.mutation import mutation
from tests.simulation.postgres import Backend, Rows, columns


@mutation
def mark_before_the_commit_and_trust_it(rules: Rules) -> Iterator[None]:
    """The dedupe table is marked before the commit, and its entries count as done."""

    def mark_first(work: Any) -> Any:
        prepare, table = work.prepare, work._table

        async def trusting(batch: Batch) -> Any:
            prepared = await prepare(batch)
            known = {each for each, digest in prepared.digests.items() if digest in table.of(batch.partition).numbers}
            table.mark(
                batch.partition, batch.first_offset, batch.next_offset, [(d, 0) for d in prepared.digests.values()]
            )
            for offset in [o for o, request in prepared.requests.items() if request.content.key in known]:
                del prepared.requests[offset]
            return prepared

        work.prepare = trusting
        return work

    rules.works["invoices"] = mark_first
    rules.works["checkouts"] = mark_first
    yield


@mutation
def unknown_means_new(_: Rules) -> Iterator[None]:
    """If the table was wrong, the batch isn't repeated with a look-up of all orders."""
    with (
        patch("streams.invoices.InvoicesWork.distrust", lambda *_: False),
        patch("streams.checkouts.CheckoutsWork.distrust", lambda *_: False),
    ):
        yield


@mutation
def repeats_within_a_batch_are_new(_: Rules) -> Iterator[None]:
    """Requests are compared with earlier ones, but not with others of the batch."""

    def forgetful(requests: Sequence[Content], issued: Mapping[Any, bytes], *_: Any) -> Decision:
        fresh: list[Content] = []
        for request in requests:
            fresh += decide([request], issued).fresh
        return replace(Decision.nothing(), fresh=fresh)

    with patch("streams.invoices.decide", forgetful), patch("streams.checkouts.decide", forgetful):
        yield


@mutation
def the_last_content_stands(_: Rules) -> Iterator[None]:
    """Of two contents of one order in a batch the later one is accepted."""

    def backwards(requests: Sequence[Content], issued: Mapping[Any, bytes], *_: Any) -> Decision:
        decision = decide(sorted(requests, key=lambda each: -each.offset), issued)
        decision.fresh.sort(key=lambda each: each.offset)
        return decision

    with patch("streams.invoices.decide", backwards), patch("streams.checkouts.decide", backwards):
        yield


def _assign_all(series_of: Sequence[str], taken: Sequence[numbering.NumberRange]) -> list[int]:
    following = {each.series_id: each.first for each in taken}
    numbers = []
    for series in series_of:
        numbers.append(following[series])
        following[series] += 1
    return numbers


@mutation
def numbers_before_counting_the_fresh(_: Rules) -> Iterator[None]:
    """As many numbers are taken as there are requests, and those for repeats are not used."""
    counted = invoices._series_of

    def all_of_them(fresh: Any, *rest: Any) -> Any:
        series_of, wanted = counted(fresh, *rest)
        return series_of, {name: each._replace(numbers=each.numbers + 1) for name, each in wanted.items()}

    with patch("streams.invoices._series_of", all_of_them), patch("domain.numbering.assign", _assign_all):
        yield


@mutation
def on_conflict_do_nothing(rules: Rules) -> Iterator[None]:
    """A repeat is found by the unique constraint after its number was taken, and skipped."""

    def insert(tx: Backend, p: Mapping[str, Any]) -> Rows:
        rows = [statements.Invoice(row) for row in columns(p, statements.INVOICE_COLUMNS)]
        for row in rows:
            tx.lock("issued", row.key)
        new = [row for row in rows if tx.read("issued", row.key) is None]
        tx.insert("invoices", {(row.series_id, row.number): row for row in new})
        tx.insert("issued", {row.key: row for row in new})
        return ()

    rules.statements["insert_invoices"] = insert
    yield


@mutation
def numbers_from_a_sequence(rules: Rules) -> Iterator[None]:
    """Numbers come from a counter that a rollback does not reset."""

    def take(tx: Backend, p: Mapping[str, Any]) -> Rows:
        found = []
        for series_id, count, date in statements.series_of(p):
            row = statements.following(tx.database.table("series").get(series_id), p["issued_at"], date, count)
            tx.write_outside("series", series_id, row)
            found.append((series_id, *row))
        return found

    rules.statements["take_numbers"] = take
    yield


@mutation
def numbers_without_the_series_lock(rules: Rules) -> Iterator[None]:
    """The next number is read without a lock, and written later."""

    def take(tx: Backend, p: Mapping[str, Any]) -> Rows:
        found = []
        for series_id, count, date in statements.series_of(p):
            row = statements.following(tx.read("series", series_id), p["issued_at"], date, count)
            tx.write("series", series_id, row)
            found.append((series_id, *row))
        return found

    rules.statements["take_numbers"] = take
    yield


@mutation
def numbers_in_any_order(_: Rules) -> Iterator[None]:
    """The numbers of a batch are assigned in reverse order."""

    def backwards(series_of: Sequence[str], taken: Sequence[numbering.NumberRange]) -> list[int]:
        return _assign_all(series_of[::-1], taken)[::-1]

    with patch("domain.numbering.assign", backwards):
        yield


@mutation
def dates_by_the_workers_clock(rules: Rules) -> Iterator[None]:
    """An invoice is dated by its worker's clock, even if the one before it has a later date."""

    def take(tx: Backend, p: Mapping[str, Any]) -> Rows:
        return [(series_id, after, p["issued_at"], day) for series_id, after, _, day in statements.take_numbers(tx, p)]

    rules.statements["take_numbers"] = take
    yield


@mutation
def stock_read_without_the_lock(rules: Rules) -> Iterator[None]:
    """Free stock is read without locking the rows."""

    def read(tx: Backend, p: Mapping[str, Any]) -> Rows:
        skus = columns(p, "seller_ids skus")
        return [(*sku, *tx.read("stock", sku)) for sku in skus if tx.read("stock", sku) is not None]

    rules.statements["lock_stock"] = read
    yield


@mutation
def stock_locked_in_the_order_of_the_lines(rules: Rules) -> Iterator[None]:
    """Two batches lock the same rows in different orders."""

    def lock(tx: Backend, p: Mapping[str, Any]) -> Rows:
        skus = list(columns(p, "seller_ids skus"))
        # Any order that isn't the same for all.
        found = [sku for sku in (skus[::-1] if int(tx.transaction) % 2 else skus) if tx.read("stock", sku) is not None]
        for sku in found:
            if ("stock", sku) not in tx.held:
                tx.lock("stock", sku)
                if sku != found[-1]:
                    # Other transactions may run between two locks.
                    tx.pause()
        return [(*sku, *tx.read("stock", sku)) for sku in found]

    rules.statements["lock_stock"] = lock
    yield


@mutation
def line_by_line(_: Rules) -> Iterator[None]:
    """An order gets the lines that are available, and is refused only for the others."""

    def reserve(shelf: Shelf, wanted: Mapping[Any, int]) -> list[Change] | list[Short]:
        short = [Short(sku.sku, pieces, 0) for sku, pieces in wanted.items() if pieces > shelf._free(sku)]
        got = [
            shelf._change(sku, pieces, on_hand=0, reserved=pieces)
            for sku, pieces in wanted.items()
            if pieces <= shelf._free(sku)
        ]
        return short or got

    with patch.object(Shelf, "reserve", reserve):
        yield


@mutation
def release_twice(_: Rules) -> Iterator[None]:
    """A repeated cancellation releases the pieces again."""

    def command(book: OrderBook, order: Any, trigger: Any, *_: Any) -> None:
        its = book._orders[order]
        if its.state.value != "REFUSED":
            book._shelf.release(book._claim(order))
            book._orders[order].state = type(its.state)("PAYMENT_PENDING")
            OrderBook.move(book, order, trigger, "", "")

    with patch.object(OrderBook, "command", command):
        yield


@mutation
def each_agent_has_ids_of_its_own(rules: Rules) -> Iterator[None]:
    """A checkout and an invoice may have the same id."""
    rules.statements["claim_order_ids"] = lambda *_: ()
    yield
