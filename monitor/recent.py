"""What has happened last to payments and to stock, counted from the newest events of the journal. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from domain.records import PaymentAttemptFinished, StockChanged
from domain.reservation import Sku

#: Causes by which an order takes pieces.
_TAKEN = ("reserved", "retaken")


class HotSku(NamedTuple):
    """How often a SKU has changed lately."""

    sku: Sku
    changes: int
    #: Pieces that orders have claimed.
    claimed: int


def hottest(events: Iterable[StockChanged], limit: int) -> list[HotSku]:
    """The SKUs that have changed most often, at most `limit`."""
    changes: Counter[Sku] = Counter()
    claimed: Counter[Sku] = Counter()
    for event in events:
        for change in event["changes"]:
            sku = Sku(event["seller_id"], change["sku"])
            changes[sku] += 1
            if event["cause"] in _TAKEN:
                claimed[sku] += change["quantity"]
    most = sorted(changes.items(), key=lambda each: (-each[1], each[0]))[:limit]
    return [HotSku(sku, count, claimed[sku]) for sku, count in most]


def outcomes(events: Iterable[PaymentAttemptFinished]) -> list[Mapping[str, Any]]:
    """How payments ended, by action, outcome and reason, the most frequent first."""
    counted = Counter((event["action"], event["outcome"], event["reason"]) for event in events)
    return [
        {"action": action, "outcome": outcome, "reason": reason, "count": count}
        for (action, outcome, reason), count in sorted(counted.items(), key=lambda each: (-each[1], each[0]))
    ]
