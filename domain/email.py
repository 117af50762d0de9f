"""E-mail: which types a seller may have sent, what its settings may be, and what an address must be to be mailed to."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import idna

from domain.refusals import INVALID_FIELD, Refusal
from domain.texts import check_text

#: Every type that buyers receive, and when.
BUYER_TYPES: Mapping[str, str] = {
    "order.confirmed": "the order is paid, or the payment is authorised",
    "order.shipped": "it has left the warehouse",
    "order.delivered": "it has arrived",
    "invoice.document_stored": "the invoice, with its PDF",
    "credit_note.document_stored": "a refund's credit note, with its PDF",
}
#: Sent to the seller: one of its webhook endpoints was disabled; somebody asked for a test.
WEBHOOK_DISABLED, TEST = "webhook.disabled", "email.test"

#: How a document comes: in the mail, or by a link in it.
ATTACHED, LINK = "attached", "link"
DOCUMENTS = (ATTACHED, LINK)

ADDRESS_CHARS_MAX = 254
REASON_CHARS_MAX = 500
_LOCAL_BYTES_MAX = 64
#: RFC 5322's atext and dots, and by RFC 6531 anything beyond ASCII. Quoted local parts are left out: nobody has one.
_LOCAL = re.compile(r"[^\x00-\x20\x7f-\xa0\"(),:;<>@\[\]\\\s]+")
_MESSAGE_ID = re.compile(r"<?(msg_[0-9a-f]{32})@[^<>@\s]+>?", re.ASCII)


class NotAnAddressError(ValueError):
    """The text is no address that a mail can be sent to; the message says why."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address, with its domain in ASCII as the DNS and mail servers know it."""

    local: str
    domain: str

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only servers with SMTPUTF8 (RFC 6531) can take it."""
        return not self.local.isascii()

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


def parse_mailbox(text: str) -> Mailbox:
    """The mailbox of an address, such as `zoe@bücher.example`. Raises `NotAnAddressError`."""
    if len(text) > ADDRESS_CHARS_MAX:
        raise NotAnAddressError(f"has more than {ADDRESS_CHARS_MAX} characters")
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain:
        raise NotAnAddressError("is no e-mail address, such as zoe@example.com")
    if _LOCAL.fullmatch(local) is None or not local.isprintable():
        raise NotAnAddressError("has a character before the @ that no mail server takes")
    if len(local.encode()) > _LOCAL_BYTES_MAX:
        raise NotAnAddressError(f"has more than {_LOCAL_BYTES_MAX} bytes before the @")
    if local.startswith(".") or local.endswith(".") or ".." in local:
        raise NotAnAddressError("has a dot too many before the @")
    try:
        ascii_domain = idna.encode(domain, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise NotAnAddressError("has a domain that can't exist") from None
    if ascii_domain.endswith("."):
        raise NotAnAddressError("has a domain that ends with a dot")
    return Mailbox(local, ascii_domain.lower())


def wants(events: Sequence[str], event_type: str) -> bool:
    """Whether buyers receive this type under a filter; an empty one lets all through."""
    return event_type in (events or BUYER_TYPES)


def check_settings(sender: str, reply_to: str, events: Sequence[str], documents: str) -> Refusal | None:
    """Why these can't be a seller's settings; `reply_to` may be empty."""
    for field, address in (("sender", sender), ("reply_to", reply_to)):
        if not address and field == "reply_to":
            continue
        refusal = check_address(field, address)
        if refusal is not None:
            return refusal
        if not address.rpartition("@")[0].isascii():
            # Every mail of the seller would need a server with SMTPUTF8.
            return Refusal(INVALID_FIELD, field, "must be ASCII before the @")
    for each in events:
        if each not in BUYER_TYPES:
            detail = f"{each[:40]!r} is no type that buyers are sent: {', '.join(BUYER_TYPES)}"
            return Refusal(INVALID_FIELD, "events", detail)
    if len(set(events)) != len(events):
        return Refusal(INVALID_FIELD, "events", "names a type twice")
    if documents not in DOCUMENTS:
        return Refusal(INVALID_FIELD, "documents", f"must be {' or '.join(DOCUMENTS)}")
    return None


def check_address(field: str, address: str) -> Refusal | None:
    """Why nothing can be mailed to this address."""
    try:
        parse_mailbox(address)
    except NotAnAddressError as error:
        return Refusal(INVALID_FIELD, field, str(error))
    return None


def message_id(delivery_id: str, sender: Mailbox) -> str:
    """The `Message-ID` of a delivery, the same in each of its tries: receivers can drop repeats by it."""
    return f"<{delivery_id}@{sender.domain}>"


def delivery_of(message_id: str) -> str | None:
    """The id of the delivery that a `Message-ID` names; None for one that is none of ours."""
    found = _MESSAGE_ID.fullmatch(message_id.strip())
    return None if found is None else found[1]


def check_reason(reason: str) -> Refusal | None:
    """Why this can't be a bounce's reason."""
    return check_text("reason", reason, REASON_CHARS_MAX, required=True)
