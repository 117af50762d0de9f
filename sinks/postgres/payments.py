"""Payment attempts: each row is committed before the provider is called, and open until its outcome is certain."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from domain.order import OrderIdentity
from domain.payment import Action, Attempt, AttemptState, Finish, Prior, provider_key
from sinks.postgres.journal import traceparents_of
from sinks.postgres.session import SQL, Connection


class NewAttempt(NamedTuple):
    """A row to be made."""

    seller_id: str
    order_id: str
    request_id: str
    #: The order's.
    partition: int
    action: Action
    amount_minor: int
    currency: str
    provider_key: str
    #: When an authorisation is given up, in seconds since 1970; None for what is not.
    give_up_at: float | None
    #: The trace that it follows from.
    traceparent: str | None = None

    @property
    def id(self) -> tuple[str, str, str]:
        """The row's key."""
        return self.seller_id, self.order_id, self.request_id


def new_attempt(
    order: OrderIdentity,
    partition: int,
    request_id: str,
    action: Action,
    amount_minor: int,
    currency: str,
    give_up_at: float | None = None,
    traceparent: str | None = None,
) -> NewAttempt:
    """The row of what an order asks for, under its key at the provider."""
    key = provider_key(*order, request_id)
    return NewAttempt(*order, request_id, partition, action, amount_minor, currency, key, give_up_at, traceparent)


class Leased(NamedTuple):
    """An attempt leased to this worker, with what is needed to pay. Never log it."""

    attempt: Attempt
    token: str
    #: The provider that has the payment; for an authorisation not sent yet, the one to send it to.
    provider: str
    #: The trace that it follows from.
    traceparent: str | None = None


class Finished(NamedTuple):
    """An attempt's certain outcome, at the provider of this name."""

    attempt: Attempt
    finish: Finish
    provider: str
    #: The trace that it follows from.
    traceparent: str | None = None

    @property
    def provider_key(self) -> str:
        """The attempt's."""
        return self.attempt.provider_key


class Retried(NamedTuple):
    """An attempt to be retried after this time."""

    provider_key: str
    tries: int
    after_seconds: float


_NEW_COLUMNS = (
    "seller_ids",
    "order_ids",
    "request_ids",
    "partitions",
    "actions",
    "amounts",
    "currencies",
    "provider_keys",
    "give_up_ats",
    "traceparents",
)


