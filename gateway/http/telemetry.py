"""What the gateway records of its requests: the access log, and what it counts.

The access log has one line per write request, and one for any other request that fails with 5xx.
A line names the order and the seller, and holds no body, no key and no personal data. Reads are logged at DEBUG.
Orders that are refused by their head alone have no line: a refusal must be cheap, and
`gapless_gateway_request_seconds` counts it.
"""

import logging
from functools import cache

from aiohttp import web
from prometheus_client import Counter, Gauge, Histogram

from runtime import traces
from runtime.logs import LineWriter
from runtime.metrics import REGISTRY

_log = logging.getLogger("gateway.access")
_write = LineWriter(_log.name, "request")

#: Set by handlers: the request's seller and order, and the bytes of its body received so far.
SELLER_ID = web.RequestKey("seller_id", str)
ORDER_ID = web.RequestKey("order_id", str)
REQUEST_BYTES = web.RequestKey("request_bytes", int)
#: What follows from the request carries it: the caller's, or that of the span that answers the request.
TRACEPARENT = web.RequestKey("traceparent", str)

_READS = frozenset(("GET", "HEAD", "OPTIONS"))
#: Polled every second or so; a 503 while the gateway is not ready is no failure.
_HEALTH = frozenset(("/healthz", "/readyz"))

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUEST_SECONDS = Histogram(
    "gapless_gateway_request_seconds",
    "Response time.",
    ("route", "status"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
ACKNOWLEDGE_SECONDS = Histogram(
    "gapless_gateway_acknowledge_seconds",
    "Time from publishing a request to the brokers' acknowledgement.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
ACCEPTED = Counter("gapless_gateway_accepted", "Invoice requests answered with 202 or 200.", registry=REGISTRY)
CHECKOUTS = Counter(
    "gapless_gateway_checkouts",
    "Checkouts by the gateway's answer: accepted, out-of-stock, limited.",
    ("outcome",),
    registry=REGISTRY,
)
CATALOGUE_READS = Counter(
    "gapless_gateway_catalogue_reads",
    "Products read for buyers, by where they came from: fresh, filled, old, postgres.",
    ("source",),
    registry=REGISTRY,
)
COMMANDS = Counter("gapless_gateway_commands", "Commands on orders that were accepted.", ("action",), registry=REGISTRY)
NOT_ACKNOWLEDGED = Counter(
    "gapless_gateway_not_acknowledged", "Requests that the brokers did not acknowledge.", registry=REGISTRY
)
IN_FLIGHT = Gauge("gapless_gateway_in_flight", "Requests under way.", registry=REGISTRY)
WAITERS = Gauge("gapless_gateway_waiters", "Clients waiting for an outcome.", registry=REGISTRY)
HINTS_AVAILABLE = Gauge(
    "gapless_gateway_hints_available", "1 while the gateway uses Redis, 0 while its breaker is open.", registry=REGISTRY
)


@cache
def request_seconds(route: str, status: int) -> Histogram:
    """The response times of one route with one status: found once, as the library takes a lock to find it."""
    return REQUEST_SECONDS.labels(route, str(status))


def begin_span(request: web.Request) -> traces.Span | None:
    """Note the trace of the request, and begin the span that answers it; None while tracing is off."""
    parent = traces.parse(request.headers.get(traces.TRACEPARENT))
    route = _route(request)
    span = None if route in _HEALTH else traces.begin("SERVER", f"{request.method} {route}", parent)
    if span is not None:
        span.describe({"http.request.method": request.method, "http.route": route})
    traceparent = parent if span is None else span.traceparent
    if traceparent is not None:
        request[TRACEPARENT] = traceparent
    return span


def end_span(span: traces.Span, request: web.Request, status: int) -> None:
    """End the span that answers the request."""
    span.describe({"http.response.status_code": status})
    span.add({"seller_id": request.get(SELLER_ID), "order_id": request.get(ORDER_ID)})
    span.end(f"{status}" if status >= 500 else "")


def note(request: web.Request, status: int, seconds: float) -> None:
    """Log the request, unless it is a read that succeeded or a health check."""
    level = logging.WARNING if status >= 500 else logging.INFO
    route = _route(request)
    if route in _HEALTH or (level == logging.INFO and request.method in _READS):
        level = logging.DEBUG
    if _log.isEnabledFor(level):
        fields = {
            "method": request.method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "request_bytes": request.get(REQUEST_BYTES, 0),
            **identity(request),
        }
        _write(level, fields)


def identity(request: web.Request) -> dict[str, str | None]:
    """Whose request it is, for the log: seller and order as far as they are known, and the trace if there is one."""
    fields = {"seller_id": request.get(SELLER_ID), "order_id": request.get(ORDER_ID)}
    traceparent = request.get(TRACEPARENT)
    if traceparent is not None:
        fields["trace_id"] = traces.trace_id(traceparent)
    return fields


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "unknown" if resource is None else resource.canonical
