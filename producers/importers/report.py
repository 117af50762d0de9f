"""What came of an import: each order is accepted, skipped on purpose, rejected with its reason, or unanswered."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from producers.client import GatewayAnswer
from producers.importers.found import Found, Place, Rejected, Request, Skipped
from producers.importers.jsonl import order_id_of

_REFUSED_FROM = 400
#: Rejected orders that people are shown; programs get all.
_LISTED_MAX = 50


@dataclass(slots=True)
class ImportReport:
    """Counts, and by name all that was left out."""

    #: Requests that can be sent, repeats not counted.
    ready: int = 0
    accepted: int = 0
    #: By the state in which the export says that they are.
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejected] = field(default_factory=list)
    #: What was concluded, or stands in for what an export doesn't say: the names of the orders, by the remark.
    remarks: dict[str, list[str]] = field(default_factory=dict)
    #: Orders of which money was given back since, which no invoice request can say.
    refunds: list[Request] = field(default_factory=list)
    #: Where each request that has no answer yet stands, and its order's id.
    _sent: dict[bytes, tuple[Place, str]] = field(default_factory=dict)

    @property
    def orders(self) -> int:
        """All that were found."""
        return self.ready + self.skipped.total() + sum(1 for each in self.rejected if each.place.row)

    def payloads(self, found: Iterable[Found]) -> Iterator[bytes]:
        """The bodies to send; the others are noted."""
        for each in found:
            if isinstance(each, Request):
                self.ready += 1
                for remark in each.remarks:
                    self.remarks.setdefault(remark, []).append(each.order_id)
                if each.refunded:
                    self.refunds.append(each)
                self._sent[each.payload] = each.place, each.order_id
                yield each.payload
            elif isinstance(each, Skipped):
                self.skipped[each.state] += 1
            else:
                self.rejected.append(each)

    def take(self, payload: bytes, answer: GatewayAnswer) -> None:
        """Note the gateway's answer; those to repeats are not counted."""
        place, order_id = self._sent.pop(payload, (None, ""))
        if place is None:
            return
        if answer.status < _REFUSED_FROM:
            self.accepted += 1
            return
        self.ready -= 1
        self.rejected.append(_refused(place, order_id, payload, answer))

    def give_up(self) -> None:
        """Note that the requests which have no answer yet will have none."""
        for payload, (place, order_id) in self._sent.items():
            self.ready -= 1
            name = order_id or order_id_of(payload)
            self.rejected.append(Rejected(place, name, "", "no answer from the gateway: send the file again"))
        self._sent.clear()

    @property
    def is_complete(self) -> bool:
        """Whether nothing was left out but on purpose."""
        return not self.rejected

    def listed(self) -> list[str]:
        """The first rejected orders, one a line, and how many more there are."""
        lines = [str(each) for each in self.rejected[:_LISTED_MAX]]
        more = len(self.rejected) - len(lines)
        return [*lines, f"and {more:,} more: --json lists all"] if more else lines

    def told(self) -> dict[str, Any]:
        """For programs."""
        return {
            "orders": self.orders,
            "ready": self.ready,
            "accepted": self.accepted,
            "skipped": dict(sorted(self.skipped.items())),
            "rejected": [
                {
                    "order_id": each.order_id,
                    "file": str(each.place.path),
                    "row": each.place.row or None,
                    "field": each.column or None,
                    "reason": each.reason,
                }
                for each in self.rejected
            ],
            "remarks": self.remarks,
            "refunds": [
                {
                    "order_id": each.order_id,
                    "file": str(each.place.path),
                    "row": each.place.row,
                    "amount": f"{each.refunded:f}",
                    "currency": each.currency,
                }
                for each in self.refunds
            ],
        }


def _refused(place: Place, order_id: str, payload: bytes, answer: GatewayAnswer) -> Rejected:
    try:
        problem = answer.json()
    except ValueError:
        problem = {"detail": answer.payload[:200].decode(errors="replace")}
    reason = f"{answer.status} {problem.get('detail') or problem.get('title') or ''}".rstrip()
    return Rejected(place, order_id or order_id_of(payload), "", reason)
