"""Assembles an order's trail from what was read of it, without further I/O."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from domain.credit import CANCELLATION
from domain.issuing import CREDIT_NOTE, INVOICE
from domain.moments import moment
from domain.money import minor_text
from domain.order import LATE_PAYMENT_VOIDED, OrderState, Trigger
from domain.payment import Action
from runtime.records import KafkaRecord, RecordPlace
from runtime.roles import READERS
from schemas import catalog
from sinks.postgres.trail_rows import AttemptRow, EventRow, NumberedRow, OrderRow, Progress, RefundRow, TrailRows
from sinks.trail import OrderTrail, Outstanding, Place, TrailEntry
from sinks.trail_events import OrderEvents, place_of

#: Topics with requests of orders, and the agent that reads each.
READERS_OF_REQUESTS = {
    topic.name: agent
    for agent, topics in READERS.items()
    for topic in topics
    if topic in (catalog.CHECKOUT_REQUESTS, catalog.INVOICE_REQUESTS, catalog.ORDER_COMMANDS)
}
#: What a record of each schema requests.
REQUESTS = {
    catalog.CHECKOUT_REQUEST: "checkout",
    catalog.INVOICE_REQUEST: "invoice request",
    catalog.CREDIT_NOTE_REQUEST: "credit note request",
    catalog.CREDIT_REQUEST: "credit request",
    catalog.ORDER_COMMAND: "command",
}
#: Steps of a history up to this version are the checkouts agent's.
_BIRTH_VERSION_MAX = 2
#: Reasons of steps that are taken with a payment's outcome; all others are the orders agent's.
_PAYMENT_REASONS = frozenset(
    {Trigger.PAYMENT_AUTHORIZED, Trigger.PAYMENT_DECLINED, Trigger.PAYMENT_FAILED, LATE_PAYMENT_VOIDED}
)
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class UnreadRequest(NamedTuple):
    """A request that its agent has not read yet."""

    record: KafkaRecord
    #: What it requests, such as `checkout` or `command ship`.
    what: str
    detail: str


def assemble(
    rows: TrailRows,
    events: OrderEvents,
    requests: Mapping[RecordPlace, KafkaRecord],
    unread: Sequence[UnreadRequest],
    progress: Progress,
) -> OrderTrail:
    """The trail of one order, from its rows, its events, its handled requests and its unread requests."""
    entries = [*_entries(rows, events, requests), *(_accepted(each.record, each.what, each.detail) for each in unread)]
    # A stable sort: entries with equal times stay in their causal order.
    entries.sort(key=lambda entry: entry.at or _BEFORE_ALL)
    waits = _Waits(rows, events, progress)
    return OrderTrail(
        *rows.identity,
        _state(rows, events, unread),
        tuple(each.invoice_number for each in rows.numbered),
        tuple(entries),
        (*(waits.for_reader(each) for each in unread), *waits.all()),
    )


def _entries(rows: TrailRows, events: OrderEvents, requests: Mapping[RecordPlace, KafkaRecord]) -> Iterator[TrailEntry]:
    def request(what: str, place: RecordPlace) -> TrailEntry:
        record = requests.get(place)
        # After the topic was recreated, the offset may hold another order's record, which says nothing about this one.
        if record is None or record.key != rows.identity.order_id.encode():
            return TrailEntry(None, "kafka", f"{what} accepted", "", Place(*place))
        return _accepted(record, what)

    # Before the steps that are taken with it, at the same time.
    for attempt in rows.attempts:
        yield from _outcome(attempt, events.finished.get(attempt.request_id))
    if rows.order is not None:
        yield request("checkout", rows.order.request)
        for step in rows.order.history:
            later = "payments" if step["reason"] in _PAYMENT_REASONS else "orders"
            by = "checkouts" if step["version"] <= _BIRTH_VERSION_MAX else later
            detail = ": ".join(filter(None, (step["reason"], step["detail"])))
            event = events.steps.get(step["version"])
            worker, traceparent = ("", None) if event is None else (event.worker or "", event.traceparent)
            yield TrailEntry(moment(step["at"]), by, step["to"], detail, place_of(event), worker, traceparent)
    yield from (request(each.what, each.place) for each in events.commands)
    for attempt in rows.attempts:
        # Others have events that say so.
        if attempt.request_id == Action.AUTHORIZE:
            amount = f"{minor_text(attempt.amount_minor, attempt.currency)} {attempt.currency}"
            trace = attempt.traceparent
            yield TrailEntry(attempt.created_at, "checkouts", "authorize requested", amount, traceparent=trace)
    yield from events.entries
    for numbered in rows.numbered:
        kind = _kind_text(numbered.kind)
        yield request(f"{kind} request", numbered.request)
        what = f"{kind} {numbered.invoice_number} issued"
        trace, worker = numbered.traceparent, numbered.worker or ""
        yield TrailEntry(numbered.issued_at, "invoices", what, _amount(numbered), _event(numbered), worker, trace)
        if numbered.stored_at is not None:
            what = f"document of {numbered.invoice_number} stored"
            key = numbered.document_key or ""
            worker = numbered.document_worker or ""
            yield TrailEntry(numbered.stored_at, "documents", what, key, None, worker, trace)
    for refused in rows.refused:
        kind = "checkout" if refused.topic == catalog.CHECKOUT_REQUESTS.name else f"{_kind_text(refused.kind)} request"
        yield request(kind, refused.request)
        agent = READERS_OF_REQUESTS[refused.topic]
        what = f"{kind}: {refused.outcome}"
        worker = refused.worker or ""
        yield TrailEntry(refused.occurred_at, agent, what, refused.detail, Place(*refused.request), worker)


def _outcome(attempt: AttemptRow, finished: EventRow | None) -> Iterator[TrailEntry]:
    if attempt.finished_at is not None:
        tries = f"{attempt.tries} tries" if attempt.tries > 1 else ""
        provider = f"by {attempt.provider}" if attempt.provider else ""
        detail = ", ".join(filter(None, (attempt.reason, tries, provider)))
        what = f"{attempt.request_id} {attempt.state}"
        worker = (None if finished is None else finished.worker) or attempt.leased_by or ""
        yield TrailEntry(attempt.finished_at, "payments", what, detail, place_of(finished), worker, attempt.traceparent)


def _accepted(record: KafkaRecord, what: str, detail: str = "") -> TrailEntry:
    at = moment(record.timestamp_ms * 1_000)
    return TrailEntry(at, "kafka", f"{what} accepted", detail, Place(*record.place), traceparent=record.traceparent)


class _Waits:
    """Finds what an order waits for, from its rows and events."""

    def __init__(self, rows: TrailRows, events: OrderEvents, progress: Progress) -> None:
        self._rows = rows
        self._events = events
        self._progress = progress
        self._attempts = {each.request_id: each for each in rows.attempts}

    def for_reader(self, each: UnreadRequest) -> Outstanding:
        """The wait for an agent to read a request."""
        place = Place(*each.record.place)
        since = moment(each.record.timestamp_ms * 1_000)
        return self._await(READERS_OF_REQUESTS[place.topic], f"to read the {each.what}", since, place)

    def all(self) -> Iterator[Outstanding]:
        """All other waits."""
        order = self._rows.order
        if order is not None:
            yield from self._payments(order)
            yield from self._invoices(order)
        for numbered in self._rows.numbered:
            if numbered.stored_at is None:
                what = f"to store the document of {numbered.invoice_number}"
                yield self._await("documents", what, numbered.issued_at, _event(numbered))

    def _payments(self, order: OrderRow) -> Iterator[Outstanding]:
        """Attempts that have no row yet, that are open, or that the order has not acted on."""
        refunds = {_request_id(each): each.requested_at for each in self._rows.refunds if each.state == "requested"}
        # Attempts whose outcome moves the order.
        awaited: dict[str, datetime | None] = dict(refunds)
        if order.state == OrderState.PAYMENT_PENDING:
            awaited["authorize"] = _since(order, OrderState.PAYMENT_PENDING)
        wanted = dict(awaited)
        if (shipped := _since(order, OrderState.SHIPPED)) is not None:
            wanted["capture"] = shipped
        for step in order.history:
            # A payment that arrived after the order was cancelled is voided.
            if step["reason"] == LATE_PAYMENT_VOIDED:
                wanted["void"] = moment(step["at"])
        # The event that places an order requests its authorisation.
        asked = {"authorize": self._events.steps.get(_BIRTH_VERSION_MAX), **self._events.requested}
        for request_id, since in wanted.items():
            if request_id not in self._attempts:
                place = place_of(asked.get(request_id)) or Place(catalog.ORDER_EVENTS.name, order.partition)
                yield self._await("payments", f"to take up {request_id}", since, place)
        for attempt in self._rows.attempts:
            if attempt.state == "open" and not attempt.tries:
                yield Outstanding("payments", f"to take up {attempt.request_id}", attempt.created_at)
            elif attempt.state == "open":
                tries = f", {attempt.tries} tries so far"
                holder = f", held by worker {attempt.leased_by}" if attempt.leased_by else ""
                what = f"to learn from the provider what became of {attempt.request_id}{tries}{holder}"
                yield Outstanding("payments", what, attempt.created_at)
            elif attempt.request_id in awaited:
                what = f"to act on {attempt.request_id} {attempt.state}"
                event = self._events.finished.get(attempt.request_id)
                place = place_of(event) or Place(catalog.PAYMENT_EVENTS.name, order.partition)
                yield self._await("orders", what, attempt.finished_at, place)

    def _invoices(self, order: OrderRow) -> Iterator[Outstanding]:
        """The invoice of a confirmed order, and the credit notes of its refunds."""
        confirmed = _since(order, OrderState.CONFIRMED)
        if confirmed is not None and not any(each.kind == INVOICE for each in self._rows.numbered):
            yield self._await("invoices", "to number the invoice", confirmed, self._asked(order, ""))
        credited = {each.refund_id for each in self._rows.numbered if each.kind == CREDIT_NOTE}
        for refund in self._rows.refunds:
            if refund.state == "done" and refund.refund_id not in credited:
                attempt = self._attempts.get(_request_id(refund))
                since = refund.requested_at if attempt is None else attempt.finished_at
                what = f"to number the credit note of refund {refund.refund_id}"
                yield self._await("invoices", what, since, self._asked(order, refund.refund_id))

    def _asked(self, order: OrderRow, refund_id: str) -> Place:
        event = self._events.invoice_requests.get(refund_id)
        return place_of(event) or Place(catalog.INVOICE_REQUESTS.name, order.partition)

    def _await(self, agent: str, what: str, since: datetime | None, place: Place) -> Outstanding:
        """The wait for `agent` to act on the record at `place`, or for the relay to publish it."""
        at = (place.topic, place.partition)
        if place.seq is not None and place.seq > self._progress.published.get(at, 0):
            return Outstanding("relay", f"to publish, for {agent} {what}", since, place)
        dead = self._events.dead.get(agent)
        if dead is not None:
            what += f"; but a record of this order is a dead letter ({dead})"
        return Outstanding(agent, what, since, place, self._progress.positions.get((agent, *at), 0))


def _since(order: OrderRow, state: OrderState) -> datetime | None:
    """When the order last entered this state; None if it never did."""
    return next((moment(step["at"]) for step in reversed(order.history) if step["to"] == state), None)


def _request_id(refund: RefundRow) -> str:
    return "void" if refund.refund_id == CANCELLATION else f"refund:{refund.refund_id}"


def _event(numbered: NumberedRow) -> Place:
    return Place(catalog.INVOICE_EVENTS.name, numbered.source_partition, seq=numbered.event_seq)


def _amount(numbered: NumberedRow) -> str:
    return f"{minor_text(numbered.gross_minor, numbered.currency)} {numbered.currency}"


def _kind_text(kind: str) -> str:
    return kind.replace("_", " ")


def _state(rows: TrailRows, events: OrderEvents, unread: Sequence[UnreadRequest]) -> str:
    if rows.order is not None:
        return rows.order.state
    if rows.numbered:
        return "issued" if rows.numbered[0].stored_at is None else "stored"
    if rows.refused:
        return rows.refused[-1].outcome
    return "dead letter" if events.entries and not unread else "accepted"
