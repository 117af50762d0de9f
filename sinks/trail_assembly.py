"""Puts an order's trail together, from what was read of it. Nothing here asks anybody."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from domain.credit import CANCELLATION
from domain.issuing import CREDIT_NOTE, INVOICE
from domain.moments import moment
from domain.money import minor_text
from domain.order import LATE_PAYMENT_VOIDED, OrderState
from runtime.records import KafkaRecord, RecordPlace
from runtime.roles import READERS
from schemas import catalog
from sinks.postgres.trail_rows import AttemptRow, NumberedRow, OrderRow, Progress, RefundRow, TrailRows
from sinks.trail import OrderTrail, Outstanding, Place, TrailEntry

#: Topics in which requests of an order wait, and the agent that reads each.
READERS_OF_REQUESTS = {
    topic.name: agent
    for agent, topics in READERS.items()
    for topic in topics
    if topic in (catalog.CHECKOUT_REQUESTS, catalog.INVOICE_REQUESTS, catalog.ORDER_COMMANDS)
}
#: What the records in them ask for.
REQUESTS = {
    catalog.CHECKOUT_REQUEST: "checkout",
    catalog.INVOICE_REQUEST: "invoice request",
    catalog.CREDIT_NOTE_REQUEST: "credit note request",
    catalog.ORDER_COMMAND: "command",
}
#: The topic in which each agent finds what it owes an order.
_READS = {
    "payments": catalog.ORDER_EVENTS.name,
    "orders": catalog.PAYMENT_EVENTS.name,
    "invoices": catalog.INVOICE_REQUESTS.name,
    "documents": catalog.INVOICE_EVENTS.name,
}
#: Steps of a history that the checkouts agent takes; all others are the orders agent's.
_BIRTH_VERSION_MAX = 2
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class UnreadRequest(NamedTuple):
    """A request behind its agent's position."""

    record: KafkaRecord
    #: What it asks for, such as `checkout` or `command ship`.
    what: str
    detail: str


def assemble(
    rows: TrailRows,
    requests: Mapping[RecordPlace, KafkaRecord],
    unread: Sequence[UnreadRequest],
    progress: Progress,
) -> OrderTrail:
    """The trail of one order, from its rows, its requests that were handled, and those that were not."""
    entries = [*_entries(rows, requests), *(_accepted(each.record, each.what, each.detail) for each in unread)]
    outstanding = [_await_reader(each, progress) for each in unread]
    outstanding += _outstanding(rows, progress)
    # A stable sort: what bears the same time stays in the order in which it follows from each other.
    entries.sort(key=lambda entry: entry.at or _BEFORE_ALL)
    return OrderTrail(
        *rows.identity,
        _state(rows),
        tuple(each.invoice_number for each in rows.numbered),
        tuple(entries),
        tuple(outstanding),
    )


def _accepted(record: KafkaRecord, what: str, detail: str = "") -> TrailEntry:
    at = moment(record.timestamp_ms * 1_000)
    return TrailEntry(at, "kafka", f"{what} accepted", detail, Place(*record.place), trace_id=_trace_id(record))


def _await_reader(each: UnreadRequest, progress: Progress) -> Outstanding:
    topic, partition, offset = each.record.place
    agent = READERS_OF_REQUESTS[topic]
    position = progress.positions.get((agent, topic, partition), 0)
    since = moment(each.record.timestamp_ms * 1_000)
    return Outstanding(agent, f"to read the {each.what}", since, Place(topic, partition, offset), position)


def _entries(rows: TrailRows, requests: Mapping[RecordPlace, KafkaRecord]) -> Iterator[TrailEntry]:
    def request(what: str, place: RecordPlace) -> TrailEntry:
        record = requests.get(place)
        # Another order's, where the topic was recreated: it says nothing of this one.
        if record is None or record.key != rows.identity.order_id.encode():
            return TrailEntry(None, "kafka", f"{what} accepted", "", Place(*place))
        return _accepted(record, what)

    order = rows.order
    if order is not None:
        yield request("checkout", order.request)
        for step in order.history:
            by = "checkouts" if step["version"] <= _BIRTH_VERSION_MAX else "orders"
            detail = ": ".join(filter(None, (step["reason"], step["detail"])))
            yield TrailEntry(moment(step["at"]), by, step["to"], detail)
    for attempt in rows.attempts:
        amount = f"{minor_text(attempt.amount_minor, attempt.currency)} {attempt.currency}"
        asked = f"of {attempt.provider}, {amount}" if attempt.provider else amount
        yield TrailEntry(attempt.created_at, "payments", f"{attempt.request_id} requested", asked)
        if attempt.finished_at is not None:
            detail = ", ".join(filter(None, (attempt.reason, f"{attempt.tries} tries" if attempt.tries > 1 else "")))
            yield TrailEntry(
                attempt.finished_at,
                "payments",
                f"{attempt.request_id} {attempt.state}",
                detail,
                worker=attempt.leased_by or "",
            )
    for numbered in rows.numbered:
        kind = _kind_text(numbered.kind)
        yield request(f"{kind} request", numbered.request)
        amount = f"{minor_text(numbered.gross_minor, numbered.currency)} {numbered.currency}"
        yield TrailEntry(
            numbered.issued_at, "invoices", f"{kind} {numbered.invoice_number} issued", amount, _event(numbered)
        )
        if numbered.stored_at is not None:
            what = f"document of {numbered.invoice_number} stored"
            yield TrailEntry(numbered.stored_at, "documents", what, numbered.document_key or "")
    for refused in rows.refused:
        kind = "checkout" if refused.topic == catalog.CHECKOUT_REQUESTS.name else f"{_kind_text(refused.kind)} request"
        yield request(kind, refused.request)
        agent = READERS_OF_REQUESTS[refused.topic]
        what = f"{kind}: {refused.outcome}"
        yield TrailEntry(refused.occurred_at, agent, what, refused.detail, Place(*refused.request))