async def insert_attempts(connection: Connection, rows: Sequence[NewAttempt], now: datetime) -> None:
    """Insert those not yet there, due at once, in the caller's transaction, and wake who takes them up.

    Left out are those that exist, those without an order in their partition, and those that ask for more than their
    order's whole sum.
    """
    if not rows:
        return
    columns: dict[str, list[Any] | None] = dict(zip(_NEW_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    columns["actions"] = [str(row.action) for row in rows]
    columns["traceparents"] = traceparents_of(rows)
    await connection.execute(SQL["insert_payment_attempts"], {**columns, "now": now})
    await connection.execute(SQL["wake_payments"])


async def await_attempts(connection: Connection) -> AsyncIterator[None]:
    """Yield where there are new rows, as soon as their transaction is committed; first once it is listened for."""
    await connection.execute(SQL["await_payments"])
    yield
    async for _ in connection.notifies():
        yield


async def known_attempts(connection: Connection, ids: Sequence[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Those of the ids that have a row."""
    cursor = await connection.execute(
        SQL["read_payment_attempts"],
        {
            "seller_ids": [each[0] for each in ids],
            "order_ids": [each[1] for each in ids],
            "request_ids": [each[2] for each in ids],
        },
    )
    return {(seller_id, order_id, request_id) for seller_id, order_id, request_id in await cursor.fetchall()}


async def take_attempts(
    connection: Connection, limit: int, slot: str, lease_seconds: float, provider: str, *, hopeless: bool = False
) -> list[Leased]:
    """Lease up to `limit` due rows, those due longest first, to this slot for `lease_seconds`. Commits.

    Authorisations without a recorded provider are recorded as `provider`'s. With `hopeless`, only authorisations that
    have expired and were never sent are taken.
    """
    cursor = await connection.execute(
        SQL["take_payment_attempts"],
        {"limit": limit, "slot": slot, "lease": lease_seconds, "provider": provider, "hopeless": hopeless},
    )
    return [_leased(row) for row in await cursor.fetchall()]


async def end_leases(connection: Connection, slot: str) -> int:
    """Make due the unfinished attempts leased to this slot; return how many. Commits.

    Only for callers that know that no call is under way: the slot's next worker, or this one when it stops. Should one
    be under way nevertheless, the provider gets the same payment twice, which has one effect.
    """
    cursor = await connection.execute(SQL["end_payment_leases"], {"slot": slot})
    return len(await cursor.fetchall())


async def finish_attempts(connection: Connection, rows: Sequence[Finished], now: datetime) -> set[str]:
    """Finish those that are still open, in the caller's transaction; none that settles as a success.

    Returns the provider keys that this call has finished; if it is repeated after a lost answer, none.
    """
    cursor = await connection.execute(
        SQL["finish_payment_attempts"],
        {
            "provider_keys": [row.provider_key for row in rows],
            "states": [str(row.finish.state) for row in rows],
            "references": [row.finish.reference for row in rows],
            "reasons": [row.finish.reason for row in rows],
            "now": now,
        },
    )
    return {provider_key for (provider_key,) in await cursor.fetchall()}


async def settle_attempt(connection: Connection, provider_key: str) -> bool:
    """Record that an authorisation will be voided, after which it can't succeed; False if it isn't open. Commits.

    Call it before the void is sent. Otherwise a void that is acted on late could take back the money of an order that
    was confirmed meanwhile.
    """
    cursor = await connection.execute(SQL["settle_payment_attempt"], {"provider_key": provider_key})
    return await cursor.fetchone() is not None


async def retry_attempts(connection: Connection, rows: Sequence[Retried]) -> None:
    """Set when the attempts are due next, unless another worker has taken them up since. Commits."""
    await connection.execute(
        SQL["retry_payment_attempts"],
        {
            "provider_keys": [row.provider_key for row in rows],
            "tries": [row.tries for row in rows],
            "afters": [row.after_seconds for row in rows],
        },
    )


async def hasten_attempts(connection: Connection, orders: Sequence[tuple[str, str]]) -> int:
    """Make the open attempts of these orders due now, in the caller's transaction; return how many were not due."""
    cursor = await connection.execute(
        SQL["hasten_payment_attempts"],
        {"seller_ids": [each[0] for each in orders], "order_ids": [each[1] for each in orders]},
    )
    return len(await cursor.fetchall())


async def count_open(connection: Connection) -> tuple[int, float]:
    """The number of open attempts, and the age of the oldest in seconds."""
    cursor = await connection.execute(SQL["count_open_payment_attempts"])
    row = await cursor.fetchone()
    return (int(row[0]), float(row[1])) if row is not None else (0, 0.0)


def _leased(row: Sequence[Any]) -> Leased:
    seller_id, order_id, request_id, partition, action, amount, currency, key, tries, expired, age = row[:11]
    settling, token, auth_state, auth_reference, capture, provider, traceparent = row[11:]
    attempt = Attempt(
        seller_id,
        order_id,
        request_id,
        partition,
        Action(action),
        amount,
        currency,
        key,
        tries,
        may_have_acted=tries > 1,
        expired=expired,
        age_seconds=age,
        settling=settling,
        authorization=_prior(auth_state, auth_reference),
        capture=_prior(capture, ""),
    )
    return Leased(attempt, token, provider, traceparent)


def _prior(state: str | None, reference: str | None) -> Prior | None:
    return None if state is None else Prior(AttemptState(state), reference or "")
