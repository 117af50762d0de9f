"""The types of webhook endpoints and deliveries in requests and responses; the OpenAPI document is made from them."""

from typing import Annotated, TypedDict

from msgspec import UNSET, Struct, UnsetType

from domain.delivery import FINISHED
from domain.webhook import DESCRIPTION_CHARS_MAX, EVENT_TYPES, URL_CHARS_MAX
from gateway.http.openapi import limits
from sinks.postgres.webhooks import ACTIVE, PAUSED

_Url = Annotated[str, limits(minLength=1, maxLength=URL_CHARS_MAX)]
_Events = Annotated[list[str], limits(uniqueItems=True, items={"enum": list(EVENT_TYPES)})]
_Description = Annotated[str, limits(maxLength=DESCRIPTION_CHARS_MAX)]
_State = Annotated[str, limits(enum=[ACTIVE, PAUSED])]


class NewEndpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """Where webhooks are sent; without `events`, all of them."""

    url: _Url
    events: _Events | UnsetType = UNSET
    description: _Description | UnsetType = UNSET


class EndpointChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be different; what is left out stays."""

    url: _Url | UnsetType = UNSET
    events: _Events | UnsetType = UNSET
    description: _Description | UnsetType = UNSET
    state: _State | UnsetType = UNSET


class ReplayRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Which finished deliveries are sent again: those that meet every condition; a dry run only counts them."""

    delivery_ids: Annotated[list[str], limits(maxItems=1_000)] | UnsetType = UNSET
    order_id: str | UnsetType = UNSET
    state: Annotated[str, limits(enum=[each.value for each in FINISHED])] | UnsetType = UNSET
    since: Annotated[str, limits(format="date-time")] | UnsetType = UNSET
    until: Annotated[str, limits(format="date-time")] | UnsetType = UNSET
    dry_run: bool = True


class EndpointView(TypedDict):
    """An endpoint; `public_key` verifies v1a signatures."""

    id: str
    url: str
    events: list[str]
    description: str
    state: str
    disabled_reason: str | None
    failing_since: str | None
    created_at: str


class CreatedEndpoint(EndpointView):
    """A new endpoint, with what its deliveries are verified with."""

    secret: str
    public_key: str


class EndpointList(TypedDict):
    """The seller's endpoints, and every type of event with its meaning."""

    endpoints: list[EndpointView]
    event_types: dict[str, str]


class EndpointSecrets(TypedDict):
    """What deliveries are verified with: `secret` for v1 signatures, `public_key` for v1a."""

    secret: str
    public_key: str


class TestSent(TypedDict):
    """The delivery that was written."""

    delivery_id: str


class DeliveryView(TypedDict):
    """A delivery; `status` and `error` are of its last try, `bounced_at` and `bounce` of a mail that came back."""

    id: str
    order_id: str | None
    sequence: int
    type: str
    state: str
    created_at: str
    finished_at: str | None
    next_try_at: str | None
    attempts: int
    status: int | None
    error: str | None
    bounced_at: str | None
    bounce: str | None


class DeliveryList(TypedDict):
    """A page of deliveries."""

    deliveries: list[DeliveryView]
    next: str | None


class AttemptView(TypedDict):
    """A try: without a status, `error` says why no answer came; `answer` is the beginning of the answer's body."""

    at: str
    url: str
    seconds: float
    status: int | None
    error: str | None
    answer: str


class DeliveryDetailsView(DeliveryView):
    """A delivery with what is sent, and its tries, oldest first."""

    payload: str
    tries: list[AttemptView]


class Replayed(TypedDict):
    """How many deliveries are sent again, or with a dry run would be."""

    count: int
    dry_run: bool
