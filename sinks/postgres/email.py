"""A seller's e-mail: its settings, what mails are written from, notices to the seller, and bounces.

The row of the settings is one of `webhook_endpoints`, so that mails have the deliveries, the log and the replays of
webhooks. Rows of deliveries hold no address: mails are written from the ledger at the time of sending.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import msgspec

from domain.delivery import DeliveryState
from domain.email import TEST, WEBHOOK_DISABLED, check_address, check_reason, check_settings, delivery_of
from domain.refusals import INVALID_FIELD, Refusal
from schemas import catalog
from sinks.postgres import deliveries
from sinks.postgres.deliveries import CHANCE_BYTES, Disabled, NewDelivery, Taken
from sinks.postgres.session import SQL, Connection, believed, fetch_dicts
from sinks.postgres.webhooks import ACTIVE, PAUSED, Chance, envelope

_ID_BYTES = 12
_PERMANENT, _TRANSIENT = "permanent", "transient"

_READ: LiteralString = """
    SELECT endpoint_id, sender, reply_to, events, documents, state, failing_since, created_at
    FROM webhook_endpoints WHERE seller_id = %(seller_id)s AND channel = 'email'
"""
_PUT: LiteralString = """
    INSERT INTO webhook_endpoints AS e (endpoint_id, seller_id, channel, url, events, description, sender, reply_to,
                                        documents, state, created_at)
    VALUES (%(endpoint)s, %(seller_id)s, 'email', '', %(events)s, '', %(sender)s, %(reply_to)s, %(documents)s,
            %(state)s, %(now)s)
    ON CONFLICT (seller_id, url) DO UPDATE SET sender = excluded.sender, reply_to = excluded.reply_to,
        events = excluded.events, documents = excluded.documents, state = excluded.state, version = e.version + 1
"""


@dataclass(frozen=True, slots=True)
class EmailSettings:
    """A seller's settings of e-mail."""

    endpoint_id: str
    sender: str
    #: Empty for the sender's own.
    reply_to: str
    events: list[str]
    documents: str
    state: str
    #: Since when no mail could be handed over.
    failing_since: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """An order as its mails are written from it."""

    #: The encoded InvoiceRequest.
    invoice_request: bytes
    net_minor: int
    tax_minor: int
    gross_minor: int


@dataclass(frozen=True, slots=True)
class DocumentFacts:
    """A stored document, with the encoded event that it was made from."""

    key: str
    sha256: str
    size_bytes: int
    event: bytes


@dataclass(frozen=True, slots=True)
class MailSeller:
    """Whose mails they are; empty texts for what the seller doesn't say."""

    sender: str
    reply_to: str
    documents: str
    legal_name: str
    trading_name: str
    street: str
    city: str
    postal_code: str
    country: str
    vat_id: str
    tax_name: str
    contact_phone: str
    language: str
    colour: str


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail is written from."""

    seller: MailSeller
    #: Of the delivery's payload.
    data: dict[str, Any]
    order: OrderFacts | None
    document: DocumentFacts | None


async def read(connection: Connection, seller_id: str) -> EmailSettings | None:
    """The seller's settings; None if it has e-mail off."""
    cursor = await connection.execute(_READ, {"seller_id": seller_id})
    rows = await fetch_dicts(cursor)
    return EmailSettings(**rows[0]) if rows else None


