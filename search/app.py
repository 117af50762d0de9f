"""The search worker as a process: keeps an index in its own folder, and answers questions on a port of its own.

Gateways ask it. It knows no API keys: only gateways should reach its port.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, time
from typing import NamedTuple

import msgspec
import uvloop
from aiohttp import web
from cachetools import TTLCache
from prometheus_client import Counter, Histogram

from domain.search import HITS_MAX, QUESTION_CHARS_MAX, SORTS, SearchQuestion
from runtime import metrics
from runtime.health import ProcessHealth
from runtime.kafka import TopicError
from runtime.metrics import REGISTRY
from runtime.outages import KAFKA, POSTGRES
from runtime.settings import ENV_PREFIX, Settings, SettingsError
from search.following import LAG_SECONDS, Follower
from search.index import CatalogueIndex, FolderInUseError, IndexFolder, UnusableIndexError
from search.rebuild import rebuild, why_unusable
from search.searching import Searching, SeveralCurrenciesError, Versions
from sinks.postgres.session import OUTAGES

_log = logging.getLogger(__name__)

#: Searches at once: the library does its work without the interpreter's lock.
_THREADS = 2
#: Searches that wait. More would be answered after their gateway has asked another worker.
_WAITING_MAX = 200
_QUESTION_BYTES_MAX = 16 * 1024
_OUTAGE_PAUSE_SECONDS = 0.5
#: Answers are remembered so long, and up to so many bytes of them and their questions; what an entry takes besides.
_REMEMBERED_SECONDS = 300
_REMEMBERED_BYTES = 32 * 1024 * 1024
_ENTRY_BYTES = 512

QUERIES = Counter(
    "gapless_search_queries_total",
    "Questions by what became of them: searched, cached, refused or failed.",
    ["outcome"],
    registry=REGISTRY,
)
# Each is 0 from the start: a rate of what is not there yet is no rate.
_SEARCHED, _CACHED, _REFUSED, _FAILED = (
    QUERIES.labels(outcome) for outcome in ("searched", "cached", "refused", "failed")
)
SECONDS = Histogram(
    "gapless_search_seconds",
    "Time from a question to its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
    registry=REGISTRY,
)
REBUILDS = Counter("gapless_search_rebuilds_total", "Indexes built from Postgres.", registry=REGISTRY)

_question = msgspec.json.Decoder(SearchQuestion)


def run(settings: Settings) -> None:
    """Serve until SIGTERM. Raises `SettingsError`, and `StartRefusedError` for tables of another release."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    worker = SearchWorker(settings)
    await worker.start()
    try:
        _log.info("serving at %s", worker.url)
        stopping = asyncio.create_task(stop.wait())
        working = worker.preparing
        await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            # A refusal to start is for the command line to say; all else is a bug.
            await working
            await stopping
        stopping.cancel()
    finally:
        await worker.stop()


