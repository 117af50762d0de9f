"""The types of a seller's e-mail in requests and responses; the OpenAPI document is made from them."""

from typing import Annotated, TypedDict

from msgspec import UNSET, Struct, UnsetType

from domain.email import ADDRESS_CHARS_MAX, BUYER_TYPES, DOCUMENTS, REASON_CHARS_MAX
from gateway.http.openapi import limits
from sinks.postgres.webhooks import ACTIVE, PAUSED

_Address = Annotated[str, limits(minLength=3, maxLength=ADDRESS_CHARS_MAX)]


class EmailRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who e-mail comes from, and what is sent: without `events`, everything; `documents` are attached or linked."""

    sender: _Address
    reply_to: Annotated[str, limits(maxLength=ADDRESS_CHARS_MAX)] | UnsetType = UNSET
    events: Annotated[list[str], limits(uniqueItems=True, items={"enum": list(BUYER_TYPES)})] | UnsetType = UNSET
    documents: Annotated[str, limits(enum=list(DOCUMENTS))] | UnsetType = UNSET
    state: Annotated[str, limits(enum=[ACTIVE, PAUSED])] | UnsetType = UNSET


class EmailTestRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a test mail goes."""

    to: _Address


class BounceRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A mail that came back: its `Message-ID`, why, and whether for good."""

    message_id: Annotated[str, limits(minLength=1, maxLength=1_000)]
    reason: Annotated[str, limits(minLength=1, maxLength=REASON_CHARS_MAX)]
    permanent: bool


class EmailSettingsView(TypedDict):
    """The settings, `failing_since` while no mail can be handed over, and every type of mail with its meaning."""

    sender: str
    reply_to: str
    events: list[str]
    documents: str
    state: str
    failing_since: str | None
    created_at: str
    event_types: dict[str, str]
