"""Webhook endpoints: their events, their secrets, and the log of deliveries."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString, TypeVar

import msgspec
import psycopg

from domain.refusals import INVALID_FIELD, Refusal
from domain.webhook import ENDPOINTS_MAX, TEST, check_description, check_events, check_url
from sinks.microbatch import MicroBatch
from sinks.postgres import deliveries
from sinks.postgres.deliveries import CHANCE_BYTES, NewDelivery
from sinks.postgres.lanes import Lane
from sinks.postgres.lanes import check_url as check_postgres_url
from sinks.postgres.sealing import SECRET_BYTES, Sealing
from sinks.postgres.session import SQL, Connection, Session, believed, fetch_dicts

ACTIVE, PAUSED, DISABLED = "active", "paused", "disabled"
#: How long the previous secret also signs after a rotation.
OVERLAP_HOURS = 24
_ID_BYTES = 12

Chance = Callable[[int], bytes]
_Result = TypeVar("_Result")

_READ_ALL: LiteralString = """
    SELECT endpoint_id, url, events, description, state, disabled_reason, failing_since, created_at
    FROM webhook_endpoints WHERE seller_id = %(seller_id)s AND channel = 'webhook' ORDER BY created_at, endpoint_id
"""
_INSERT: LiteralString = """
    INSERT INTO webhook_endpoints (endpoint_id, seller_id, url, events, description, created_at)
    VALUES (%(endpoint)s, %(seller_id)s, %(url)s, %(events)s, %(description)s, %(now)s)
"""
_UPDATE: LiteralString = """
    UPDATE webhook_endpoints
    SET url = %(url)s, events = %(events)s, description = %(description)s, version = version + 1,
        disabled_reason = CASE WHEN %(state)s = 'disabled' THEN disabled_reason ELSE '' END,
        failing_since = CASE WHEN state <> 'disabled' OR %(state)s = 'disabled' THEN failing_since END,
        state = %(state)s
    WHERE endpoint_id = %(endpoint)s
"""
#: No sender holds a webhook for longer (`SenderPolicy`): what is due later only waits for its next try.
LEASE_SECONDS_MAX = 60
_HASTEN: LiteralString = """
    UPDATE deliveries SET next_try_at = now()
    WHERE destination = %(endpoint)s AND next_try_at > now() + make_interval(secs => %(seconds)s)
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A webhook endpoint."""

    endpoint_id: str
    url: str
    events: list[str]
    description: str
    state: str
    #: `gone` (410), `failing` (for days), or empty.
    disabled_reason: str
    failing_since: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets that sign an endpoint's deliveries from now on. Never log them."""

    hmac_secret: bytes
    ed25519_seed: bytes


def endpoint_id(chance: bytes) -> str:
    """A new endpoint's id; `chance` has 12 random bytes."""
    return f"we_{chance.hex()}"


async def create(
    connection: Connection,
    seller_id: str,
    url: str,
    events: Sequence[str],
    description: str,
    now: datetime,
    chance: Chance,
    sealing: Sealing,
    *,
    may_be_plain: bool,
) -> tuple[Endpoint, Secrets] | Refusal:
    """Add an endpoint; after this only senders can read the secrets. Commits.

    `chance` returns a number of random bytes.
    """
    refusal = check_url(url, may_be_plain=may_be_plain) or check_events(events) or check_description(description)
    if refusal is not None:
        return refusal
    async with connection.transaction():
        # Locked, so that concurrent calls don't exceed the limit.
        cursor = await connection.execute("SELECT FROM sellers WHERE seller_id = %s FOR UPDATE", (seller_id,))
        if await cursor.fetchone() is None:
            return Refusal(INVALID_FIELD, "seller_id", f"there is no seller {seller_id!r}")
        cursor = await connection.execute(
            "SELECT count(*), bool_or(url = %s) FROM webhook_endpoints WHERE seller_id = %s AND channel = 'webhook'",
            (url, seller_id),
        )
        count, is_known = await cursor.fetchone() or (0, False)
        if is_known:
            return Refusal(INVALID_FIELD, "url", "is that of another endpoint: change that one, or delete it first")
        if count >= ENDPOINTS_MAX:
            return Refusal(INVALID_FIELD, "url", f"a seller has at most {ENDPOINTS_MAX} endpoints: delete one first")
        now = await believed(connection, now)
        made = endpoint_id(chance(_ID_BYTES))
        values = {"endpoint": made, "seller_id": seller_id, "url": url, "events": list(events)}
        await connection.execute(_INSERT, {**values, "description": description, "now": now})
        secrets = await _add_secrets(connection, made, now, chance, sealing)
    endpoint = await read(connection, seller_id, made)
    return (endpoint, secrets) if endpoint is not None else _GONE_MEANWHILE


