"""What the agents say about stock."""

from collections.abc import Iterable
from datetime import datetime

from domain.moments import micros
from domain.records import StockChanged
from domain.reservation import Change
from schemas import catalog
from schemas.codec import encode
from sinks.postgres.journal import JournalRow


def stock_changed(
    seller_id: str,
    order_id: str,
    cause: str,
    changes: Iterable[Change],
    now: datetime,
    traceparent: str | None = None,
) -> JournalRow:
    """The journal row of an order's changes: one per SKU, each with the level after it."""
    value: StockChanged = {
        "seller_id": seller_id,
        "order_id": order_id,
        "cause": cause,
        "changes": [
            {
                "sku": change.sku.sku,
                "quantity": change.quantity,
                "on_hand": change.after.on_hand,
                "reserved": change.after.reserved,
                "version": change.after.version,
            }
            for change in changes
        ],
        "occurred_at": micros(now),
    }
    return JournalRow(order_id.encode(), encode(catalog.STOCK_CHANGED, value), now, traceparent)
