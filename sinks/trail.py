"""The trail of an order: all that is recorded of it, from acceptance to document, and what it waits for."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from runtime import traces


class Place(NamedTuple):
    """The position of a record: its offset in a topic or, for an event, its `seq` in the journal."""

    topic: str
    partition: int
    offset: int | None = None
    seq: int | None = None

    def __str__(self) -> str:
        where = f"{self.topic}/{self.partition}"
        if self.offset is not None:
            return f"{where} offset {self.offset}"
        return where if self.seq is None else f"{where} seq {self.seq}"


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """One step of a trail."""

    #: None if unknown, for example of a request while Kafka is unavailable.
    at: datetime | None
    #: The role that did it; `kafka` for a request acknowledged by the brokers, `operator` for a person.
    by: str
    what: str
    detail: str = ""
    place: Place | None = None
    #: The slot of the worker; empty if it is not recorded.
    worker: str = ""
    traceparent: str | None = None

    @property
    def trace_id(self) -> str:
        """Empty without a trace."""
        return "" if self.traceparent is None else traces.trace_id(self.traceparent)


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A stage that has not done its part of an order yet."""

    #: The role that the order waits for.
    stage: str
    what: str
    since: datetime | None
    #: The record that the role must read, if known.
    place: Place | None = None
    #: The role's position in that partition.
    position: int | None = None


@dataclass(frozen=True, slots=True)
class OrderTrail:
    """All that is recorded of an order, ordered by time, and what is outstanding."""

    seller_id: str
    order_id: str
    #: The state of a checkout's order; otherwise `accepted`, `issued`, `stored`, `rejected` or `conflict`.
    state: str
    #: The printed numbers of its invoice and credit notes.
    numbers: tuple[str, ...]
    entries: tuple[TrailEntry, ...]
    outstanding: tuple[Outstanding, ...]


@dataclass(frozen=True, slots=True)
class FoundTrails:
    """The result of a search."""

    trails: list[OrderTrail]
    #: What the result lacks, in words; empty if nothing.
    gaps: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The result as JSON types, with times in ISO 8601, UTC; unknown values are null."""
        return {"orders": [_trail_json(each) for each in self.trails], "gaps": self.gaps}


def _trail_json(trail: OrderTrail) -> dict[str, Any]:
    return {
        "seller_id": trail.seller_id,
        "order_id": trail.order_id,
        "state": trail.state,
        "numbers": list(trail.numbers),
        "steps": [
            {
                "at": _iso(entry.at),
                "by": entry.by,
                "what": entry.what,
                "detail": entry.detail,
                **_place_json(entry.place),
                "worker": entry.worker or None,
                "trace_id": entry.trace_id or None,
            }
            for entry in trail.entries
        ],
        "outstanding": [
            {
                "stage": each.stage,
                "what": each.what,
                "since": _iso(each.since),
                **_place_json(each.place),
                "position": each.position,
            }
            for each in trail.outstanding
        ],
    }


def _place_json(place: Place | None) -> dict[str, object]:
    return dict.fromkeys(Place._fields) if place is None else place._asdict()


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()
