"""`gapless order`: the trail of an order."""

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import click
import psycopg
from rich.console import Console
from rich.table import Table

from gapless.local import data_option, settings_for
from runtime.records import RecordReader
from runtime.settings import Settings
from sinks.postgres.session import Session
from sinks.trail import FoundTrails, OrderTrail, Outstanding
from sinks.trail_finder import SEARCHED_MAX, SECONDS_MAX, find_trails

_WIDTH_UNSEEN = 130


@click.command()
@click.argument("wanted", metavar="ORDER")
@click.option("--seller", "seller_id", help="Only orders of this seller.  [default: all sellers]")
@click.option("--json", "as_json_text", is_flag=True, help="Print JSON.")
@data_option
def order(wanted: str, seller_id: str | None, as_json_text: bool, data: Path | None) -> None:
    """Show every step of an order, and what it waits for.

    ORDER is an order id, the number of an invoice, or the e-mail address of a buyer, whose latest orders are shown.

    Exits with 1 if there is no such order. Requests that no agent has read yet are searched for in Kafka.
    """
    if not wanted.isprintable():
        raise click.UsageError("ORDER contains control characters, which no order id and no number has")
    found = asyncio.run(_find(settings_for(data), wanted, seller_id))
    if as_json_text:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        show(found, Console(highlight=False, markup=False, width=None if os.isatty(1) else _WIDTH_UNSEEN))
    if not found.trails:
        whose = "" if seller_id is None else f" of seller {seller_id!r}"
        what = "order of" if "@" in wanted else "order and no invoice"
        raise click.ClickException(f"there is no {what} {wanted!r}{whose}")


async def _find(settings: Settings, wanted: str, seller_id: str | None) -> FoundTrails:
    session = Session(settings.postgres_url.get_secret_value(), default_transaction_read_only="on")
    reader = RecordReader(settings.kafka_bootstrap, seconds_max=SECONDS_MAX, records_max=SEARCHED_MAX)
    try:
        async with session.connection() as connection:
            return await find_trails(connection, reader, wanted, seller_id)
    except psycopg.errors.UndefinedTable:
        raise click.ClickException("Postgres has no tables yet: run `gapless migrate`") from None
    finally:
        await session.close()
        reader.close()


def show(found: FoundTrails, console: Console) -> None:
    """Print a table per order for people, and below it what is outstanding."""
    for trail in found.trails:
        numbers = f", {', '.join(trail.numbers)}" if trail.numbers else ""
        title = f"{trail.order_id} of {trail.seller_id or 'an unknown seller'}: {trail.state}{numbers}"
        console.print(_plain(title), style="bold", soft_wrap=True)
        console.print(_table(trail))
        for each in trail.outstanding:
            console.print(_plain(_outstanding_text(each)), style="yellow", soft_wrap=True)
        if not trail.outstanding:
            console.print("nothing is outstanding")
    for gap in found.gaps:
        console.print(f"note: {gap}", soft_wrap=True)


def _table(trail: OrderTrail) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    has_workers = any(entry.worker for entry in trail.entries)
    has_traces = any(entry.trace_id for entry in trail.entries)
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("by", no_wrap=True)
    table.add_column("step", overflow="fold")
    table.add_column("place", overflow="fold")
    if has_workers:
        table.add_column("worker")
    if has_traces:
        table.add_column("trace", overflow="fold", min_width=16)
    for entry in trail.entries:
        step = f"{entry.what}: {entry.detail}" if entry.detail else entry.what
        cells = [_time(entry.at), entry.by, step, "" if entry.place is None else str(entry.place)]
        cells += [entry.worker] if has_workers else []
        cells += [entry.trace_id] if has_traces else []
        table.add_row(*map(_plain, cells))
    return table


def _outstanding_text(each: Outstanding) -> str:
    text = f"waits for {each.stage} {each.what}, since {_time(each.since)}"
    if each.place is not None:
        text += f" ({each.place}"
        text += "" if each.position is None else f", {each.stage} is at offset {each.position}"
        text += ")"
    return text


def _plain(text: str) -> str:
    """The text without control characters, which records of others may contain and a terminal would obey."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _time(at: datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]
