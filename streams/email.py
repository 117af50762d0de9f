"""The channel of e-mail: writes each mail from the ledger and the object store, and hands it to the mail server."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

from documents.mail.mail import (
    Amounts,
    Attached,
    Enclosure,
    Linked,
    Mail,
    Shop,
    TooLarge,
    disabled_mail,
    document_mail,
    order_mail,
    test_mail,
)
from documents.mail.texts import one_line
from domain import document_link
from domain.delivery import FAILING_DAYS_MAX, Answered, Refused, Unreachable
from domain.document_link import DocumentLink
from domain.email import LINK, TEST, WEBHOOK_DISABLED, Mailbox, NotAnAddressError, message_id, parse_mailbox
from domain.records import CreditNoteIssued, InvoiceIssued
from domain.tracking_link import TrackingLink, sign_tracking, tracking_keys_of
from providers.email import Attachment, Outgoing, SmtpCalls
from schemas import catalog
from schemas.codec import decode, schema_of
from sinks.object_store.store import NotStoredError, ObjectStore, StoreUnavailableError
from sinks.postgres.deliveries import Taken
from sinks.postgres.email import DocumentFacts, Letter, MailSeller
from streams.sender import Call, SenderPolicy

#: A larger document stays out of the mail: servers refuse mails over 20 MB or so, and Base64 adds a third.
DOCUMENT_BYTES_MAX = 10 * 1024 * 1024
#: How long a link in a mail leads to its document.
LINK_DAYS = 90
#: Three tries. A mail server that can't be reached at all is waited for however long it takes.
EMAIL_POLICY = SenderPolicy(
    # A try takes half a minute at most, and the object store before it as long again.
    lease_seconds=120.0,
    in_flight_max=20,
    room_first=4,
    room_max=20,
    retry_seconds=(60.0, 900.0),
    # Mails that are refused are their addresses' fault: no number of them turns a seller's e-mail off.
    failing_seconds_max=1e9,
)
_PDF = "application/pdf"
_UNSAFE = re.compile("[^A-Za-z0-9._-]+")

ReadLetters = Callable[[list[Taken]], Awaitable[dict[str, Letter]]]


class _Written(NamedTuple):
    """A mail, to whom it goes, and what is in it."""

    mail: Mail
    recipient: str
    name: str
    attachments: tuple[Attachment, ...] = ()


class Links:
    """Makes links that a buyer follows without a key. They are the same for each try of a mail."""

    def __init__(self, public_url: str, keys: str) -> None:
        """`public_url` is where buyers reach the gateways; the first of `keys`, as in the setting, signs."""
        self._url = public_url.rstrip("/")
        self._document_key = document_link.keys_of(keys)[0]
        self._tracking_key = tracking_keys_of(keys)[0]

    def document_url(self, seller_id: str, order_id: str, refund_id: str, made_at: datetime) -> str:
        """To a document, in a mail that was made at this time."""
        link = DocumentLink(seller_id, order_id, refund_id, _expiry(made_at))
        return f"{self._url}/d/{document_link.sign(link, self._document_key)}"

    def tracking_url(self, seller_id: str, order_id: str, made_at: datetime) -> str:
        """To an order's tracking page, in a mail that was made at this time."""
        link = TrackingLink(seller_id, order_id, _expiry(made_at))
        return f"{self._url}/t/{sign_tracking(link, self._tracking_key)}"


def _expiry(made_at: datetime) -> int:
    return int(made_at.timestamp()) + LINK_DAYS * 86_400


class _CannotBeWrittenError(Exception):
    """What the mail is about is no longer there; the message says what."""