def _outstanding(rows: TrailRows, progress: Progress) -> Iterator[Outstanding]:
    """What the order waits for, as far as its rows tell."""
    order = rows.order
    attempts = {each.request_id: each for each in rows.attempts}
    credited = {each.refund_id for each in rows.numbered if each.kind == CREDIT_NOTE}
    if order is not None:
        yield from _outstanding_payments(order, attempts, rows.refunds, progress)
        confirmed = _since(order, OrderState.CONFIRMED)
        if confirmed is not None and not any(each.kind == INVOICE for each in rows.numbered):
            yield _await("invoices", "to number the invoice", confirmed, order.partition, progress)
        for refund in rows.refunds:
            if refund.state == "done" and refund.refund_id not in credited:
                attempt = attempts.get(_request_id(refund))
                since = refund.requested_at if attempt is None else attempt.finished_at
                yield _await("invoices", "to number the credit note", since, order.partition, progress)
    for numbered in rows.numbered:
        if numbered.stored_at is None:
            place = _event(numbered)
            if numbered.event_seq > progress.published.get((place.topic, place.partition), 0):
                what = f"to publish {numbered.invoice_number}"
                yield Outstanding("relay", what, numbered.issued_at, place)
            else:
                what = f"to store the document of {numbered.invoice_number}"
                yield _await("documents", what, numbered.issued_at, place.partition, progress, place)


def _outstanding_payments(
    order: OrderRow, attempts: Mapping[str, AttemptRow], refunds: Sequence[RefundRow], progress: Progress
) -> Iterator[Outstanding]:
    wanted: dict[str, datetime | None] = {}
    if order.state == OrderState.PAYMENT_PENDING:
        wanted["authorize"] = _since(order, OrderState.PAYMENT_PENDING)
    if (shipped := _since(order, OrderState.SHIPPED)) is not None:
        wanted["capture"] = shipped
    wanted |= {_request_id(each): each.requested_at for each in refunds if each.state == "requested"}
    # A payment that came when the order was cancelled already, and was given back.
    for step in order.history:
        if step["reason"] == LATE_PAYMENT_VOIDED:
            wanted["void"] = moment(step["at"])
    for request_id, since in wanted.items():
        if request_id not in attempts:
            yield _await("payments", f"to take up {request_id}", since, order.partition, progress)
    for attempt in attempts.values():
        if attempt.state == "open":
            tries = f", {attempt.tries} tries so far" if attempt.tries else ""
            holder = f", held by worker {attempt.leased_by}" if attempt.leased_by else ""
            what = f"to learn from the provider what became of {attempt.request_id}{tries}{holder}"
            yield Outstanding("payments", what, attempt.created_at)
    pending = {"authorize"} & wanted.keys() | {_request_id(each) for each in refunds if each.state == "requested"}
    for request_id in sorted(pending & attempts.keys()):
        if attempts[request_id].state != "open":
            what = f"to act on {request_id} {attempts[request_id].state}"
            yield _await("orders", what, attempts[request_id].finished_at, order.partition, progress)


def _await(
    agent: str, what: str, since: datetime | None, partition: int, progress: Progress, place: Place | None = None
) -> Outstanding:
    topic = _READS[agent]
    position = progress.positions.get((agent, topic, partition), 0)
    return Outstanding(agent, what, since, place or Place(topic, partition), position)


def _since(order: OrderRow, state: OrderState) -> datetime | None:
    """When the order came to this state last; None if it never did."""
    return next((moment(step["at"]) for step in reversed(order.history) if step["to"] == state), None)


def _request_id(refund: RefundRow) -> str:
    return "void" if refund.refund_id == CANCELLATION else f"refund:{refund.refund_id}"


def _event(numbered: NumberedRow) -> Place:
    return Place(catalog.INVOICE_EVENTS.name, numbered.source_partition, seq=numbered.event_seq)


def _kind_text(kind: str) -> str:
    return kind.replace("_", " ")


def _state(rows: TrailRows) -> str:
    if rows.order is not None:
        return rows.order.state
    if rows.numbered:
        return "issued" if rows.numbered[0].stored_at is None else "stored"
    return rows.refused[-1].outcome if rows.refused else "accepted"


def _trace_id(record: KafkaRecord) -> str:
    """The trace id of W3C's `traceparent`: version, trace id, span id and flags, in hex."""
    parts = (record.traceparent or b"").decode("ascii", "replace").split("-")
    return parts[1] if len(parts) >= 4 else ""
