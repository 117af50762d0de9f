"""What was asked of the payment provider: rows that are there before the call, and until its outcome is certain."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from domain.payment import Action, Attempt, AttemptState, Prior
from sinks.postgres.journal import traceparents_of
from sinks.postgres.session import SQL, Connection


class NewAttempt(NamedTuple):
    """A row to be made; `state` is other than open where nothing needs to be asked of the provider."""

    seller_id: str
    order_id: str
    request_id: str
    action: Action
    amount_minor: int
    currency: str
    provider_key: str
    reference: str
    state: AttemptState
    #: When an authorisation is given up, in seconds since 1970; 0 for what is not.
    give_up_at: float
    #: Called at once by who inserts it.
    is_leased: bool
    #: The trace that it follows from.
    traceparent: str | None = None

    @property
    def id(self) -> tuple[str, str, str]:
        """The row's key."""
        return self.seller_id, self.order_id, self.request_id


class Leased(NamedTuple):
    """An attempt that we are alone with for a while, and what paying needs. Never to be logged."""

    attempt: Attempt
    token: str
    #: Whom the payment is with: for an authorisation not asked for yet, who is asked now.
    provider: str
    #: The trace that it follows from.
    traceparent: str | None = None


class Finished(NamedTuple):
    """An attempt's certain outcome, and the event that tells of it."""

    provider_key: str
    state: AttemptState
    reference: str
    reason: str
    key: bytes
    payload: bytes


class Retried(NamedTuple):
    """An attempt to be taken up again, so many seconds from now."""

    provider_key: str
    tries: int
    after_seconds: float


_NEW_COLUMNS = (
    "seller_ids",
    "order_ids",
    "request_ids",
    "actions",
    "amounts",
    "currencies",
    "provider_keys",
    "references",
    "states",
    "give_up_ats",
    "is_leaseds",
    "traceparents",
)
_FINISHED_COLUMNS = ("provider_keys", "states", "references", "reasons", "keys", "payloads")


async def insert_attempts(
    connection: Connection, partition: int, rows: Sequence[NewAttempt], slot: str, lease_seconds: float, provider: str
) -> dict[tuple[str, str, str], Leased]:
    """Insert those not yet there, in the caller's transaction; return the new ones by their ids.

    Those with `is_leased` are for `lease_seconds` the worker's in this slot. Authorisations are `provider`'s.

    Left out are those that exist, those without an order, and those that ask for more than their order's whole sum.
    """
    columns: dict[str, list[Any] | None] = dict(zip(_NEW_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    columns["actions"] = [str(row.action) for row in rows]
    columns["states"] = [str(row.state) for row in rows]
    columns["traceparents"] = traceparents_of(rows)
    cursor = await connection.execute(
        SQL["insert_payment_attempts"],
        {**columns, "partition": partition, "slot": slot, "lease": lease_seconds, "provider": provider},
    )
    asked = {row.id: row for row in rows}
    made = {}
    for *key, expired, token, auth_state, auth_reference, capture_state, whose in await cursor.fetchall():
        row = asked[key[0], key[1], key[2]]
        attempt = Attempt(
            *row.id,
            partition,
            row.action,
            row.amount_minor,
            row.currency,
            row.provider_key,
            tries=1,
            may_have_acted=False,
            expired=expired,
            authorization=_prior(auth_state, auth_reference),
            capture=_prior(capture_state, ""),
        )
        made[row.id] = Leased(attempt, token, whose, row.traceparent)
    return made


async def known_attempts(connection: Connection, ids: Sequence[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Which of these have a row."""
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
    """Take up to `limit` rows that are due, longest due first; they are this slot's for `lease_seconds`. Commits.

    Authorisations of which nobody noted whom they were asked of are `provider`'s from now on.

    With `hopeless`, only authorisations whose time is over and that nobody ever called for.
    """
    cursor = await connection.execute(
        SQL["take_payment_attempts"],
        {"limit": limit, "slot": slot, "lease": lease_seconds, "provider": provider, "hopeless": hopeless},
    )
    return [_leased(row) for row in await cursor.fetchall()]


async def end_leases(connection: Connection, slot: str) -> int:
    """Make due what the worker in this slot had taken up and not finished; return how many. Commits.

    Only for who knows that nobody is at them: the slot's next worker, or this one when it stops. Should somebody be,
    the provider is asked for the same payment twice, which has one effect.
    """
    cursor = await connection.execute(SQL["end_payment_leases"], {"slot": slot})
    return len(await cursor.fetchall())


async def finish_attempts(connection: Connection, topic: str, rows: Sequence[Finished], now: datetime) -> set[str]:
    """Finish those that are still open, each with its event in the journal; none that settles as a success. Commits.

    Returns the provider keys of those that this call has finished: asked again after a lost answer, none.
    """
    columns = dict(zip(_FINISHED_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    columns["states"] = [str(each) for each in columns["states"]]
    cursor = await connection.execute(SQL["finish_payment_attempts"], {**columns, "topic": topic, "now": now})
    return {provider_key for (provider_key,) in await cursor.fetchall()}


async def settle_attempt(connection: Connection, provider_key: str) -> bool:
    """Note that an authorisation is about to be voided, after which it can't succeed; False if it isn't open. Commits.

    Before the void is sent: one that is acted on late would otherwise take the money of an order that was confirmed.
    """
    cursor = await connection.execute(SQL["settle_payment_attempt"], {"provider_key": provider_key})
    return await cursor.fetchone() is not None


async def retry_attempts(connection: Connection, rows: Sequence[Retried]) -> None:
    """Set when they are due next, unless somebody else has taken them up since. Commits."""
    await connection.execute(
        SQL["retry_payment_attempts"],
        {
            "provider_keys": [row.provider_key for row in rows],
            "tries": [row.tries for row in rows],
            "afters": [row.after_seconds for row in rows],
        },
    )


async def hasten_attempts(connection: Connection, orders: Sequence[tuple[str, str]]) -> int:
    """Make the open attempts of these orders due now, in the caller's transaction; return how many were not."""
    cursor = await connection.execute(
        SQL["hasten_payment_attempts"],
        {"seller_ids": [each[0] for each in orders], "order_ids": [each[1] for each in orders]},
    )
    return len(await cursor.fetchall())


async def count_open(connection: Connection) -> tuple[int, float]:
    """How many attempts are open, and the age of the oldest, in seconds."""
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
