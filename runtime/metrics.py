"""Metrics: one registry per process, served in Prometheus' text format."""

import json
import logging
import sys
import threading
from collections.abc import Collection
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import generate_latest as _generate

from runtime.health import Health
from runtime.settings import ENV_PREFIX, SettingsError

_log = logging.getLogger(__name__)

#: The metrics of this process. Not the global registry: libraries register there, and tests would collide.
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

CONTENT_TYPE = CONTENT_TYPE_LATEST

_next_scrape = threading.Event()


def render(names: Collection[str] = ()) -> bytes:
    """The registry in Prometheus' text format; with `names` only these metrics."""
    return _generate(REGISTRY.restricted_registry(names) if names else REGISTRY)


def serve(host: str, port: int, health: Health | None = None) -> None:
    """Serve /metrics and, with `health`, /healthz and /readyz from threads of their own; port 0 serves nothing.

    Raises `SettingsError` if the address can't be bound.
    """
    if not port:
        return
    try:
        server = _Server((host, port), partial(_Handler, health))
    except OSError as error:
        raise SettingsError(
            f"{ENV_PREFIX}METRICS_PORT: cannot listen at {host}:{port}: {error.strerror or error}; name a free port, 0"
            f" for none, or an address of this machine in {ENV_PREFIX}METRICS_HOST"
        ) from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


def next_scrape() -> threading.Event:
    """An event that is set after the next scrape that includes the current values.

    For a process that is about to end: Prometheus would never see values that it has not scraped.
    """
    global _next_scrape
    _next_scrape = threading.Event()
    return _next_scrape


class _Server(ThreadingHTTPServer):
    """One thread per connection, so that a client that sends nothing does not delay others."""

    #: Backlog of connections to accept; load balancers may all connect at once.
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log client disconnects at DEBUG only: load balancers reset connections after the response."""
        _log.log(
            logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR,
            "a request to the metrics port failed",
            exc_info=True,
        )


class _Handler(BaseHTTPRequestHandler):
    """Answers one request and closes the connection.

    The response is buffered and sent in one write: every system call releases the interpreter's lock, and a busy
    process may take 5 ms to return it.
    """

    #: Buffers the response until it is flushed.
    wbufsize = -1
    #: Seconds; a client that sends nothing must not occupy a thread for ever.
    timeout = 10

    def __init__(self, health: Health | None, *arguments: Any) -> None:
        self._health = health
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer /metrics, /healthz or /readyz."""
        path, _, query = self.path.partition("?")
        names = parse_qs(query).get("name[]", [])
        if path == "/metrics" and names:
            # A request for some metrics is not Prometheus' scrape, for which the process may still be waiting.
            self._answer(200, CONTENT_TYPE, render(names))
        elif path == "/metrics":
            # Read before rendering: values set after rendering must wait for the following scrape.
            scraped = _next_scrape
            self._answer(200, CONTENT_TYPE, render())
            # The process may end at once after `set`, so the response must be sent before.
            self.wfile.flush()
            scraped.set()
        elif path == "/healthz" and self._health is not None:
            self._tell(*self._health.alive())
        elif path == "/readyz" and self._health is not None:
            self._tell(*self._health.ready())
        else:
            self._answer(404, "text/plain; charset=utf-8", b"paths: /metrics, /healthz and /readyz\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: scrapes are too frequent."""

    def _tell(self, is_well: bool, body: dict[str, str]) -> None:
        self._answer(200 if is_well else 503, "application/json", json.dumps(body).encode())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
