"""Where an order is: all that is recorded of it, from acceptance to document, and what it waits for."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from runtime import traces


class Place(NamedTuple):
    """Where a record stands: at an offset of its topic, or, of an event, at a `seq` of the journal."""

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
    """Something that has happened to an order."""

    #: None where it is not known, as of a request while Kafka is unavailable.
    at: datetime | None
    #: The role that did it; `kafka` for a request that the brokers have acknowledged, `operator` for a person.
    by: str
    what: str
    detail: str = ""
    place: Place | None = None
    #: The slot of the worker; empty where it is not recorded.
    worker: str = ""
    traceparent: str | None = None

    @property
    def trace_id(self) -> str:
        """Empty where there is no trace."""
        return "" if self.traceparent is None else traces.trace_id(self.traceparent)


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A stage that has not done its part of an order yet."""

    #: The role that the order waits for.
    stage: str
    what: str
    since: datetime | None
    #: What that role has to read, where it is known.
    place: Place | None = None
    #: The first offset of that partition that the role has not read.
    position: int | None = None


@dataclass(frozen=True, slots=True)
class OrderTrail:
    """All that is recorded of an order, in the order of time, and what is outstanding."""

    seller_id: str
    order_id: str
    #: Of a checkout's order its state; otherwise `accepted`, `issued`, `stored`, `rejected` or `conflict`.
    state: str
    #: Its invoice and credit notes, as printed.
    numbers: tuple[str, ...]
    entries: tuple[TrailEntry, ...]
    outstanding: tuple[Outstanding, ...]


@dataclass(frozen=True, slots=True)
class FoundTrails:
    """What a question has found."""

    trails: list[OrderTrail]
    #: What the answer lacks, in words; empty if nothing.
    gaps: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For programs: moments in ISO 8601, UTC; what is not known is null."""
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
