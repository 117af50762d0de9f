"""Every error of the gateway as an RFC 9457 problem. `docs/problems.md` explains each, under the same name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import msgspec
from aiohttp import web

from domain import refusals
from domain.issuing import NOT_INVOICED as NOT_INVOICED_REASON
from sinks.postgres.lanes import PostgresUnavailableError

CONTENT_TYPE = "application/problem+json"
#: A type is the path under which the gateway itself explains it.
TYPE_PREFIX = "/problems/"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem: the last part of its type, its status and its title, which never change."""

    name: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """As the response shows it."""
        return TYPE_PREFIX + self.name


MALFORMED = ProblemKind("malformed", 400, "The request can't be read")
ORDER_ID_MISSING = ProblemKind("order-id-missing", 400, "The order has no id")
ORDER_ID_AMBIGUOUS = ProblemKind("order-id-ambiguous", 400, "The order has two ids")
CREDIT_NOTE_ID_MISSING = ProblemKind("credit-note-id-missing", 400, "The credit note has no id")
CREDIT_NOTE_ID_AMBIGUOUS = ProblemKind("credit-note-id-ambiguous", 400, "The credit note has two ids")
UNAUTHORIZED = ProblemKind("unauthorized", 401, "A valid API key is needed")
UNSIGNED = ProblemKind("unsigned", 401, "The notice's signature is missing or wrong")
NOT_FOUND = ProblemKind("not-found", 404, "The resource does not exist")
NOT_STORED = ProblemKind("document-not-stored", 404, "The document is not stored yet")
METHOD_NOT_ALLOWED = ProblemKind("method-not-allowed", 405, "The resource does not support this method")
TIMEOUT = ProblemKind("request-timeout", 408, "The request came too slowly")
CONFLICT = ProblemKind("conflict", 409, "The order id was already used with different content")
LINK_EXPIRED = ProblemKind("link-expired", 410, "The link has expired")
TOO_LARGE = ProblemKind("too-large", 413, "The request is too large")
UNSUPPORTED_CODING = ProblemKind("unsupported-coding", 415, "The body's Content-Encoding is not supported")
EXPECTATION_FAILED = ProblemKind("expectation-failed", 417, "The Expect header is not supported")
REFUND_ID_MISSING = ProblemKind("refund-id-missing", 400, "The refund has no id")
REFUND_ID_AMBIGUOUS = ProblemKind("refund-id-ambiguous", 400, "The refund has two ids")
PAYMENT_DECLINED = ProblemKind("payment-declined", 402, "The payment was declined")
UNKNOWN_ORDER = ProblemKind(refusals.UNKNOWN_ORDER, 404, "The order does not exist")
OUT_OF_STOCK = ProblemKind("out-of-stock", 409, "There is not enough stock")
ORDER_CANCELLED = ProblemKind("order-cancelled", 409, "The order was cancelled")
NOT_PERMITTED = ProblemKind(refusals.NOT_PERMITTED, 409, "The order's state doesn't permit this")
REFUND_TOO_LARGE = ProblemKind(refusals.REFUND_TOO_LARGE, 409, "The refund is larger than what is left")
REFUND_CONFLICT = ProblemKind(refusals.REFUND_CONFLICT, 409, "The refund id was already used with different lines")
REFUND_IN_PROGRESS = ProblemKind(refusals.REFUND_IN_PROGRESS, 409, "Another refund of the order is under way")
NOT_INVOICED = ProblemKind(NOT_INVOICED_REASON, 409, "The order has no invoice yet")
CREDIT_TOO_LARGE = ProblemKind(refusals.CREDIT_TOO_LARGE, 409, "The credit is larger than what is left")
CREDIT_CONFLICT = ProblemKind("credit-conflict", 409, "The credit note's id was already used with different content")
ALREADY_INVOICED = ProblemKind(refusals.ALREADY_INVOICED, 409, "The order id already has an invoice")
ALREADY_ORDERED = ProblemKind(refusals.ALREADY_ORDERED, 409, "The order id belongs to a checkout")
STOCK_RESERVED = ProblemKind("stock-reserved", 409, "Open orders claim more than would be left")
ADJUSTMENT_CONFLICT = ProblemKind("adjustment-conflict", 409, "The key was already used for another adjustment")
CART_CHECKED_OUT = ProblemKind("cart-checked-out", 409, "The cart is checked out as an order that is not decided")
CART_CHANGED = ProblemKind("cart-changed", 409, "Prices or products of the cart have changed")
SKU_TAKEN = ProblemKind("sku-taken", 409, "Another product sells this SKU")
PRECONDITION_FAILED = ProblemKind("precondition-failed", 412, "The resource has changed")
INVALID_FIELD = ProblemKind(refusals.INVALID_FIELD, 422, "A field breaks a rule")
NEGATIVE_TOTAL = ProblemKind(refusals.NEGATIVE_TOTAL, 422, "The total is negative")
TOTALS_DISAGREE = ProblemKind(refusals.TOTALS_DISAGREE, 422, "The totals differ from those of the lines")
TAX_RULE = ProblemKind(refusals.TAX_RULE, 422, "A rule of tax forbids this")
UNKNOWN_SELLER = ProblemKind(refusals.UNKNOWN_SELLER, 422, "The seller is not known")
TOO_MANY_REQUESTS = ProblemKind("too-many-requests", 429, "Too many requests of this customer for one SKU")
SELLER_OVERLOADED = ProblemKind(
    "seller-overloaded", 429, "This seller has too many requests under way: send it again later"
)
INTERNAL = ProblemKind("internal", 500, "Internal error")
NOT_ACKNOWLEDGED = ProblemKind("not-acknowledged", 503, "It is unknown whether the order was accepted: send it again")
OVERLOADED = ProblemKind("overloaded", 503, "Too many requests at once: send it again later")
SERVERS_DISAGREE = ProblemKind("servers-disagree", 503, "Postgres and Kafka don't belong together")
UNAVAILABLE = ProblemKind("unavailable", 503, "A service that the answer needs is unavailable")

