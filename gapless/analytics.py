"""`gapless analytics`: count again what sellers sell, from what the topics still have."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click
import psycopg

from gapless.local import data_option, settings_for
from runtime.kafka import TopicError, start_offsets
from runtime.roles import READERS
from runtime.settings import Settings
from runtime.unread import FirstRecords, unread
from sinks.deployment import require_partitions
from sinks.postgres.analytics import begin_again
from sinks.postgres.positions import read_positions

AGENT = "analytics"
_POLL_S = 1.0
#: So long without any progress: no worker runs, or none is well.
_PATIENCE_S = 60.0
Offsets = dict[tuple[str, int], int]


@click.group()
def analytics() -> None:
    """Count again what sellers sell, from what the topics still have."""


@analytics.command()
@click.option("--no-wait", is_flag=True, help="Do not wait until the workers have counted everything.")
@data_option
def rebuild(no_wait: bool, data: Path | None) -> None:
    """Delete all counts; the workers then count again all events that the topics still have.

    Older events are gone from the topics and are not counted any more: the oldest of each topic is shown.
    """
    settings = settings_for(data)
    try:
        starts = _begin_again(settings)
        if not no_wait:
            _follow(settings, starts)
    except TopicError as error:
        raise click.ClickException(str(error)) from None
    except psycopg.errors.UndefinedTable:
        raise click.ClickException("Postgres has no tables yet: run `gapless migrate`") from None


def _begin_again(settings: Settings) -> Offsets:
    """Set the positions to where the topics begin; returns where that is."""
    url = settings.postgres_url.get_secret_value()
    with psycopg.connect(url) as connection:
        partitions = require_partitions(connection)
    places = [(topic.name, number) for topic in READERS[AGENT] for number in range(partitions)]
    starts = start_offsets(settings.kafka_bootstrap, places)
    with closing(FirstRecords(settings.kafka_bootstrap)) as records:
        found = records.find(starts)
    for topic in READERS[AGENT]:
        oldest = [record.timestamp_ms for (name, _), record in found.items() if name == topic.name]
        told = "has no records"
        if oldest:
            told = f"has records since {datetime.fromtimestamp(min(oldest) / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
        click.echo(f"{topic.name} {told}")

    async def begin() -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await begin_again(connection, AGENT, starts)

    asyncio.run(begin())
    click.echo("all counts are deleted, and the positions are where the topics begin")
    return starts


def _follow(settings: Settings, starts: Mapping[tuple[str, int], int]) -> None:
    """Show how far the workers are, until nothing is left of what there was."""
    ends = {at: each.stable for at, each in unread(settings.kafka_bootstrap, starts).items()}
    total = sum(max(0, ends[at] - starts[at]) for at in starts)
    moved_at, last_left = time.monotonic(), -1
    while True:
        positions = asyncio.run(_positions(settings, starts))
        left = sum(max(0, ends[at] - positions[at]) for at in starts)
        if left != last_left:
            moved_at, last_left = time.monotonic(), left
            click.echo(f"{total - left:,} of {total:,} records")
        if not left:
            return
        if time.monotonic() - moved_at > _PATIENCE_S:
            raise click.ClickException(
                f"nothing was counted for {_PATIENCE_S:.0f} s: start `gapless worker analytics`, or restart it"
            )
        time.sleep(_POLL_S)


async def _positions(settings: Settings, places: Mapping[tuple[str, int], int]) -> Offsets:
    found: Offsets = {}
    async with await psycopg.AsyncConnection.connect(
        settings.postgres_url.get_secret_value(), autocommit=True
    ) as connection:
        for topic in READERS[AGENT]:
            numbers = [number for name, number in places if name == topic.name]
            positions = await read_positions(connection, AGENT, topic.name, numbers)
            found |= {(topic.name, number): offset for number, offset in positions.items()}
    return found
