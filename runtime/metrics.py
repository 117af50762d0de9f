"""Metrics: one registry per process, served as Prometheus reads it."""

import json
import logging
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import generate_latest as _generate

from runtime.health import Health
from runtime.settings import ENV_PREFIX, SettingsError

_log = logging.getLogger(__name__)

#: What this process counts. A registry of our own: libraries put theirs into the global one, and tests meet there.
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

CONTENT_TYPE = CONTENT_TYPE_LATEST

_next_scrape = threading.Event()


def render() -> bytes:
    """The registry as Prometheus' text."""
    return _generate(REGISTRY)


def serve(host: str, port: int, health: Health | None = None) -> None:
    """Serve /metrics, and with `health` /healthz and /readyz, from threads of their own; port 0 serves nothing.

    Raises `SettingsError` if nobody can listen there.
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
    """What is set once the metrics as they are now were read at the metrics port.

    For a process that ends with news: Prometheus sees nothing of what it has not scraped.
    """
    global _next_scrape
    _next_scrape = threading.Event()
    return _next_scrape


class _Server(ThreadingHTTPServer):
    """A thread for each connection: a client that sends nothing delays nobody else."""

    #: Connections that wait to be accepted; load balancers may ask all at once.
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error: load balancers reset connections once they have their answer."""
        _log.log(
            logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR,
            "a request to the metrics port failed",
            exc_info=True,
        )


class _Handler(BaseHTTPRequestHandler):
    """Answers one request, and closes.

    Each call of the system lets go of the interpreter's lock, and a busy process takes up to 5 ms to give it back: so
    the answer is one write.
    """

    #: Gathers the answer until it is flushed.
    wbufsize = -1
    #: A client that sends nothing must not hold a thread for ever.
    timeout = 10

    def __init__(self, health: Health | None, *arguments: Any) -> None:
        self._health = health
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """One of the three paths."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            # Noted before they are rendered: an answer that was begun earlier may lack the latest.
            scraped = _next_scrape
            self._answer(200, CONTENT_TYPE, render())
            # The process may end at once, and its threads with it.
            self.wfile.flush()
            scraped.set()
        elif path == "/healthz" and self._health is not None:
            self._tell(*self._health.alive())
        elif path == "/readyz" and self._health is not None:
            self._tell(*self._health.ready())
        else:
            self._answer(404, "text/plain; charset=utf-8", b"there are /metrics, /healthz and /readyz\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: who scrapes knows what it was answered."""

    def _tell(self, is_well: bool, body: dict[str, str]) -> None:
        self._answer(200 if is_well else 503, "application/json", json.dumps(body).encode())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
