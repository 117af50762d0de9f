"""The monitor as a process: measures, and shows what it has measured on a port of its own."""

import asyncio
import logging
import signal
from importlib.resources import files

import msgspec
from aiohttp import web

from monitor.access import Access
from monitor.exported import MeasurementCollector
from monitor.figures import Measurement
from monitor.lookups import Lookups
from monitor.probe import Probe
from monitor.questions import Handler, Questions, Route, refuse_unclear
from monitor.reports import Reports, parse_processes
from monitor.watch import Watch
from runtime.metrics import CONTENT_TYPE, REGISTRY, render
from runtime.settings import ENV_PREFIX, Settings, SettingsError

_log = logging.getLogger(__name__)

#: A page whose monitor has ended tries again.
_RETRY_MS = 1_000
#: A measurement that is older is no measurement: the thread hangs.
_AGE_SECONDS_MAX = 15.0
_TOKEN_CHARACTERS_MIN = 16

#: Nothing from elsewhere, no inline script, no frame around it.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATIC = {
    "dashboard.js": "text/javascript",
    "pages.js": "text/javascript",
    "shared.js": "text/javascript",
    "dashboard.css": "text/css",
    "login.html": "text/html",
    "index.html": "text/html",
    "uplot.js": "text/javascript",
    "uplot.css": "text/css",
}


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises `SettingsError`, and `OSError` if the port is taken."""
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    monitor = Monitor(settings)
    await monitor.start()
    try:
        _log.info("serving at %s", monitor.url)
        await stop.wait()
    finally:
        await monitor.stop()


class Monitor:
    """Measures and serves. Made on the running loop."""

    def __init__(self, settings: Settings) -> None:
        """Raises `SettingsError`."""
        token = "" if settings.monitor_token is None else settings.monitor_token.get_secret_value()
        if len(token) < _TOKEN_CHARACTERS_MIN:
            raise SettingsError(
                f"{ENV_PREFIX}MONITOR_TOKEN: must have {_TOKEN_CHARACTERS_MIN} characters or more: who knows it sees"
                " all that the dashboard shows. Make one with: openssl rand -hex 16"
            )
        if not settings.metrics_port:
            raise SettingsError(f"{ENV_PREFIX}METRICS_PORT: must be set: the dashboard is there")
        self._settings = settings
        self._access = Access(token, settings.metrics_port)
        self._loop = asyncio.get_running_loop()
        self._reports = Reports(parse_processes(settings.monitor_processes))
        self._probe = _make_probe(settings)
        probe = (lambda: None) if self._probe is None else self._probe.figures
        self._watch = Watch(settings, self._reports.latest, probe, self._tell)
        self._lookups = Lookups(settings, self._reports)
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        self._files = {name: (files("monitor") / "pages" / name).read_bytes() for name in _STATIC}
        application = web.Application(client_max_size=4 * 1024, middlewares=[refuse_unclear])
        application.on_response_prepare.append(_secure)
        for route in self._routes():
            handler = route.handler if route.is_open else self._guarded(route.handler)
            application.router.add_route(route.method, route.path, handler)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        self._collector = MeasurementCollector(lambda: self._watch.latest)

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        host, port, *_ = self._runner.addresses[0]
        return f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen and measure. Raises `SettingsError` if the port is taken."""
        host, port = self._settings.metrics_host, self._settings.metrics_port
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(
                f"{ENV_PREFIX}METRICS_PORT: cannot listen at {host}:{port}: {error.strerror or error}; name a free"
                f" port, or an address of this machine in {ENV_PREFIX}METRICS_HOST"
            ) from None
        REGISTRY.register(self._collector)
        self._reports.start()
        if self._probe is not None:
            self._probe.start()
        self._watch.start()

    async def stop(self) -> None:
        """Close all connections."""
        for queue in self._listeners:
            _put_newest(queue, None)
        await self._runner.cleanup()
        if self._probe is not None:
            await self._probe.stop()
        await self._lookups.close()
        self._reports.stop()
        await asyncio.to_thread(self._watch.stop)
        REGISTRY.unregister(self._collector)

    def _routes(self) -> list[Route]:
        return [
            Route("GET", "/", self._page("index.html")),
            Route("GET", "/state", self._state),
            Route("GET", "/events", self._events),
            *Questions(self._lookups).routes(),
            Route("GET", "/login", self._login_by_link, is_open=True),
            Route("POST", "/login", self._login_by_form, is_open=True),
            Route("GET", "/metrics", self._metrics, is_open=True),
            Route("GET", "/healthz", self._healthz, is_open=True),
            Route("GET", "/readyz", self._readyz, is_open=True),
            # Without figures: everybody may have them.
            *(Route("GET", f"/{name}", self._page(name), is_open=True) for name in _STATIC if "html" not in name),
        ]

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if self._access.allows(request):
                return await handler(request)
            if "text/html" in request.headers.get("Accept", ""):
                return self._file("login.html", status=401)
            return web.json_response(
                {"error": "send `Authorization: Bearer` and the token in GAPLESS_MONITOR_TOKEN, or log in at /login"},
                status=401,
                headers={"WWW-Authenticate": "Bearer"},
            )

        return guarded

    def _file(self, name: str, status: int = 200) -> web.Response:
        return web.Response(
            status=status,
            body=self._files[name],
            content_type=_STATIC[name],
            charset="utf-8",
            headers={"Cache-Control": "no-cache"},
        )

    def _page(self, name: str) -> Handler:
        async def page(_: web.Request) -> web.Response:
            return self._file(name)

        return page

    async def _login_by_link(self, request: web.Request) -> web.Response:
        token = request.query.get("token")
        return self._file("login.html") if token is None else self._let_in(request, token)

    async def _login_by_form(self, request: web.Request) -> web.Response:
        return self._let_in(request, str((await request.post()).get("token", "")))

    def _let_in(self, request: web.Request, token: str) -> web.Response:
        if not self._access.is_token(token.strip()):
            return self._file("login.html", status=401)
        # Elsewhere than at the link, which stays in the browser's history: the token is not in its address any more.
        answer = web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
        # Lax: with Strict, who follows the link from a chat would have to log in again.
        answer.set_cookie(
            self._access.cookie_name,
            self._access.cookie_value,
            httponly=True,
            samesite="Lax",
            secure=request.headers.get("X-Forwarded-Proto", request.scheme) == "https",
        )
        return answer

    async def _state(self, _: web.Request) -> web.Response:
        if self._watch.latest is None:
            return web.json_response(
                {"error": "nothing has been measured yet"}, status=503, headers={"Retry-After": "1"}
            )
        return web.Response(
            body=msgspec.json.encode(self._watch.latest),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        # The newest only: a browser that is slow to read skips measurements, and holds nothing up.
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        self._listeners.add(queue)
        try:
            await response.prepare(request)
            await response.write(f"retry: {_RETRY_MS}\n\n".encode())
            if self._watch.latest is not None:
                _put_newest(queue, msgspec.json.encode(self._watch.latest))
            while (event := await queue.get()) is not None:
                await response.write(b"data: " + event + b"\n\n")
        except ConnectionResetError:
            # The browser is gone.
            pass
        finally:
            self._listeners.discard(queue)
        return response

    def _tell(self, measurement: Measurement) -> None:
        """In the thread that measures."""
        self._loop.call_soon_threadsafe(self._send, measurement)

    def _send(self, measurement: Measurement) -> None:
        if self._listeners:
            event = msgspec.json.encode(measurement)
            for queue in self._listeners:
                _put_newest(queue, event)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=render(), headers={"Content-Type": CONTENT_TYPE})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _: web.Request) -> web.Response:
        age = self._watch.age_seconds()
        if age is None:
            return web.json_response({"status": "not ready", "measurements": "none yet"}, status=503)
        if age > _AGE_SECONDS_MAX:
            return web.json_response({"status": "not ready", "measurements": f"{age:.0f} s old"}, status=503)
        return web.json_response({"status": "ready"})


def _make_probe(settings: Settings) -> Probe | None:
    if settings.probe_url is None:
        return None
    if settings.probe_api_key is None:
        raise SettingsError(
            f"{ENV_PREFIX}PROBE_API_KEY: must be set, for there is a {ENV_PREFIX}PROBE_URL: `gapless sellers"
            " ensure-probe` gives the key to the probe's seller"
        )
    return Probe(settings.probe_url, settings.probe_api_key.get_secret_value())


async def _secure(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SECURITY_HEADERS)


def _put_newest(queue: asyncio.Queue[bytes | None], event: bytes | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(event)
