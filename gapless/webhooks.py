"""`gapless webhooks`: a seller's webhook endpoints, what was sent to them, and replays."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import psycopg
from rich.console import Console
from rich.table import Table

from domain.delivery import DeliveryState
from domain.refusals import Refusal
from domain.webhook import EVENT_TYPES
from gapless.local import data_option, settings_for
from gapless.moments import Moment
from providers.webhooks import public_key_text, secret_text
from runtime.settings import Settings
from sinks.postgres import webhooks as store
from sinks.postgres.session import Connection
from sinks.postgres.webhooks import DeliverySummary, Endpoint, LogFilter, Secrets

_CONNECT_SECONDS_MAX = 10
_WIDTH = 160
_Result = TypeVar("_Result")

_seller = click.argument("seller_id", metavar="SELLER")
_endpoint = click.argument("endpoint_id", metavar="ENDPOINT")
_events = click.option(
    "--events", help=f"Types of events, comma separated; empty for all: {', '.join(EVENT_TYPES)}.", metavar="TYPE,…"
)


@click.group()
def webhooks() -> None:
    """Show and change a seller's webhook endpoints, and send again what was sent."""


@webhooks.command()
@_seller
@click.argument("url")
@_events
@click.option("--description", default="", help="For people.")
@data_option
def add(seller_id: str, url: str, events: str | None, description: str, data: Path | None) -> None:
    """Send the seller's events to URL; print the endpoint's id, and what its deliveries are verified with."""
    settings = settings_for(data)
    made = _run(
        settings,
        lambda connection: store.create(
            connection,
            seller_id,
            url,
            _types(events),
            description,
            datetime.now(UTC),
            os.urandom,
            may_be_plain=bool(settings.webhooks_allow),
        ),
    )
    endpoint, secrets = _accepted(made)
    click.echo(endpoint.endpoint_id)
    _show_secrets(secrets)


@webhooks.command("list")
@_seller
@data_option
def list_(seller_id: str, data: Path | None) -> None:
    """List the seller's endpoints."""
    found = _run(settings_for(data), lambda connection: store.read_all(connection, seller_id))
    table = _table("id", "state", "url", "events", "description")
    for each in found:
        table.add_row(each.endpoint_id, _state(each), each.url, ",".join(each.events) or "all", each.description)
    _print(table)
    click.echo(f"{len(found)} endpoints")


@webhooks.command("set")
@_seller
@_endpoint
@click.option("--url")
@_events
@click.option("--description")
@click.option(
    "--state", type=click.Choice([store.ACTIVE, store.PAUSED]), help="Deliveries to a paused endpoint wait for it."
)
@data_option
def set_(seller_id: str, endpoint_id: str, data: Path | None, **given: Any) -> None:
    """Change, pause or resume an endpoint; a disabled one is made active again."""
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("nothing to set")
    if "events" in changes:
        changes["events"] = _types(changes["events"])
    settings = settings_for(data)
    changed = _run(
        settings,
        lambda connection: store.update(
            connection, seller_id, endpoint_id, changes, may_be_plain=bool(settings.webhooks_allow)
        ),
    )
    endpoint = _known(_accepted(changed))
    click.echo(f"{endpoint.endpoint_id}: set {', '.join(changes)}; {_state(endpoint)}")


@webhooks.command()
@_seller
@_endpoint
@data_option
def remove(seller_id: str, endpoint_id: str, data: Path | None) -> None:
    """Delete an endpoint, and what is still to be sent to it."""
    if not _run(settings_for(data), lambda connection: store.delete(connection, seller_id, endpoint_id)):
        raise click.ClickException(_UNKNOWN)
    click.echo(f"removed {endpoint_id}")


@webhooks.command()
@_seller
@_endpoint
@click.option("--rotate", is_flag=True, help="Make new ones; the ones before sign along for 24 hours.")
@data_option
def secret(seller_id: str, endpoint_id: str, rotate: bool, data: Path | None) -> None:
    """Print what an endpoint's deliveries are verified with."""

    async def read(connection: Connection) -> Secrets | None:
        if rotate:
            return await store.rotate(connection, seller_id, endpoint_id, datetime.now(UTC), os.urandom)
        return await store.read_secrets(connection, seller_id, endpoint_id)

    _show_secrets(_known(_run(settings_for(data), read)))


