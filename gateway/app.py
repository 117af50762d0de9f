"""Wires the gateway: settings in, a running server out. Nothing connects at import."""

import asyncio
import contextlib
import functools
import gc
import logging
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import cast

import uvloop
from aiohttp import web

from admission.admission import Admission
from admission.carts import Carts
from admission.hints import Hints
from admission.product_cache import ProductCache
from domain.analytics_link import analytics_keys_of
from domain.document_link import keys_of
from domain.tracking_link import tracking_keys_of
from gateway import registry
from gateway.agreement import Agreement
from gateway.analytics.analytics_endpoints import AnalyticsEndpoints, AnalyticsFigures
from gateway.analytics.analytics_page import AnalyticsPage
from gateway.carts.cart_checkout import CartCheckouts
from gateway.carts.carts import CartKeeping
from gateway.email.email_endpoints import EmailEndpoints
from gateway.health import GatewayHealth
from gateway.http import openapi, pages, problems, telemetry
from gateway.http.auth import KEYS, KeyRing
from gateway.http.intake import BODY_BYTES_MAX, HungUpError, Intake
from gateway.http.listening import ListeningSite
from gateway.http.problems import ProblemError
from gateway.http.server import SERVER, BoundedHandler, BoundedRunner
from gateway.http.waiting import Tail, Waiters
from gateway.invoices.accepting import InvoiceAccepting
from gateway.invoices.crediting import InvoiceCrediting
from gateway.invoices.document_links import DocumentLinks
from gateway.invoices.external_crediting import ExternalCrediting
from gateway.invoices.reading import InvoiceReading
from gateway.invoices.stored_documents import StoredDocuments
from gateway.notices import NoticeIntake
from gateway.orders.checkouts import Checkouts
from gateway.orders.commands import Commands
from gateway.orders.order_reading import OrderReading
from gateway.orders.order_stream import OrderStreams
from gateway.orders.tracking import Tracking
from gateway.products.catalogue import Catalogue
from gateway.products.images import Images
from gateway.products.product_writing import ProductWriting
from gateway.products.search import CatalogueSearch
from gateway.products.search_workers import SearchWorkers
from gateway.products.synonyms import SynonymKeeping
from gateway.registry import RegistryError
from gateway.reviews.review_endpoints import ReviewEndpoints
from gateway.stock import StockKeeping
from gateway.webhooks.webhook_endpoints import WebhookEndpoints
from runtime import metrics
from runtime.kafka import TopicError, end_offsets
from runtime.kafka_writable import Writability
from runtime.publisher import Publisher
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
from sinks.agreement import RELAYED_TOPICS, await_agreement
from sinks.object_store.store import ObjectStore, StoreUnavailableError, open_store
from sinks.postgres.analytics_reader import AnalyticsReader
from sinks.postgres.invoices_reader import InvoicesReader
from sinks.postgres.orders_reader import OrdersReader
from sinks.postgres.products import Products
from sinks.postgres.products_reader import ProductsReader
from sinks.postgres.reviews import Reviews
from sinks.postgres.sealing import sealing_for
from sinks.postgres.stock import Stock
from sinks.postgres.synonyms import Synonyms
from sinks.postgres.webhooks import Webhooks

_log = logging.getLogger(__name__)

