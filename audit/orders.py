"""Orders: each history follows the transition table; each step, claim, payment and request has exactly one event."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

from audit import order_statements, statements
from audit.answers import AnswerCheck
from audit.events import JournalEntry
from audit.report import AuditReport
from audit.snapshot import Snapshot
from audit.tally import Entry, Tally
from domain.credit import CANCELLATION, is_found
from domain.moments import micros
from domain.order import CLAIMING, OrderState, StepTaken, is_walk
from domain.records import Parcel, ShortLine
from schemas import catalog
from schemas.codec import DecodeError, decode

#: Topics whose events have counterparts in the tables of orders.
TOPICS = (catalog.ORDER_EVENTS, catalog.INVENTORY_EVENTS, catalog.PAYMENT_EVENTS, catalog.INVOICE_REQUESTS)
#: Events without a row in a table. Requests for voids are excluded, too: they follow from an order's former state.
_NOT_TOLD = (catalog.ORDER_COMMAND_ANSWERED,)
_BY_THE_SELLER = ("adjusted", "set")


class OrderCheck:
    """Takes the journal's rows of orders; then `finish` reads the tables and compares."""

    def __init__(self, snapshot: Snapshot, report: AuditReport) -> None:
        self._snapshot = snapshot
        self._report = report
        self._tally = Tally()
        self._answers = AnswerCheck(snapshot, report)

    def take(self, topic: str, partition: int, entries: Sequence[JournalEntry]) -> None:
        """Add rows of one journal partition."""
        answers = []
        for entry, schema, event in read_events(self._report, topic, partition, entries):
            if catalog.ORDER_COMMAND_ANSWERED.describes(event, schema):
                answers.append((entry.seq, event))
            for each in told(partition, schema, event, entry.payload):
                self._tally.in_events(each)
        self._answers.take(partition, answers)

    def finish(self) -> None:
        """Check all orders, and report what only the tables or only the events say."""
        for row in self._snapshot.stream_dicts(order_statements.ORDERS):
            self._report.counts["orders"] += 1
            self._report.counts[f"orders {row['state']}"] += 1
            judge_order(self._report, row)
            for each in order_entries(row):
                self._tally.in_tables(each)
        for each in self._other_entries():
            self._tally.in_tables(each)
        for seller_id, order_id, lines in self._snapshot.stream(order_statements.LINES_WITHOUT_ORDER):
            self._report.add("order", f"order {seller_id}/{order_id}", f"has {lines} lines, but no row")
        if self._tally.agrees:
            return
        for each, oftener in self._tally.differences(self._all_entries(), self._all_told()):
            judge_difference(self._report, each, oftener)

    def _all_entries(self) -> Iterator[Entry]:
        for row in self._snapshot.stream_dicts(order_statements.ORDERS):
            yield from order_entries(row)
        yield from self._other_entries()

    def _all_told(self) -> Iterator[Entry]:
        for topic in TOPICS:
            for partition in range(self._snapshot.partitions):
                for row in self._snapshot.stream(statements.JOURNAL, topic=topic.name, partition=partition):
                    entry = JournalEntry(*row)
                    with suppress(DecodeError):
                        yield from told(partition, *_decode(topic.name, entry), entry.payload)

    def _other_entries(self) -> Iterator[Entry]:
        """What the tables other than `orders` say."""
        refused = self._snapshot.stream(order_statements.REFUSED, topic=catalog.CHECKOUT_REQUESTS.name)
        yield from refused_entries(refused)
        for seller_id, sku, adjust, version in self._snapshot.stream(order_statements.ADJUSTMENTS):
            yield Entry(f"stock {seller_id}/{sku}", f"adjusted by {adjust} in version {version}")
        yield from attempt_entries(self._snapshot.stream(order_statements.ATTEMPTS_FINISHED))
        yield from refund_entries(self._snapshot.stream_dicts(order_statements.REFUNDS))


def read_events(
    report: AuditReport, topic: str, partition: int, entries: Sequence[JournalEntry]
) -> Iterator[tuple[JournalEntry, catalog.Schema[Any], Mapping[str, object]]]:
    """Rows of the journal with their decoded events; those that can't be decoded are reported."""
    for entry in entries:
        where = f"{topic}/{partition} seq {entry.seq}"
        try:
            schema, event = _decode(topic, entry)
        except DecodeError as error:
            report.add("journal", where, f"can't be decoded: {error}")
            continue
        if entry.key != _key(schema, event):
            report.add("event", where, "its key is not its order id")
        yield entry, schema, event


def judge_order(report: AuditReport, row: dict[str, Any]) -> None:
    """Check an order by itself."""
    for what in _judge(row):
        report.add("order", order_name(row["seller_id"], row["order_id"]), what)


def judge_difference(report: AuditReport, each: Entry, oftener: int) -> None:
    """Report an entry that the tables have `oftener` times more than the events; fewer if negative."""
    rows, events = ("a row", "no event") if oftener > 0 else ("no row", "an event")
    times = "" if abs(oftener) == 1 else f", {abs(oftener)} times"
    report.add("order", each.where, f"has {rows} and {events} that says{times}: {each.what}")