@webhooks.command()
@_seller
@_endpoint
@data_option
def test(seller_id: str, endpoint_id: str, data: Path | None) -> None:
    """Send a test event; print the delivery's id."""
    made = _run(
        settings_for(data),
        lambda connection: store.send_test(connection, seller_id, endpoint_id, datetime.now(UTC), os.urandom),
    )
    click.echo(_known(made))


@webhooks.command()
@_seller
@_endpoint
@click.option("--state", type=click.Choice([each.value for each in DeliveryState]), help="Only these.")
@click.option("--order", "order_id", help="Only those about this order.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="So many at most.")
@data_option
def log(
    seller_id: str, endpoint_id: str, state: str | None, order_id: str | None, limit: int, data: Path | None
) -> None:
    """List deliveries, newest first, each with what its last try has come to."""
    wanted = LogFilter(order_id=order_id, state=state)

    async def read(connection: Connection) -> list[DeliverySummary]:
        _known(await store.read(connection, seller_id, endpoint_id))
        return await store.read_log(connection, seller_id, endpoint_id, wanted, None, limit)

    table = _table("id", "made", "type", "order", "sequence", "state", "tries", "last answer")
    for each in _run(settings_for(data), read):
        answer = str(each.status) if each.status is not None else each.error or "-"
        table.add_row(
            each.delivery_id,
            each.created_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            each.type,
            each.order_id or "-",
            str(each.sequence),
            each.state,
            str(each.attempts),
            answer,
        )
    _print(table)


@webhooks.command()
@_seller
@_endpoint
@click.argument("ids", metavar="[DELIVERY]...", nargs=-1)
@click.option(
    "--state", type=click.Choice([DeliveryState.DEAD.value, DeliveryState.DELIVERED.value]), help="Only these."
)
@click.option("--order", "order_id", help="Only those about this order.")
@click.option("--since", type=Moment(), help="Made at this time or later, such as 2026-11-29T14:03Z.")
@click.option("--until", type=Moment(), help="Made before this time.")
@click.option("--dry-run", is_flag=True, help="Send nothing: say how many would be sent.")
@data_option
def replay(
    seller_id: str,
    endpoint_id: str,
    ids: tuple[str, ...],
    state: str | None,
    order_id: str | None,
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    data: Path | None,
) -> None:
    """Send finished deliveries again, under their own ids: those with these ids, or all that meet every condition."""
    wanted = LogFilter(ids, order_id, state, since, until)
    if wanted == LogFilter(until=until):
        raise click.UsageError("say which: ids, or at least one of --state, --order and --since")

    async def send(connection: Connection) -> int | Refusal:
        _known(await store.read(connection, seller_id, endpoint_id))
        return await store.replay(connection, seller_id, endpoint_id, wanted, dry_run=dry_run)

    count = _accepted(_run(settings_for(data), send))
    click.echo(f"{count:,} would be sent again" if dry_run else f"{count:,} are sent again")


_UNKNOWN = "the seller has no such endpoint: `gapless webhooks list SELLER` lists them"


def _types(given: str | None) -> list[str]:
    return [each.strip() for each in (given or "").split(",") if each.strip()]


def _state(endpoint: Endpoint) -> str:
    if endpoint.disabled_reason:
        return f"{endpoint.state} ({endpoint.disabled_reason})"
    return "failing" if endpoint.failing_since is not None and endpoint.state == store.ACTIVE else endpoint.state


def _show_secrets(secrets: Secrets) -> None:
    click.echo(f"secret      {secret_text(secrets.hmac_secret)}")
    click.echo(f"public key  {public_key_text(secrets.ed25519_seed)}")


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=True)
    return table


def _print(table: Table) -> None:
    if table.row_count:
        Console(highlight=False, markup=False, width=_WIDTH).print(table)


def _accepted(result: _Result | Refusal) -> _Result:
    if isinstance(result, Refusal):
        raise click.ClickException(str(result))
    return result


def _known(result: _Result | None) -> _Result:
    if result is None:
        raise click.ClickException(_UNKNOWN)
    return result


def _run(settings: Settings, work: Callable[[Connection], Awaitable[_Result]]) -> _Result:
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
