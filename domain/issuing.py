"""Which requests of a batch become invoices: the first of each order, in offset order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class OrderKey(NamedTuple):
    """The identity of an order's invoice."""

    seller_id: str
    order_id: str
    kind: str


class Content(NamedTuple):
    """A priced request, as far as deciding needs it."""

    offset: int
    key: OrderKey
    content_sha256: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """An order id that came again with other content; the first stands."""

    content: Content
    first_content_sha256: bytes


@dataclass(frozen=True, slots=True)
class Decision:
    """What a batch amounts to: offsets to issue, in order, conflicts to record, and how many were repeats."""

    fresh: list[Content]
    conflicts: list[Conflict]
    repeats: int


def decide(requests: Iterable[Content], issued: Mapping[OrderKey, bytes]) -> Decision:
    """`issued` maps each order of the batch that already has its invoice to the digest of the content that stands."""
    standing = dict(issued)
    fresh: list[Content] = []
    conflicts: list[Conflict] = []
    repeats = 0
    for request in requests:
        first = standing.get(request.key)
        if first is None:
            standing[request.key] = request.content_sha256
            fresh.append(request)
        elif first == request.content_sha256:
            repeats += 1
        else:
            conflicts.append(Conflict(request, first))
    return Decision(fresh, conflicts, repeats)
