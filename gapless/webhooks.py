"""`gapless webhooks`: a seller's webhook endpoints, what was sent to them, and replays."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from domain.refusals import Refusal
from domain.webhook import EVENT_TYPES
from gapless.delivery_log import (
    accepted,
    log_options,
    print_table,
    replay_filter,
    replay_options,
    run,
    show_log,
    show_replayed,
    table,
    types_of,
)
from gapless.local import data_option, settings_for
from providers.webhooks import public_key_text, secret_text
from sinks.postgres import delivery_log
from sinks.postgres import webhooks as store
from sinks.postgres.delivery_log import DeliverySummary, LogFilter
from sinks.postgres.sealing import UnreadableSecretError, sealing_for
from sinks.postgres.session import Connection
from sinks.postgres.webhooks import Endpoint, Secrets

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
    made = run(
        settings,
        lambda connection: store.create(
            connection,
            seller_id,
            url,
            types_of(events),
            description,
            datetime.now(UTC),
            os.urandom,
            sealing_for(settings),
            may_be_plain=bool(settings.webhooks_allow),
        ),
    )
    endpoint, secrets = accepted(made)
    click.echo(endpoint.endpoint_id)
    _show_secrets(secrets)


@webhooks.command("list")
@_seller
@data_option
def list_(seller_id: str, data: Path | None) -> None:
    """List the seller's endpoints."""
    found = run(settings_for(data), lambda connection: store.read_all(connection, seller_id))
    shown = table("id", "state", "url", "events", "description")
    for each in found:
        shown.add_row(each.endpoint_id, _state(each), each.url, ",".join(each.events) or "all", each.description)
    print_table(shown)
    click.echo(f"{len(found)} endpoints")


@webhooks.command("set")
@_seller
@_endpoint
@click.option("--url")
@_events
@click.option("--description")
@click.option(
    "--state",
    type=click.Choice([store.ACTIVE, store.PAUSED]),
    help="Deliveries to a paused endpoint wait; active tries at once what is open.",
)
@data_option
def set_(seller_id: str, endpoint_id: str, data: Path | None, **given: Any) -> None:
    """Change, pause or resume an endpoint; a disabled one is made active again."""
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("nothing to set")
    if "events" in changes:
        changes["events"] = types_of(changes["events"])
    settings = settings_for(data)
    changed = run(
        settings,
        lambda connection: store.update(
            connection, seller_id, endpoint_id, changes, may_be_plain=bool(settings.webhooks_allow)
        ),
    )
    endpoint = _known(accepted(changed))
    click.echo(f"{endpoint.endpoint_id}: set {', '.join(changes)}; {_state(endpoint)}")


@webhooks.command()
@_seller
@_endpoint
@data_option
def remove(seller_id: str, endpoint_id: str, data: Path | None) -> None:
    """Delete an endpoint, and what is still to be sent to it."""
    if not run(settings_for(data), lambda connection: store.delete(connection, seller_id, endpoint_id)):
        raise click.ClickException(_UNKNOWN)
    click.echo(f"removed {endpoint_id}")


@webhooks.command()
@_seller
@_endpoint
@click.option("--rotate", is_flag=True, help="Make new ones; the ones before sign along for 24 hours.")
@data_option
def secret(seller_id: str, endpoint_id: str, rotate: bool, data: Path | None) -> None:
    """Print what an endpoint's deliveries are verified with."""

    settings = settings_for(data)
    sealing = sealing_for(settings)

    async def read(connection: Connection) -> Secrets | None:
        if rotate:
            return await store.rotate(connection, seller_id, endpoint_id, datetime.now(UTC), os.urandom, sealing)
        return await store.read_secrets(connection, seller_id, endpoint_id, sealing)

    try:
        _show_secrets(_known(run(settings, read)))
    except UnreadableSecretError as error:
        raise click.ClickException(str(error)) from None


@webhooks.command()
@data_option
def encrypt(data: Path | None) -> None:
    """Encrypt the secrets of all sellers' endpoints under the first of GAPLESS_SECRET_KEYS."""
    settings = settings_for(data)
    if settings.secret_keys is None:
        raise click.ClickException("GAPLESS_SECRET_KEYS is not set")
    sealing = sealing_for(settings)
    try:
        changed, count = run(settings, lambda connection: store.encrypt_secrets(connection, sealing))
    except UnreadableSecretError as error:
        raise click.ClickException(f"{error}: put the former keys behind the new one; nothing was changed") from None
    click.echo(f"encrypted {changed} of {count}")


@webhooks.command()
@_seller
@_endpoint
@data_option
def test(seller_id: str, endpoint_id: str, data: Path | None) -> None:
    """Send a test event; print the delivery's id."""
    made = run(
        settings_for(data),
        lambda connection: store.send_test(connection, seller_id, endpoint_id, datetime.now(UTC), os.urandom),
    )
    click.echo(_known(made))


@webhooks.command()
@_seller
@_endpoint
@log_options
@data_option
def log(
    seller_id: str, endpoint_id: str, state: str | None, order_id: str | None, limit: int, data: Path | None
) -> None:
    """List deliveries, newest first, each with what its last try has come to."""
    wanted = LogFilter(order_id=order_id, state=state)

    async def read(connection: Connection) -> list[DeliverySummary]:
        _known(await store.read(connection, seller_id, endpoint_id))
        return await delivery_log.read_log(connection, seller_id, endpoint_id, wanted, None, limit)

    show_log(run(settings_for(data), read))


@webhooks.command()
@_seller
@_endpoint
@replay_options
@data_option
def replay(
    seller_id: str,
    endpoint_id: str,
    dry_run: bool,
    data: Path | None,
    **given: Any,
) -> None:
    """Send finished deliveries again, under their own ids: those with these ids, or all that meet every condition."""
    wanted = replay_filter(**given)

    async def send(connection: Connection) -> int | Refusal:
        _known(await store.read(connection, seller_id, endpoint_id))
        return await delivery_log.replay(connection, seller_id, endpoint_id, wanted, dry_run=dry_run)

    count = accepted(run(settings_for(data), send))
    show_replayed(count, dry_run=dry_run)


_UNKNOWN = "the seller has no such endpoint: `gapless webhooks list SELLER` lists them"


def _state(endpoint: Endpoint) -> str:
    if endpoint.disabled_reason:
        return f"{endpoint.state} ({endpoint.disabled_reason})"
    return "failing" if endpoint.failing_since is not None and endpoint.state == store.ACTIVE else endpoint.state


def _show_secrets(secrets: Secrets) -> None:
    click.echo(f"secret      {secret_text(secrets.hmac_secret)}")
    click.echo(f"public key  {public_key_text(secrets.ed25519_seed)}")


def _known(result: _Result | None) -> _Result:
    if result is None:
        raise click.ClickException(_UNKNOWN)
    return result