def refused_entries(rows: Iterable[tuple[Any, ...]]) -> Iterator[Entry]:
    """The entries that events must contain for refused checkouts."""
    for seller_id, order_id, partition, topic, offset, outcome, reason, content in rows:
        what = content if outcome == "conflict" else reason
        yield Entry(order_name(seller_id, order_id), f"{partition}: {outcome} ({what}) at {topic} offset {offset}")


def attempt_entries(rows: Iterable[tuple[Any, ...]]) -> Iterator[Entry]:
    """The entries that events must contain for finished attempts."""
    for seller_id, order_id, partition, *attempt in rows:
        yield Entry(order_name(seller_id, order_id), f"{partition}: {_payment(*attempt)}")


def refund_entries(rows: Iterable[dict[str, Any]]) -> Iterator[Entry]:
    """The entries that events must contain for refunds."""
    for row in rows:
        where, partition, refund_id = order_name(row["seller_id"], row["order_id"]), row["partition"], row["refund_id"]
        # Nobody asks for a void by its refund, nor for what was refunded at the provider itself.
        if refund_id != CANCELLATION and not is_found(refund_id):
            wants = _wants(f"refund:{refund_id}", "refund", row["amount_minor"], row["currency"])
            yield Entry(where, f"{partition}: {wants}")
        if row["state"] == "done":
            yield Entry(where, f"{partition}: asks for credit note {refund_id} by {row['request_sha256']}")


