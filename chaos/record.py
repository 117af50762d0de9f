"""What customers were promised, as they would remember it: the only such knowledge that the judge has.

Only the traffic writes here, and nothing is read from the product. So a request that was accepted and then lost is
found.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What was asked for; the value is the path it was posted to."""

    INVOICE = "invoices"
    CHECKOUT = "checkouts"


#: Statuses that promise that an invoice or a checkout is durable: it must have an outcome that can be looked up.
ACCEPTED = frozenset((200, 201, 202))


@dataclass(slots=True)
class Asked:
    """One order id, with all that was posted and answered under it."""

    kind: Kind
    order_id: str
    #: Every distinct body posted under the id; more than one is a conflict.
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    #: (status, body) of each answer, in order of arrival. Unanswered requests have none.
    answers: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        """Whether any answer promised that the request is durable."""
        return any(status in ACCEPTED for status, _ in self.answers)


@dataclass(slots=True)
class Commanded:
    """A command on an order: a shipment, a delivery, a cancellation or a refund; or a credit of an invoice."""

    order_id: str
    #: The last part of its path: `shipments`, `deliveries`, `cancellations`, `refunds`, `credit-notes`.
    what: str
    body: Mapping[str, Any]
    answers: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Hooked:
    """A webhook to which a receiver has answered 2xx."""

    webhook_id: str
    order_id: str
    sequence: int
    #: Such as `order.confirmed`.
    type: str
    #: The order's version, in events that have one.
    version: int | None
    #: Whether its signature is valid.
    signed: bool


@dataclass(frozen=True, slots=True)
class Mailed:
    """A mail that the mail server has taken."""

    message_id: str
    subject: str
    to: str


@dataclass(slots=True)
class Offered:
    """A product of the run, which one seller changes, each time to another price."""

    product_id: str
    #: The prices that were put, in their order.
    prices: list[str] = field(default_factory=list)
    #: Version → the price that an answer said it has.
    accepted: dict[int, str] = field(default_factory=dict)
    #: Every version and price that buyers were shown.
    shown: set[tuple[int, str]] = field(default_factory=set)


@dataclass(slots=True)
class Record:
    """All requests and answers of a run. They have one seller, the local stack's."""

    asked: dict[tuple[Kind, str], Asked] = field(default_factory=dict)
    commanded: list[Commanded] = field(default_factory=list)
    #: Pieces put into stock, by SKU; each is set once, before any order.
    stock: dict[str, int] = field(default_factory=dict)
    #: Acknowledged records that are not valid requests, as (topic, partition, offset), on topics with several writers:
    #: each must become a dead letter.
    garbage: set[tuple[str, int, int]] = field(default_factory=set)
    #: The same on topics that only the relay writes to: consumers ignore such records, and the product's own audit must
    #: report each.
    forged: set[tuple[str, int, int]] = field(default_factory=set)
    #: The orders among `garbage`, in wrong partitions, that were redriven, with their ids: each must have one effect.
    redriven: dict[tuple[str, int, int], str] = field(default_factory=dict)
    #: What an endpoint that wants all events has received, in order of arrival; None where a run has no endpoint.
    hooked: list[Hooked] | None = None
    #: The mails that confirm orders, in order of arrival; None where a run has none.
    mailed: list[Mailed] | None = None
    offered: dict[str, Offered] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    #: Requests whose client gave up without an answer.
    unanswered: int = 0

    def ask(self, kind: Kind, body: Mapping[str, Any]) -> Asked:
        """Record a body before it is posted."""
        order_id = str(body["order_id"])
        asked = self.asked.setdefault((kind, order_id), Asked(kind, order_id))
        if body not in asked.bodies:
            asked.bodies.append(body)
        return asked

    def answer(self, asked: Asked | Commanded, status: int, body: Mapping[str, Any]) -> None:
        """Record an answer."""
        asked.answers.append((status, body))
        self.statuses[status] += 1