async def put(
    connection: Connection,
    seller_id: str,
    *,
    sender: str,
    reply_to: str,
    events: Sequence[str],
    documents: str,
    state: str,
    now: datetime,
    chance: Chance,
) -> EmailSettings | Refusal:
    """Turn e-mail on with these settings, or replace them. Mails under way follow the new ones. Commits."""
    refusal = check_settings(sender, reply_to, events, documents)
    if refusal is None and state not in (ACTIVE, PAUSED):
        refusal = Refusal(INVALID_FIELD, "state", f"must be {ACTIVE} or {PAUSED}")
    if refusal is not None:
        return refusal
    async with connection.transaction():
        cursor = await connection.execute("SELECT FROM sellers WHERE seller_id = %s", (seller_id,))
        if await cursor.fetchone() is None:
            return Refusal(INVALID_FIELD, "seller_id", f"there is no seller {seller_id!r}")
        now = await believed(connection, now)
        values = {
            "endpoint": f"em_{chance(_ID_BYTES).hex()}",
            "seller_id": seller_id,
            "sender": sender,
            "reply_to": reply_to,
            "events": list(events),
            "documents": documents,
            "state": state,
            "now": now,
        }
        await connection.execute(_PUT, values)
        await connection.execute(SQL["wake_senders"])
    settings = await read(connection, seller_id)
    if settings is None:
        return Refusal(INVALID_FIELD, "seller_id", "e-mail was turned off meanwhile: turn it on again")
    return settings


async def delete(connection: Connection, seller_id: str) -> bool:
    """Turn e-mail off, with what is still to be sent; returns whether it was on. Commits."""
    async with connection.transaction():
        cursor = await connection.execute(
            "DELETE FROM webhook_endpoints WHERE seller_id = %s AND channel = 'email' RETURNING endpoint_id",
            (seller_id,),
        )
        row = await cursor.fetchone()
        if row is not None:
            # Remaining rows, and those being written at the moment, are deleted by the senders' purge.
            await connection.execute("DELETE FROM deliveries WHERE destination = %s AND next_try_at IS NOT NULL", row)
    return row is not None


async def send_test(
    connection: Connection, seller_id: str, address: str, now: datetime, chance: Chance
) -> str | Refusal | None:
    """Add a test mail to `address`; returns the delivery's id, None if the seller has e-mail off. Commits."""
    refusal = check_address("to", address)
    if refusal is not None:
        return refusal
    settings = await read(connection, seller_id)
    if settings is None:
        return None
    async with connection.transaction():
        now = await believed(connection, now)
        return await _add(connection, settings.endpoint_id, seller_id, TEST, {"to": address}, now, chance)


async def add_notices(connection: Connection, disabled: Sequence[Disabled], now: datetime, chance: Chance) -> None:
    """Add a mail to the seller of each of these webhook endpoints, in the caller's transaction.

    A seller that has e-mail off is sent none.
    """
    reasons = {each.endpoint_id: each.reason for each in disabled}
    now = await believed(connection, now)
    cursor = await connection.execute(SQL["read_notice_endpoints"], {"endpoint_ids": list(reasons)})
    for webhook, url, endpoint, seller_id in await cursor.fetchall():
        data = {"endpoint_id": webhook, "url": url, "reason": reasons[webhook]}
        await _add(connection, endpoint, seller_id, WEBHOOK_DISABLED, data, now, chance)


async def record_bounce(
    connection: Connection, seller_id: str, message_id: str, reason: str, *, is_permanent: bool, now: datetime
) -> bool | Refusal:
    """Note that a mail came back; returns whether the seller has such a delivery. Commits.

    What came back for good is `bounced`; one that may still arrive keeps its state. The last bounce counts, but none
    takes back one for good.
    """
    refusal = check_reason(reason)
    if refusal is not None:
        return refusal
    delivery = delivery_of(message_id)
    if delivery is None:
        return False
    values = {
        "delivery": delivery,
        "seller_id": seller_id,
        "bounced": DeliveryState.BOUNCED.value,
        "is_permanent": is_permanent,
        "bounce": f"{_PERMANENT if is_permanent else _TRANSIENT}: {reason}",
        "now": await believed(connection, now),
    }
    cursor = await connection.execute(
        "SELECT FROM deliveries d JOIN webhook_endpoints e ON e.endpoint_id = d.destination AND e.channel = 'email'"
        " WHERE d.delivery_id = %(delivery)s AND d.seller_id = %(seller_id)s",
        values,
    )
    if await cursor.fetchone() is None:
        return False
    # A mail that is open, because the answer to its first try was lost, is sent again all the same.
    await connection.execute(
        "UPDATE deliveries SET bounced_at = %(now)s, bounce = %(bounce)s,"
        " state = CASE WHEN %(is_permanent)s AND state = 'delivered' THEN %(bounced)s ELSE state END"
        " WHERE delivery_id = %(delivery)s AND (state <> %(bounced)s OR %(is_permanent)s)",
        values,
    )
    return True


