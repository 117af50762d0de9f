"""The sender of e-mail, orders and documents in a ledger to be told of, and a real mail server."""

import asyncio
import email
import email.policy
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import psycopg
from aiosmtpd.smtp import SMTP, Envelope, Session

from domain.buyer import buyer_key
from domain.delivery import Channel
from domain.email import ATTACHED
from domain.refusals import Refusal
from providers.email import SmtpCalls, SmtpServer
from runtime.settings import load
from schemas import catalog
from sinks.object_store.store import open_store
from sinks.postgres import email as store
from sinks.postgres.email import EmailSettings
from sinks.postgres.webhooks import ACTIVE
from streams.delivery_rows import DeliveryRows
from streams.email import EMAIL_POLICY, EmailChannel, Links
from streams.sender import Sender
from tests.integration.hooks_world import Hooks
from tests.invoice_events import address, credited, issued
from tests.records import written

#: Quick enough for tests, with as many tries as in earnest.
QUICK = replace(
    EMAIL_POLICY,
    lease_seconds=6.0,
    poll_seconds=0.5,
    breaker_seconds=0.3,
    retry_seconds=(0.05, 0.05),
    stop_seconds=0.5,
)
_REQUESTED = ("sku", "description", "quantity", "unit_price", "vat_rate", "vat_category")
PDF = b"%PDF-1.7 of a test\n" + bytes(range(256))


@dataclass
class Received:
    """A mail that came to the end of its DATA, whatever it was answered."""

    sender: str
    recipients: list[str]
    content: bytes
    options: list[str]

    @property
    def message(self) -> EmailMessage:
        """As a mail program reads it."""
        return email.message_from_bytes(self.content, policy=email.policy.default)

    @property
    def message_id(self) -> str:
        """Of its head."""
        return str(self.message["Message-ID"])

    @property
    def subject(self) -> str:
        """Of its head."""
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        """Its plain text."""
        body = self.message.get_body(("plain",))
        assert body is not None
        return str(body.get_content())

    @property
    def files(self) -> list[tuple[str | None, bytes]]:
        """What is attached."""
        return [(each.get_filename(), each.get_content()) for each in self.message.iter_attachments()]


Behave = Callable[[Received], Awaitable[str]]


async def take(_: Received) -> str:
    """250."""
    return "250 taken"


