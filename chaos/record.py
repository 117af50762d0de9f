"""What customers were told, as they would remember it: the judge's only knowledge of what was promised.

Nobody but the traffic writes here, and nothing is read from the product. "Accepted and then lost" is seen by it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What was asked for; the path it was posted to."""

    INVOICE = "invoices"
    CHECKOUT = "checkouts"


#: Statuses of an invoice or a checkout that promise that it is kept: it must have an outcome that can be looked up.
KEPT = frozenset((200, 201, 202))


@dataclass(slots=True)
class Asked:
    """One order id, and all that was posted and answered under it."""

    kind: Kind
    order_id: str
    #: Every distinct body that was posted under the id: more than one for a conflict.
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    #: (status, body of the answer) of each answer, in the order of their arrival. None came for what stayed unanswered.
    answers: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Somebody was told that it is kept."""
        return any(status in KEPT for status, _ in self.answers)


@dataclass(slots=True)
class Commanded:
    """A command on an order: a shipment, a delivery, a cancellation or a refund."""

    order_id: str
    #: The last part of its path: `shipments`, `deliveries`, `cancellations`, `refunds`.
    what: str
    body: Mapping[str, Any]
    answers: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)


@dataclass(slots=True)
class Record:
    """Everything that was asked and answered in a run. One seller: the local stack's."""

    asked: dict[tuple[Kind, str], Asked] = field(default_factory=dict)
    commanded: list[Commanded] = field(default_factory=list)
    #: Pieces that were put into stock, by SKU; each is set once, before anybody buys.
    stock: dict[str, int] = field(default_factory=dict)
    #: Records that are no requests, as (topic, partition, offset), of those that the broker acknowledged, on
    #: topics that anybody may write to: each must become a dead letter.
    garbage: set[tuple[str, int, int]] = field(default_factory=set)
    #: The same on topics that only the relay writes to: who reads them passes over what it doesn't look for, and the
    #: product's own audit must name each.
    forged: set[tuple[str, int, int]] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    #: Requests whose client gave up without an answer.
    unanswered: int = 0

    def ask(self, kind: Kind, body: Mapping[str, Any]) -> Asked:
        """Note a body before it is posted."""
        order_id = str(body["order_id"])
        asked = self.asked.setdefault((kind, order_id), Asked(kind, order_id))
        if body not in asked.bodies:
            asked.bodies.append(body)
        return asked

    def answer(self, asked: Asked | Commanded, status: int, body: Mapping[str, Any]) -> None:
        """Note an answer."""
        asked.answers.append((status, body))
        self.statuses[status] += 1
