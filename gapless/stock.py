"""`gapless stock`: fill and check Redis' copy of stock, before and after a sale."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import click
import psycopg
from rich.console import Console
from rich.table import Table

from admission.mirror import SHARDS_MAX, Mirror
from admission.reconcile import Drift, Reconciler
from admission.unavailable import RedisUnavailableError
from gapless.local import data_option, settings_for
from runtime.settings import Settings
from sinks.postgres.levels import read_sellers_with_stock
from sinks.postgres.session import Session

EXIT_DRIFT = 1
_WIDTH = 120
_Result = TypeVar("_Result")

_seller = click.option("--seller", "seller_id", help="The seller.  [default: the only one that has stock]")


@click.group()
def stock() -> None:
    """Copy stock to Redis before a sale, and compare both afterwards. Redis only hints: Postgres decides."""


@stock.command()
@click.argument("skus", metavar="SKU...", nargs=-1, required=True)
@_seller
@click.option(
    "--shards",
    type=click.IntRange(1, SHARDS_MAX),
    default=1,
    show_default=True,
    help="Divide each SKU's counter in Redis into this many.",
)
@data_option
def preload(skus: tuple[str, ...], seller_id: str | None, shards: int, data: Path | None) -> None:
    """Copy the levels of these SKUs from Postgres to Redis now."""

    seller, unknown, complete = _run(
        data, lambda mirror, session: copy_levels(mirror, session, list(dict.fromkeys(skus)), shards, seller_id)
    )
    if unknown:
        raise click.ClickException(f"{seller} has no stock of {', '.join(unknown)}: set it with PUT /v1/stock/<sku>")
    if not complete:
        raise click.ClickException("Redis was restarted meanwhile: run this again")
    counters = "one counter" if shards == 1 else f"{shards} counters"
    click.echo(f"{seller}: {len(set(skus))} SKUs are in Redis, each as {counters}")


@stock.command()
@click.option("--dry-run", is_flag=True, help="Change nothing, and exit with 1 if they differ.")
@click.option("--seller", "seller_id", help="Only this seller.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_option
def reconcile(dry_run: bool, seller_id: str | None, as_json: bool, data: Path | None) -> int:
    """Compare Redis with Postgres, show the differences, and correct Redis.

    Exits with 0 if both agree in the end, with 1 if a difference remains or a service can't be read.
    """

    async def compare(mirror: Mirror, session: Session) -> tuple[list[Drift], list[str]]:
        sellers = [seller_id] if seller_id else await _sellers(session)
        reconciler = Reconciler(mirror, session)
        found: list[Drift] = []
        begun: list[str] = []
        for seller in sellers:
            complete, run_id, *_ = await mirror.tick(seller)
            # If Redis has lost its data there is nothing to compare: its copy is not used, and is rebuilt.
            if complete:
                found += await reconciler.reconcile(seller, correct=not dry_run)
            elif dry_run or not await reconciler.rebuild(seller, run_id):
                begun.append(seller)
        return found, begun

    drifts, begun = _run(data, compare)
    if as_json:
        rows = [{**asdict(drift), "size": drift.size} for drift in drifts]
        click.echo(json.dumps({"drifts": rows, "not_copied": begun, "corrected": not dry_run}, indent=2))
    else:
        _show(drifts, begun, dry_run)
    return EXIT_DRIFT if begun or (drifts and dry_run) else 0


def _show(drifts: list[Drift], begun: list[str], dry_run: bool) -> None:
    for seller in begun:
        click.echo(f"{seller}: Redis has no full copy, so its data is not used and all orders are admitted")
    if not drifts:
        if not begun:
            click.echo("Redis and Postgres agree")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("seller", "SKU", "Redis", "Postgres", "size", "why"):
        table.add_column(name, justify="right" if name in ("Redis", "Postgres", "size") else "left")
    for drift in drifts:
        ours = "-" if drift.redis is None else f"{drift.redis:,}"
        table.add_row(drift.seller_id, drift.sku, ours, f"{drift.postgres:,}", f"{drift.size:,}", drift.why)
    Console(highlight=False, markup=False, width=_WIDTH).print(table)
    click.echo(f"{len(drifts)} SKUs {'differ' if dry_run else 'differed, and are corrected'}")


async def copy_levels(
    mirror: Mirror, session: Session, skus: list[str], shards: int, seller_id: str | None = None
) -> tuple[str, list[str], bool]:
    """Copy the levels to Redis; returns the seller, the SKUs unknown to Postgres, and whether the copy is complete."""
    seller = seller_id or await _only_seller(session)
    reconciler = Reconciler(mirror, session)
    unknown = await reconciler.preload(seller, skus, shards)
    complete, run_id, *_ = await mirror.tick(seller)
    return seller, unknown, complete or await reconciler.rebuild(seller, run_id)


async def connected(settings: Settings, work: Callable[[Mirror, Session], Awaitable[_Result]]) -> _Result:
    """Do `work` with connections of its own."""
    mirror = Mirror(settings.redis_url.get_secret_value())
    session = Session(settings.postgres_url.get_secret_value())
    try:
        return await work(mirror, session)
    finally:
        await session.close()
        await mirror.close()


async def _sellers(session: Session) -> list[str]:
    async with session.connection() as connection:
        return await read_sellers_with_stock(connection)


async def _only_seller(session: Session) -> str:
    sellers = await _sellers(session)
    if len(sellers) != 1:
        raise click.UsageError("give --seller: " + (", ".join(sellers) or "no seller has stock"))
    return sellers[0]


def _run(data: Path | None, work: Callable[[Mirror, Session], Awaitable[_Result]]) -> _Result:
    """Do `work`; known errors become one line."""
    try:
        return asyncio.run(connected(settings_for(data), work))
    except RedisUnavailableError as error:
        raise click.ClickException(f"cannot query Redis: {error}") from None
    except psycopg.errors.UndefinedTable:
        raise click.ClickException("Postgres has no tables yet: run `gapless migrate`") from None