def _judge(row: dict[str, Any]) -> Iterator[str]:
    """Yield a text for each violation of an order by itself."""
    try:
        history = [
            StepTaken(
                each["version"],
                None if each["from"] is None else OrderState(each["from"]),
                OrderState(each["to"]),
                each["reason"],
                each["detail"],
                each["at"],
            )
            for each in row["history"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        yield f"its history can't be read: {error!r}"
        return
    if not is_walk(history):
        steps = " → ".join(taken.to_state.value for taken in history)
        yield f"its history is no walk of the table: {steps or 'nothing'}"
    elif row["state"] != history[-1].to_state:
        yield f"is {row['state']}, but its history ends with {history[-1].to_state.value}"
    elif history[0].at != micros(row["placed_at"]):
        yield "its history begins at another time than the order"
    if row["version"] != len(history):
        yield f"has version {row['version']}, but {len(history)} steps in its history"
    is_refused = row["state"] == OrderState.REFUSED
    if is_refused != (row["short"] is not None) or is_refused != (not row["lines"]):
        yield f"is {row['state']}, with {len(row['lines'])} lines, and short of {row['short']}"


def order_entries(row: dict[str, Any]) -> Iterator[Entry]:
    """The entries that events must contain for an order, by its row and its lines."""
    where = order_name(row["seller_id"], row["order_id"])
    partition, history = row["partition"], row["history"]
    pieces: dict[str, int] = {}
    for _, sku, quantity in row["lines"]:
        if not sku:
            continue
        pieces[sku] = pieces.get(sku, 0) + quantity
    for each in history:
        step = f"{each['from']} → {each['to']}"
        if each["to"] == OrderState.REFUSED:
            what = _refused(row["customer"], row["short"] or (), each["at"])
        elif each["to"] == OrderState.PLACED:
            what = _placed(row, row["lines"], each["at"], micros(row["hold_expires_at"]))
            yield Entry(where, f"{partition}: {_stock('reserved', pieces)}")
        elif each["to"] == OrderState.PAYMENT_PENDING:
            continue
        else:
            said = f"{each['reason']}; {each['detail']}{_parcel(each.get('parcel'))}"
            what = f"step {each['version']} {step} ({said}) at {each['at']}"
        yield Entry(where, f"{partition}: {what}")
        if cause := _stock_cause(each["from"], each["to"]):
            yield Entry(where, f"{partition}: {_stock(cause, pieces)}")
        if each["to"] == OrderState.SHIPPED:
            yield Entry(where, f"{partition}: {_wants('capture', 'capture', row['gross_minor'], row['currency'])}")
        if each["to"] == OrderState.CONFIRMED:
            yield Entry(where, f"{partition}: asks for its invoice by {row['request_sha256']}")


def claims(row: dict[str, Any], versions: Collection[int]) -> Iterator[tuple[str, str, int]]:
    """The changes of stock by these versions of an order: cause, SKU and pieces."""
    for each in row["history"]:
        if each["version"] in versions:
            cause = "reserved" if each["to"] == OrderState.PLACED else _stock_cause(each["from"], each["to"])
            if cause is not None:
                yield from ((cause, sku, quantity) for _, sku, quantity in row["lines"] if sku)


def _parcel(parcel: Parcel | None) -> str:
    if parcel is None:
        return ""
    return f"; {parcel['carrier']} {parcel['tracking_number']} {parcel['tracking_url']}"


def _stock_cause(before: str | None, after: str) -> str | None:
    """The cause of a step's change of the claim; None if it has none. The first step is excluded."""
    if before in CLAIMING and after == OrderState.CANCELLED:
        return "released"
    if before in CLAIMING and after == OrderState.SHIPPED:
        return "shipped"
    return "retaken" if before == OrderState.CANCELLED and after in CLAIMING else None


def _decode(topic: str, entry: JournalEntry) -> tuple[catalog.Schema[Any], Mapping[str, object]]:
    its_topic = catalog.TOPICS[topic]
    return decode(entry.payload, *its_topic.schemas, bytes_max=its_topic.value_bytes_max)


def _key(schema: catalog.Schema[Any], event: Mapping[str, object]) -> bytes:
    """The expected key: the order id, or the SKU of a change by the seller."""
    if catalog.STOCK_CHANGED.describes(event, schema) and not event["order_id"]:
        return next((each["sku"] for each in event["changes"]), "").encode()
    return str(event["order_id"]).encode()


def told(partition: int, schema: catalog.Schema[Any], event: Mapping[str, object], payload: bytes) -> Iterator[Entry]:
    """The entries that an event contains."""
    if catalog.STOCK_CHANGED.describes(event, schema) and event["cause"] in _BY_THE_SELLER:
        if event["cause"] == "adjusted":
            for each in event["changes"]:
                what = f"adjusted by {each['quantity']} in version {each['version']}"
                yield Entry(f"stock {event['seller_id']}/{each['sku']}", what)
    elif schema not in _NOT_TOLD and not (schema is catalog.PAYMENT_REQUESTED and event["action"] == "void"):
        where = order_name(str(event["seller_id"]), str(event["order_id"]))
        yield Entry(where, f"{partition}: {_words(schema, event, payload)}")


def _words(schema: catalog.Schema[Any], event: Mapping[str, object], payload: bytes) -> str:
    if catalog.ORDER_PLACED.describes(event, schema):
        lines = [
            (index, "" if line["stock"] is False else line["sku"], abs(line["quantity"]))
            for index, line in enumerate(event["lines"])
        ]
        return _placed(event, lines, event["placed_at"], event["hold_expires_at"])
    if catalog.ORDER_REFUSED.describes(event, schema):
        return _refused(event["customer"], event["short"], event["occurred_at"])
    if catalog.ORDER_STATE_CHANGED.describes(event, schema):
        step = f"{event['from_state']} → {event['to_state']}"
        said = f"{event['reason']}; {event['detail']}{_parcel(event['parcel'])}"
        return f"step {event['version']} {step} ({said}) at {event['occurred_at']}"
    if catalog.STOCK_CHANGED.describes(event, schema):
        return _stock(event["cause"], {each["sku"]: each["quantity"] for each in event["changes"]})
    if catalog.PAYMENT_REQUESTED.describes(event, schema):
        return _wants(event["request_id"], event["action"], event["amount_minor"], event["currency"])
    if catalog.PAYMENT_ATTEMPT_FINISHED.describes(event, schema):
        return _payment(
            event["request_id"],
            event["action"],
            event["outcome"],
            event["amount_minor"],
            event["currency"],
            event["reference"],
            event["reason"],
        )
    if schema is catalog.INVOICE_REQUEST:
        return f"asks for its invoice by {sha256(payload).hexdigest()}"
    if catalog.CREDIT_NOTE_REQUEST.describes(event, schema):
        return f"asks for credit note {event['refund_id']} by {sha256(payload).hexdigest()}"
    outcome, what = "conflict", event.get("content_sha256")
    if schema is not catalog.ORDER_CONFLICTED:
        outcome, what = "rejected", event["reason"]
    return f"{outcome} ({what}) at {event['source_topic']} offset {event['source_offset']}"


def order_name(seller_id: str, order_id: str) -> str:
    return f"order {seller_id}/{order_id}"


def _placed(order: Mapping[str, object], lines: Iterable[tuple[int, str, int]], at: int, hold_expires_at: int) -> str:
    pieces = ", ".join(f"{line} {sku} x {quantity}" for line, sku, quantity in lines)
    amounts = f"{order['net_minor']} + {order['tax_minor']} = {order['gross_minor']} {order['currency']}"
    return f"placed by {order['customer']} at {at} until {hold_expires_at}: {amounts} for {pieces}"


def _refused(customer: str, short: Sequence[ShortLine], at: int) -> str:
    missing = ", ".join(f"{each['sku']} ({each['wanted']} of {each['free']})" for each in short)
    return f"refused to {customer} at {at}, short of {missing}"


def _stock(cause: str, pieces: dict[str, int]) -> str:
    return f"stock {cause}: " + ", ".join(f"{sku} x {quantity}" for sku, quantity in sorted(pieces.items()))


def _wants(request_id: str, action: str, amount_minor: int, currency: str) -> str:
    return f"wants {request_id} ({action}) of {amount_minor} {currency}"


def _payment(
    request_id: str, action: str, outcome: str, amount_minor: int, currency: str, reference: str, reason: str
) -> str:
    return f"{request_id} ({action}) {outcome} {amount_minor} {currency} ({reference}; {reason})"
