"""`gapless load`: send the invoice requests of files, or checkouts made up for the purpose."""

import json
import random
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import click
import uvloop

from gapless.load_checkouts import checkouts
from gapless.load_report import is_refused, refusal, show, target, target_options, told
from producers.client import GaplessClient, GatewayAnswer
from producers.files import FileError, read_requests
from producers.load import WORKERS, WORKERS_OPEN_LOOP, LoadReport, run, with_repeats
from producers.wire import WireClient

#: Answers that were no: so many are shown with their reason.
_REFUSALS_MAX = 10


class _Load(click.Group):
    """`gapless load FILE…` is `gapless load invoices FILE…`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default subcommand if none is given."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["invoices", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Load)
def load() -> None:
    """Send requests: `load FILE…` the invoice requests of files, `load checkouts` checkouts made up on the way."""


load.add_command(checkouts)


@load.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE…")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Requests a second. Default: full speed.")
@click.option(
    "--repeat",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.0,
    metavar="SHARE",
    help="Share of all requests that repeat an earlier one, such as 0.1.",
)
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many requests, repeats included.")
@click.option("--wait", type=click.IntRange(1, 30), metavar="SECONDS", help="Have each answer wait for the number.")
@click.option("--seed", type=int, default=1, show_default=True, help="Determines what is repeated, and when.")
@click.option("--give-up-after", type=float, default=60.0, show_default=True, help="Seconds a request is retried.")
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def invoices(
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
    where, api_key = target(data, url, api_key_file)
    refusals: list[str] = []

    def look(payload: bytes, answer: GatewayAnswer) -> None:
        if is_refused(answer.status) and len(refusals) < _REFUSALS_MAX:
            refusals.append(refusal(payload, answer))

    async def send(payloads: Iterable[bytes]) -> LoadReport:
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
        click.echo(json.dumps(told(report), indent=2))
    else:
        show(report)
    for line in (*refusals, *report.failures):
        click.echo(line, err=True)
    refused = any(is_refused(status) for status in report.statuses)
    return 1 if refused or report.failed else 0
