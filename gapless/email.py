"""`gapless email`: a seller's e-mail to its buyers, what was sent, and replays."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from domain.email import ATTACHED, BUYER_TYPES, DOCUMENTS
from domain.refusals import Refusal
from gapless.delivery_log import (
    accepted,
    log_options,
    replay_filter,
    replay_options,
    run,
    show_log,
    show_replayed,
    types_of,
)
from gapless.local import data_option, settings_for
from sinks.postgres import delivery_log
from sinks.postgres import email as store
from sinks.postgres.delivery_log import DeliverySummary, LogFilter
from sinks.postgres.email import EmailSettings
from sinks.postgres.session import Connection
from sinks.postgres.webhooks import ACTIVE, PAUSED

_OFF = "e-mail is off: `gapless email set SELLER --from ADDRESS` turns it on"
_Result = TypeVar("_Result")

_seller = click.argument("seller_id", metavar="SELLER")


@click.group()
def email() -> None:
    """Show and change a seller's e-mail to its buyers, and send again what was sent."""


@email.command("set")
@_seller
@click.option("--from", "sender", help="Address that mails come from; required to turn e-mail on.", metavar="ADDRESS")
@click.option("--reply-to", help="Address for answers; empty for --from.", metavar="ADDRESS")
@click.option(
    "--events", help=f"Types of mails, comma separated; empty for all: {', '.join(BUYER_TYPES)}.", metavar="TYPE,…"
)
@click.option("--documents", type=click.Choice(DOCUMENTS), help="How documents come.  [default: attached]")
@click.option("--state", type=click.Choice([ACTIVE, PAUSED]), help="While it is paused, mails wait.")
@data_option
def set_(seller_id: str, data: Path | None, **given: Any) -> None:
    """Turn e-mail on, or change it; what is left out stays."""
    changes = {name: value for name, value in given.items() if value is not None}
    if "events" in changes:
        changes["events"] = types_of(changes["events"])

    async def put(connection: Connection) -> EmailSettings | Refusal:
        before = await store.read(connection, seller_id)
        if before is None and "sender" not in changes:
            raise click.UsageError("--from is needed to turn e-mail on")
        names = ("sender", "reply_to", "events", "documents", "state")
        known = {name: getattr(before, name) for name in names} if before is not None else _NEW
        return await store.put(connection, seller_id, **{**known, **changes}, now=datetime.now(UTC), chance=os.urandom)

    _show(accepted(run(settings_for(data), put)))


@email.command()
@_seller
@data_option
def show(seller_id: str, data: Path | None) -> None:
    """Print the settings."""
    _show(_known(run(settings_for(data), lambda each: store.read(each, seller_id))))


@email.command()
@_seller
@data_option
def off(seller_id: str, data: Path | None) -> None:
    """Turn e-mail off, with what is still to be sent."""
    if not run(settings_for(data), lambda each: store.delete(each, seller_id)):
        raise click.ClickException(_OFF)
    click.echo("e-mail is off")


@email.command()
@_seller
@click.argument("address")
@data_option
def test(seller_id: str, address: str, data: Path | None) -> None:
    """Send a test mail to ADDRESS; print the delivery's id."""
    sent = run(
        settings_for(data), lambda each: store.send_test(each, seller_id, address, datetime.now(UTC), os.urandom)
    )
    click.echo(_known(accepted(sent)))


@email.command()
@_seller
@log_options
@data_option
def log(seller_id: str, state: str | None, order_id: str | None, limit: int, data: Path | None) -> None:
    """List mails, newest first, each with what its last try has come to, or why it came back."""
    wanted = LogFilter(order_id=order_id, state=state)

    async def read(connection: Connection) -> list[DeliverySummary]:
        name = _known(await store.read(connection, seller_id)).endpoint_id
        return await delivery_log.read_log(connection, seller_id, name, wanted, None, limit)

    show_log(run(settings_for(data), read))


@email.command()
@_seller
@replay_options
@data_option
def replay(seller_id: str, dry_run: bool, data: Path | None, **given: Any) -> None:
    """Send finished mails again, with their own Message-IDs: those with these ids, or all that meet every condition."""
    wanted = replay_filter(**given)

    async def send(connection: Connection) -> int | Refusal:
        name = _known(await store.read(connection, seller_id)).endpoint_id
        return await delivery_log.replay(connection, seller_id, name, wanted, dry_run=dry_run)

    show_replayed(accepted(run(settings_for(data), send)), dry_run=dry_run)


_NEW: dict[str, Any] = {"reply_to": "", "events": [], "documents": ATTACHED, "state": ACTIVE}


def _show(settings: EmailSettings) -> None:
    is_failing = settings.failing_since is not None and settings.state == ACTIVE
    click.echo(f"state      {'failing' if is_failing else settings.state}")
    click.echo(f"from       {settings.sender}")
    click.echo(f"reply to   {settings.reply_to or settings.sender}")
    click.echo(f"events     {', '.join(settings.events) or 'all'}")
    click.echo(f"documents  {settings.documents}")


def _known(result: _Result | None) -> _Result:
    if result is None:
        raise click.ClickException(_OFF)
    return result