#: Rules that an order may break, checked at once or by an agent.
RULES = (INVALID_FIELD, NEGATIVE_TOTAL, TOTALS_DISAGREE, TAX_RULE, UNKNOWN_SELLER)

KINDS: dict[str, ProblemKind] = {kind.name: kind for kind in list(globals().values()) if isinstance(kind, ProblemKind)}


class Problem(TypedDict):
    """An RFC 9457 error; some kinds have more members. `type` never changes, `field` is the offending field's path."""

    type: str
    title: str
    status: int
    detail: str
    field: NotRequired[str]


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        *,
        field: str | None = None,
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.headers = headers or {}
        self.more = more or {}


def refused(refusal: refusals.Refusal) -> ProblemError:
    """A refusal of the domain as a problem."""
    return ProblemError(KINDS[refusal.reason], refusal.detail, field=refusal.field)


def rejected(reason: str, detail: str) -> ProblemError:
    """A rejection by an agent as a problem."""
    kind = KINDS.get(reason, INVALID_FIELD)
    return ProblemError(kind, detail, retry_after_seconds=1 if kind in (REFUND_IN_PROGRESS, NOT_INVOICED) else None)


def conflict(order_id: str, path: str) -> ProblemError:
    """The order id was already used with different content; `path` is the first order."""
    return ProblemError(
        CONFLICT,
        "`order_id` was already used with different content; the first order stands",
        field="order_id",
        more={"order_id": order_id, "links": {"self": path}},
    )


def postgres_unavailable() -> ProblemError:
    """The problem of a request that only Postgres could answer."""
    return ProblemError(UNAVAILABLE, "Postgres is unavailable", retry_after_seconds=2)


@contextmanager
def needing_postgres() -> Iterator[None]:
    """What only Postgres can answer: `ProblemError` while it is unavailable."""
    try:
        yield
    except PostgresUnavailableError:
        raise postgres_unavailable() from None


def response(problem: ProblemError) -> web.Response:
    """The problem as an answer."""
    kind = problem.kind
    body: Problem = {"type": kind.type, "title": kind.title, "status": kind.status, "detail": problem.detail}
    if problem.field is not None:
        body["field"] = problem.field
    headers = dict(problem.headers)
    if problem.retry_after_seconds is not None:
        headers["Retry-After"] = str(problem.retry_after_seconds)
    if kind is UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        status=kind.status,
        body=msgspec.json.encode({**body, **problem.more}),
        content_type=CONTENT_TYPE,
        headers=headers,
    )
