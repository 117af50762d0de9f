"""The audit of orders, stock and payments: it finds each kind of damage, and nothing in an undamaged ledger."""

import pytest

from tests.conftest import Services
from tests.integration.orders_world import build
from tests.integration.test_audit import clone, found, world
from tests.integration.world import World

__all__ = ["world"]

pytestmark = pytest.mark.usefixtures("orders_anywhere")


@pytest.fixture(scope="module")
def clean(services: Services, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Built once; tests change clones of it."""
    url = clone(services.postgres_url, template_database)
    return build(services.kafka_bootstrap, url, tmp_path_factory.mktemp("objects"))


def test_a_clean_shop_has_nothing_wrong_and_nothing_on_its_way(world: World) -> None:
    report = world.audit(complete=True)
    assert found(report) == ""
    assert report.clean
    assert report.checkouts == {"decided": 10, "repeat": 1, "conflict": 1, "rejected": 1, "dead letter": 1}
    states = {name: count for name, count in report.counts.items() if name.startswith("orders ")}
    assert states == {
        "orders CONFIRMED": 2, "orders DELIVERED": 1, "orders CANCELLED": 5, "orders REFUNDED": 1, "orders REFUSED": 1
    }  # fmt: skip
    assert (report.counts["orders"], report.counts["skus"], report.counts["refunds"]) == (10, 3, 3)


def change_step(order_id: str, step: int, field: str, value: str) -> str:
    """SQL that changes one entry of a history."""
    return (
        f"UPDATE orders SET history = jsonb_set(history, '{{{step},{field}}}', '{value}') WHERE order_id = '{order_id}'"
    )


_STOCK_ROW = "UPDATE stock SET {} WHERE sku = '{}'"
_NO_LIMITS = (
    "ALTER TABLE stock DROP CONSTRAINT stock_not_oversold, DROP CONSTRAINT stock_reserved_check,"
    " DROP CONSTRAINT stock_on_hand_check"
)
#: Selects OrderCommandAnswered records by the header with the schema id.
_IS_ANSWER = "topic = 'order-events' AND partition = 0 AND substr(payload, 1, 5) = '\\x0000000029'"
_DROP_EVENT = "DELETE FROM journal WHERE topic = '{0}' AND partition = {1} AND seq = {2}"

#: Damage to the ledger, and a part of what the audit must report.
_DAMAGE = {
    # Answers to commands.
    "a delivery that was promised and not made": (
        change_step("delivered", 4, "to", '"SHIPPED"'),
        ["says that deliver of order demo/delivered was applied, and it was not"],
    ),
    "two answers to one command, none to the other": (
        f"UPDATE journal SET payload = (SELECT payload FROM journal WHERE {_IS_ANSWER} ORDER BY seq LIMIT 1)"
        f" WHERE {_IS_ANSWER} AND seq = (SELECT max(seq) FROM journal WHERE {_IS_ANSWER})",
        ["answers the command at 0, after the one at"],
    ),
    # Orders.
    "a state that the history does not end with": (
        "UPDATE orders SET state = 'SHIPPED' WHERE order_id = 'confirmed'",
        ["order order demo/confirmed: is SHIPPED, but its history ends with CONFIRMED"],
    ),
    "a step that the table forbids": (
        change_step("delivered", 3, "to", '"DELIVERED"'),
        ["order order demo/delivered: its history is no walk of the table: PLACED → PAYMENT_PENDING → CONFIRMED"],
    ),
    "a step that no event tells": (
        change_step("confirmed", 2, "detail", '"words"'),
        [
            "has a row and no event that says: 0: step 3 PAYMENT_PENDING → CONFIRMED (payment-authorized; words)",
            "has no row and an event that says: 0: step 3 PAYMENT_PENDING → CONFIRMED (payment-authorized; )",
        ],
    ),
    "a customer's cancellation undone by a late payment": (
        change_step("late", 2, "reason", '"cancel"'),
        ["order order demo/late: its history is no walk of the table"],
    ),
    "a history that can't be read": (
        change_step("late", 2, "to", '"LOST"'),
        ["order order demo/late: its history can't be read"],
    ),
    "a version that is not the history's length": (
        "UPDATE orders SET version = 9 WHERE order_id = 'late'",
        ["order order demo/late: has version 9, but 4 steps in its history"],
    ),
    "an order's row is deleted": (
        "DELETE FROM orders WHERE order_id = 'declined'",
        [
            "order order demo/declined: has no row and an event that says: 1: placed by C-17",
            "order order demo/declined: has 1 lines, but no row",
            "payment order demo/declined: was refused or never placed, but has authorize",
            "outcome checkout-requests/1 offset 1 (order demo/declined): there is no such order",
        ],
    ),
    "an event is deleted": (
        _DROP_EVENT.format("order-events", 1, 4),
        ["has a row and no event that says: 1: refused to C-17", "journal order-events/1: has no seq 4 to 4"],
    ),
    "an event twice": (
        "INSERT INTO journal SELECT topic, partition, 99, key, payload, occurred_at FROM journal"
        " WHERE topic = 'payment-events' AND partition = 1 AND seq = 2",
        ["order order demo/declined: has no row and an event that says: 1: authorize (authorize) declined 1200 EUR"],
    ),
    "a payment's outcome is altered": (
        "UPDATE payment_attempts SET reason = 'other' WHERE order_id = 'declined'",
        ["has a row and no event that says: 1: authorize (authorize) declined 1200 EUR (ref; other)"],
    ),
    "the invoice request is another": (
        "UPDATE orders SET invoice_request = 'x' WHERE order_id = 'confirmed'",
        ["order order demo/confirmed: has a row and no event that says: 0: asks for its invoice by 2d711642"],
    ),
    # Ids.
    "a checkout's id that stands as an invoice's": (
        "UPDATE order_ids SET kind = 'invoice' WHERE order_id = 'confirmed'",
        ["order order demo/confirmed: has an id that stands as invoice's, and there is an order"],
    ),
    "an id that stands as a checkout's, with an invoice alone": (
        "INSERT INTO order_ids VALUES ('demo', 'alone', 'checkout');"
        "UPDATE invoices SET order_id = 'alone' WHERE order_id = 'late'",
        ["order order demo/alone: has an id that stands as checkout's, and there is an invoice"],
    ),
    "an id without an order or an invoice": (
        "INSERT INTO order_ids VALUES ('demo', 'nothing', 'invoice')",
        ["order order demo/nothing: has an id that stands as invoice's, and there is neither an order nor an invoice"],
    ),
    # Checkouts.
    "the order was made from other content": (
        "UPDATE orders SET content_sha256 = 'x' WHERE order_id = 'confirmed'",
        ["offset 0 (order demo/confirmed): its order was made from other content", "offset 3 (order demo/confirmed)"],
    ),
    "an order that no checkout asked for": (
        "UPDATE orders SET source_offset = 77 WHERE order_id = 'delivered'",
        [
            "(order demo/delivered): its order was made from the later offset 77",
            "the ledger holds 3 decided, the log 2",
        ],
    ),
    "a conflict is forgotten": (
        "DELETE FROM refused_requests WHERE outcome = 'conflict' AND kind = 'checkout'",
        [
            "outcome checkout-requests/0 offset 4 (order demo/confirmed): has other content than its order, and no",
            "order order demo/confirmed: has no row and an event that says: 0: conflict (",
        ],
    ),
    "two outcomes": (
        "UPDATE refused_requests SET log_offset = 0 WHERE order_id = 'odd'",
        ["offset 0 (order demo/confirmed): has more than one outcome: a refusal (rejected), an order"],
    ),
    # Stock.
    "more is reserved than is there": (
        f"{_NO_LIMITS};{_STOCK_ROW.format('reserved = 99', 'MUG')}",
        ["stock stock demo/MUG: 99 of 16 are reserved", "99 are reserved, but open orders claim 3"],
    ),
    "stock is negative": (
        f"{_NO_LIMITS};{_STOCK_ROW.format('on_hand = -1', 'TEA')}",
        ["stock stock demo/TEA: 3 of -1 are reserved"],
    ),
    "a claim that no order has": (
        _STOCK_ROW.format("reserved = reserved + 1", "TEA"),
        ["stock stock demo/TEA: 4 are reserved, but open orders claim 3", "but its last event 3 of 9 in version"],
    ),
    "a change that no event tells": (
        _STOCK_ROW.format("on_hand = on_hand + 1, version = version + 1", "MUG"),
        ["stock stock demo/MUG: has 3 of 17 reserved in version 12, but its last event 3 of 16 in version 11"],
    ),
    "a row of stock is deleted": (
        "DELETE FROM stock WHERE sku = 'HAT'",
        ["stock stock demo/HAT: is in events and orders, but has no row"],
    ),
    "a line's pieces are altered": (
        "UPDATE order_lines SET quantity = 3 WHERE order_id = 'confirmed' AND line = 0",
        [
            "stock stock demo/MUG: 3 are reserved, but open orders claim 5",
            "stock stock demo/MUG: orders have 6 pieces, of which 1 were sent off, but events say 4 and 1",
            "has a row and no event that says: 0: stock reserved: MUG x 5, TEA x 2",
        ],
    ),
    "a stock event is lost": (
        _DROP_EVENT.format("inventory-events", 1, 3),
        ["has no version", "journal inventory-events/1: has no seq 3 to 3"],
    ),
    "an adjustment is altered": (
        "UPDATE stock_adjustments SET adjust = -2",
        ["order stock demo/MUG: has a row and no event that says: adjusted by -2 in version 2"],
    ),
    # Money.
    "a second authorisation": (
        "INSERT INTO payment_attempts SELECT seller_id, order_id, 'again', partition, action, amount_minor, currency,"
        " 'k', state, 1, now(), NULL, false, '', '', now(), now() FROM payment_attempts"
        " WHERE order_id = 'confirmed' AND request_id = 'authorize'",
        [
            "payment order demo/confirmed: was authorized 2 times",
            "payment order demo/confirmed: was confirmed with 2 successful authorisations",
        ],
    ),
    "a confirmed order that nobody paid": (
        "UPDATE payment_attempts SET state = 'declined' WHERE order_id = 'confirmed'",
        ["payment order demo/confirmed: was confirmed with 0 successful authorisations"],
    ),
    "an invoice of an order that was never confirmed": (
        "UPDATE invoices SET order_id = 'declined' WHERE order_id = 'confirmed'",
        [
            "payment order demo/declined: is CANCELLED and never was confirmed, but has an invoice",
            "payment order demo/declined: 0 captured - 0 refunded = 0, but",
        ],
    ),
    "an invoice of another amount": (
        "UPDATE invoices SET gross_minor = 1 WHERE order_id = 'confirmed'",
        ["payment order demo/confirmed: amounts to 6000, but its invoice to 1"],
    ),
    "a captured order that was cancelled": (
        "UPDATE orders SET state = 'CANCELLED' WHERE order_id = 'delivered'",
        ["payment order demo/delivered: was captured, but is CANCELLED"],
    ),
    "a capture that failed": (
        "UPDATE payment_attempts SET state = 'failed' WHERE order_id = 'delivered' AND action = 'capture'",
        [
            "payment order demo/delivered: is DELIVERED, but its capture has failed",
            "payment order demo/delivered: 1200 were refunded of 0 captured",
        ],
    ),
    "a void that failed": (
        "UPDATE payment_attempts SET state = 'failed' WHERE order_id = 'given-up' AND action = 'void'",
        ["payment order demo/given-up: is CANCELLED, but its void has failed"],
    ),
    "a refund of another amount": (
        "UPDATE payment_attempts SET amount_minor = 1201 WHERE request_id = 'refund:r1'",
        [
            "payment order demo/delivered: refund r1 is of 1200, but its payment of 1201",
            "payment order demo/delivered: 3600 captured - 1201 refunded = 2399, but 3600 invoiced - 1200 credited",
        ],
    ),
    "a refund that is done without its payment": (
        "UPDATE payment_attempts SET state = 'failed' WHERE request_id = 'refund:r1'",
        ["payment order demo/delivered: refund r1 is done, but its payment is failed"],
    ),
    "a credit note without its refund": (
        "UPDATE refunds SET state = 'failed' WHERE refund_id = 'r1'",
        [
            "payment order demo/delivered: has a credit note r1, but no such refund",
            "payment order demo/delivered: line 0 has 1 pieces refunded, its refunds 0",
            "payment order demo/delivered: refund r1 has failed, but its payment succeeded",
        ],
    ),
    "a cancelled order without its refund": (
        "DELETE FROM refunds WHERE order_id = 'cancelled'",
        ["payment order demo/cancelled: is CANCELLED, with 0 refunds of a cancellation"],
    ),
    "more is credited than was invoiced": (
        "UPDATE invoices SET gross_minor = 9999 WHERE order_id = 'delivered' AND kind = 'credit_note'",
        ["payment order demo/delivered: 9999 were credited of 3600 invoiced", "credit note of 9999"],
    ),
    "a payment in another currency": (
        "UPDATE payment_attempts SET currency = 'USD' WHERE order_id = 'confirmed'",
        ["payment order demo/confirmed: has 1 payments of another amount or currency"],
    ),
}


@pytest.mark.parametrize("damage", _DAMAGE)
def test_damage_is_reported(world: World, damage: str) -> None:
    """Damage that constraints would prevent is made without them."""
    sql, expected = _DAMAGE[damage]
    for statement in sql.split(";"):
        world.execute(statement)
    report = world.audit()
    for text in expected:
        assert text in found(report)


_UNDER_WAY = {
    "not yet invoiced": (
        "DELETE FROM invoices WHERE order_id = 'late'",
        "1 confirmed, not yet invoiced",
    ),
    "not yet captured": (
        "DELETE FROM payment_attempts WHERE order_id = 'refunded' AND action = 'capture'",
        "1 not yet captured",
    ),
    "not yet voided": (
        "DELETE FROM payment_attempts WHERE order_id = 'given-up' AND action = 'void'",
        "1 not yet voided",
    ),
    "being paid": (
        "UPDATE payment_attempts SET state = 'open' WHERE order_id = 'given-up' AND action = 'void'",
        "1 with a payment under way",
    ),
    "being refunded": (
        "UPDATE refunds SET state = 'requested' WHERE refund_id = 'r1'",
        "1 with a refund under way",
    ),
    "not yet credited": (
        "DELETE FROM invoices WHERE order_id = 'cancelled' AND kind = 'credit_note'",
        "1 refunded, not yet credited",
    ),
}


@pytest.mark.parametrize("what", _UNDER_WAY)
def test_what_is_under_way_is_counted_and_a_violation_only_of_completeness(world: World, what: str) -> None:
    """An order's sums are compared only while nothing of it is under way."""
    world.execute("DELETE FROM documents")
    world.execute(_UNDER_WAY[what][0])
    report = world.audit()
    assert "captured -" not in found(report)
    assert found(report).count("complete") == 0
    assert f"complete orders: {_UNDER_WAY[what][1]}" in found(world.audit(complete=True))
