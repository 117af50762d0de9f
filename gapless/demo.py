"""`gapless demo`: the product end to end, on a temporary stack that leaves nothing behind."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
import uvloop
from rich.console import Console
from rich.table import Table

from audit.report import AuditError, AuditReport
from audit.run import run_audit
from audit.store import open_reader
from gapless import audit
from gapless.demo_sale import OTHERS, PIECES, SaleResult, flash_sale, raise_file_limit
from gapless.demo_steps import FetchedDocument, Found, Target, fetch_document, rush, storm, wait_until_drained, warm_up
from local.errors import StackError
from local.stack import Stack
from producers.client import UnavailableError
from producers.load import percentile
from runtime.settings import Settings

#: Clients that post at the same instant.
CLIENTS = 500
#: Requests that follow at full speed, repeats included.
REQUESTS = 5_000
REPEAT_SHARE = 0.1
#: Buyers who want one of the sale's pieces at the same instant.
BUYERS = 5_000
DOCUMENT = Path("gapless-demo-invoice.pdf")
LOGS = Path("gapless-demo-logs")
_WIDTH_UNSEEN = 100


class DemoError(click.ClickException):
    """The demo could not be completed."""


@click.command()
@click.option("--clients", type=click.IntRange(1, 2_000), default=CLIENTS, show_default=True)
@click.option("--requests", type=click.IntRange(10, 100_000), default=REQUESTS, show_default=True)
@click.option("--buyers", type=click.IntRange(1, 50_000), default=BUYERS, show_default=True, help="Of the flash sale.")
def demo(clients: int, requests: int, buyers: int) -> int:
    """Show the product end to end: each order gets one number, one row, one PDF and its events; then a flash sale.

    Starts Kafka, Postgres, Valkey and our processes on free ports in a temporary folder, and removes all of it.
    """
    console = Console(highlight=False, width=None if os.isatty(1) else _WIDTH_UNSEEN)
    began = time.monotonic()
    # Before the stack starts, which inherits the limit: the gateway needs as many connections as its buyers.
    connections = raise_file_limit(buyers)
    with _interruptible(), _stack(console) as stack:
        settings = stack.settings()
        status = stack.status()
        target = Target(status["endpoints"]["gateway"], status["api_key"], settings.postgres_url.get_secret_value())
        try:
            found, document = uvloop.run(_run(console, target, settings, clients, requests))
            sale = uvloop.run(_sell(console, target, settings, buyers, connections))
        except* UnavailableError as group:
            raise DemoError(str(group.exceptions[0])) from None
        DOCUMENT.write_bytes(document.body)
        report = _audit(console, settings)
    console.print(_table(found, sale, report))
    console.print(
        f"one of the invoices: [bold]{DOCUMENT.absolute()}[/bold] ({document.invoice_number})", soft_wrap=True
    )
    for violation in report.shown():
        console.print(f"[red]{violation.check}[/red] {violation.where}: {violation.what}", soft_wrap=True)
    console.print(audit.verdict(report), soft_wrap=True)
    console.print(f"done in {time.monotonic() - began:.0f} s; nothing is left running")
    console.print("to look around: `make shop` opens a shop and the dashboard")
    sold_right = sale.sold == sale.pieces and not sale.holds_left
    return 0 if report.clean and sold_right and found.unanswered == sale.unanswered == 0 else 1


async def _run(
    console: Console, target: Target, settings: Settings, clients: int, requests: int
) -> tuple[Found, FetchedDocument]:
    found = Found()
    console.print(f"   {await warm_up(target)} orders warm everything up")
    await wait_until_drained(target, settings.kafka_bootstrap)
    console.print(f"[bold]1.[/bold] {clients} clients post at the same instant and wait for their invoice number")
    found.waits_s = await rush(target, clients)
    median, slowest = percentile(found.waits_s, 50), max(found.waits_s)
    console.print(f"   all have it: median {median * 1000:.0f} ms, slowest {slowest * 1000:.0f} ms")
    console.print(f"[bold]2.[/bold] {requests:,} requests at full speed, a tenth of them repeats")
    await storm(console, target, found, requests, REPEAT_SHARE)
    await wait_until_drained(target, settings.kafka_bootstrap)
    return found, await fetch_document(target)


async def _sell(console: Console, target: Target, settings: Settings, buyers: int, connections: int) -> SaleResult:
    console.print(
        f"[bold]3.[/bold] {buyers:,} buyers want one of {PIECES} pieces at the same instant, {OTHERS} others shop"
    )
    if connections < buyers:
        console.print(f"   {connections:,} of them at a time: this machine carries no more connections")
    sale = await flash_sale(console, target, settings, buyers, connections)
    await wait_until_drained(target, settings.kafka_bootstrap)
    return sale


def _audit(console: Console, settings: Settings) -> AuditReport:
    console.print("[bold]4.[/bold] the audit reads everything back: Postgres, Kafka, the documents")
    try:
        return run_audit(
            settings.postgres_url.get_secret_value(), settings.kafka_bootstrap, open_reader(settings), complete=True
        )
    except AuditError as error:
        raise DemoError(str(error)) from None


def _table(found: Found, sale: SaleResult, report: AuditReport) -> Table:
    table = Table(show_header=False, title="results", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    clients = f"{len(found.waits_s)} at once, time to the invoice number"
    for name, percent in (("p50", 50), ("p99", 99), ("slowest", 100)):
        table.add_row(f"{clients}: {name}", f"{percentile(found.waits_s, percent) * 1000:.0f} ms")
    table.add_section()
    table.add_row("requests answered at full speed", f"{found.sent:,} ({found.sent_per_second:,.0f}/s)")
    table.add_row("issued", f"{found.issued_per_second:,.0f}/s")
    table.add_section()
    table.add_row(f"buyers of {PIECES} pieces, all answered", f"{sale.answers.answered:,}")
    for name, percent in (("p50", 50), ("p95", 95)):
        table.add_row(f"time to answer: {name}", f"{sale.answers.percentile_s(percent) * 1000:.0f} ms")
    table.add_row("sold", f"{sale.sold:,}")
    table.add_row("holds left", f"{sale.holds_left:,}")
    table.add_row("other orders", ", ".join(f"{n:,} {what}" for what, n in sale.others_outcomes.most_common()))
    for name, percent in (("p50", 50), ("p95", 95)):
        table.add_row(f"time to paid or declined: {name}", f"{sale.others.percentile_s(percent) * 1000:.0f} ms")
    table.add_section()
    table.add_row("invoices", f"{report.counts['invoices']:,} in {report.counts['series']} series")
    table.add_row("gaps", f"{report.violations['gap']:,}")
    table.add_row("duplicates", f"{report.violations['repeat']:,}")
    table.add_row("documents", f"{report.counts['documents']:,}")
    return table


@contextmanager
def _stack(console: Console) -> Iterator[Stack]:
    """A stack in a temporary folder, which is always removed; only the logs are preserved after a failure."""
    data = Path(tempfile.mkdtemp(prefix="gapless-demo-"))
    # Bound: if this process is killed, the stack sees the end of its standard input and stops.
    stack = Stack(data, bound=True)
    console.print("[bold]0.[/bold] Kafka, Postgres, Valkey, a payment provider and gapless start")
    began = time.monotonic()
    try:
        with console.status("starting"):
            stack.start()
        console.print(f"   all ready after {time.monotonic() - began:.1f} s")
        yield stack
    except (KeyboardInterrupt, click.Abort):
        console.print("interrupted: everything is being stopped and removed")
        raise
    except BaseException as error:
        if (data / "logs").is_dir():
            shutil.copytree(data / "logs", LOGS, dirs_exist_ok=True)
            console.print(f"the logs are in {LOGS.absolute()}", soft_wrap=True)
        if isinstance(error, StackError):
            raise DemoError(str(error).replace(str(data / "logs"), str(LOGS.absolute()))) from None
        raise
    finally:
        stack.remove()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the demo as Ctrl-C does, with everything cleaned up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Not an exception: an event loop only cleans up if it is interrupted by SIGINT.
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    # A shell makes processes that it starts in the background ignore SIGINT.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
