"""The steps of the demo."""

import asyncio
import time
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from audit.backlog import is_drained, read_progress
from producers.client import GaplessClient, GatewayAnswer
from producers.generate import bodies
from producers.load import WORKERS, run, with_repeats
from producers.wire import WireClient
from runtime.kafka import TopicError

_SEED = 1
_WAIT_S = 30
#: Enough for every partition, and for the broker's JVM to compile its code: the demo shows no cold start.
_WARM_UP_ORDERS = 250
_ISSUED_STATUS = 200
_REFUSED_FROM = 400
_POLL_S = 0.05
_DRAIN_S_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of the stack that the steps need."""

    url: str
    api_key: str
    postgres_url: str

    def client(self, connections: int) -> GaplessClient:
        """A client of the gateway."""
        return WireClient(self.url, self.api_key, connections=connections)


@dataclass(slots=True)
class Found:
    """The demo's measurements. Times in seconds."""

    waits_s: "array[float]" = field(default_factory=lambda: array("d"))
    sent: int = 0
    sent_per_second: float = 0.0
    issued_per_second: float = 0.0
    #: Requests refused or given up.
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class FetchedDocument:
    """A PDF and its invoice number."""

    body: bytes
    invoice_number: str


class StuckError(Exception):
    """The stack makes no progress."""


async def warm_up(target: Target) -> int:
    """Send some orders and wait for their numbers; returns how many."""
    payloads = [msgspec.json.encode(body) for body in bodies(_WARM_UP_ORDERS, seed=_SEED, prefix="WARM")]
    async with target.client(_WARM_UP_ORDERS) as client:
        await run(client, payloads, workers=_WARM_UP_ORDERS, wait_s=_WAIT_S)
    return _WARM_UP_ORDERS


async def rush(target: Target, clients: int, prefix: str = "RUSH") -> "array[float]":
    """Have all clients post at the same instant on separate connections; returns the seconds to each number."""
    payloads = [msgspec.json.encode(body) for body in bodies(clients, seed=_SEED, prefix=prefix)]
    waits_s = array("d")
    go = asyncio.Event()

    async def post(client: GaplessClient, payload: bytes) -> None:
        await go.wait()
        answer = await client.post_invoice(payload, _WAIT_S)
        waits_s.append(time.perf_counter() - began)
        if answer.status != _ISSUED_STATUS:
            raise StuckError(f"no number within {_WAIT_S} s: {answer.status} {answer.payload[:200]!r}")

    async with target.client(clients) as client, asyncio.TaskGroup() as group:
        for payload in payloads:
            group.create_task(post(client, payload))
        await asyncio.sleep(0)
        began = time.perf_counter()
        go.set()
    return waits_s


async def storm(console: Console, target: Target, found: Found, requests: int, repeat_share: float) -> None:
    """Send at full speed, with progress bars for requests sent, issued and stored."""
    distinct = round(requests * (1 - repeat_share))
    payloads = with_repeats(
        (msgspec.json.encode(body) for body in bodies(distinct, seed=_SEED, prefix="LOAD")), repeat_share, seed=_SEED
    )
    columns = (
        TextColumn("   {task.description:<7}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", justify="right"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars, psycopg.connect(target.postgres_url, autocommit=True) as ledger:
        before = read_progress(ledger)
        sent = bars.add_task("sent", total=requests, rate="")
        issued = bars.add_task("issued", total=distinct, rate="")
        stored = bars.add_task("stored", total=before.invoices - before.documents + distinct, rate="")
        began = time.perf_counter()
        async with target.client(WORKERS) as client, asyncio.TaskGroup() as group:
            group.create_task(_send(client, payloads, found, bars, sent, requests))
            moved_at, last = began, before
            while True:
                now = time.perf_counter()
                progress = read_progress(ledger)
                _show(bars, issued, progress.invoices - before.invoices, now - began)
                _show(bars, stored, progress.documents - before.documents, now - began)
                if progress.invoices - before.invoices >= distinct and not found.issued_per_second:
                    found.issued_per_second = distinct / (now - began)
                if found.issued_per_second and progress.documents >= progress.invoices:
                    break
                if progress != last:
                    moved_at, last = now, progress
                elif now - moved_at > _DRAIN_S_MAX:
                    raise StuckError(f"nothing issued or stored for {_DRAIN_S_MAX:g} s; {progress}")
                await asyncio.sleep(_POLL_S)


async def _send(
    client: GaplessClient, payloads: Iterable[bytes], found: Found, bars: Progress, task: TaskID, requests: int
) -> None:
    began = time.perf_counter()

    def count(payload: bytes, answer: GatewayAnswer) -> None:
        found.sent += 1
        if found.sent % 50 == 0 or found.sent == requests:
            _show(bars, task, found.sent, time.perf_counter() - began)

    report = await run(client, payloads, on_answer=count)
    found.sent_per_second = report.per_second
    found.unanswered = report.failed + sum(
        times for status, times in report.statuses.items() if status >= _REFUSED_FROM
    )


def _show(bars: Progress, task: TaskID, completed: int, seconds: float) -> None:
    """Update a bar; a finished one keeps its last rate."""
    if not bars.tasks[task].finished:
        rate = completed / seconds if seconds else 0.0
        bars.update(task, completed=completed, rate=f"{rate:,.0f}/s")


async def wait_until_drained(target: Target, kafka_bootstrap: str) -> None:
    """Return when nothing is in progress. Raises `StuckError`."""
    give_up_at = time.monotonic() + _DRAIN_S_MAX
    with psycopg.connect(target.postgres_url, autocommit=True) as ledger:
        while time.monotonic() < give_up_at:
            try:
                if await asyncio.to_thread(is_drained, ledger, kafka_bootstrap):
                    return
            except TopicError as error:
                raise StuckError(str(error)) from None
            await asyncio.sleep(_POLL_S)
    raise StuckError(f"not drained within {_DRAIN_S_MAX:g} s")


async def fetch_document(target: Target) -> FetchedDocument:
    """One of the PDFs, fetched as a customer does."""
    async with target.client(1) as client:
        order = (await client.get_invoice("RUSH-1")).json()
        document = await client.get_document("RUSH-1")
    if not document.payload.startswith(b"%PDF"):
        raise StuckError(f"the document is not a PDF: {document.status} {document.payload[:200]!r}")
    return FetchedDocument(document.payload, str(order["invoice_number"]))