class EmailChannel:
    """Sends mails; several may be under way at once."""

    def __init__(
        self, calls: SmtpCalls, store: ObjectStore, read_letters: ReadLetters, links: Links | None = None
    ) -> None:
        """Without `links` every document is attached."""
        self._links = links
        self._calls = calls
        self._store = store
        self._read_letters = read_letters
        self._letters: dict[str, Letter] = {}

    async def prepare(self, taken: list[Taken]) -> None:
        """Read what these mails are written from."""
        self._letters |= await self._read_letters(taken)

    async def send(self, taken: Taken, now: datetime) -> Call:
        """Write it, and hand it over."""
        letter = self._letters.pop(taken.delivery_id, None)
        if letter is None:
            return _refused("e-mail was turned off")
        try:
            written = await self._write(taken, letter)
            outgoing = _addressed(taken, letter.seller, written)
        except StoreUnavailableError as unavailable:
            reason = f"the object store: {unavailable}"
            return Call(Unreachable(reason), None, reason, "")
        except _CannotBeWrittenError as missing:
            return _refused(str(missing))
        result = await self._calls.send(outgoing)
        error = "" if isinstance(result.answer, Answered) else result.answer.reason
        return Call(result.answer, result.code, error, result.text)

    async def close(self) -> None:
        """End all connections."""
        await self._calls.close()

    async def _write(self, taken: Taken, letter: Letter) -> _Written:
        shop = Shop.of(letter.seller)
        if taken.type == TEST:
            return _Written(test_mail(shop), letter.data["to"], "")
        if taken.type == WEBHOOK_DISABLED:
            is_gone = letter.data["reason"] == "gone"
            mail = disabled_mail(shop, letter.data["url"], is_gone=is_gone, days=FAILING_DAYS_MAX)
            return _Written(mail, letter.seller.reply_to or letter.seller.sender, shop.name)
        if taken.type.startswith("order."):
            return self._order(taken, letter, shop)
        return await self._document(taken, letter, shop)

    def _order(self, taken: Taken, letter: Letter, shop: Shop) -> _Written:
        order = letter.order
        if order is None:
            raise _CannotBeWrittenError("the ledger has no such order")
        bytes_max = catalog.INVOICE_REQUESTS.value_bytes_max
        _, request = decode(order.invoice_request, catalog.INVOICE_REQUEST, bytes_max=bytes_max)
        amounts = Amounts(order.net_minor, order.tax_minor, order.gross_minor)
        buyer = request["buyer"]
        url = None
        if self._links is not None:
            url = self._links.tracking_url(taken.seller_id, taken.order_id, taken.created_at)
        return _Written(order_mail(taken.type, shop, request, amounts, url), buyer["email"], buyer["name"])

    async def _document(self, taken: Taken, letter: Letter, shop: Shop) -> _Written:
        document = letter.document
        if document is None:
            raise _CannotBeWrittenError("the ledger has no such document")
        event = _issued(document.event)
        enclosure: Enclosure = Attached()
        attachments: tuple[Attachment, ...] = ()
        is_large = document.size_bytes > DOCUMENT_BYTES_MAX
        if self._links is not None and (is_large or letter.seller.documents == LINK):
            refund_id = str(event.get("refund_id", ""))
            enclosure = Linked(self._links.document_url(taken.seller_id, taken.order_id, refund_id, taken.created_at))
        elif is_large:
            enclosure = TooLarge()
        else:
            attachments = (await self._attachment(document, event["invoice_number"]),)
        buyer = event["buyer"]
        return _Written(document_mail(shop, event, enclosure), buyer["email"], buyer["name"], attachments)

    async def _attachment(self, document: DocumentFacts, number: str) -> Attachment:
        try:
            content = await self._store.get(document.key)
        except NotStoredError:
            raise _CannotBeWrittenError(f"the object store has no {document.key}") from None
        if hashlib.sha256(content).hexdigest() != document.sha256:
            raise _CannotBeWrittenError(f"{document.key} is not what the ledger says")
        return Attachment(f"{_UNSAFE.sub('_', number)}.pdf", _PDF, content)


def _issued(payload: bytes) -> InvoiceIssued | CreditNoteIssued:
    bytes_max = catalog.INVOICE_EVENTS.value_bytes_max
    if schema_of(payload) is catalog.INVOICE_ISSUED:
        return decode(payload, catalog.INVOICE_ISSUED, bytes_max=bytes_max)[1]
    return decode(payload, catalog.CREDIT_NOTE_ISSUED, bytes_max=bytes_max)[1]


def _addressed(taken: Taken, seller: MailSeller, written: _Written) -> Outgoing:
    if not written.recipient:
        raise _CannotBeWrittenError("the buyer has no e-mail address")
    try:
        recipient = parse_mailbox(written.recipient)
    except NotAnAddressError as error:
        raise _CannotBeWrittenError(f"the buyer's e-mail address {error}") from None
    sender = parse_mailbox(seller.sender)
    reply_to: Mailbox | None = parse_mailbox(seller.reply_to) if seller.reply_to else None
    return Outgoing(
        message_id=message_id(taken.delivery_id, sender),
        date=taken.created_at,
        sender=sender,
        sender_name=one_line(seller.trading_name or seller.legal_name),
        recipient=recipient,
        recipient_name=one_line(written.name),
        reply_to=reply_to,
        language=written.mail.language,
        subject=written.mail.subject,
        text=written.mail.text,
        html=written.mail.html,
        attachments=written.attachments,
    )


def _refused(reason: str) -> Call:
    return Call(Refused(reason), None, reason, "")
