"""What the commands of webhooks and e-mail share: the log of deliveries, replays, and how they reach Postgres."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import psycopg
from rich.console import Console
from rich.table import Table

from domain.delivery import FINISHED, DeliveryState
from domain.refusals import Refusal
from gapless.moments import Moment
from runtime.settings import Settings
from sinks.postgres.delivery_log import DeliverySummary, LogFilter
from sinks.postgres.session import Connection

_CONNECT_SECONDS_MAX = 10
_WIDTH = 160
_Result = TypeVar("_Result")
_Command = TypeVar("_Command", bound=Callable[..., Any])


def log_options(command: _Command) -> _Command:
    """Which deliveries are listed."""
    for option in (
        click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="So many at most."),
        click.option("--order", "order_id", help="Only those about this order."),
        click.option("--state", type=click.Choice([each.value for each in DeliveryState]), help="Only these."),
    ):
        command = option(command)
    return command


def replay_options(command: _Command) -> _Command:
    """Which deliveries are sent again: `replay_filter` reads them, but for `dry_run`."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Send nothing: say how many would be sent."),
        click.option("--until", type=Moment(), help="Made before this time."),
        click.option("--since", type=Moment(), help="Made at this time or later, such as 2026-11-29T14:03Z."),
        click.option("--order", "order_id", help="Only those about this order."),
        click.option("--state", type=click.Choice([each.value for each in FINISHED]), help="Only these."),
        click.argument("ids", metavar="[DELIVERY]...", nargs=-1),
    ):
        command = option(command)
    return command


def replay_filter(
    ids: tuple[str, ...], state: str | None, order_id: str | None, since: datetime | None, until: datetime | None
) -> LogFilter:
    """The deliveries that are meant. Raises `UsageError` where that is all of them."""
    wanted = LogFilter(ids, order_id, state, since, until)
    if wanted == LogFilter(until=until):
        raise click.UsageError("say which: ids, or at least one of --state, --order and --since")
    return wanted


def show_replayed(count: int, *, dry_run: bool) -> None:
    """Say how many are sent again."""
    click.echo(f"{count:,} would be sent again" if dry_run else f"{count:,} are sent again")


def show_log(deliveries: Iterable[DeliverySummary]) -> None:
    """Print deliveries, each with what its last try has come to."""
    shown = table("id", "made", "type", "order", "sequence", "state", "tries", "last answer")
    for each in deliveries:
        answer = each.bounce or (str(each.status) if each.status is not None else each.error or "-")
        shown.add_row(
            each.delivery_id,
            each.created_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            each.type,
            each.order_id or "-",
            str(each.sequence),
            each.state,
            str(each.attempts),
            answer,
        )
    print_table(shown)


def types_of(given: str | None) -> list[str]:
    """The types of a comma-separated list."""
    return [each.strip() for each in (given or "").split(",") if each.strip()]


def table(*columns: str) -> Table:
    """An empty table."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=True)
    return table


def print_table(table: Table) -> None:
    """Print it, unless it is empty."""
    if table.row_count:
        Console(highlight=False, markup=False, width=_WIDTH).print(table)


def accepted(result: _Result | Refusal) -> _Result:
    """The result. Raises `ClickException` for a refusal."""
    if isinstance(result, Refusal):
        raise click.ClickException(str(result))
    return result


def run(settings: Settings, work: Callable[[Connection], Awaitable[_Result]]) -> _Result:
    """Do `work` with a connection of its own; what is known to go wrong becomes one line."""

    async def connected() -> _Result:
        async with await psycopg.AsyncConnection.connect(
            settings.postgres_url.get_secret_value(), autocommit=True, connect_timeout=_CONNECT_SECONDS_MAX
        ) as connection:
            return await work(connection)

    try:
        return asyncio.run(connected())
    except psycopg.errors.UndefinedTable:
        raise click.ClickException("Postgres has no tables of this release: run `gapless migrate`") from None
