"""Reviews as the API takes and shows them."""

from typing import Annotated, Literal, TypedDict

from msgspec import UNSET, Struct, UnsetType

from domain.checkout import CUSTOMER_CHARS_MAX
from domain.review import AUTHOR_CHARS_MAX, BODY_CHARS_MAX, REASON_CHARS_MAX, STARS_MAX, TITLE_CHARS_MAX
from gateway.http.openapi import described, limits


class ReviewBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a buyer says of a line of an order that was delivered."""

    stars: Annotated[int, limits(minimum=1, maximum=STARS_MAX)]
    title: Annotated[str, limits(maxLength=TITLE_CHARS_MAX)] = ""
    body: Annotated[str, limits(maxLength=BODY_CHARS_MAX), described("May have line breaks (LF).")] = ""
    author: Annotated[str, limits(maxLength=AUTHOR_CHARS_MAX), described("A name to be shown.")] = ""
    customer: (
        Annotated[str, limits(maxLength=CUSTOMER_CHARS_MAX), described("If given, the order must be this customer's.")]
        | UnsetType
    ) = UNSET


class ModerationBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What the shop decides about a review; `version` is the one that was read."""

    action: Literal["approve", "reject"]
    version: Annotated[int, limits(minimum=1)]
    reason: Annotated[str, limits(maxLength=REASON_CHARS_MAX), described("Not for buyers.")] = ""


class ReviewView(TypedDict):
    """A review; only a published one may be shown. A withdrawn one has 0 stars and no words."""

    order_id: str
    line: int
    sku: str
    state: str
    version: int
    stars: int
    title: str
    body: str
    author: str
    reason: str
    written_at: str
    changed_at: str


class ReviewList(TypedDict):
    """A page of reviews."""

    reviews: list[ReviewView]
    next: str | None


class Stars(TypedDict):
    """Published reviews by their stars."""

    one: int
    two: int
    three: int
    four: int
    five: int


class RatingView(TypedDict):
    """How the published reviews of an article rate it; the average has two decimals, and is null without any."""

    sku: str
    count: int
    average: str | None
    stars: Stars
