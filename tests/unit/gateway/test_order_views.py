"""What of an order is shown, where it follows from several rows."""

from datetime import UTC, datetime
from typing import Any

import pytest

from domain.order import OrderState
from gateway.orders import order_views
from schemas import catalog
from sinks.postgres.orders_reader import PlacedOrder
from tests.records import written
from tests.unit.domain.test_invoice import request


def order(state: str = "SHIPPED", **changes: Any) -> PlacedOrder:
    """An order of 47.98 EUR."""
    now = datetime(2026, 11, 21, tzinfo=UTC)
    fields: dict[str, Any] = {
        "seller_id": "demo",
        "order_id": "A",
        "customer": "C",
        "state": state,
        "version": 2,
        "history": [{"reason": "placed", "detail": ""}],
        "currency": "EUR",
        "net_minor": 3998,
        "tax_minor": 800,
        "gross_minor": 4798,
        "content_sha256": b"",
        "short": None,
        "hold_expires_at": now,
        "placed_at": now,
        "invoice_request": b"",
        "refunded": [],
        "attempts": [],
        "refunded_minor": None,
        "refunds": [],
        "uncredited": [],
        "invoices": [],
    }
    return PlacedOrder(**{**fields, **changes})


REQUEST = written(catalog.INVOICE_REQUEST, request(order_id="A"))


def attempts(**states: str) -> list[dict[str, Any]]:
    return [
        {"action": action, "state": state, "amount": 4798, "reason": "" if state in ("open", "succeeded") else "why"}
        for action, state in states.items()
    ]


@pytest.mark.parametrize(
    ("states", "refunded", "status"),
    [
        ({}, None, "pending"),
        ({"authorize": "open"}, None, "pending"),
        ({"authorize": "declined"}, None, "declined"),
        ({"authorize": "failed"}, None, "failed"),
        ({"authorize": "succeeded"}, None, "authorized"),
        ({"authorize": "succeeded", "void": "open"}, None, "authorized"),
        ({"authorize": "succeeded", "void": "succeeded"}, None, "voided"),
        ({"authorize": "succeeded", "void": "failed"}, None, "authorized"),
        ({"authorize": "succeeded", "capture": "open"}, None, "authorized"),
        ({"authorize": "succeeded", "capture": "declined"}, None, "failed"),
        ({"authorize": "succeeded", "capture": "succeeded"}, None, "captured"),
        ({"authorize": "succeeded", "capture": "succeeded"}, 1, "partially-refunded"),
        ({"authorize": "succeeded", "capture": "succeeded"}, 4797, "partially-refunded"),
        ({"authorize": "succeeded", "capture": "succeeded"}, 4798, "refunded"),
    ],
)
def test_where_the_money_is_follows_from_the_attempts(
    states: dict[str, str], refunded: int | None, status: str
) -> None:
    """Only what the provider has confirmed counts."""
    shown = order_views.payment(order(attempts=attempts(**states), refunded_minor=refunded))
    assert shown["status"] == status
    assert shown["authorized"] == ("47.98" if states.get("authorize") == "succeeded" else "0.00")
    assert shown["captured"] == ("47.98" if states.get("capture") == "succeeded" else "0.00")
    assert shown["reason"] == ("why" if {"declined", "failed"} & set(states.values()) else None)


@pytest.mark.parametrize("state", OrderState)
def test_every_state_is_a_sale_none_or_still_open(state: OrderState) -> None:
    """Whoever waits is told in each of them."""
    shown = order(state)
    is_sale = state in (OrderState.CONFIRMED, OrderState.SHIPPED, OrderState.DELIVERED, OrderState.REFUNDED)
    assert [is_sale, order_views.is_open(shown), order_views.not_placed(shown) is not None].count(True) == 1


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("payment-declined", "payment-declined"),
        ("payment-failed", "order-cancelled"),
        ("hold-expired", "order-cancelled"),
        ("cancel", "order-cancelled"),
    ],
)
def test_a_cancelled_order_says_by_what(reason: str, kind: str) -> None:
    """The last step of its history."""
    problem = order_views.not_placed(order("CANCELLED", history=[{"reason": reason, "detail": "code"}]))
    assert problem is not None
    assert problem.kind.name == kind
    assert problem.more.get("decline_code") == ("code" if reason == "payment-declined" else None)


def test_a_refund_in_the_providers_dashboard_says_so_and_what_has_no_credit_note_says_why() -> None:
    refund = {
        "refund_id": "provider.re_1", "state": "done", "amount": 500, "reason": "", "lines": [], "at": 0,
        "for_all_left": False, "provider_reason": "made-at-provider",
    }  # fmt: skip
    ours = {**refund, "refund_id": "R-1", "state": "failed", "provider_reason": "amount_too_large"}
    uncredited = [
        {"provider_refund": "re_2", "amount": 500, "currency": "EUR", "reason": "nothing is left to credit"},
        {"provider_refund": "re_3", "amount": 500, "currency": "???", "reason": "the order is in EUR, not ???"},
    ]
    shown = order_views.placed(order("SHIPPED", history=[], refunds=[refund, ours], uncredited=uncredited), [], REQUEST)
    assert [(each["origin"], each["provider_reason"]) for each in shown["refunds"]] == [
        ("provider", None), ("request", "amount_too_large")
    ]  # fmt: skip
    assert [(each["amount"], each["currency"]) for each in shown["uncredited_refunds"]] == [
        ("5.00", "EUR"), ("500", "???")
    ]  # fmt: skip
    assert "uncredited_refunds" not in order_views.placed(order("SHIPPED", history=[]), [], REQUEST)
