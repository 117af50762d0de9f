"""`gapless dead-letters`: show the records that could not be decoded or applied, and close them."""

import base64
import getpass
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import psycopg
from rich.console import Console
from rich.table import Table

from domain.dead_letter import DeadLetterReason
from gapless.local import data_option, settings_for
from gapless.moments import Moment
from runtime.kafka import TopicError
from runtime.publisher import Delivered, NotAcknowledgedError
from runtime.roles import READERS
from sinks.agreement import require_agreement
from sinks.dead_letter_json import bytes_text, letter_json, moment_text, record_json
from sinks.postgres import dead_letters as store
from sinks.postgres.dead_letters import (
    CarriedRecord,
    Connection,
    DeadLetterError,
    DeadLetterFilter,
    DeadLetterId,
    DeadLetterRow,
)
from sinks.redrive import Plan, Unredrivable, closing, make_producer, plan_all
from sinks.redrive import redrive as send_planned

_CONNECT_SECONDS_MAX = 10
_WIDTH = 160
#: Characters of an error in a line of the table; `show` prints all of it.
_ERROR_CHARS_MAX = 60
_TOPICS = sorted({topic.name for topics in READERS.values() for topic in topics})
_Result = TypeVar("_Result")


class _Id(click.ParamType):
    """A dead letter's id."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> DeadLetterId:
        """Return the id."""
        try:
            return DeadLetterId.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_FILTERS = (
    click.option("--topic", type=click.Choice(_TOPICS), help="Only of this topic."),
    click.option("--reason", type=click.Choice([each.value for each in DeadLetterReason]), help="With this reason."),
    click.option("--order", "order_id", help="Only of this order id."),
    click.option("--since", type=Moment(), help="Written at this time or later, such as 2026-11-29T14:03Z."),
    click.option("--until", type=Moment(), help="Written before this time."),
)


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # The user of a container may have no name.
        return f"uid {os.getuid()}"


_ids = click.argument("ids", metavar="[ID]...", nargs=-1, type=_Id())
_by = click.option("--by", default=_user, show_default="the system's user", help="Who did it; recorded.")


@click.group("dead-letters")
def dead_letters() -> None:
    """Show the records that could not be decoded or applied, and close them.

    A dead letter is open until its record is sent again (redriven) or discarded.
    """


@dead_letters.command("list")
@_filters
@click.option("--state", type=click.Choice(store.STATES), default=store.OPEN, show_default=True)
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="The most to list.")
@click.option("--after", type=_Id(), help="Continue after this id, the last one of the previous page.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_option
def list_(limit: int, after: DeadLetterId | None, as_json: bool, data: Path | None, **conditions: Any) -> None:
    """List dead letters, newest first."""
    wanted = DeadLetterFilter(**conditions)

    def read(connection: Connection) -> _Page:
        store.note_new(connection)
        rows = store.read_page(connection, wanted, limit + 1, after)
        return _Page(rows[:limit], len(rows) > limit, store.count(connection, wanted))

    page = _run(data, read)
    next_id = str(page.rows[-1].id) if page.has_more else None
    if as_json:
        rows = [letter_json(row) for row in page.rows]
        click.echo(json.dumps({"count": page.count, "dead_letters": rows, "next": next_id}, indent=2))
        return
    if page.rows:
        _show_table(page.rows)
    click.echo(f"{page.count:,} {wanted.state}" + (f"; continue with --after {next_id}" if next_id else ""))


@dead_letters.command()
@click.argument("letter_id", metavar="ID", type=_Id())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_option
def show(letter_id: DeadLetterId, as_json: bool, data: Path | None) -> None:
    """Show one dead letter with its whole record."""

    def read(connection: Connection) -> tuple[DeadLetterRow, CarriedRecord]:
        store.note_new(connection)
        rows = store.read_page(connection, DeadLetterFilter(ids=(letter_id,)), 1)
        if not rows:
            raise DeadLetterError(f"there is no dead letter {letter_id}")
        return rows[0], store.read_record(connection, rows[0])

    row, record = _run(data, read)
    if as_json:
        click.echo(json.dumps({**letter_json(row), "record": record_json(record)}, indent=2))
    else:
        _show_one(row, record)


@dead_letters.command()
@_ids
@_filters
@click.option("--dry-run", is_flag=True, help="Send nothing: print what would be sent.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="The most records a second.")
@click.option("--why", help="The reason; recorded. Required unless it is a dry run.")
@_by
@data_option
def redrive(
    ids: tuple[DeadLetterId, ...],
    dry_run: bool,
    rate: float | None,
    why: str | None,
    by: str,
    data: Path | None,
    **conditions: Any,
) -> None:
    """Send the records of open dead letters again: those with these IDs, or all that meet every condition.

    Records with the same key are sent in their order. Records that would become dead letters again stay open.
    """
    wanted = _wanted(ids, conditions)
    because = "" if dry_run else _said_why(why)
    settings = settings_for(data)

    def send(connection: Connection) -> None:
        url, bootstrap = settings.postgres_url.get_secret_value(), settings.kafka_bootstrap
        agreed = require_agreement(url, bootstrap)
        store.note_new(connection)
        _tell_closed(connection, ids)
        planned = plan_all(connection, bootstrap, wanted, agreed.partitions)
        outcomes = Counter[str]()
        if dry_run:
            for letter, plan in planned:
                outcomes[_tell(letter, plan, None)] += 1
            click.echo(f"{outcomes['sent']:,} would be sent, {outcomes['left']:,} would stay open")
            return
        producer = make_producer(bootstrap)
        with closing(connection):
            try:
                for done in send_planned(connection, producer, planned, by=by, why=because, rate_max=rate):
                    outcomes[_tell(done.letter, done.plan, done.delivered)] += 1
            finally:
                click.echo(f"{outcomes['sent']:,} sent, {outcomes['left']:,} stay open")

    _run(data, send)


@dead_letters.command()
@_ids
@_filters
@click.option("--why", help="The reason; recorded. Required.")
@_by
@data_option
def discard(ids: tuple[DeadLetterId, ...], why: str | None, by: str, data: Path | None, **conditions: Any) -> None:
    """Close open dead letters without sending: those with these IDs, or all that meet every condition."""
    wanted, because = _wanted(ids, conditions), _said_why(why)

    def close(connection: Connection) -> int:
        store.note_new(connection)
        _tell_closed(connection, ids)
        with closing(connection):
            return store.discard(connection, wanted, by=by, why=because)

    click.echo(f"{_run(data, close):,} discarded")


def _wanted(ids: tuple[DeadLetterId, ...], conditions: dict[str, Any]) -> DeadLetterFilter:
    wanted = DeadLetterFilter(ids=ids, **conditions)
    if wanted.is_empty:
        raise click.UsageError("give IDs, or at least one of --topic, --reason, --order, --since and --until")
    return wanted


def _said_why(why: str | None) -> str:
    if why is None or not why.strip():
        raise click.UsageError("give --why: the reason is recorded")
    return why


def _tell_closed(connection: Connection, ids: tuple[DeadLetterId, ...]) -> None:
    """Print which of the ids are closed. Raises `DeadLetterError` for an unknown id."""
    if not ids:
        return
    found = {row.id: row for row in store.read_page(connection, DeadLetterFilter(ids=ids), len(ids))}
    for each in ids:
        if each not in found:
            raise DeadLetterError(f"there is no dead letter {each}")
        if found[each].state != store.OPEN:
            click.echo(f"{each!s:10} {_state(found[each])}")


def _tell(letter: DeadLetterRow, plan: Plan, delivered: Delivered | None) -> str:
    """Print what a redrive does with a dead letter; return `sent` or `left`."""
    if isinstance(plan, Unredrivable):
        said = f"stays open: {plan.why}"
    else:
        where = f"{plan.topic}/{plan.partition}"
        said = where if delivered is None else f"{where} offset {delivered.offset}"
    click.echo(f"{letter.id!s:10} {letter.order_id or '-':20} {said}")
    return "left" if isinstance(plan, Unredrivable) else "sent"


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of rows, and the number of all matching rows."""

    rows: list[DeadLetterRow]
    has_more: bool
    count: int


