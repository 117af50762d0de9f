"""Sends e-mail by SMTP (RFC 5321, STARTTLS, AUTH, SMTPUTF8) over connections that are used again.

The message's bytes follow from its fields alone: each try of a delivery sends the same ones.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as HEADERS_IN_ASCII
from email.policy import SMTPUTF8 as HEADERS_IN_UTF8
from email.policy import Policy
from email.utils import format_datetime
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import aiosmtplib

from domain.delivery import Answer, Answered, Refused, Unanswered, Unreachable
from domain.email import Mailbox

TIMEOUT_SECONDS = 30.0
#: A connection that was idle for longer is not used again: servers close them, and firewalls forget them.
_IDLE_SECONDS_MAX = 20.0
_TEXT_CHARS_MAX = 1_000
_LINE_CHARS_MAX = 76
_LINE_END = "\r\n"
#: The answer to a mail that was not taken now; the code itself is in the log.
_TEMPORARY = 450

_Result = TypeVar("_Result")


class SmtpUrlError(ValueError):
    """The text is no URL of an SMTP server; the message says why, without the URL, which may hold a password."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mails are handed over."""

    host: str
    port: int
    #: TLS from the first byte.
    is_tls: bool
    #: By STARTTLS; otherwise TLS is used where the server offers it.
    requires_tls: bool
    user: str | None = None
    #: Never log it.
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in a mail."""

    name: str
    #: Such as `application/pdf`.
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A mail with its envelope."""

    message_id: str
    date: datetime
    sender: Mailbox
    sender_name: str
    recipient: Mailbox
    recipient_name: str
    reply_to: Mailbox | None
    #: BCP 47 tag.
    language: str
    subject: str
    text: str
    html: str
    attachments: Sequence[Attachment] = ()


@dataclass(frozen=True, slots=True)
class SendResult:
    """The result of a try; `code` and `text` are the server's."""

    answer: Answer
    code: int | None
    text: str