class SearchWorker:
    """An index and its port. Made on the running loop."""

    preparing: asyncio.Task[None]

    def __init__(self, settings: Settings) -> None:
        """Raises `SettingsError`."""
        self._settings = settings
        self._folder = IndexFolder(settings.worker_data)
        self._remembered = remembered_answers()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="search")
        self._waiting = 0
        self._stopping = threading.Event()
        self._began_at = time()
        self._versions = Versions()
        self._searching: Searching | None = None
        self._state = "the index is not open yet"
        self.follower: Follower | None = None
        self.health = ProcessHealth()
        # Postgres is needed for a new index alone.
        del self.health.checks["postgres"]
        self.health.checks["index"] = lambda: "ok" if self._searching is not None else self._state
        application = web.Application(client_max_size=_QUESTION_BYTES_MAX)
        application.router.add_post("/search", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        host, port, *_ = self._runner.addresses[0]
        return f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen, and begin to open or build the index. Raises `SettingsError`."""
        settings = self._settings
        try:
            self._folder.lock()
        except FolderInUseError as error:
            raise SettingsError(
                f"{ENV_PREFIX}WORKER_DATA: {error}: give each search worker a folder of its own"
            ) from None
        except OSError as error:
            raise SettingsError(
                f"{ENV_PREFIX}WORKER_DATA: cannot write in {settings.worker_data}: {error.strerror}"
            ) from None
        metrics.serve(settings.metrics_host, settings.metrics_port, self.health)
        self.health.watch(asyncio.get_running_loop())
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, settings.search_host, settings.search_port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(
                f"{ENV_PREFIX}SEARCH_PORT: cannot listen at {settings.search_host}:{settings.search_port}:"
                f" {error.strerror or error}; name a free port, or an address of this machine in"
                f" {ENV_PREFIX}SEARCH_HOST"
            ) from None
        # A worker that builds its index is behind as well.
        LAG_SECONDS.set_function(lambda: time() - self._began_at)
        self.preparing = asyncio.create_task(self._prepare())

    async def stop(self) -> None:
        """Answer what is under way, and let go of the folder."""
        self._stopping.set()
        await self._runner.cleanup()
        self.preparing.cancel()
        await asyncio.wait({self.preparing})
        if self.follower is not None:
            await asyncio.to_thread(self.follower.stop)
        self._folder.close()
        self._threads.shutdown()

    async def _prepare(self) -> None:
        index = await asyncio.to_thread(self._open_or_build)
        self.follower = Follower(self._settings.kafka_bootstrap, index, self._versions.changed, self._began_at)
        self.follower.start()
        self.health.reached("Kafka")
        self._searching = Searching(index, self._versions)

    def _open_or_build(self) -> CatalogueIndex:
        """The index, with positions from which the topics can be followed. Waits out outages."""
        bootstrap = self._settings.kafka_bootstrap
        self._folder.take_rebuilt()
        while True:
            try:
                index = self._folder.open()
                why = why_unusable(index.positions(), bootstrap)
                if why is None:
                    KAFKA.answered()
                    return index
            except UnusableIndexError as unusable:
                why = str(unusable)
            except TopicError as error:
                self._wait_for(KAFKA.failed, error)
                continue
            self._folder.set_aside(why)
            self._build()

    def _build(self) -> None:
        def tell(done: int, total: int) -> None:
            self._state = f"is being built: {done} of {total} rows"
            if self._stopping.is_set():
                raise asyncio.CancelledError

        while True:
            try:
                rebuild(
                    self._folder,
                    self._settings.kafka_bootstrap,
                    self._settings.postgres_url.get_secret_value(),
                    tell,
                )
            except TopicError as error:
                self._wait_for(KAFKA.failed, error)
            except OUTAGES as error:
                self._wait_for(POSTGRES.failed, error)
            except FolderInUseError:
                # `gapless search rebuild` is at work; what it builds is for the next start.
                self._wait_for(_log.info, "another process builds an index in this folder")
            else:
                REBUILDS.inc()
                KAFKA.answered()
                POSTGRES.answered()
                return

    def _wait_for(self, tell: Callable[[object], None], what: object) -> None:
        """Report what is waited for, and wait. Raises `CancelledError` when the worker stops."""
        tell(what)
        if self._stopping.wait(_OUTAGE_PAUSE_SECONDS):
            raise asyncio.CancelledError

    async def _answer(self, request: web.Request) -> web.Response:
        """POST /search: a `SearchQuestion` as JSON; the answer is a `SearchAnswer`, or 422 for what it lacks."""
        began = monotonic()
        try:
            asked = await request.read()
            question = _question.decode(asked)
            _check(question)
        except (msgspec.DecodeError, ValueError) as error:
            _REFUSED.inc()
            return web.json_response({"error": str(error)}, status=400)
        searching = self._searching
        if searching is None or self._waiting >= _WAITING_MAX:
            _REFUSED.inc()
            why = self._state if searching is None else "too many questions at once"
            return web.json_response({"error": why}, status=503, headers={"Retry-After": "1"})
        # Read before the answer is made: kept under a state that is older than itself it does no harm.
        key = self._versions.of(question.seller_id), asked
        known = self._remembered.get(key)
        if known is not None:
            body = known.answer
            _CACHED.inc()
        else:
            self._waiting += 1
            try:
                body = await asyncio.get_running_loop().run_in_executor(
                    self._threads, lambda: msgspec.json.encode(searching.answer(question))
                )
            except SeveralCurrenciesError as error:
                _REFUSED.inc()
                return web.json_response({"field": "currency", "error": str(error)}, status=422)
            except Exception:
                _FAILED.inc()
                raise
            finally:
                self._waiting -= 1
            _SEARCHED.inc()
            self._remembered[key] = Remembered(body, len(asked))
        SECONDS.observe(monotonic() - began)
        return web.Response(body=body, content_type="application/json")


class Remembered(NamedTuple):
    """An answer, and the length of its question."""

    answer: bytes
    question_bytes: int


def remembered_answers() -> "TTLCache[tuple[int, bytes], Remembered]":
    """For answers by the state of their seller's part of the index, and the question."""
    # Questions count as well: anybody may ask any, and most that find nothing are longer than their answers.
    return TTLCache(
        _REMEMBERED_BYTES,
        _REMEMBERED_SECONDS,
        monotonic,
        lambda each: len(each.answer) + each.question_bytes + _ENTRY_BYTES,
    )


def _check(question: SearchQuestion) -> None:
    """Raise `ValueError` for a question that no gateway asks."""
    if len(question.text) > QUESTION_CHARS_MAX or question.sort not in ("", *SORTS):
        raise ValueError("text is too long, or sort is not known")
    if not (0 < question.limit <= HITS_MAX and 0 <= question.offset <= HITS_MAX):
        raise ValueError("limit or offset is out of bounds")