async def read_letters(connection: Connection, taken: Sequence[Taken]) -> dict[str, Letter]:
    """What these mails are written from, by delivery id; one whose settings were deleted is absent."""
    cursor = await connection.execute(
        SQL["read_mail_senders"], {"endpoint_ids": sorted({each.destination for each in taken})}
    )
    sellers = {row.pop("endpoint_id"): MailSeller(**row) for row in await fetch_dicts(cursor)}
    bodies = {each.delivery_id: msgspec.json.decode(each.payload)["data"] for each in taken}
    orders = await _read_orders(connection, [each for each in taken if each.type.startswith("order.")])
    documents = await _read_documents(connection, taken, bodies)
    return {
        each.delivery_id: Letter(
            sellers[each.destination],
            bodies[each.delivery_id],
            orders.get((each.seller_id, each.order_id)) if each.type.startswith("order.") else None,
            documents.get((each.seller_id, each.order_id, bodies[each.delivery_id].get("invoice_number", ""))),
        )
        for each in taken
        if each.destination in sellers
    }


async def _read_orders(connection: Connection, taken: Sequence[Taken]) -> dict[tuple[str, str], OrderFacts]:
    pairs = sorted({(each.seller_id, each.order_id) for each in taken})
    if not pairs:
        return {}
    cursor = await connection.execute(
        SQL["read_mail_orders"],
        {"seller_ids": [seller_id for seller_id, _ in pairs], "order_ids": [order_id for _, order_id in pairs]},
    )
    return {
        (seller_id, order_id): OrderFacts(bytes(request), net, tax, gross)
        for seller_id, order_id, request, net, tax, gross in await cursor.fetchall()
    }


async def _read_documents(
    connection: Connection, taken: Sequence[Taken], bodies: dict[str, dict[str, Any]]
) -> dict[tuple[str, str, str], DocumentFacts]:
    wanted = [
        (each.seller_id, each.order_id, each.type.partition(".")[0], bodies[each.delivery_id]["invoice_number"])
        for each in taken
        if each.type.endswith(".document_stored")
    ]
    if not wanted:
        return {}
    sellers, orders, kinds, numbers = map(list, zip(*wanted, strict=True))
    cursor = await connection.execute(
        SQL["read_mail_documents"],
        {
            "topic": catalog.INVOICE_EVENTS.name,
            "seller_ids": sellers,
            "order_ids": orders,
            "kinds": kinds,
            "numbers": numbers,
        },
    )
    return {
        (seller_id, order_id, number): DocumentFacts(key, bytes(sha256).hex(), size, bytes(event))
        for seller_id, order_id, number, key, sha256, size, event in await cursor.fetchall()
    }


async def _add(
    connection: Connection,
    endpoint: str,
    seller_id: str,
    event_type: str,
    data: dict[str, Any],
    now: datetime,
    chance: Chance,
) -> str:
    """Add a mail that is about no order."""
    of_order = (endpoint, "")
    sequence = (await deliveries.take_sequences(connection, [of_order]))[of_order]
    made = deliveries.delivery_id(now, chance(CHANCE_BYTES))
    body = envelope(event_type, now, sequence, data)
    row = NewDelivery(made, endpoint, seller_id, "", sequence, event_type, body)
    await deliveries.insert_deliveries(connection, [row], now)
    return made
