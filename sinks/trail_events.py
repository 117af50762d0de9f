"""Reads from the journal's events what the tables don't have: the events' positions, and further steps of orders."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from domain.money import minor_text
from domain.order import OrderIdentity
from domain.records import (
    CreditNoteRequest,
    DeadLetter,
    OrderCommandAnswered,
    OrderStateChanged,
    PaymentAttemptFinished,
    PaymentRequested,
    StockChanged,
)
from runtime.records import RecordPlace
from schemas import catalog
from schemas.codec import DecodeError, decode
from sinks.postgres.trail_rows import EventRow
from sinks.trail import Place, TrailEntry

#: SKUs named per change of stock.
_SKUS_SHOWN_MAX = 5
#: The seller of a dead letter whose bytes name none.
UNKNOWN = ""


class AnsweredCommand(NamedTuple):
    """A command that the orders agent has answered."""

    what: str
    place: RecordPlace


@dataclass(slots=True)
class OrderEvents:
    """The events of one order. The mappings give the position of the event for what is also in the tables."""

    #: By the step's version.
    steps: dict[int, EventRow] = field(default_factory=dict)
    #: Requests and outcomes of attempts, by request id.
    requested: dict[str, EventRow] = field(default_factory=dict)
    finished: dict[str, EventRow] = field(default_factory=dict)
    #: Requests for the invoice (under "") and for credit notes, by refund id.
    invoice_requests: dict[str, EventRow] = field(default_factory=dict)
    commands: list[AnsweredCommand] = field(default_factory=list)
    #: Open dead letters, by the agent that could not apply the record.
    dead: dict[str, Place] = field(default_factory=dict)
    #: Steps that are in no table.
    entries: list[TrailEntry] = field(default_factory=list)


def place_of(row: EventRow | None) -> Place | None:
    """The position of an event; None without one."""
    return None if row is None else Place(row.topic, row.partition, seq=row.seq)


def read_events(order_id: str, rows: Sequence[EventRow]) -> dict[OrderIdentity, OrderEvents]:
    """The events of all sellers' orders with this id; dead letters that name no seller belong to `UNKNOWN`.

    Events with the same key that belong to no order, such as a seller's changes of a SKU, are left out.
    """
    found: dict[OrderIdentity, OrderEvents] = {}
    for row in rows:
        topic = catalog.TOPICS[row.topic]
        try:
            schema, body = decode(row.payload, *topic.schemas, bytes_max=len(row.payload))
        except DecodeError as error:
            # Written by a newer release, before a rollback to this one. Its order is unknown.
            entry = _entry(row, "", "event that this release can't read", str(error))
            found.setdefault(OrderIdentity(UNKNOWN, order_id), OrderEvents()).entries.append(entry)
            continue
        owner = _owner_of(body, order_id) if schema is catalog.DEAD_LETTER else _identity(body)
        note = _NOTE.get(schema)
        if note is not None and owner.order_id == order_id:
            note(found.setdefault(owner, OrderEvents()), row, body)
    return found


def _identity(body: Mapping[str, Any]) -> OrderIdentity:
    return OrderIdentity(str(body["seller_id"]), str(body["order_id"]))


def _owner_of(letter: Mapping[str, Any], order_id: str) -> OrderIdentity:
    """The order whose record became the dead letter, by its bytes."""
    topic = catalog.TOPICS.get(letter["source_topic"])
    if topic is not None:
        with suppress(DecodeError):
            return _identity(decode(letter["value"], *topic.schemas, bytes_max=topic.value_bytes_max)[1])
    return OrderIdentity(UNKNOWN, order_id)


def _note_birth(events: OrderEvents, row: EventRow, _: Any) -> None:
    # `OrderPlaced` describes the first two steps, `OrderRefused` the only one.
    events.steps |= {1: row, 2: row}


def _note_step(events: OrderEvents, row: EventRow, body: OrderStateChanged) -> None:
    events.steps[body["version"]] = row


def _note_answer(events: OrderEvents, row: EventRow, body: OrderCommandAnswered) -> None:
    what = f"command {body['command_id']}"
    events.entries.append(_entry(row, "orders", f"{what} {body['outcome']}", body["detail"]))
    # Answers of schema version 1 don't name their command.
    if body["source_offset"] >= 0:
        place = RecordPlace(catalog.ORDER_COMMANDS.name, body["source_partition"], body["source_offset"])
        events.commands.append(AnsweredCommand(what, place))


def _note_payment_request(events: OrderEvents, row: EventRow, body: PaymentRequested) -> None:
    events.requested[body["request_id"]] = row
    amount = f"{minor_text(body['amount_minor'], body['currency'])} {body['currency']}"
    events.entries.append(_entry(row, "orders", f"{body['request_id']} requested", amount))


def _note_payment(events: OrderEvents, row: EventRow, body: PaymentAttemptFinished) -> None:
    events.finished[body["request_id"]] = row


def _note_stock(events: OrderEvents, row: EventRow, body: StockChanged) -> None:
    changes = [f"{change['quantity']} of {change['sku']}" for change in body["changes"]]
    more = len(changes) - _SKUS_SHOWN_MAX
    detail = ", ".join(changes[:_SKUS_SHOWN_MAX]) + (f" and {more} SKUs more" if more > 0 else "")
    by = "checkouts" if body["cause"] == "reserved" else "orders"
    events.entries.append(_entry(row, by, f"stock {body['cause']}", detail))


def _note_invoice_request(events: OrderEvents, row: EventRow, _: Any) -> None:
    events.invoice_requests[""] = row
    events.entries.append(_entry(row, "payments", "invoice requested"))


def _note_credit_note_request(events: OrderEvents, row: EventRow, body: CreditNoteRequest) -> None:
    events.invoice_requests[body["refund_id"]] = row
    events.entries.append(_entry(row, "orders", "credit note requested", f"refund {body['refund_id']}"))


def _note_dead(events: OrderEvents, row: EventRow, body: DeadLetter) -> None:
    source = Place(body["source_topic"], body["source_partition"], body["source_offset"])
    events.entries.append(_entry(row, body["agent"], "dead letter", f"{source}: {body['error']}"))
    if row.closed is None:
        events.dead[body["agent"]] = Place(row.topic, row.partition, seq=row.seq)
        return
    again = None
    if row.redriven_partition is not None:
        again = Place(body["source_topic"], row.redriven_partition, row.redriven_offset)
    detail = f"by {row.closed_by}: {row.closed_why}"
    events.entries.append(TrailEntry(row.closed_at, "operator", f"dead letter {row.closed}", detail, again))


def _entry(row: EventRow, by: str, what: str, detail: str = "") -> TrailEntry:
    return TrailEntry(row.occurred_at, by, what, detail, place_of(row), row.worker or "", row.traceparent)


#: What to note of each event. Events of refused requests are left out, because `refused_requests` has them.
_NOTE: Mapping[catalog.Schema[Any], Callable[[OrderEvents, EventRow, Any], None]] = {
    catalog.ORDER_PLACED: _note_birth,
    catalog.ORDER_REFUSED: _note_birth,
    catalog.ORDER_STATE_CHANGED: _note_step,
    catalog.ORDER_COMMAND_ANSWERED: _note_answer,
    catalog.PAYMENT_REQUESTED: _note_payment_request,
    catalog.PAYMENT_ATTEMPT_FINISHED: _note_payment,
    catalog.STOCK_CHANGED: _note_stock,
    catalog.INVOICE_REQUEST: _note_invoice_request,
    catalog.CREDIT_NOTE_REQUEST: _note_credit_note_request,
    catalog.DEAD_LETTER: _note_dead,
}
