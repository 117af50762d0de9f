"""Every "no" of the gateway, as RFC 9457 has it. `docs/problems.md` explains each, under the same name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import msgspec
from aiohttp import web

from domain import refusals

CONTENT_TYPE = "application/problem+json"
#: A type is the path under which the gateway itself explains it.
TYPE_PREFIX = "/problems/"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: the last part of its type, its status and its title, which never change."""

    name: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """As it stands in the answer."""
        return TYPE_PREFIX + self.name


MALFORMED = Kind("malformed", 400, "The request can't be read")
ORDER_ID_MISSING = Kind("order-id-missing", 400, "The order has no id")
ORDER_ID_AMBIGUOUS = Kind("order-id-ambiguous", 400, "The order has two ids")
UNAUTHORIZED = Kind("unauthorized", 401, "A valid API key is needed")
UNSIGNED = Kind("unsigned", 401, "The notice is not signed as it must be")
NOT_FOUND = Kind("not-found", 404, "There is no such thing")
NOT_STORED = Kind("document-not-stored", 404, "The document is not stored yet")
METHOD_NOT_ALLOWED = Kind("method-not-allowed", 405, "This can't be done here")
TIMEOUT = Kind("request-timeout", 408, "The request came too slowly")
CONFLICT = Kind("conflict", 409, "The order has come with other content before")
TOO_LARGE = Kind("too-large", 413, "The request is too large")
REFUND_ID_MISSING = Kind("refund-id-missing", 400, "The refund has no id")
REFUND_ID_AMBIGUOUS = Kind("refund-id-ambiguous", 400, "The refund has two ids")
PAYMENT_DECLINED = Kind("payment-declined", 402, "The payment was declined")
UNKNOWN_ORDER = Kind(refusals.UNKNOWN_ORDER, 404, "There is no such order")
OUT_OF_STOCK = Kind("out-of-stock", 409, "There is not enough stock")
ORDER_CANCELLED = Kind("order-cancelled", 409, "The order was cancelled")
NOT_PERMITTED = Kind(refusals.NOT_PERMITTED, 409, "The order's state doesn't permit this")
REFUND_TOO_LARGE = Kind(refusals.REFUND_TOO_LARGE, 409, "More is to be refunded than is left")
REFUND_CONFLICT = Kind(refusals.REFUND_CONFLICT, 409, "The refund has come with other lines before")
ALREADY_INVOICED = Kind(refusals.ALREADY_INVOICED, 409, "The order has an invoice of its own already")
STOCK_RESERVED = Kind("stock-reserved", 409, "Orders hold more than would be left")
ADJUSTMENT_CONFLICT = Kind("adjustment-conflict", 409, "The key stands for another adjustment")
INVALID_FIELD = Kind(refusals.INVALID_FIELD, 422, "A field breaks a rule")
NEGATIVE_TOTAL = Kind(refusals.NEGATIVE_TOTAL, 422, "The total is negative")
TOTALS_DISAGREE = Kind(refusals.TOTALS_DISAGREE, 422, "The totals are not what the lines amount to")
UNKNOWN_SELLER = Kind(refusals.UNKNOWN_SELLER, 422, "The seller is not known")
TOO_MANY_REQUESTS = Kind("too-many-requests", 429, "Too many checkouts by this customer")
INTERNAL = Kind("internal", 500, "Something is wrong on our side")
NOT_ACKNOWLEDGED = Kind("not-acknowledged", 503, "It is unknown whether the order is kept: send it again")
OVERLOADED = Kind("overloaded", 503, "Too much at once: send it again later")
UNAVAILABLE = Kind("unavailable", 503, "A part that is needed for the answer is away")

#: What an order may break, told at once or by an agent.
RULES = (INVALID_FIELD, NEGATIVE_TOTAL, TOTALS_DISAGREE, UNKNOWN_SELLER)

KINDS: dict[str, Kind] = {kind.name: kind for kind in list(globals().values()) if isinstance(kind, Kind)}


class Problem(TypedDict):
    """An error, as RFC 9457 has it; some kinds say more. `type` never changes, `field` is the path of what is wrong."""

    type: str
    title: str
    status: int
    detail: str
    field: NotRequired[str]


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(
        self,
        kind: Kind,
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
    return ProblemError(KINDS.get(reason, INVALID_FIELD), detail)


def conflict(order_id: str, path: str) -> ProblemError:
    """The order id has come with other content; `path` is what stands."""
    return ProblemError(
        CONFLICT,
        "this order_id has come with other content before; what came first stands",
        field="order_id",
        more={"order_id": order_id, "links": {"self": path}},
    )


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
