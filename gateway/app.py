"""Wires the gateway: settings in, a running server out. Nothing connects at import."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic

import uvloop
from aiohttp import web

from gateway import measures, openapi, problems, registry
from gateway.accepting import Accepting
from gateway.auth import KeyRing
from gateway.checkouts import Checkouts
from gateway.commands import Commands
from gateway.health import Health
from gateway.intake import BODY_BYTES_MAX, Intake
from gateway.listening import ListeningSite
from gateway.notices import Notices
from gateway.order_reading import OrderReading
from gateway.problems import ProblemError
from gateway.reading import Reading
from gateway.server import SERVER, BoundedRunner
from gateway.stock import StockKeeping
from gateway.waiting import Tail, Waiters
from runtime.kafka import Publisher
from runtime.settings import ENV_PREFIX, Settings, SettingsError
from schemas.catalog import (
    CHECKOUT_REQUESTS,
    INVOICE_EVENTS,
    INVOICE_REQUESTS,
    ORDER_COMMANDS,
    ORDER_EVENTS,
    PAYMENT_NOTICES,
    Topic,
)
from sinks.object_store.store import ObjectStore, StoreUnavailableError, open_store
from sinks.postgres.orders_reader import OrdersReader
from sinks.postgres.reader import Reader
from sinks.postgres.stock import Stock
from sinks.redis.admission import Admission
from sinks.redis.hints import Hints

_log = logging.getLogger(__name__)

#: A broker that doesn't acknowledge within this is answered for with 503.
ACKNOWLEDGE_SECONDS_MAX = 4.5
#: How long requests under way may take after SIGTERM. Those who wait are let go at once.
_STOP_SECONDS_MAX = 8.0
#: Encoded requests that wait for the brokers.
_QUEUED_BYTES_MAX = 64 * 1024 * 1024

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises `OSError` if the port is taken."""
    # Hundreds of requests under way look like garbage in the making: the collector's usual thresholds walk all of them,
    # and every module, many times a second. It costs a sixth of the whole; what we make has no cycles to speak of.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = Gateway(settings)
    try:
        await gateway.start()
        _log.info("serving at %s", gateway.url)
        await gateway.until(stop)
        _log.info("stopping")
    finally:
        await gateway.stop()


@dataclass(frozen=True, slots=True)
class Topics:
    """What a gateway publishes to, and what it tails."""

    invoice_requests: Topic = INVOICE_REQUESTS
    invoice_events: Topic = INVOICE_EVENTS
    checkout_requests: Topic = CHECKOUT_REQUESTS
    order_commands: Topic = ORDER_COMMANDS
    order_events: Topic = ORDER_EVENTS
    payment_notices: Topic = PAYMENT_NOTICES


