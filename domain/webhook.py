"""What a seller may ask of a webhook endpoint: where it is, and which events it wants."""

from collections.abc import Collection, Mapping, Sequence
from urllib.parse import urlsplit

from domain.refusals import INVALID_FIELD, Refusal

URL_CHARS_MAX = 500
DESCRIPTION_CHARS_MAX = 200
ENDPOINTS_MAX = 20

#: Every type of event, and when it is sent. Types never change their meaning; new ones come to those who want all.
EVENT_TYPES: Mapping[str, str] = {
    "order.placed": "the order has its stock; its payment is asked for",
    "order.refused": "there was not enough stock; final",
    "order.rejected": "the checkout breaks a rule; there is no order",
    "order.conflicted": "the order id came again with other content; the first stands",
    "order.confirmed": "it is paid, or the payment is authorised",
    "order.cancelled": "it ended without a sale, or was cancelled",
    "order.shipped": "it has left the warehouse",
    "order.delivered": "it has arrived",
    "order.refunded": "all of it was refunded",
    "order.command_applied": "a command (ship, deliver, cancel, refund) was applied",
    "order.command_refused": "a command was refused; nothing has changed",
    "invoice.issued": "the invoice has its number",
    "invoice.document_stored": "the invoice's PDF can be fetched",
    "invoice.rejected": "the invoice request breaks a rule; it has no number",
    "invoice.conflicted": "the invoice's order id came again with other content; the first stands",
    "credit_note.issued": "a refund's credit note has its number",
    "credit_note.document_stored": "the credit note's PDF can be fetched",
    "credit_note.rejected": "a credit note's request breaks a rule; it has no number",
    "credit_note.conflicted": "a refund id came again with other content; the first stands",
    "webhook.test": "somebody asked for a test",
}
#: Sent whatever the filter says.
TEST = "webhook.test"


def wants(events: Collection[str], event_type: str) -> bool:
    """Whether a filter lets this type through; an empty one lets all."""
    return not events or event_type in events


def check_url(url: str, *, may_be_plain: bool) -> Refusal | None:
    """Why this can't be an endpoint's URL. `may_be_plain` permits http, for receivers in one's own network.

    Where it leads to is checked by the sender at each connection: what a name stands for may change at any time.
    """
    if not 1 <= len(url) <= URL_CHARS_MAX:
        return Refusal(INVALID_FIELD, "url", f"must have 1 to {URL_CHARS_MAX} characters")
    if not url.isascii() or any(char <= " " or char == "\x7f" for char in url):
        return Refusal(INVALID_FIELD, "url", "must be printable ASCII without spaces: encode other characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return Refusal(INVALID_FIELD, "url", "is no URL, such as https://shop.example/hooks")
    schemes = ("https", "http") if may_be_plain else ("https",)
    if parts.scheme not in schemes or not host:
        return Refusal(
            INVALID_FIELD, "url", f"must begin with {' or '.join(f'{each}://' for each in schemes)} and a host"
        )
    if port == 0:
        return Refusal(INVALID_FIELD, "url", "has the port 0")
    if "@" in parts.netloc:
        return Refusal(INVALID_FIELD, "url", "must not hold a user or password: deliveries are signed instead")
    if "#" in url:
        return Refusal(INVALID_FIELD, "url", "must not hold a fragment: it would never be sent")
    return None


def check_events(events: Sequence[str]) -> Refusal | None:
    """Why this can't be an endpoint's filter."""
    for each in events:
        if each not in EVENT_TYPES:
            return Refusal(INVALID_FIELD, "events", f"{each[:40]!r} is no type of event; GET /v1/webhooks lists them")
    if len(set(events)) != len(events):
        return Refusal(INVALID_FIELD, "events", "names a type twice")
    return None


def check_description(description: str) -> Refusal | None:
    """Why this can't be an endpoint's description."""
    if len(description) > DESCRIPTION_CHARS_MAX or not (description.isprintable() or not description):
        detail = f"must have at most {DESCRIPTION_CHARS_MAX} printable characters"
        return Refusal(INVALID_FIELD, "description", detail)
    return None
