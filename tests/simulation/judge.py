"""Checks the invariants at each commit and each published record, against a minimal model.

The model reads a partition's log from its start, one record after the other, and knows nothing of batches: a commit
must have written exactly what the model expects of the records that its move of the position covers.
"""

import hashlib
from collections.abc import Collection, Hashable, Mapping
from typing import Any

from schemas import catalog, codec
from tests.simulation.postgres import Key
from tests.simulation.violation import require
from tests.simulation.workload import EDITIONS, MEANINGS, Log, Meaning, render

EVENTS, DEAD = catalog.INVOICE_EVENTS.name, catalog.DEAD_LETTERS.name
ORDER_EVENTS = catalog.ORDER_EVENTS.name
PAYMENT_EVENTS = catalog.PAYMENT_EVENTS.name
#: States in which an order holds stock.
OPEN = frozenset({"PAYMENT_PENDING", "CONFIRMED"})
#: Permitted steps. A late payment may still find stock; a storefront may cancel an expired order.
STEPS = frozenset(
    {
        ("PAYMENT_PENDING", "CONFIRMED"),
        ("PAYMENT_PENDING", "CANCELLED"),
        ("CONFIRMED", "CANCELLED"),
        ("CANCELLED", "CONFIRMED"),
        ("CANCELLED", "CANCELLED"),
    }
)

Written = Mapping[str, dict[Any, Any]]
Source = tuple[str, int]