class Gateway:
    """A gateway, wired; it connects when it starts."""

    def __init__(self, settings: Settings, topics: Topics | None = None) -> None:
        """Made on the running loop. Raises `SettingsError`."""
        topics = topics or Topics()
        self._settings = settings
        self._publisher = Publisher(
            settings.kafka_bootstrap,
            client_id="gapless-gateway",
            timeout_seconds=ACKNOWLEDGE_SECONDS_MAX,
            queued_bytes_max=_QUEUED_BYTES_MAX,
        )
        postgres_url, redis_url = settings.postgres_url.get_secret_value(), settings.redis_url.get_secret_value()
        with _naming("POSTGRES_URL"):
            self._reader = Reader(postgres_url, topic=INVOICE_EVENTS.name, kind="invoice")
            self._orders = OrdersReader(postgres_url)
            self._stock = Stock(postgres_url)
        with _naming("REDIS_URL"):
            self._hints = Hints(redis_url)
            self._admission = Admission(redis_url, hold_seconds=settings.hold_seconds)
        with _naming("OBJECTS_URL"):
            documents = open_store(settings)
        self._invoice_waiters, self._order_waiters = Waiters(), Waiters()
        self._tails = [
            Tail(settings.kafka_bootstrap, topic, waiters.by_key, waiters.deliver)
            for topic, waiters in (
                (topics.invoice_events, self._invoice_waiters),
                (topics.order_events, self._order_waiters),
            )
        ]
        self._keys = KeyRing(self._reader)
        intake = Intake(self._publisher)
        published = (topics.invoice_requests, topics.checkout_requests, topics.order_commands)
        self._health = Health(
            self._publisher,
            self._reader,
            self._hints,
            self._keys,
            intake,
            self._tails,
            (self._invoice_waiters, self._order_waiters),
            topics=[topic.name for topic in published],
        )
        #: Its routes, and what happens around each request.
        self.application = make_app(self._routes(topics, intake, documents))
        self._runner = BoundedRunner(
            self.application,
            access_log=logging.getLogger("gateway.access") if settings.log_level == "DEBUG" else None,
            # The line of a request and its status: headers hold keys.
            access_log_format="%r %s %Tf",
            shutdown_timeout=_STOP_SECONDS_MAX,
        )
        self._keeping_fresh: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        host, port, *_ = self._runner.addresses[0]
        return f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen. Raises `OSError` if the port is taken."""
        for tail in self._tails:
            tail.start()
        self._keeping_fresh = asyncio.create_task(self._keys.keep_fresh())
        await self._runner.setup()
        settings = self._settings
        await ListeningSite(self._runner, settings.gateway_host, settings.gateway_port).start()

    async def until(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set. Raises what ended the reading of keys: revoked ones would be valid for ever."""
        waiting = asyncio.create_task(stop.wait())
        if self._keeping_fresh is not None:
            await asyncio.wait({waiting, self._keeping_fresh}, return_when=asyncio.FIRST_COMPLETED)
            if self._keeping_fresh.done():
                waiting.cancel()
                await self._keeping_fresh
        await waiting

    async def stop(self) -> None:
        """Take no more requests, answer those under way, then let go of everything."""
        self._health.stopping = True
        self._invoice_waiters.cut_all()
        self._order_waiters.cut_all()
        await self._runner.cleanup()
        if self._keeping_fresh is not None:
            self._keeping_fresh.cancel()
            await asyncio.wait({self._keeping_fresh})
        await self._publisher.close()
        for tail in self._tails:
            await tail.stop()
        await self._hints.close()
        await self._admission.close()
        await self._reader.close()
        await self._orders.close()
        await self._stock.close()

    def _routes(self, topics: Topics, intake: Intake, documents: ObjectStore) -> list[web.RouteDef]:
        keys, hints, orders, admission = self._keys, self._hints, self._orders, self._admission
        invoice_waiters, order_waiters = self._invoice_waiters, self._order_waiters
        return [
            *Accepting(keys, intake, hints, self._reader, invoice_waiters, topic=topics.invoice_requests).routes(),
            *Reading(keys, self._reader, hints, documents).routes(),
            *Checkouts(keys, intake, hints, admission, orders, order_waiters, topic=topics.checkout_requests).routes(),
            *OrderReading(keys, orders, hints, admission).routes(),
            *Commands(keys, intake, hints, orders, order_waiters, topic=topics.order_commands).routes(),
            *StockKeeping(keys, intake, orders, self._stock).routes(),
            *Notices(intake, self._settings, topic=topics.payment_notices).routes(),
            *self._health.routes(),
        ]


@contextlib.contextmanager
def _naming(variable: str) -> Iterator[None]:
    """Turn what is wrong with a setting into one line that names it, and not its value."""
    try:
        yield
    except (ValueError, StoreUnavailableError) as error:
        raise SettingsError(f"{ENV_PREFIX}{variable}: {error}") from None


def make_app(routes: Iterable[web.RouteDef]) -> web.Application:
    """The routes, those that need nothing, and what happens around each request.

    Raises `ValueError` for a route that isn't described.
    """
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_around])
    interface = openapi.Interface()
    app.add_routes([*routes, *interface.routes(), *registry.routes()])
    interface.describe(app)
    return app


@web.middleware
async def _around(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn every "no" into its answer, and measure."""
    began = monotonic()
    try:
        answer = await handler(request)
    except ProblemError as problem:
        answer = problems.response(problem)
    except registry.RegistryError as error:
        answer = registry.error_response(error)
    except web.HTTPException as error:
        answer = problems.response(_routing_problem(error))
    # The boundary: whatever else it was, the caller gets no inside view, and the log gets all of it.
    except Exception:  # noqa: BLE001
        _log.exception("a request to %s failed", _route(request))
        answer = problems.response(ProblemError(problems.INTERNAL, "the request failed; the cause is in our log"))
    answer.headers["Server"] = SERVER
    measures.REQUEST_SECONDS.labels(_route(request), str(answer.status)).observe(monotonic() - began)
    return answer


def _routing_problem(error: web.HTTPException) -> ProblemError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ProblemError(problems.METHOD_NOT_ALLOWED, f"permitted: {allowed}", headers={"Allow": allowed})
    if error.status == problems.TOO_LARGE.status:
        return ProblemError(problems.TOO_LARGE, f"a request has at most {BODY_BYTES_MAX} bytes")
    if error.status == problems.NOT_FOUND.status:
        return ProblemError(problems.NOT_FOUND, "there is no resource at this path")
    return ProblemError(problems.MALFORMED, error.reason)


def _route(request: web.Request) -> str:
    """The route's pattern: paths themselves would make a time series per order."""
    resource = request.match_info.route.resource
    return f"{request.method} {resource.canonical}" if resource is not None else "unknown"
