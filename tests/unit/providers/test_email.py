"""Mails as bytes, and the URL of a mail server."""

import email
import email.policy
import re
from dataclasses import replace
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.headerregistry import Address, AddressHeader
from email.message import EmailMessage
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.email import parse_mailbox
from providers.email import Attachment, Outgoing, SmtpUrlError, parse_smtp_url, written

PDF = bytes(range(256)) * 40
HEADERS = [
    *("From", "To", "Reply-To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"),
    "Content-Language",
]
MAIL = Outgoing(
    message_id=f"<msg_{'0' * 32}@shop.example>",
    date=datetime(2026, 11, 29, 14, 3, 22, tzinfo=UTC),
    sender=parse_mailbox("shop@bücher.example"),
    sender_name="Bücher, Müller & Söhne",
    recipient=parse_mailbox("zoe@example.com"),
    recipient_name="Zoë O'Neil",
    reply_to=parse_mailbox("help@shop.example"),
    language="de",
    subject="Ihre Bestellung A-1",
    text="Guten Tag,\n\nvielen Dank für 12,00 €.\n.\n",
    html="<!doctype html><p>Guten Tag: 12,00 €</p>",
    attachments=[Attachment("R-2026-1.pdf", "application/pdf", PDF)],
)


def read(mail: Outgoing) -> EmailMessage:
    """As a receiver reads it."""
    return email.message_from_string(written(mail).decode(), policy=email.policy.default)


def only(message: EmailMessage, name: str) -> Address:
    """The one address of a header."""
    [address] = cast(AddressHeader, message[name]).addresses
    return address


def test_a_mail_has_a_text_an_html_and_its_file() -> None:
    message = read(MAIL)
    body, html = message.get_body(("plain",)), message.get_body(("html",))
    assert body is not None
    assert html is not None
    assert body.get_content().replace("\r\n", "\n") == MAIL.text
    assert html.get_content().strip() == MAIL.html
    [file] = message.iter_attachments()
    assert (file.get_filename(), file.get_content_type(), file.get_content()) == (
        "R-2026-1.pdf",
        "application/pdf",
        PDF,
    )
    assert message.get_content_type() == "multipart/mixed"


def test_its_head_says_what_receivers_and_their_robots_need() -> None:
    message = read(MAIL)
    assert sorted(message.keys()) == sorted(HEADERS)
    assert str(message["Message-ID"]) == MAIL.message_id
    assert str(message["Date"]) == "Sun, 29 Nov 2026 14:03:22 +0000"
    assert str(message["Auto-Submitted"]) == "auto-generated"
    assert str(message["Content-Language"]) == "de"
    sender, recipient = only(message, "From"), only(message, "To")
    assert (sender.display_name, sender.addr_spec) == (MAIL.sender_name, "shop@xn--bcher-kva.example")
    assert (recipient.display_name, recipient.addr_spec) == ("Zoë O'Neil", "zoe@example.com")


def test_each_try_sends_the_same_bytes() -> None:
    assert written(MAIL) == written(MAIL)


def test_it_passes_servers_that_take_ascii_only_and_short_lines() -> None:
    wide = replace(MAIL, text="ü" * 5_000, subject="ü" * 200, recipient_name="ü" * 100)
    assert written(wide).isascii()
    assert max(map(len, written(wide).split(b"\r\n"))) <= 998


def test_an_address_beyond_ascii_stands_in_the_head_as_it_is() -> None:
    message = written(replace(MAIL, recipient=parse_mailbox("zoë@bücher.example")))
    assert "zoë@xn--bcher-kva.example".encode() in message


def test_a_line_break_in_a_header_is_refused() -> None:
    for name in ("subject", "sender_name", "recipient_name", "message_id", "language"):
        with pytest.raises(ValueError, match=r"(?i)header|linefeed|carriage|invalid"):
            written(replace(MAIL, **{name: "x\r\nBcc: eve@evil.example"}))  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=200), st.booleans())
@example("0" * 72 + "\\\\", False)
@example("a, " * 40 + "Eve <eve@evil.example>, ", False)
@example('"' * 90, True)
def test_no_name_changes_the_head(name: str, is_wide: bool) -> None:
    local = "zoë" if is_wide else "zoe"
    mail = replace(
        MAIL, recipient=parse_mailbox(f"{local}@example.com"), recipient_name=name, sender_name=name, subject=name
    )
    message = read(mail)
    assert sorted(message.keys()) == sorted(HEADERS)
    for header, address in (("From", str(MAIL.sender)), ("To", str(mail.recipient))):
        assert only(message, header).addr_spec == address


@pytest.mark.parametrize("name", ["Zoë", "a, b <eve@evil.example>, " * 6 + "c", "0" * 72 + "\\\\", "東京 " * 30 + "都"])
def test_a_name_is_shown_as_it_is_however_long(name: str) -> None:
    head, _, _ = written(replace(MAIL, recipient_name=name)).decode().partition("\r\n\r\n")
    assert all(len(line) <= 78 for line in head.split("\r\n"))
    [to] = re.findall(r"\r\nTo: (.*?)\s+<zoe@example.com>\r\n", head, re.DOTALL)
    assert str(make_header(decode_header(to))) == name


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://relay.example", ("relay.example", 25, False, False, None, None)),
        ("smtp://127.0.0.1:2525", ("127.0.0.1", 2525, False, False, None, None)),
        ("smtp://me:p%40ss%2F@relay.example", ("relay.example", 587, False, True, "me", "p@ss/")),
        ("smtp://me:secret@localhost:25", ("localhost", 25, False, False, "me", "secret")),
        ("smtp://relay.example:587?starttls=required", ("relay.example", 587, False, True, None, None)),
        ("smtps://me:secret@relay.example", ("relay.example", 465, True, False, "me", "secret")),
    ],
)
def test_a_servers_url_says_how_it_is_spoken_to(url: str, expected: tuple[object, ...]) -> None:
    server = parse_smtp_url(url)
    assert (server.host, server.port, server.is_tls, server.requires_tls, server.user, server.password) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay.example",
        "http://relay.example",
        "smtp://",
        "smtp://relay.example:port",
        "smtp://me@relay.example",
        "smtp://me:sec/ret@relay.example",
        "smtp://me:sec#ret@relay.example",
        "smtp://relay.example?starttls=never",
        "smtp://relay.example?verify=no",
    ],
)
def test_a_wrong_url_is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(SmtpUrlError) as refused:
        parse_smtp_url(url)
    assert "ret" not in str(refused.value).replace("retry", "")
