"""Checks of orders' refunds at the payment provider, and what was refunded there without us."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from domain.order import OrderIdentity
from domain.payment import Action, Attempt, AttemptState, PaymentIdentity, ProviderRefund
from sinks.postgres.session import SQL, Connection


class RefundCheck(NamedTuple):
    """A check that was taken up."""

    order: OrderIdentity
    #: Another number each time the check is asked for.
    asked: int
    #: How often it was taken up since, this time included.
    tries: int
    #: State of the order's authorisation; None without one.
    authorization: AttemptState | None
    #: The provider's own id of the payment; empty if the provider has none.
    reference: str
    #: The provider that has the payment.
    provider: str

    @property
    def payment(self) -> PaymentIdentity:
        """What the provider is asked about."""
        return PaymentIdentity(*self.order, self.reference)


class Checked(NamedTuple):
    """A check with the provider's refunds of its payment; None if the provider has not said."""

    check: RefundCheck
    refunds: Sequence[ProviderRefund] | None
    #: When it is due again, if it is not over.
    after_seconds: float


class Uncredited(NamedTuple):
    """A refund made at the provider itself that can't be credited. `reason` says why, in words."""

    order: OrderIdentity
    provider_refund: str
    provider: str
    amount_minor: int
    currency: str
    reason: str


class FoundRefund(NamedTuple):
    """The finished attempt of a refund made at the provider itself."""

    attempt: Attempt
    reference: str
    reason: str
    provider: str


@dataclass(slots=True)
class Moved:
    """What has moved of an order's money, as far as refunds ask."""

    capture: AttemptState | None = None
    #: Under which we have refunded, or tried to.
    refund_keys: set[str] = field(default_factory=set)


async def insert_checks(connection: Connection, orders: Sequence[tuple[OrderIdentity, bool]]) -> set[OrderIdentity]:
    """Have these orders checked now, in the caller's transaction; return those that will be.

    True beside an order says that there is a reason. Without one, it is checked only if something was to be captured.
    """
    if not orders:
        return set()
    cursor = await connection.execute(
        SQL["insert_refund_checks"],
        {**_ids([order for order, _ in orders]), "are_sure": [is_sure for _, is_sure in orders]},
    )
    return {OrderIdentity(*row) for row in await cursor.fetchall()}


async def take_checks(connection: Connection, limit: int, lease_seconds: float, provider: str) -> list[RefundCheck]:
    """Take up to `limit` checks that are due, for `lease_seconds`. Commits.

    Payments without a recorded provider are `provider`'s.
    """
    cursor = await connection.execute(
        SQL["take_refund_checks"], {"limit": limit, "lease": lease_seconds, "provider": provider}
    )
    return [
        RefundCheck(
            OrderIdentity(seller_id, order_id), asked, tries, None if state is None else AttemptState(state), *rest
        )
        for seller_id, order_id, asked, tries, state, *rest in await cursor.fetchall()
    ]


async def end_checks(connection: Connection, checks: Sequence[RefundCheck]) -> None:
    """End the checks that nobody has asked for again since they were taken up, in the caller's transaction."""
    if checks:
        asked = [each.asked for each in checks]
        await connection.execute(SQL["end_refund_checks"], {**_ids([each.order for each in checks]), "asked": asked})


async def retry_checks(connection: Connection, rows: Sequence[Checked]) -> None:
    """Set when checks are due next, unless another worker has taken them up since. In the caller's transaction."""
    if rows:
        await connection.execute(
            SQL["retry_refund_checks"],
            {
                **_ids([row.check.order for row in rows]),
                "asked": [row.check.asked for row in rows],
                "tries": [row.check.tries for row in rows],
                "afters": [row.after_seconds for row in rows],
            },
        )


async def read_money_moved(connection: Connection, orders: Collection[OrderIdentity]) -> dict[OrderIdentity, Moved]:
    """The captures of these orders, and the keys of their refunds. Call it under the orders' locks."""
    found = {order: Moved() for order in orders}
    if found:
        cursor = await connection.execute(SQL["read_money_moved"], _ids(list(found)))
        for seller_id, order_id, action, state, provider_key in await cursor.fetchall():
            moved = found[OrderIdentity(seller_id, order_id)]
            if action == Action.CAPTURE:
                moved.capture = AttemptState(state)
            else:
                moved.refund_keys.add(provider_key)
    return found


async def insert_found_refunds(connection: Connection, rows: Sequence[FoundRefund], now: datetime) -> None:
    """Insert the finished attempts, in the caller's transaction, which holds the orders' locks."""
    if rows:
        attempts = [row.attempt for row in rows]
        await connection.execute(
            SQL["insert_found_refunds"],
            {
                **_ids([OrderIdentity(each.seller_id, each.order_id) for each in attempts]),
                "request_ids": [each.request_id for each in attempts],
                "partitions": [each.partition for each in attempts],
                "amounts": [each.amount_minor for each in attempts],
                "currencies": [each.currency for each in attempts],
                "provider_keys": [each.provider_key for each in attempts],
                "references": [row.reference for row in rows],
                "reasons": [row.reason for row in rows],
                "providers": [row.provider for row in rows],
                "now": now,
            },
        )


async def write_uncredited(
    connection: Connection, orders: Sequence[OrderIdentity], rows: Sequence[Uncredited], now: datetime
) -> None:
    """Replace what is known of these orders by `rows`, in the caller's transaction, which holds the orders' locks."""
    if orders:
        await connection.execute(SQL["delete_uncredited_refunds"], _ids(orders))
    if rows:
        await connection.execute(
            SQL["insert_uncredited_refunds"],
            {
                **_ids([row.order for row in rows]),
                "provider_refunds": [row.provider_refund for row in rows],
                "providers": [row.provider for row in rows],
                "amounts": [row.amount_minor for row in rows],
                "currencies": [row.currency for row in rows],
                "reasons": [row.reason for row in rows],
                "now": now,
            },
        )


def _ids(orders: Sequence[OrderIdentity]) -> dict[str, list[str]]:
    return {"seller_ids": [each.seller_id for each in orders], "order_ids": [each.order_id for each in orders]}