#: A broker that doesn't acknowledge within this is answered for with 503.
ACKNOWLEDGE_SECONDS_MAX = 4.5
#: How long requests under way may take once the gateway listens no more. Those who wait are let go at once.
_STOP_SECONDS_MAX = 8.0
_CANCEL_SECONDS_MAX = 0.5
_SWITCH_SECONDS = 0.001
#: Encoded requests that wait for the brokers.
_QUEUED_BYTES_MAX = 64 * 1024 * 1024

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PLACEHOLDER = re.compile(r"{(\w+)}")


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises `OSError` if the port is taken."""
    # Hundreds of requests under way look like garbage in the making: the collector's usual thresholds walk all of them,
    # and every module, many times a second. It costs a sixth of the whole; what we make has no cycles to speak of.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    # A thread waits so long for the interpreter's lock while the loop is busy, and an answer of the metrics port waits
    # some six times: with the usual 5 ms its p99 is 40 ms, with this 10 ms. The rate is the same, as far as measured.
    sys.setswitchinterval(_SWITCH_SECONDS)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def obey(number: signal.Signals) -> None:
        # Ctrl-C, or a second signal, skips the delay.
        if number == signal.SIGINT or stop.is_set():
            hurry.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, obey, number)
    gateway = Gateway(settings)
    try:
        await gateway.start()
        _log.info("serving at %s", gateway.url)
        await gateway.until(stop)
        _log.info("draining for %g s", settings.gateway_drain_seconds)
        await gateway.drain(hurry)
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
    #: Those that must not be ahead of Postgres: all that the relay alone writes to.
    relayed: tuple[Topic, ...] = RELAYED_TOPICS

    @property
    def published(self) -> tuple[Topic, ...]:
        """What gateways publish to."""
        return self.invoice_requests, self.checkout_requests, self.order_commands, self.payment_notices


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
        #: Topics of the requests that Redis holds notes of.
        self._hinted = (topics.invoice_requests.name, topics.checkout_requests.name)
        postgres_url, redis_url = settings.postgres_url.get_secret_value(), settings.redis_url.get_secret_value()
        with _naming("POSTGRES_URL"):
            self._reader = InvoicesReader(postgres_url, topic=INVOICE_EVENTS.name, kind="invoice")
            self._orders = OrdersReader(postgres_url)
            self._stock = Stock(postgres_url)
            self._reviews = Reviews(postgres_url)
            self._analytics = AnalyticsReader(postgres_url)
            self._webhooks = Webhooks(postgres_url)
            self._products = Products(postgres_url)
            self._products_reader = ProductsReader(postgres_url)
            self._synonyms = Synonyms(postgres_url)
        with _naming("REDIS_URL"):
            self._hints = Hints(redis_url, self._has_accepted)
            self._admission = Admission(redis_url, hold_seconds=settings.hold_seconds)
            self._product_cache = ProductCache(redis_url)
            self._carts = Carts(redis_url)
        with _naming("OBJECTS_URL"):
            store = open_store(settings)
        self._search = SearchWorkers([url for url in settings.search_urls.split(",") if url])
        self._catalogue = Catalogue(self._products_reader, self._product_cache, self._admission)
        link_keys = settings.link_keys
        self._link_keys = [] if link_keys is None else keys_of(link_keys.get_secret_value())
        self._tracking_keys = [] if link_keys is None else tracking_keys_of(link_keys.get_secret_value())
        self._analytics_keys = [] if link_keys is None else analytics_keys_of(link_keys.get_secret_value())
        self._invoice_waiters, self._order_waiters = Waiters(), Waiters()
        self._tails = [
            Tail(settings.kafka_bootstrap, topic, waiters.by_key, waiters.deliver)
            for topic, waiters in (
                (topics.invoice_events, self._invoice_waiters),
                (topics.order_events, self._order_waiters),
            )
        ]
        self._keys = KeyRing(self._reader)
        self._agreement = Agreement(
            functools.partial(
                await_agreement,
                postgres_url,
                settings.kafka_bootstrap,
                outputs=topics.relayed,
                inputs=topics.published,
            )
        )
        intake = Intake(self._publisher, self._agreement.require)
        published = (
            topics.invoice_requests,
            topics.checkout_requests,
            topics.order_commands,
            *((topics.payment_notices,) if settings.provider_webhook_secret is not None else ()),
        )
        self._health = GatewayHealth(
            Writability(settings.kafka_bootstrap, [topic.name for topic in published]),
            self._reader,
            self._hints,
            self._keys,
            intake,
            self._agreement,
            self._tails,
            (self._invoice_waiters, self._order_waiters),
        )
        #: Its routes, and what happens around each request.
        self.application = make_app(self._routes(topics, intake, store), self._keys)
        self._runner = BoundedRunner(
            self.application,
            seller_of=self._keys.known_seller,
            access_log=None,
            # Whoever is not answered by then was waited for already.
            shutdown_timeout=_CANCEL_SECONDS_MAX,
        )
        self._keeping_fresh: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        host, port, *_ = self._runner.addresses[0]
        return f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen. Raises `OSError` if the port is taken, and `SettingsError` for the one of the metrics."""
        settings = self._settings
        metrics.serve(settings.metrics_host, settings.metrics_port, self._health)
        for tail in self._tails:
            tail.start()
        self._agreement.start()
        self._keeping_fresh = asyncio.create_task(self._keys.keep_fresh())
        self._health.start()
        await self._runner.setup()
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

    async def drain(self, hurry: asyncio.Event) -> None:
        """Report "stopping" to load balancers, and serve on for the drain delay, or until `hurry` is set.

        Load balancers notice by `/readyz`, and by answers that end their connections, before anything is refused.
        """
        self._health.stopping = True
        self._runner.begin_to_drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.gateway_drain_seconds):
                await hurry.wait()

    async def stop(self) -> None:
        """Accept no more requests, respond to those under way, then close all connections."""
        self._health.stopping = True
        self._invoice_waiters.cut_all()
        self._order_waiters.cut_all()
        if self._runner.server is not None:
            self._runner.begin_to_drain()
            await self._runner.stop_listening(_STOP_SECONDS_MAX)
        await self._runner.cleanup()
        if self._keeping_fresh is not None:
            self._keeping_fresh.cancel()
            await asyncio.wait({self._keeping_fresh})
        self._agreement.stop()
        await self._health.stop()
        await self._publisher.close()
        for tail in self._tails:
            await tail.stop()
        await self._catalogue.close()
        await self._search.close()
        await self._product_cache.close()
        await self._carts.close()
        await self._hints.close()
        await self._admission.close()
        await self._reader.close()
        await self._orders.close()
        await self._stock.close()
        await self._reviews.close()
        await self._analytics.close()
        await self._webhooks.close()
        await self._products.close()
        await self._products_reader.close()
        await self._synonyms.close()

    async def _has_accepted(self) -> bool:
        """Whether a request was ever accepted, as the brokers know; True where that can't be found out."""
        if self._agreement.partitions is None:
            return True
        places = [(topic, number) for topic in self._hinted for number in range(self._agreement.partitions)]
        try:
            ends = await asyncio.to_thread(end_offsets, self._settings.kafka_bootstrap, places)
        except TopicError:
            return True
        return any(ends.values())

    def _routes(self, topics: Topics, intake: Intake, store: ObjectStore) -> list[web.RouteDef]:
        hints, orders, admission = self._hints, self._orders, self._admission
        documents = StoredDocuments(store, self._reader, hints)
        invoice_waiters, order_waiters = self._invoice_waiters, self._order_waiters
        reading = OrderReading(orders, hints, admission)
        carts = CartKeeping(intake, self._carts, self._catalogue, orders, hints)
        figures = AnalyticsFigures(self._analytics, orders)
        of_carts = CartCheckouts(self._carts, carts, self._catalogue, orders, hints)
        return [
            *InvoiceAccepting(intake, hints, self._reader, invoice_waiters, topic=topics.invoice_requests).routes(),
            *InvoiceCrediting(intake, hints, self._reader, invoice_waiters, topic=topics.invoice_requests).routes(),
            *ExternalCrediting(intake, hints, self._reader, invoice_waiters, topic=topics.invoice_requests).routes(),
            *InvoiceReading(self._reader, hints, documents).routes(),
            *DocumentLinks(intake, documents, self._link_keys, self._settings.public_url).routes(),
            *Checkouts(
                intake, hints, admission, orders, order_waiters, of_carts, topic=topics.checkout_requests
            ).routes(),
            *carts.routes(),
            *reading.routes(),
            *Tracking(
                intake,
                reading,
                orders,
                hints,
                keys=self._tracking_keys,
                document_keys=self._link_keys,
                public_url=self._settings.public_url,
            ).routes(),
            *OrderStreams(reading, order_waiters, invoice_waiters).routes(),
            *Commands(intake, hints, orders, order_waiters, topic=topics.order_commands).routes(),
            *StockKeeping(intake, orders, self._stock, self._agreement.require).routes(),
            *ProductWriting(
                intake, self._products_reader, self._products, self._product_cache, self._agreement.require
            ).routes(),
            *Images(intake, store, self._settings.public_url).routes(),
            *self._catalogue.routes(),
            *CatalogueSearch(self._search).routes(),
            *SynonymKeeping(intake, self._synonyms, self._agreement.require).routes(),
            *ReviewEndpoints(intake, self._reviews, self._agreement.require).routes(),
            *AnalyticsEndpoints(
                intake, figures, keys=self._analytics_keys, public_url=self._settings.public_url
            ).routes(),
            *AnalyticsPage(figures, keys=self._analytics_keys).routes(),
            *NoticeIntake(intake, self._settings, topic=topics.payment_notices).routes(),
            *WebhookEndpoints(
                intake,
                self._webhooks,
                sealing_for(self._settings),
                may_be_plain=bool(self._settings.webhooks_allow),
            ).routes(),
            *EmailEndpoints(intake, self._webhooks).routes(),
            *self._health.routes(),
        ]