_GONE_MEANWHILE = Refusal(INVALID_FIELD, "url", "the endpoint was deleted while it was added")


async def read_all(connection: Connection, seller_id: str) -> list[Endpoint]:
    """The seller's endpoints, oldest first."""
    cursor = await connection.execute(_READ_ALL, {"seller_id": seller_id})
    return [Endpoint(**row) for row in await fetch_dicts(cursor)]


async def read(connection: Connection, seller_id: str, endpoint: str) -> Endpoint | None:
    """One of the seller's endpoints."""
    return next((each for each in await read_all(connection, seller_id) if each.endpoint_id == endpoint), None)


async def read_secrets(connection: Connection, seller_id: str, endpoint: str, sealing: Sealing) -> Secrets | None:
    """The secrets that sign the endpoint's deliveries now; None if the seller has no such endpoint.

    Raises `UnreadableSecretError`.
    """
    cursor = await connection.execute(
        "SELECT hmac_secret, ed25519_seed FROM webhook_secrets JOIN webhook_endpoints USING (endpoint_id)"
        " WHERE endpoint_id = %s AND seller_id = %s AND expires_at IS NULL",
        (endpoint, seller_id),
    )
    row = await cursor.fetchone()
    return None if row is None else Secrets(*map(sealing.unseal, row))


async def update(
    connection: Connection, seller_id: str, endpoint: str, changes: Mapping[str, Any], *, may_be_plain: bool
) -> Endpoint | Refusal | None:
    """Change `url`, `events`, `description` or `state` (active or paused); None if there is no such endpoint. Commits.

    Activating an endpoint, also one that is active, tries its open deliveries at once.
    """
    refusal = None
    if "url" in changes:
        refusal = check_url(changes["url"], may_be_plain=may_be_plain)
    if "events" in changes:
        refusal = refusal or check_events(changes["events"])
    if "description" in changes:
        refusal = refusal or check_description(changes["description"])
    if changes.get("state", ACTIVE) not in (ACTIVE, PAUSED):
        refusal = refusal or Refusal(INVALID_FIELD, "state", f"must be {ACTIVE} or {PAUSED}")
    if refusal is not None:
        return refusal
    try:
        async with connection.transaction():
            before = await read(connection, seller_id, endpoint)
            if before is None:
                return None
            values = {
                name: changes.get(name, getattr(before, name)) for name in ("url", "events", "description", "state")
            }
            await connection.execute(_UPDATE, {**values, "events": list(values["events"]), "endpoint": endpoint})
            if changes.get("state") == ACTIVE:
                await connection.execute(_HASTEN, {"endpoint": endpoint, "seconds": LEASE_SECONDS_MAX})
            await connection.execute(SQL["wake_senders"])
    except psycopg.errors.UniqueViolation:
        return Refusal(INVALID_FIELD, "url", "is that of another endpoint: change that one, or delete it first")
    return await read(connection, seller_id, endpoint)


async def delete(connection: Connection, seller_id: str, endpoint: str) -> bool:
    """Delete an endpoint with its open deliveries; returns whether it existed. Commits."""
    async with connection.transaction():
        deleted = await connection.execute(
            "DELETE FROM webhook_endpoints WHERE endpoint_id = %s AND seller_id = %s AND channel = 'webhook'",
            (endpoint, seller_id),
        )
        if deleted.rowcount:
            # Remaining rows, and those being written at the moment, are deleted by the senders' purge.
            await connection.execute(
                "DELETE FROM deliveries WHERE destination = %s AND next_try_at IS NOT NULL", (endpoint,)
            )
    return bool(deleted.rowcount)


