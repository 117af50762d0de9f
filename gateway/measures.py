"""What the gateway counts."""

from prometheus_client import Counter, Gauge, Histogram

from runtime.metrics import REGISTRY

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUEST_SECONDS = Histogram(
    "gapless_gateway_request_seconds",
    "Time to answer a request.",
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
    "Checkouts by what the gateway did: accepted, out-of-stock (told so before anything was kept), limited.",
    ("outcome",),
    registry=REGISTRY,
)
COMMANDS = Counter(
    "gapless_gateway_commands", "Commands on orders that were accepted, by action.", ("action",), registry=REGISTRY
)
NOT_ACKNOWLEDGED = Counter(
    "gapless_gateway_not_acknowledged", "Requests that the brokers did not acknowledge.", registry=REGISTRY
)
IN_FLIGHT = Gauge("gapless_gateway_in_flight", "Requests under way.", registry=REGISTRY)
WAITERS = Gauge("gapless_gateway_waiters", "Clients that wait for an outcome.", registry=REGISTRY)
HINTS_AVAILABLE = Gauge(
    "gapless_gateway_hints_available", "1 while Redis gives hints, 0 while it is left alone.", registry=REGISTRY
)