@contextlib.contextmanager
def _naming(variable: str) -> Iterator[None]:
    """Raise `SettingsError` with one line that names the setting, without its value, for a setting that is wrong."""
    try:
        yield
    except (ValueError, StoreUnavailableError) as error:
        raise SettingsError(f"{ENV_PREFIX}{variable}: {error}") from None


def make_app(routes: Iterable[web.RouteDef], keys: KeyRing) -> web.Application:
    """The HTTP application: `routes`, the routes that need no service, and the middleware; `keys` authenticate.

    Raises `ValueError` for a route that isn't declared.
    """
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_around])
    app[KEYS] = keys
    interface = openapi.Interface()
    for route in (*routes, *interface.routes(), *pages.routes(), *registry.routes()):
        # A placeholder stands for a whole segment, whatever that holds. As aiohttp reads them, none matches a brace.
        path = _PLACEHOLDER.sub(r"{\1:[^/]+}", route.path)
        web.RouteDef(route.method, path, route.handler, route.kwargs).register(app.router)
    interface.describe(app)
    return app


@web.middleware
async def _around(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn each error into its response; measure and log the request."""
    began = monotonic()
    span = telemetry.begin_span(request)
    try:
        cast(BoundedHandler, request.protocol).check_expectation()
        answer = await handler(request)
    except HungUpError:
        # Nobody reads it; the status is the one that proxies count such requests by.
        answer = web.Response(status=499, reason="Client Closed Request")
    except ProblemError as problem:
        answer = problems.response(problem)
    except RegistryError as error:
        answer = registry.error_response(error)
    except web.HTTPException as error:
        answer = _no_such_route(request, error)
    # The boundary: whatever else it was, the caller gets no inside view, and the log gets all of it.
    except Exception:  # noqa: BLE001
        _log.exception("a request to %s failed", _route(request), extra=telemetry.identity(request))
        answer = problems.response(ProblemError(problems.INTERNAL, "the request failed; the cause is in our log"))
    answer.headers["Server"] = SERVER
    seconds = monotonic() - began
    telemetry.request_seconds(_route(request), answer.status).observe(seconds)
    telemetry.note(request, answer.status, seconds)
    if span is not None:
        telemetry.end_span(span, request, answer.status)
    return answer


def _no_such_route(request: web.Request, error: web.HTTPException) -> web.Response:
    """The response to an unknown path or method; clients of a schema registry get its own kind of error."""
    headers = {}
    detail = "there is no resource at this path"
    kind = problems.NOT_FOUND
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        headers, detail, kind = {"Allow": allowed}, f"permitted: {allowed}", problems.METHOD_NOT_ALLOWED
    elif not isinstance(error, web.HTTPNotFound):
        detail, kind = error.reason, problems.MALFORMED
    if registry.owns(request.path):
        return registry.error_response(RegistryError(kind.status, kind.status, f"{kind.title}: {detail}", headers))
    return problems.response(ProblemError(kind, detail, headers=headers))


def _route(request: web.Request) -> str:
    """The route's pattern: paths themselves would make a time series per order."""
    resource = request.match_info.route.resource
    return f"{request.method} {resource.canonical}" if resource is not None else "unknown"