def parse_smtp_url(url: str) -> SmtpServer:
    """`smtp://user:password@host:587?starttls=required` or `smtps://…`. Raises `SmtpUrlError`.

    A password is only sent over TLS, but for a server on this machine.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SmtpUrlError("must be smtp://host:port or smtps://host:port") from None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise SmtpUrlError("must be smtp://host:port or smtps://host:port")
    if parts.path not in ("", "/") or parts.fragment:
        raise SmtpUrlError(
            "must have nothing behind the port but ?starttls=required: write / # ? in a password as %2F %23 %3F"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if options.pop("starttls", "required") != "required" or options:
        raise SmtpUrlError("knows no option but starttls=required")
    is_tls = parts.scheme == "smtps"
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if (user is None) != (password is None):
        raise SmtpUrlError("must have a user and a password, or none of both")
    needs_tls = "starttls" in parts.query or (user is not None and not _is_loopback(parts.hostname))
    return SmtpServer(
        parts.hostname,
        port or (465 if is_tls else 587 if user else 25),
        is_tls,
        needs_tls and not is_tls,
        user,
        password,
    )


def written(mail: Outgoing) -> bytes:
    """The message as it is sent. Its names must be in one line; the library refuses others."""
    policy = HEADERS_IN_UTF8 if mail.recipient.needs_smtputf8 else HEADERS_IN_ASCII
    # 7 bits pass everywhere.
    message = EmailMessage(policy.clone(cte_type="7bit"))
    message["From"] = _AddressHeader("From", mail.sender_name, mail.sender)
    message["To"] = _AddressHeader("To", mail.recipient_name, mail.recipient)
    if mail.reply_to is not None:
        message["Reply-To"] = _AddressHeader("Reply-To", "", mail.reply_to)
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(mail.date)
    message["Message-ID"] = mail.message_id
    # RFC 3834: nobody's holiday message is wanted.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text, cte="quoted-printable")
    message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
    for each in mail.attachments:
        kind, _, subtype = each.media_type.partition("/")
        message.add_attachment(each.content, maintype=kind, subtype=subtype, filename=each.name)
    # Of the whole: set before, it would be moved into the text's part.
    message["Content-Language"] = mail.language
    for place, part in enumerate(part for part in message.walk() if part.is_multipart()):
        # The library's boundaries are drawn by chance.
        part.set_boundary(f"={place}={mail.message_id.strip('<>').partition('@')[0]}=")
    return bytes(message)


class SmtpCalls:
    """Hands mails over to one server. Create it on the running event loop; any number may send at once."""

    def __init__(self, server: SmtpServer, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """`timeout_seconds` is for a whole try, connecting included."""
        self._server = server
        self._timeout_seconds = timeout_seconds
        self._tls = ssl.create_default_context()
        self._idle: list[tuple[aiosmtplib.SMTP, float]] = []

    async def send(self, mail: Outgoing) -> SendResult:
        """Hand a mail over. Raises only what is a bug."""
        message = written(mail)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._send(mail, message)
        except TimeoutError:
            return SendResult(Unanswered("no answer in time"), None, "")

    async def close(self) -> None:
        """Take leave of the server, and close all connections."""
        idle, self._idle = self._idle, []
        for client, _ in idle:
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await client.quit()
            client.close()

    async def _send(self, mail: Outgoing, message: bytes) -> SendResult:
        client = self._take_idle()
        if client is not None:
            try:
                # It may be closed already; then nothing has been sent.
                await client.rset()
            except (aiosmtplib.SMTPException, OSError):
                client.close()
                client = None
        if client is None:
            try:
                client = await self._connect()
            except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
                return SendResult(Unreachable(_why(error)), getattr(error, "code", None), "")
        is_usable = False
        try:
            result = await self._hand_over(client, mail, message)
            is_usable = isinstance(result.answer, Answered | Refused)
            return result
        finally:
            if is_usable and client.is_connected:
                self._idle.append((client, asyncio.get_running_loop().time()))
            else:
                client.close()

    def _take_idle(self) -> aiosmtplib.SMTP | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            client, since = self._idle.pop()
            if client.is_connected and now - since < _IDLE_SECONDS_MAX:
                return client
            client.close()
        return None

    async def _connect(self) -> aiosmtplib.SMTP:
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.is_tls,
            start_tls=False if server.is_tls else True if server.requires_tls else None,
            tls_context=self._tls,
            username=server.user,
            password=server.password,
            # The name that this machine gives itself: looking up a better one may take long.
            local_hostname=_own_name(),
            timeout=self._timeout_seconds,
        )
        try:
            await client.connect()
        except BaseException:
            client.close()
            raise
        return client

    async def _hand_over(self, client: aiosmtplib.SMTP, mail: Outgoing, message: bytes) -> SendResult:
        options, encoding = [], "ascii"
        if mail.recipient.needs_smtputf8:
            if not client.supports_extension("smtputf8"):
                reason = "the mail server does not take addresses beyond ASCII before the @ (SMTPUTF8)"
                return SendResult(Refused(reason), None, "")
            options, encoding = ["SMTPUTF8"], "utf-8"
        steps: list[Callable[[], Awaitable[aiosmtplib.SMTPResponse]]] = [
            lambda: client.mail(str(mail.sender), options=options, encoding=encoding),
            lambda: client.rcpt(str(mail.recipient), encoding=encoding),
            lambda: client.data(message),
        ]
        try:
            for step in steps:
                response = await step()
        except aiosmtplib.SMTPResponseException as error:
            text = _plain(str(error.message))
            if 500 <= error.code < 600:
                return SendResult(Refused(f"the mail server has refused it: {error.code}"), error.code, text)
            return SendResult(Answered(_TEMPORARY), error.code, text)
        except (aiosmtplib.SMTPException, OSError) as error:
            # It may have been taken: the answer was lost.
            return SendResult(Unanswered(_why(error)), None, "")
        return SendResult(Answered(response.code), response.code, _plain(response.message))


class _AddressHeader(str):
    """A header with one address, in the form in which it is sent.

    Python folds long names in quotes without the quotes: what stood in them would be read as further addresses.
    """

    __slots__ = ("name",)

    name: str

    def __new__(cls, name: str, shown: str, mailbox: Mailbox) -> "_AddressHeader":
        """`shown` is whose mailbox it is, empty if nobody's. Raises `ValueError` for a line break."""
        address = Address(shown, mailbox.local, mailbox.domain)
        text = str(address)
        if shown and (not shown.isascii() or len(name) + len(": ") + len(text) > _LINE_CHARS_MAX):
            words = Header(shown, "utf-8", _LINE_CHARS_MAX, name).encode(linesep=_LINE_END)
            text = f"{words}{_LINE_END} <{address.addr_spec}>"
        made = super().__new__(cls, text)
        made.name = name
        return made

    def fold(self, *, policy: Policy) -> str:
        """The header's lines, as the library asks for them."""
        return f"{self.name}: {self}{policy.linesep}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_name() -> str:
    name = socket.gethostname()
    return name if name.isascii() and name else "localhost"


def _why(error: Exception) -> str:
    return _plain(f"{type(error).__name__}: {error}")


def _plain(text: str) -> str:
    """The text as one line that can be stored and shown."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:_TEXT_CHARS_MAX]