def _show_table(rows: list[DeadLetterRow]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("id", "written", "record", "order", "reason", "error"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        detail = row.error.removeprefix(f"{row.reason}: ")
        cut = detail if len(detail) <= _ERROR_CHARS_MAX else detail[: _ERROR_CHARS_MAX - 1] + "…"
        table.add_row(
            str(row.id), moment_text(row.occurred_at, "seconds"), _source(row), row.order_id or "-", row.reason, cut
        )
    Console(highlight=False, markup=False, width=_WIDTH).print(table)


def _show_one(row: DeadLetterRow, record: CarriedRecord) -> None:
    lines = [
        ("dead letter", str(row.id)),
        ("state", _state(row)),
        ("written", f"{moment_text(row.occurred_at)} by {row.agent}"),
        ("record", _source(row)),
        ("order", row.order_id or "-"),
        ("error", row.error),
        ("key", bytes_text(record.key)),
        ("value", record.schema or f"{_size(record.value)}, not decoded: {record.decode_error}"),
    ]
    for name, text in lines:
        click.echo(f"{name:12} {text}")
    if record.body is not None:
        click.echo(json.dumps(record.body, indent=2, ensure_ascii=False))
    elif record.value is not None:
        click.echo(base64.b64encode(record.value).decode())


def _state(row: DeadLetterRow) -> str:
    if row.closed_at is None:
        return row.state
    where = f" to {row.source_topic}/{row.redriven_partition} offset {row.redriven_offset}"
    said = f"{row.state}{where if row.state == store.REDRIVEN else ''}"
    return f"{said} by {row.closed_by} at {moment_text(row.closed_at, 'seconds')}: {row.closed_why}"


def _source(row: DeadLetterRow) -> str:
    return f"{row.source_topic}/{row.source_partition} offset {row.source_offset}"


def _size(value: bytes | None) -> str:
    return "none" if value is None else f"{len(value):,} bytes"


def _run(data: Path | None, work: Callable[[Connection], _Result]) -> _Result:
    """Do `work` with a connection of its own; known errors become one line."""
    url = settings_for(data).postgres_url.get_secret_value()
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=_CONNECT_SECONDS_MAX) as connection:
            return work(connection)
    except (DeadLetterError, TopicError) as error:
        raise click.ClickException(str(error)) from None
    except NotAcknowledgedError as error:
        raise click.ClickException(
            f"the brokers did not acknowledge a record: {error}. Sent records are closed: run this again for the rest"
        ) from None
    except psycopg.errors.UndefinedTable:
        raise click.ClickException("Postgres lacks tables of this release: run `gapless migrate`") from None
