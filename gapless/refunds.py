"""`gapless refunds`: find refunds that were made at the payment provider itself."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import psycopg

from gapless.local import data_option, settings_for
from gapless.moments import Moment
from runtime.settings import Settings
from sinks.postgres.refund_checks import insert_checks_since
from sinks.postgres.session import Session

_DAYS = 30


@click.group()
def refunds() -> None:
    """Find refunds that were made in the payment provider's dashboard."""


@refunds.command()
@click.option(
    "--since",
    type=Moment(),
    help=f"Only orders whose payment was captured at this time or later.  [default: {_DAYS} days ago]",
)
@click.option("--seller", "seller_id", help="Only orders of this seller.  [default: all sellers]")
@data_option
def find(since: datetime | None, seller_id: str | None, data: Path | None) -> None:
    """Compare the refunds of captured payments with the provider's.

    The payments workers ask the provider, an order at a time. A refund that they find there gets its credit note; what
    can't be credited is in the order, with the reason, and `gapless audit` reports it.
    """
    after = since or datetime.now(UTC) - timedelta(days=_DAYS)
    count = asyncio.run(_find(settings_for(data), after, seller_id))
    click.echo(f"{count:,} {'order is' if count == 1 else 'orders are'} compared with the provider now")


async def _find(settings: Settings, since: datetime, seller_id: str | None) -> int:
    session = Session(settings.postgres_url.get_secret_value())
    try:
        async with session.connection() as connection:
            return await insert_checks_since(connection, since, seller_id)
    except psycopg.errors.UndefinedTable:
        raise click.ClickException("Postgres has no tables of this release: run `gapless migrate`") from None
    finally:
        await session.close()
