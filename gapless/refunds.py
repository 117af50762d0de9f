"""`gapless refunds`: find refunds that were made at the payment provider itself."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import psycopg

from gapless.local import data_option, settings_for
from gapless.moments import Moment
from runtime.settings import Settings
from sinks.postgres.refund_passes import ask_for_passes
from sinks.postgres.session import Session

_DAYS = 30


@click.group()
def refunds() -> None:
    """Find refunds that were made in the payment provider's dashboard."""


@refunds.command()
@click.option(
    "--since", type=Moment(), help=f"Only refunds that were made at this time or later.  [default: {_DAYS} days ago]"
)
@data_option
def find(since: datetime | None, data: Path | None) -> None:
    """Have the provider's list of refunds read now, further back than usual.

    A payments worker reads it, 100 refunds a second. Refunds that it finds there get their credit notes; what can't be
    credited is in the order, with the reason, and `gapless audit` reports it.
    """
    after = since or datetime.now(UTC) - timedelta(days=_DAYS)
    providers = asyncio.run(_find(settings_for(data), after))
    if not providers:
        raise click.ClickException("no payments worker has ever started: start one, and run this again")
    click.echo(
        f"refunds made at {' and '.join(providers)} since {after.astimezone(UTC):%Y-%m-%d %H:%M} UTC are compared now"
    )


async def _find(settings: Settings, since: datetime) -> list[str]:
    session = Session(settings.postgres_url.get_secret_value())
    try:
        async with session.connection() as connection:
            return await ask_for_passes(connection, since)
    except psycopg.errors.UndefinedTable:
        raise click.ClickException("Postgres has no tables of this release: run `gapless migrate`") from None
    finally:
        await session.close()