async def rotate(
    connection: Connection, seller_id: str, endpoint: str, now: datetime, chance: Chance, sealing: Sealing
) -> Secrets | None:
    """Replace the secrets; the previous ones also sign for `OVERLAP_HOURS`. Commits.

    None if the seller has no such endpoint.
    """
    async with connection.transaction():
        cursor = await connection.execute(
            "UPDATE webhook_endpoints SET version = version + 1"
            " WHERE endpoint_id = %s AND seller_id = %s AND channel = 'webhook'"
            " RETURNING endpoint_id",
            (endpoint, seller_id),
        )
        if await cursor.fetchone() is None:
            return None
        await connection.execute(
            "UPDATE webhook_secrets SET expires_at = now() + make_interval(hours => %s)"
            " WHERE endpoint_id = %s AND expires_at IS NULL",
            (OVERLAP_HOURS, endpoint),
        )
        return await _add_secrets(connection, endpoint, await believed(connection, now), chance, sealing)


async def encrypt_secrets(connection: Connection, sealing: Sealing) -> tuple[int, int]:
    """Encrypt all endpoints' secrets under the first key; returns how many have changed, and of how many. Commits.

    Raises `UnreadableSecretError`, and changes none, if one can't be read.
    """
    changed = 0
    async with connection.transaction():
        cursor = await connection.execute(
            "SELECT endpoint_id, created_at, hmac_secret, ed25519_seed FROM webhook_secrets FOR UPDATE"
        )
        rows = await cursor.fetchall()
        for endpoint, created_at, *stored in rows:
            sealed = [sealing.reseal(each) for each in stored]
            if sealed != stored:
                await connection.execute(
                    "UPDATE webhook_secrets SET hmac_secret = %s, ed25519_seed = %s"
                    " WHERE endpoint_id = %s AND created_at = %s",
                    (*sealed, endpoint, created_at),
                )
                changed += 1
    return changed, len(rows)


async def _add_secrets(
    connection: Connection, endpoint: str, now: datetime, chance: Chance, sealing: Sealing
) -> Secrets:
    made = Secrets(chance(SECRET_BYTES), chance(SECRET_BYTES))
    await connection.execute(
        "INSERT INTO webhook_secrets (endpoint_id, hmac_secret, ed25519_seed, created_at) VALUES (%s, %s, %s, %s)",
        (endpoint, sealing.seal(made.hmac_secret), sealing.seal(made.ed25519_seed), now),
    )
    return made


async def send_test(connection: Connection, seller_id: str, endpoint: str, now: datetime, chance: Chance) -> str | None:
    """Add a delivery of type `webhook.test`; returns its id, None if the seller has no such endpoint. Commits."""
    if await read(connection, seller_id, endpoint) is None:
        return None
    async with connection.transaction():
        now = await believed(connection, now)
        made = deliveries.delivery_id(now, chance(CHANCE_BYTES))
        of_order = (endpoint, "")
        sequence = (await deliveries.take_sequences(connection, [of_order]))[of_order]
        body = envelope(TEST, now, sequence, {"seller_id": seller_id, "endpoint_id": endpoint})
        row = NewDelivery(made, endpoint, seller_id, "", sequence, TEST, body)
        await deliveries.insert_deliveries(connection, [row], now)
    return made


def envelope(event_type: str, at: datetime, sequence: int, data: Mapping[str, Any]) -> bytes:
    """The payload of a webhook, as JSON."""
    timestamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.json.encode({"type": event_type, "timestamp": timestamp, "sequence": sequence, "data": data})


class Webhooks:
    """These functions for a gateway, one call at a time, with a time limit for every wait."""

    def __init__(self, url: str) -> None:
        """Connects on first use. Raises `ValueError`."""
        check_postgres_url(url)
        self._lane = lane = Lane(url, read_only=False)
        self._calls: MicroBatch[Callable[[Connection], Any], Any] = MicroBatch(
            lambda calls: lane.run(lambda session: self._call(session, calls)), questions_max=1
        )

    async def do(self, call: Callable[[Connection], Awaitable[_Result]]) -> _Result:
        """The result of `call` with a connection. Raises `PostgresUnavailableError`: it may have been done."""
        result: _Result = await self._lane.ask(self._calls, call)
        return result

    async def close(self) -> None:
        """Close the connection, even a hanging one."""
        await self._lane.close(self._calls)

    async def _call(self, session: Session, calls: list[Callable[[Connection], Any]]) -> list[Any]:
        async with session.connection() as connection:
            return [await call(connection) for call in calls]
