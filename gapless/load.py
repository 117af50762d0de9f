"""`gapless load`: send the orders of files, or generated checkouts."""

import json
import random
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click
import uvloop

from gapless.load_checkouts import checkouts
from gapless.load_products import products
from gapless.load_report import Bar, is_refused, show, show_import, target, target_options, told
from producers.client import GaplessClient, GatewayAnswer
from producers.importers.files import found
from producers.importers.found import File, Options
from producers.importers.report import ImportReport
from producers.load import WORKERS, WORKERS_OPEN_LOOP, LoadReport, run, with_repeats
from producers.wire import WireClient


class _Load(click.Group):
    """`gapless load FILE…` is `gapless load invoices FILE…`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default subcommand if none is given."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["invoices", *args]
        return super().parse_args(ctx, args)


class _Rate(click.ParamType):
    """A tax rate in percent."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Return a decimal from 0 to 100."""
        try:
            rate = Decimal(str(value).removesuffix("%"))
        except InvalidOperation:
            rate = Decimal(-1)
        if not rate.is_finite() or not 0 <= rate <= 100:
            self.fail(f"{value!r} is no rate from 0 to 100, such as 20 or 8.875", param, ctx)
        return rate


@click.group(cls=_Load)
def load() -> None:
    """Send requests: `load FILE…` the orders of files, `load products FILE…` products, `load checkouts` made ones."""


load.add_command(checkouts)
load.add_command(products)


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
@click.option("--dry-run", is_flag=True, help="Say what would be sent and what is left out; send nothing.")
@click.option("--strict", is_flag=True, help="Send nothing unless every order can be sent.")
@click.option("--encoding", help="Of the files, such as cp1250. Default: recognised.")
@click.option("--vat-rate", type=_Rate(), help="The tax in the amounts of exports that say no tax (Stripe's payments).")
@click.option("--currency", help="Of exports that say none, such as EUR (some of WooCommerce's).")
@click.option(
    "--without-email", is_flag=True, help="Send also orders whose buyer has an address and no e-mail address."
)
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
    dry_run: bool,
    strict: bool,
    encoding: str | None,
    vat_rate: Decimal | None,
    currency: str | None,
    without_email: bool,
    data: Path,
    url: str | None,
    api_key_file: Path | None,
    as_json: bool,
) -> int:
    """Send the orders of files: a shop's export, or JSON Lines with one body of POST /v1/invoices a line.

    Orders are independent: those that can be sent are sent, and the others are listed with their name, row and reason.
    Orders that were not paid are skipped and counted. Exits with 1 if any other was not sent or got no answer. Sending
    a file again is harmless.
    """
    where, api_key = ("", "") if dry_run else target(data, url, api_key_file)
    options = Options(encoding, vat_rate, currency, without_email, are_bodies_checked=dry_run or strict)
    sources = [File(path, options) for path in files]
    if dry_run or strict:
        checked = ImportReport()
        for _ in checked.payloads(found(sources)):
            pass
        if dry_run or not checked.is_complete:
            return _tell(checked, None, as_json=as_json)
    imported = ImportReport()
    outcomes: Counter[str] = Counter()

    def look(payload: bytes, answer: GatewayAnswer) -> None:
        imported.take(payload, answer)
        outcomes["rejected" if is_refused(answer.status) else "accepted"] += 1
        bar.moved()

    async def send(payloads: Iterable[bytes]) -> LoadReport:
        workers = WORKERS if rate is None else WORKERS_OPEN_LOOP
        make = WireClient if where.startswith("http://") else GaplessClient
        chance = random.Random(seed)  # noqa: S311 - spreads retries, guards nothing.
        async with make(where, api_key, connections=workers, give_up_after_s=give_up_after, chance=chance) as client:
            return await run(client, payloads, rate=rate, workers=workers, count_max=count, wait_s=wait, on_answer=look)

    with Bar(count, outcomes) as bar:
        report = uvloop.run(send(with_repeats(imported.payloads(found(sources)), repeat, seed=seed)))
    imported.give_up()
    return _tell(imported, report, as_json=as_json)


def _tell(imported: ImportReport, report: LoadReport | None, *, as_json: bool) -> int:
    """Print the result; `report` is about the orders that were sent."""
    if as_json:
        click.echo(json.dumps(imported.told() | ({} if report is None else told(report)), indent=2))
    else:
        show_import(imported)
        if report is not None:
            show(report)
    failures = [] if report is None else report.failures
    for line in (*imported.listed(), *failures):
        click.echo(line, err=True)
    return 0 if imported.is_complete and not failures else 1
