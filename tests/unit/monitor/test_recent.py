"""What happened last, as the dashboard counts it, and who publishes what."""

from domain.records import PaymentAttemptFinished, StockChanged
from domain.reservation import Sku
from monitor.owners import name_publishers
from monitor.recent import HotSku, hottest, outcomes
from schemas.catalog import OUTPUT_TOPICS

FIRST, SECOND = OUTPUT_TOPICS[0].name, OUTPUT_TOPICS[1].name


def changed(cause: str, **quantities: int) -> StockChanged:
    """By an order, of some SKUs."""
    changes = [
        {"sku": sku, "quantity": quantity, "on_hand": 9, "reserved": 1, "version": 1}
        for sku, quantity in quantities.items()
    ]
    return {"seller_id": "demo", "order_id": "A-1", "cause": cause, "changes": changes, "occurred_at": 0}  # type: ignore[typeddict-item]


def finished(action: str, outcome: str, reason: str = "") -> PaymentAttemptFinished:
    """An attempt's end."""
    return {"action": action, "outcome": outcome, "reason": reason}  # type: ignore[typeddict-item]


def test_the_sku_that_changes_most_often_is_the_hottest() -> None:
    events = [
        changed("set", MUG=100),
        changed("reserved", MUG=2, CUP=7),
        changed("retaken", MUG=1),
        changed("shipped", MUG=2),
    ]
    assert hottest(events, 9) == [HotSku(Sku("demo", "MUG"), 4, 3), HotSku(Sku("demo", "CUP"), 1, 7)]
    assert hottest(events, 1) == [HotSku(Sku("demo", "MUG"), 4, 3)]


def test_payments_are_counted_by_what_became_of_them() -> None:
    events = [finished("authorize", "succeeded")] * 3 + [finished("authorize", "declined", "card_declined")]
    assert [(each["outcome"], each["reason"], each["count"]) for each in outcomes(events)] == [
        ("succeeded", "", 3),
        ("declined", "card_declined", 1),
    ]


def test_one_relay_is_called_by_its_name() -> None:
    locks = [(0, 1, 4711, "relay", "10.0.0.7"), (1, 0, 4711, "relay", "10.0.0.7"), (999, 0, 3, "else", None)]
    assert name_publishers(locks) == {(FIRST, 1): "relay", (SECOND, 0): "relay"}


def test_several_relays_are_told_apart() -> None:
    locks = [(0, 0, 1, "relay", "10.0.0.7"), (0, 1, 2, "", None)]
    assert name_publishers(locks) == {
        (FIRST, 0): "relay at 10.0.0.7, session 1",
        (FIRST, 1): "relay at the socket, session 2",
    }
