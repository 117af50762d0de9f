"""Shared by the load commands: the target's options, and the report."""

import json
import os
import time
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gapless.local import DEFAULT_DATA, Folder
from local.stack import Stack
from producers.client import GatewayAnswer
from producers.importers.report import ImportReport
from producers.load import LoadReport, percentile

_REFUSED_FROM = 400
_DRAW_S = 0.25
_PERCENTILES = (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99), ("max", 100))


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--data`, `--url` and `--api-key-file`."""
    key_file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in (
        click.option("--api-key-file", type=key_file, help="File with the API key for --url."),
        click.option("--url", help="Gateway to send to instead of the local stack's."),
        click.option(
            "--data",
            type=Folder(),
            default=DEFAULT_DATA,
            show_default=True,
            help="Folder of the local stack to send to.",
        ),
    ):
        command = option(command)
    return command


def target(data: Path, url: str | None, api_key_file: Path | None) -> tuple[str, str]:
    """The gateway's URL and the API key."""
    if (url is None) != (api_key_file is None):
        raise click.UsageError("--url and --api-key-file belong together")
    if url is not None and api_key_file is not None:
        try:
            return url, api_key_file.read_text().strip()
        except OSError as error:
            raise click.ClickException(f"{api_key_file}: {error.strerror}") from None
    status = Stack(data).status()
    if not status["ready"]:
        raise click.ClickException(f"the stack in {status['data']} is not ready: `gapless status` says what runs")
    return status["endpoints"]["gateway"], status["api_key"]


def is_refused(status: int) -> bool:
    """Whether the status is a refusal."""
    return status >= _REFUSED_FROM


def refusal(payload: bytes, answer: GatewayAnswer) -> str:
    """Why a request was refused, in one line."""
    order_id = json.loads(payload).get("order_id", "")
    try:
        problem = answer.json()
        why = problem.get("detail") or problem.get("title") or ""
    except ValueError:
        why = answer.payload[:200].decode(errors="replace")
    return f"{order_id}: {answer.status} {why}".rstrip()


def told(report: LoadReport, outcomes: Counter[str] | None = None) -> dict[str, object]:
    """The report for programs, as JSON types."""
    found: dict[str, object] = {} if outcomes is None else {"outcomes": dict(sorted(outcomes.items()))}
    return found | {
        "requests": report.answered + report.failed,
        "seconds": round(report.seconds, 3),
        "per_second": round(report.per_second, 1),
        "statuses": {str(status): count for status, count in sorted(report.statuses.items())},
        "unanswered": report.failed,
        "retries": report.retried,
        "latency_ms": _latencies_ms(report.latencies_s),
        "latency_ms_by_status": {
            str(status): _latencies_ms(latencies) for status, latencies in sorted(report.by_status.items())
        },
    }


def _latencies_ms(latencies_s: "array[float]") -> dict[str, float]:
    if not latencies_s:
        return {}
    return {name: round(percentile(latencies_s, percent) * 1000, 2) for name, percent in _PERCENTILES}


def show(report: LoadReport, outcomes: Counter[str] | None = None) -> None:
    """Print the report for people on standard output."""
    table = Table(title=f"{report.answered + report.failed:,} requests in {report.seconds:.1f} s", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    for outcome, count in (outcomes or Counter[str]()).most_common():
        table.add_row(outcome, f"{count:,}")
    if outcomes is not None:
        table.add_section()
    for status, count in sorted(report.statuses.items()):
        table.add_row(f"answered {status}", f"{count:,}")
    if report.failed or outcomes is not None:
        table.add_row("unanswered", f"{report.failed:,}")
    table.add_row("retries", f"{report.retried:,}")
    table.add_row("answers/s", f"{report.per_second:,.0f}")
    for name, latency_ms in _latencies_ms(report.latencies_s).items():
        table.add_row(f"latency, {name}", f"{latency_ms:.1f} ms")
    if len(report.by_status) > 1:
        for status, latencies in sorted(report.by_status.items()):
            found = _latencies_ms(latencies)
            table.add_row(f"latency of {status}, p50 and p95", f"{found['p50']:.1f} and {found['p95']:.1f} ms")
    _print(table)


def _print(table: Table) -> None:
    # A fixed width without a terminal: logs of CI would wrap at 80, or not at all.
    Console(width=None if os.isatty(1) else 100).print(table)


def show_import(imported: ImportReport) -> None:
    """Print what was found in the files, for people, on standard output."""
    table = Table(title=f"{imported.orders:,} orders", title_justify="left")
    table.add_column("what")
    table.add_column("orders", justify="right")
    if imported.accepted:
        table.add_row("accepted", f"{imported.accepted:,}")
    if imported.ready > imported.accepted:
        table.add_row("ready, not sent", f"{imported.ready - imported.accepted:,}")
    for state, count in imported.skipped.most_common():
        table.add_row(f"left out: {state}", f"{count:,}")
    table.add_row("rejected", f"{len(imported.rejected):,}")
    if imported.refunds:
        table.add_row("refunded since, wholly or in part: not credited", f"{len(imported.refunds):,}")
    for remark, orders in imported.remarks.items():
        table.add_row(remark, f"{len(orders):,}")
    _print(table)


class Bar:
    """A progress line with outcomes so far; nothing without a terminal.

    It is drawn with answers, a few times a second: a thread for it would take CPU time from what is measured.
    """

    def __init__(self, total: int | None, outcomes: Counter[str]) -> None:
        """`outcomes` is read whenever the line is drawn; without a total only the count so far is shown."""
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[found]}"), TimeElapsedColumn())
        console = Console(stderr=True)
        self._bars = Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal)
        self._task = self._bars.add_task("", total=total, found="")
        self._outcomes = outcomes
        self._drawn_at = 0.0

    def __enter__(self) -> "Bar":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._draw(self._outcomes.total())
        self._bars.stop()

    def moved(self) -> None:
        """Call this with each answer."""
        now = time.monotonic()
        if now - self._drawn_at >= _DRAW_S:
            self._drawn_at = now
            self._draw(self._outcomes.total())

    def _draw(self, answered: int) -> None:
        found = ", ".join(f"{count:,} {outcome}" for outcome, count in self._outcomes.most_common())
        self._bars.update(self._task, completed=answered, found=found, refresh=True)
