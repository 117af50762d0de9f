"""`gapless load`: send the invoice requests of files."""

import json
import os
import random
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.table import Table

from gapless.local import DEFAULT_DATA
from producers.client import Answer, GaplessClient
from producers.files import FileError, read_requests
from producers.load import WORKERS, WORKERS_OPEN_LOOP, Report, run, with_repeats
from producers.wire import WireClient
from runtime.local.stack import Stack

#: Answers that were no: so many are shown with their reason.
_REFUSALS_MAX = 10
_REFUSED_FROM = 400


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE…")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Requests a second. Default: full speed.")
@click.option(
    "--repeat",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.0,
    metavar="SHARE",
    help="Share of all requests that repeat an earlier one, such as 0.1.",
)
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many requests, repeats included.")
@click.option("--wait", type=click.IntRange(1, 30), metavar="SECONDS", help="Have each answer wait for the number.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides what is repeated, and when.")
@click.option("--give-up-after", type=float, default=60.0, show_default=True, help="Seconds a request is retried.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DATA,
    show_default=True,
    help="Folder of the local stack to send to.",
)
@click.option("--url", help="Gateway to send to instead.")
@click.option("--api-key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The key for --url.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def load(
    files: tuple[Path, ...],
    rate: float | None,
    repeat: float,
    count: int | None,
    wait: int | None,
    seed: int,
    give_up_after: float,
    data: Path,
    url: str | None,
    api_key_file: Path | None,
    as_json: bool,
) -> int:
    """Send invoice requests: JSONL, one body of POST /v1/invoices a line, or the CSV that Shopify exports for orders.

    Exits with 1 if a request was refused or stayed unanswered. Sending a file again is harmless.
    """
    where, api_key = _target(data, url, api_key_file)
    refusals: list[str] = []

    def look(payload: bytes, answer: Answer) -> None:
        if answer.status >= _REFUSED_FROM and len(refusals) < _REFUSALS_MAX:
            refusals.append(_refusal(payload, answer))

    async def send(payloads: Iterable[bytes]) -> Report:
        workers = WORKERS if rate is None else WORKERS_OPEN_LOOP
        make = WireClient if where.startswith("http://") else GaplessClient
        async with make(
            where,
            api_key,
            connections=workers,
            give_up_after_s=give_up_after,
            chance=random.Random(seed),  # noqa: S311
        ) as client:
            return await run(client, payloads, rate=rate, workers=workers, count_max=count, wait_s=wait, on_answer=look)

    try:
        payloads = chain.from_iterable(read_requests(path) for path in files)
        report = uvloop.run(send(with_repeats(payloads, repeat, seed=seed)))
    except BaseExceptionGroup as group:
        wrong = group.subgroup(FileError)
        if wrong is None:
            raise
        raise click.ClickException(str(wrong.exceptions[0])) from None
    except FileError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(_as_json(report), indent=2))
    else:
        _show(report)
    for line in (*refusals, *report.failures):
        click.echo(line, err=True)
    refused = any(status >= _REFUSED_FROM for status in report.statuses)
    return 1 if refused or report.failed else 0


def _target(data: Path, url: str | None, api_key_file: Path | None) -> tuple[str, str]:
    """The gateway's URL and the key."""
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


def _refusal(payload: bytes, answer: Answer) -> str:
    order_id = json.loads(payload).get("order_id", "")
    try:
        problem = answer.json()
        why = problem.get("detail") or problem.get("title") or ""
    except ValueError:
        why = answer.payload[:200].decode(errors="replace")
    return f"{order_id}: {answer.status} {why}".rstrip()


def _as_json(report: Report) -> dict[str, object]:
    return {
        "requests": report.answered + report.failed,
        "seconds": round(report.seconds, 3),
        "per_second": round(report.per_second, 1),
        "statuses": {str(status): count for status, count in sorted(report.statuses.items())},
        "unanswered": report.failed,
        "retries": report.retried,
        "latency_ms": {
            name: round(report.percentile_s(percent) * 1000, 2)
            for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100))
        }
        if report.answered
        else {},
    }


def _show(report: Report) -> None:
    table = Table(title=f"{report.answered + report.failed:,} requests in {report.seconds:.1f} s", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    for status, count in sorted(report.statuses.items()):
        table.add_row(f"answered {status}", f"{count:,}")
    if report.failed:
        table.add_row("unanswered", f"{report.failed:,}")
    table.add_row("retries", f"{report.retried:,}")
    table.add_row("answers/s", f"{report.per_second:,.0f}")
    if report.answered:
        for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("slowest", 100)):
            table.add_row(f"latency, {name}", f"{report.percentile_s(percent) * 1000:.1f} ms")
    # A fixed width where nobody looks: logs of CI wrap at 80 otherwise, or not at all.
    Console(width=None if os.isatty(1) else 100).print(table)
