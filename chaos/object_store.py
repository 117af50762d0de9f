"""An S3 server with faults: it refuses requests, delays them, or acts on them without answering."""

import asyncio
import hashlib
import random
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from types import TracebackType
from typing import Self
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

BUCKET = "gapless-chaos"
_BODY_BYTES_MAX = 64 * 1024 * 1024
_START_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Mood:
    """The probability and kind of faults of each request."""

    #: Answered 503, without effect.
    refuses: float = 0.0
    #: Connection cut, without effect.
    cuts: float = 0.0
    #: Carried out, and connection cut before the answer.
    forgets_to_answer: float = 0.0
    #: The most seconds by which requests are delayed.
    slow_s: float = 0.0


class ObjectServer:
    """Stores objects in memory, addressed path style, on a thread of its own. Use it in `with`."""

    def __init__(self) -> None:
        self.port = 0
        self.mood = Mood()
        #: Random source of faults; a scenario sets one with its seed.
        self.chance = random.Random(0)
        self.objects: dict[str, bytes] = {}
        #: Puts of a key that existed, answered or not.
        self.again = 0
        self.puts = 0
        self.requests = 0
        self.faults = 0
        #: Keys that were put again with different bytes: must stay empty.
        self.changed: list[str] = []
        self._began: dict[str, datetime] = {}
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="objects", daemon=True)
        self._started = threading.Event()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        if not self._started.wait(_START_S_MAX):
            raise TimeoutError("the object server does not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def environment(self) -> dict[str, str]:
        """The settings with which our processes find it."""
        return {
            "GAPLESS_OBJECTS_URL": f"s3://{BUCKET}",
            "GAPLESS_OBJECTS_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "GAPLESS_OBJECTS_ACCESS_KEY_ID": "chaos",
            "GAPLESS_OBJECTS_SECRET_ACCESS_KEY": "chaos",
        }

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())

    async def _start(self) -> None:
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        mood = self.mood
        self.requests += 1
        if mood.slow_s:
            await asyncio.sleep(self.chance.uniform(0, mood.slow_s))
        if self._falls(mood.refuses):
            return _error(503, "SlowDown")
        if self._falls(mood.cuts):
            return _cut(request)
        bucket, _, key = unquote(request.path.lstrip("/")).partition("/")
        if bucket != BUCKET:
            return _error(404, "NoSuchBucket")
        answer = self._answer(request, key, body)
        return _cut(request) if self._falls(mood.forgets_to_answer) else answer

    def _falls(self, likely: float) -> bool:
        # Draw only if a fault is possible, so that requests without faults don't change later draws.
        fell = likely > 0 and self.chance.random() < likely
        self.faults += fell
        return fell

    def _answer(self, request: web.Request, key: str, body: bytes) -> web.StreamResponse:
        if request.method == "PUT" and key:
            return self._put(request, key, body)
        if request.method == "GET" and request.query.get("list-type") == "2":
            return self._list(request.query.get("prefix", ""))
        if request.method in ("GET", "HEAD") and key:
            if key not in self.objects:
                return _error(404, "NoSuchKey")
            return web.Response(body=self.objects[key], headers=self._headers(key))
        return _error(501, "NotImplemented")

    def _put(self, request: web.Request, key: str, body: bytes) -> web.StreamResponse:
        self.puts += 1
        if key in self.objects:
            self.again += 1
            if self.objects[key] != body:
                self.changed.append(key)
            if request.headers.get("If-None-Match") == "*":
                return _error(412, "PreconditionFailed")
        self.objects[key] = body
        self._began[key] = datetime.now(UTC)
        return web.Response(headers={"ETag": self._headers(key)["ETag"]})

    def _headers(self, key: str) -> dict[str, str]:
        etag = hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()
        return {"ETag": f'"{etag}"', "Last-Modified": format_datetime(self._began[key], usegmt=True)}

    def _list(self, prefix: str) -> web.StreamResponse:
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>{escape(self._headers(key)['ETag'])}</ETag>"
            f"<LastModified>{self._began[key]:%Y-%m-%dT%H:%M:%S.000Z}</LastModified></Contents>"
            for key, body in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        head = f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
        return web.Response(
            text=f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>{head}{found}</ListBucketResult>',
            content_type="application/xml",
        )


def _error(status: int, code: str) -> web.Response:
    return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>", content_type="application/xml")


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
