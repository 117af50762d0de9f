"""How a mail server is spoken to: TLS with its certificate checked, passwords over TLS, and what is an outage."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from domain.delivery import Answered, Unreachable
from domain.email import parse_mailbox
from providers.email import Outgoing, SendResult, SmtpCalls, SmtpServer
from tests.integration.mail_world import MailServer

MAIL = Outgoing(
    message_id="<1@shop.example>",
    date=datetime(2026, 11, 29, tzinfo=UTC),
    sender=parse_mailbox("shop@shop.example"),
    sender_name="Shop",
    recipient=parse_mailbox("zoe@example.com"),
    recipient_name="Zoë",
    reply_to=None,
    language="en",
    subject="Hello",
    text="Hello.",
    html="<p>Hello.</p>",
)
USER, PASSWORD = "me", "s3cret"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "mail.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@asynccontextmanager
async def serving(
    certificate: Path | None = None, *, is_tls: bool = False, **options: Any
) -> AsyncIterator[MailServer]:
    """A server with STARTTLS, or with TLS from the beginning, if it has a certificate."""
    made = MailServer()
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()

    def connected() -> SMTP:
        return SMTP(made, hostname="mail.test", loop=loop, tls_context=None if is_tls else context, **options)

    server = await loop.create_server(connected, "127.0.0.1", 0, ssl=context if is_tls else None)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()


async def send(inbox: MailServer, **changes: Any) -> SendResult:
    """Hand a mail over on a connection of its own."""
    server = replace(SmtpServer("127.0.0.1", inbox.port, False, False), **changes)
    calls = SmtpCalls(server, timeout_seconds=30)
    try:
        return await calls.send(MAIL)
    finally:
        await calls.close()
        # Connections under TLS end in the loop's next turns.
        await asyncio.sleep(0.05)


def authenticator(passwords: dict[str, str]) -> Callable[..., AuthResult]:
    """Lets in who knows the password, and only over TLS."""

    def ask(server: SMTP, session: Any, envelope: Any, mechanism: str, given: LoginPassword) -> AuthResult:
        is_known = passwords.get(given.login.decode()) == given.password.decode() and session.ssl is not None
        return AuthResult(success=is_known, handled=False)

    return ask


@pytest.mark.parametrize("requires_tls", [True, False])
async def test_tls_is_used_where_it_is_offered(
    requires_tls: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving(certificate, require_starttls=True) as inbox:
        result = await send(inbox, requires_tls=requires_tls)
        assert result.answer == Answered(250), result
        assert len(inbox.received) == 1


async def test_tls_may_stand_at_the_beginning(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving(certificate, is_tls=True) as inbox:
        assert (await send(inbox, is_tls=True)).answer == Answered(250)


@pytest.mark.parametrize("is_tls", [True, False])
async def test_a_certificate_that_nobody_vouches_for_is_an_outage(is_tls: bool, certificate: Path) -> None:
    async with serving(certificate, is_tls=is_tls) as inbox:
        result = await send(inbox, is_tls=is_tls)
        assert isinstance(result.answer, Unreachable)
        assert "certificate verify failed" in result.answer.reason
        assert inbox.received == []


async def test_a_server_without_the_tls_that_is_required_is_an_outage() -> None:
    async with serving() as inbox:
        result = await send(inbox, requires_tls=True)
        assert isinstance(result.answer, Unreachable)
        assert inbox.received == []


async def test_a_password_goes_over_tls_and_a_wrong_one_is_an_outage(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    options: dict[str, Any] = {"authenticator": authenticator({USER: PASSWORD}), "auth_required": True}
    async with serving(certificate, **options) as inbox:
        known: dict[str, Any] = {"user": USER, "requires_tls": True}
        wrong = await send(inbox, **known, password="guess")
        assert isinstance(wrong.answer, Unreachable)
        assert "guess" not in str(wrong)
        assert wrong.code == 535
        assert (await send(inbox, **known, password=PASSWORD)).answer == Answered(250)
