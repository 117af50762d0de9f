"""Metrics: one registry per process, served as Prometheus reads it."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import generate_latest as _generate
from prometheus_client import start_http_server as _start_http_server

#: What this process counts. A registry of our own: libraries put theirs into the global one, and tests meet there.
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

CONTENT_TYPE = CONTENT_TYPE_LATEST


def render() -> bytes:
    """The registry as Prometheus' text."""
    return _generate(REGISTRY)


def serve(host: str, port: int) -> None:
    """Serve /metrics from a thread of its own for as long as the process lives; port 0 serves nothing.

    Raises `OSError` if the port is taken.
    """
    if port:
        _start_http_server(port, host, REGISTRY)