@dataclass
class MailServer:
    """Writes down what it gets, and answers as it is told."""

    behave: Behave = take
    #: What RCPT is answered.
    recipient: str = "250 ok"
    #: What RSET is answered.
    again: str = "250 ok"
    received: list[Received] = field(default_factory=list)
    #: How often it was connected to.
    connections: int = 0
    port: int = 0
    #: The connection of the mail that is being answered.
    current: SMTP | None = None

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, to: str, options: list[str]) -> str:
        """Any recipient."""
        envelope.rcpt_tos.append(to)
        return self.recipient

    async def handle_RSET(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Whether the connection may be used again."""
        return self.again

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Any mail."""
        content = envelope.content
        assert isinstance(content, bytes)
        received = Received(str(envelope.mail_from), list(envelope.rcpt_tos), content, list(envelope.mail_options))
        self.received.append(received)
        self.current = server
        return await self.behave(received)

    def cut(self) -> None:
        """Close the connection without an answer."""
        assert self.current is not None
        _abort(self.current)

    async def until(self, count: int, seconds: float = 60.0) -> list[Received]:
        """Wait for so many mails."""
        async with asyncio.timeout(seconds):
            while len(self.received) < count:  # noqa: ASYNC110 - it tells nobody.
                await asyncio.sleep(0.01)
        return self.received


def _abort(connection: SMTP) -> None:
    if isinstance(connection.transport, asyncio.Transport):
        connection.transport.abort()


@asynccontextmanager
async def mail_server(behave: Behave = take, *, port: int = 0, takes_utf8: bool = True) -> AsyncIterator[MailServer]:
    """A running server."""
    made = MailServer(behave)
    connections: list[SMTP] = []

    def connected() -> SMTP:
        made.connections += 1
        connection = SMTP(made, enable_SMTPUTF8=takes_utf8, hostname="mail.test", loop=asyncio.get_running_loop())
        connections.append(connection)
        return connection

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", port)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for connection in connections:
            _abort(connection)
        await server.wait_closed()
        # Aborted connections end in the loop's next turns.
        await asyncio.sleep(0.05)


class Mails(Hooks):
    """The notifications agent of partition 0, and a sender of e-mail."""

    def __init__(self, url: str, objects: Path, port: int) -> None:
        super().__init__(url)
        self.port = port
        self.calls_timeout = 5.0
        self.links: Links | None = None
        self.store = open_store(load(objects_url=objects.as_uri()))

    async def start(self) -> None:
        """Begin to send."""
        rows = DeliveryRows(
            self.url, Channel.EMAIL, lease_seconds=QUICK.lease_seconds, failing_seconds_max=QUICK.failing_seconds_max
        )
        calls = SmtpCalls(SmtpServer("127.0.0.1", self.port, False, False), timeout_seconds=self.calls_timeout)
        channel = EmailChannel(calls, self.store, rows.letters, self.links)
        self._sending = asyncio.create_task(Sender(rows, channel, QUICK, chance=lambda: 0.5).run())

    async def turn_on(self, *events: str, seller_id: str = "demo", **changes: Any) -> EmailSettings:
        """The seller's settings."""
        given = {"sender": "shop@bücher.example", "reply_to": "", "documents": ATTACHED, "state": ACTIVE, **changes}
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            made = await store.put(
                connection, seller_id, events=events, now=datetime.now(UTC), chance=os.urandom, **given
            )
        assert not isinstance(made, Refusal), made
        return made

    async def order(self, order_id: str, mail: str = "zoe@example.com", seller_id: str = "demo", **buyer: Any) -> None:
        """A confirmed order."""
        event: Any = issued()
        who = {"name": "Zoë O'Neil", "email": mail, "vat_id": None, "address": address(), **buyer}
        request = {
            "currency": event["currency"],
            "note": event["note"],
            "lines": [{name: line[name] for name in _REQUESTED} for line in event["lines"]],
            "received_at": 0,
            "seller_id": seller_id,
            "order_id": order_id,
            "kind": "invoice",
            "buyer": who,
        }
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            await connection.execute(
                "INSERT INTO order_ids (seller_id, order_id, kind, buyer_key) VALUES (%s, %s, 'checkout', %s)",
                (seller_id, order_id, buyer_key(mail)),
            )
            await connection.execute(
                "INSERT INTO orders (seller_id, order_id, partition, customer, state, version, history, currency,"
                " net_minor, tax_minor, gross_minor, content_sha256, payment_token, invoice_request, hold_expires_at,"
                " placed_at, source_offset)"
                " VALUES (%s, %s, 0, '', 'CONFIRMED', 3, '[]', 'EUR', 5808, 971, 6779, '', '', %s, now(), now(), 0)",
                (seller_id, order_id, written(catalog.INVOICE_REQUEST, request)),
            )

    async def document(
        self, order_id: str, content: bytes = PDF, *, number: int = 1, refund_id: str = "", **changes: Any
    ) -> bytes:
        """A stored invoice or credit note; returns its event `InvoiceDocumentStored`."""
        kind = "credit_note" if refund_id else "invoice"
        printed = f"{'CN' if refund_id else 'R'}/2026/{number}"
        named = {"seller_id": "demo", "order_id": order_id, "series_id": f"demo-0-{kind}", "number": number}
        event: Any = credited(refund_id=refund_id) if refund_id else issued()
        schema: Any = catalog.CREDIT_NOTE_ISSUED if refund_id else catalog.INVOICE_ISSUED
        event |= {**named, "kind": kind, "invoice_number": printed}
        event["buyer"] |= changes.pop("buyer", {})
        [sent] = await self.published(written(schema, event), topic=catalog.INVOICE_EVENTS)
        seq = int(dict(sent.headers)[catalog.SEQ_HEADER])
        digest = hashlib.sha256(content).hexdigest()
        key = f"invoices/demo/2026/{number}-{digest[:16]}.pdf"
        await self.store.put_if_absent(key, content)
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            await connection.execute(
                "INSERT INTO invoices (series_id, number, seller_id, order_id, kind, invoice_number, issued_at,"
                " currency, net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset,"
                " event_seq, refund_id)"
                " SELECT %s, %s, 'demo', %s, %s, %s, occurred_at, 'EUR', 5808, 971, 6779, '', 0, 0, seq, %s"
                " FROM journal WHERE topic = %s AND seq = %s",
                (named["series_id"], number, order_id, kind, printed, refund_id, catalog.INVOICE_EVENTS.name, seq),
            )
            await connection.execute(
                "INSERT INTO documents (series_id, number, key, sha256, size_bytes, template_version, stored_at)"
                " VALUES (%s, %s, %s, decode(%s, 'hex'), %s, 2, now())",
                (named["series_id"], number, key, digest, changes.pop("size", len(content))),
            )
        return written(
            catalog.INVOICE_DOCUMENT_STORED,
            {
                **named,
                "kind": kind,
                "invoice_number": printed,
                "key": key,
                "sha256": digest,
                "size_bytes": len(content),
                "media_type": "application/pdf",
                "template_version": 2,
                "stored_at": 1_795_000_000_000_000,
            },
        )


@asynccontextmanager
async def mails(url: str, objects: Path, port: int) -> AsyncIterator[Mails]:
    """An agent at the beginning, and a sender that sends to this port."""
    made = Mails(url, objects, port)
    await made.open()
    await made.start()
    try:
        yield made
    finally:
        await made.close()