class Judge:
    """The model, which checks each change."""

    def __init__(self, logs: dict[Source, Log], objects: dict[str, bytes], on_hand: Mapping[Any, int]) -> None:
        self._logs = logs
        self._objects = objects
        self.tables: Mapping[str, dict[Any, Any]] = {}
        #: The content that was accepted first for each invoice, credit note and order.
        self._first: dict[Hashable, bytes] = {}
        #: The kind that owns each order id: an invoice or a checkout, whichever was committed first.
        self._owners: dict[Hashable, str] = {}
        self._free = dict(on_hand)
        self._wanted: dict[Hashable, tuple[Any, ...]] = {}
        #: The stock that each order holds.
        self._claims: dict[Hashable, tuple[Any, ...]] = {}
        #: The last number of each series and the last seq of each journal partition, by their rows.
        self._numbers: dict[str, int] = {}
        self._seqs: dict[Source, int] = {}
        self._dates: dict[str, Any] = {}
        #: What the transaction that is judged covers.
        self._moved: set[Source] = set()
        #: What each consumer of an output topic saw last.
        self._seen: dict[Source, int] = {}

    def committed(self, writes: Mapping[Key, Any]) -> None:
        """Check a transaction's commit; `tables` are still as before."""
        written: dict[str, dict[Any, Any]] = {}
        for (table, key), row in writes.items():
            written.setdefault(table, {})[key] = row
        self._judge_journal(written)
        if "series" in written or "invoices" in written:
            self._judge_numbers(written)
        moves = [
            (key, self._row("positions", key), position)
            for key, position in written.get("positions", {}).items()
            if position != 0 or self._row("positions", key) is not None
        ]
        self._moved = {(topic, partition) for (_, topic, partition), *_ in moves}
        for (agent, topic, partition), before, position in moves:
            require(position > before, f"the position of {agent} in {partition} goes back from {before} to {position}")
            records = self._logs[(topic, partition)].between(before, position)
            getattr(self, f"_judge_{agent}")((topic, partition), records, written)
        effects = {"invoices", "refused", "orders", "stock", "documents"} & written.keys()
        if not moves and any(row.state != "open" for row in written.get("attempts", {}).values()):
            require(effects <= {"orders", "stock"}, f"a payment's outcome has effects: {sorted(effects)}")
            self._judge_paid(written)
        elif not moves and effects and effects <= {"orders", "stock"}:
            self._judge_expiry(written)
        else:
            require(bool(moves) or not effects, f"effects without a move of the position: {sorted(effects)}")
        self._judge_attempts(written)
        if "stock" in written:
            self._judge_stock(written)

    def published(self, topic: str, partition: int, seq: int, payload: bytes) -> None:
        """Check a record of an output topic."""
        row = self._row("journal", (topic, partition, seq))
        name = f"{topic}/{partition} seq {seq}"
        require(row is not None, f"{name} is published and isn't in the journal")
        require(row[1] == payload, f"{name} is published with other bytes than the journal's")
        last = self._seen.get((topic, partition), 0)
        require(seq <= last + 1, f"{name} is published after {last}: a hole")
        self._seen[(topic, partition)] = max(last, seq)

    def at_rest(self, relayed: Collection[Source], documented: bool) -> None:
        """Check the state after draining; `relayed` are the outputs that relays publish."""
        for (agent, topic, partition), position in self.tables.get("positions", {}).items():
            records = self._logs[(topic, partition)].records
            end = records[-1].offset + 1 if records else 0
            require(position >= end, f"{agent} rests at {position} of {topic}/{partition}, which ends at {end}")
        for series_id, (next_number, *_) in self.tables.get("series", {}).items():
            last = self._numbers.get(series_id, 0)
            require(next_number == last + 1, f"{series_id} rests at {next_number} after {last}: a gap")
        for (topic, partition), (next_seq, published_seq) in self.tables.get("heads", {}).items():
            rows = sum(key[:2] == (topic, partition) for key in self.tables["journal"])
            require(rows == next_seq - 1, f"the journal of {topic}/{partition} has {rows} rows up to {next_seq - 1}")
            if (topic, partition) in relayed:
                seen = self._seen.get((topic, partition), 0)
                require(seen == next_seq - 1, f"{topic}/{partition} ends at {seen}, the journal at {next_seq - 1}")
                require(published_seq == seen, f"{topic}/{partition} is marked up to {published_seq} of {seen}")
        for (series_id, number), invoice in self.tables.get("invoices", {}).items():
            row = self.tables.get("documents", {}).get((series_id, number))
            if documented:
                require(row is not None, f"number {number} of {series_id} has no document")
            if row is not None:
                event = self.tables["journal"][(EVENTS, invoice.source_partition, invoice.event_seq)][1]
                self._judge_document(row, event)

    def paid(self, payments: Mapping[str, str], charged: Mapping[Any, set[str]]) -> None:
        """Check after draining that sold orders are paid, and no others."""
        for key, attempt in self.tables.get("attempts", {}).items():
            require(attempt.state != "open", f"{key} is open for ever")
        for key, order in self.tables.get("orders", {}).items():
            keys = charged.get(key, set())
            require(len(keys) <= 1, f"{key} was charged under {len(keys)} keys")
            is_paid = any(payments[each] == "authorized" for each in keys)
            require(order.state != "PAYMENT_PENDING", f"{key} waits for ever")
            require(is_paid == (order.state == "CONFIRMED"), f"{key} is {order.state}, its money is kept: {is_paid}")

    def _row(self, table: str, key: Hashable) -> Any:
        rows = self.tables.get(table)
        return None if rows is None else rows.get(key)

    def _judge_journal(self, written: Written) -> None:
        seqs: dict[Source, list[int]] = {}
        for topic, partition, seq in written.get("journal", ()):
            seqs.setdefault((topic, partition), []).append(seq)
        heads = written.get("heads", {})
        for output in {*seqs, *heads}:
            last = self._seqs.get(output, 0)
            found = sorted(seqs.get(output, ()))
            name = f"the journal of {output[0]}/{output[1]}"
            require(found == list(range(last + 1, last + 1 + len(found))), f"{name} goes on with {found} after {last}")
            self._seqs[output] = last = last + len(found)
            next_seq, published = heads.get(output) or self._row("heads", output)
            require(published <= last < next_seq, f"{name} ends at {last}, is marked at {published} of {next_seq}")

    def _judge_numbers(self, written: Written) -> None:
        numbers: dict[str, list[tuple[int, Any]]] = {}
        for (series_id, number), row in written.get("invoices", {}).items():
            numbers.setdefault(series_id, []).append((number, row))
        for series_id in {*numbers, *written.get("series", ())}:
            last = self._numbers.get(series_id, 0)
            rows = sorted(numbers.get(series_id, ()), key=lambda pair: pair[0])
            found = [number for number, _ in rows]
            require(found == list(range(last + 1, last + 1 + len(rows))), f"{series_id} goes on with {found}: {last}")
            self._numbers[series_id] = last = last + len(rows)
            next_number, *_ = written.get("series", {}).get(series_id) or self._row("series", series_id)
            require(next_number > last, f"{series_id} would give {next_number} again")
            last_at = self._dates.get(series_id)
            for partition in {row.source_partition for _, row in rows}:
                offsets = [row.source_offset for _, row in rows if row.source_partition == partition]
                require(offsets == sorted(offsets), f"{series_id} numbers the offsets {offsets} in this order")
            for _, row in rows:
                require(last_at is None or row.issued_at >= last_at, f"the dates of {series_id} go back")
                last_at = row.issued_at
            self._dates[series_id] = last_at

    def _judge_invoices(self, source: Source, records: list[Any], written: Written) -> None:
        fresh, refused, dead = {}, {}, 0
        for record in records:
            meaning = MEANINGS[record.value]
            outcome = self._next(meaning)
            if outcome == "fresh":
                fresh[record.offset] = (tuple(meaning.key), meaning.content)
            elif outcome == "garbage":
                dead += 1
            elif outcome != "repeat":
                refused[record.offset] = outcome
        rows = [row for row in written.get("invoices", {}).values() if row.source_partition == source[1]]
        self._compare("issued", {row.source_offset: (tuple(row.key), row.content_sha256) for row in rows}, fresh)
        self._judge_refused(source, refused, dead, written)
        events = {key[2]: row for key, row in written.get("journal", {}).items() if key[:2] == (EVENTS, source[1])}
        require(len(events) == len(fresh) + len(refused), f"{len(events)} events of {len(fresh)} + {len(refused)}")
        for row in rows:
            event = events.get(row.event_seq)
            require(event is not None, f"the event of {row.key} isn't at {row.event_seq}")
            require(event is None or event[0] == row.key[1].encode(), f"the event of {row.key} is another's")

    def _judge_checkouts(self, source: Source, records: list[Any], written: Written) -> None:
        fresh, refused, dead = {}, {}, 0
        for record in records:
            meaning = MEANINGS[record.value]
            outcome = self._next(meaning)
            if outcome == "fresh":
                gets = all(self._free.get(sku, 0) >= pieces for sku, pieces in meaning.wanted)
                fresh[record.offset] = (meaning.content, "PAYMENT_PENDING" if gets else "REFUSED")
                self._wanted[meaning.key] = meaning.wanted
                if gets:
                    self._claim(meaning.key)
            elif outcome == "garbage":
                dead += 1
            elif outcome != "repeat":
                refused[record.offset] = outcome
        orders = [row for row in written.get("orders", {}).values() if row.partition == source[1]]
        pending = {key for key, row in written.get("orders", {}).items() if row.state == "PAYMENT_PENDING"}
        asked = {key[:2] for key in written.get("attempts", {})}
        require(asked == pending, f"{asked} are to be paid, and {pending} were placed")
        self._compare("placed", {row.source_offset: (row.content_sha256, row.state) for row in orders}, fresh)
        self._judge_refused(source, refused, dead, written)

    def _judge_orders(self, source: Source, records: list[Any], written: Written) -> None:
        changed = {key: row for key, row in written.get("orders", {}).items() if row.partition == source[1]}
        is_paid = (PAYMENT_EVENTS, source[1]) in self._moved
        if is_paid and source[0] != PAYMENT_EVENTS:
            # Payments and commands in one: the payments' turn is another.
            changed = {}
        if not is_paid:
            asked = {MEANINGS[record.value].key for record in records}
            require(changed.keys() <= asked, f"{changed.keys() - asked} changed unasked")
        for key, row in changed.items():
            self._step(key, row, "CANCELLED" if not is_paid else None)
            if row.state == "CONFIRMED":
                attempt = self._row("attempts", (*key, "authorize"))
                require(attempt is not None and attempt.state == "succeeded", f"{key} is confirmed and not paid")
        require(not any(key[0] == DEAD for key in written.get("journal", ())), "the agents don't understand each other")
        if source[0] == PAYMENT_EVENTS:
            return
        for key, row in written.get("journal", {}).items():
            schema, event = self._event(row[1]) if key[:2] == (ORDER_EVENTS, source[1]) else (None, {})
            if schema is catalog.ORDER_COMMAND_ANSWERED:
                order = (event["seller_id"], event["order_id"])
                # An order that was placed meanwhile may have been unknown: nobody was told yet that there is one.
                after = written.get("orders", {}).get(order) or self._row("orders", order)
                is_cancelled = after is not None and after.state == "CANCELLED"
                require(
                    (event["outcome"] == "applied") == is_cancelled, f"the answer about {order} isn't what was done"
                )

    def _judge_payments(self, _: Source, records: list[Any], written: Written) -> None:
        for record in records:
            schema, event = self._event(record.value)
            if schema in (catalog.ORDER_PLACED, catalog.PAYMENT_REQUESTED):
                key = (event["seller_id"], event["order_id"], event.get("request_id", "authorize"))
                found = written.get("attempts", {}).get(key) or self._row("attempts", key)
                require(found is not None, f"nobody will ask for {key}")

    def _judge_attempts(self, written: Written) -> None:
        finished = 0
        for key, row in written.get("attempts", {}).items():
            before = self._row("attempts", key)
            require(before is None or before.state == "open", f"{key} is {before and before.state} and written again")
            finished += row.state != "open"
        events = sum(key[0] == PAYMENT_EVENTS for key in written.get("journal", ()))
        require(events == finished, f"{events} events of {finished} payments")

    def _judge_paid(self, written: Written) -> None:
        for key, row in written.get("orders", {}).items():
            finished = {each[2]: each_row.state for each, each_row in written["attempts"].items() if each[:2] == key}
            require(bool(finished), f"{key} changes, and no payment of it has come to anything")
            self._step(key, row, None)
            if row.state == "CONFIRMED":
                require(finished.get("authorize") == "succeeded", f"{key} is confirmed and not paid")

    def _judge_expiry(self, written: Written) -> None:
        for key, row in written.get("orders", {}).items():
            before = self._row("orders", key)
            require(before is not None and before.state == "PAYMENT_PENDING", f"{key} expires and isn't pending")
            self._step(key, row, "CANCELLED")

    def _step(self, key: Hashable, row: Any, expected: str | None) -> None:
        """An order changes state, and its claim with it."""
        before = self._row("orders", key).state
        require(expected in (None, row.state), f"{key} became {row.state}")
        require((before, row.state) in STEPS, f"{key} went from {before} to {row.state}")
        if before in OPEN and row.state not in OPEN:
            for sku, pieces in self._claims.pop(key):
                self._free[sku] += pieces
        elif before not in OPEN and row.state in OPEN:
            self._claim(key)

    def _claim(self, key: Hashable) -> None:
        self._claims[key] = self._wanted[key]
        for sku, pieces in self._wanted[key]:
            self._free[sku] -= pieces

    def _event(self, value: bytes) -> tuple[Any, dict[str, Any]]:
        return codec.decode(value, *catalog.ORDER_EVENTS.schemas, bytes_max=1 << 20)

    def _judge_documents(self, _: Source, records: list[Any], written: Written) -> None:
        for record in records:
            schema, event = codec.decode(record.value, *catalog.INVOICE_EVENTS.schemas, bytes_max=1 << 20)
            if schema in (catalog.INVOICE_ISSUED, catalog.CREDIT_NOTE_ISSUED):
                number = (event["series_id"], event["number"])
                row = written.get("documents", {}).get(number) or self._row("documents", number)
                require(row is not None, f"{number} is past the documents' position and has no document")
                if row is not None:
                    self._judge_document(row, record.value)

    def _judge_document(self, row: tuple[Any, ...], value: bytes) -> None:
        _, event = codec.decode(value, *catalog.INVOICE_EVENTS.schemas, bytes_max=1 << 20)
        body = self._objects.get(row[2], b"")
        require(body in {render(event, edition) for edition in EDITIONS}, f"the document {row[2]} isn't its event's")
        require(hashlib.sha256(body).digest() == row[3], f"the document {row[2]} isn't the one recorded")

    def _judge_refused(self, source: Source, refused: dict[int, str], dead: int, written: Written) -> None:
        rows = {key[2]: row for key, row in written.get("refused", {}).items() if key[:2] == source}
        self._compare("refused", rows, refused)
        letters = sum(key[:2] == (DEAD, source[1]) for key in written.get("journal", ()))
        require(letters == dead, f"{letters} dead letters, not {dead}")

    def _judge_stock(self, written: Written) -> None:
        for sku, (on_hand, reserved, _) in written["stock"].items():
            require(0 <= reserved <= on_hand, f"{sku} has {on_hand} on hand and {reserved} reserved: oversold")
            held = sum(pieces for claim in self._claims.values() for name, pieces in claim if name == sku)
            require(reserved == held, f"{sku} has {reserved} reserved, and open orders hold {held}")

    def _next(self, meaning: Meaning) -> str:
        """The expected outcome of the next request in offset order."""
        if meaning.kind in ("garbage", "rejected"):
            return meaning.kind
        is_own = meaning.kind in ("invoice", "checkout")
        if is_own and self._owners.setdefault(tuple(meaning.key[:2]), meaning.kind) != meaning.kind:
            return "rejected"
        stands = self._first.get(meaning.key)
        if stands is not None:
            return "repeat" if stands == meaning.content else "conflict"
        if meaning.kind == "credit note" and meaning.key.invoice not in self._first:
            return "rejected"
        self._first[meaning.key] = meaning.content
        return "fresh"

    def _compare(self, what: str, found: dict[Any, Any], expected: dict[Any, Any]) -> None:
        if found != expected:
            over = sorted(str(key) for key in found.keys() - expected.keys())
            missing = sorted(str(key) for key in expected.keys() - found.keys())
            other = sorted(str(key) for key in found.keys() & expected.keys() if found[key] != expected[key])
            require(False, f"{what}: too much {over}, missing {missing}, other than in offset order {other}")
