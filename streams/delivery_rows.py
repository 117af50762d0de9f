"""The rows of deliveries as a sender takes them up and writes what became of them. Outages are waited out."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import psycopg

from domain.delivery import Channel
from runtime.outages import POSTGRES
from sinks.microbatch import MicroBatch
from sinks.postgres import deliveries as ledger
from sinks.postgres import email
from sinks.postgres.deliveries import Disabled, Outcome, Taken
from sinks.postgres.email import Letter
from sinks.postgres.session import OUTAGES, SQL, Connection, Session, believed
from streams.engine.patience import patiently

#: Rows are found by their keys and in the order of their index, however many there are.
_BY_KEY = {"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_bitmapscan": "off"}
_WRITTEN_MAX = 200
#: Between two transactions of outcomes: what comes meanwhile is written together.
_WRITE_PACE_S = 0.02
_LISTEN_PAUSE_S = 1.0
_PURGE_PACE_S = 0.1


class DeliveryRows:
    """One caller takes and looks ahead, one counts and purges; any number may write."""

    def __init__(self, url: str, channel: Channel, *, lease_seconds: float, failing_seconds_max: float) -> None:
        """`url` is the ledger's."""
        self.channel = channel
        self._url = url
        self._lease_seconds = lease_seconds
        self._failing_seconds_max = failing_seconds_max
        self._takes = Session(url, **_BY_KEY)
        self._writes = Session(url, **_BY_KEY)
        self._counts = Session(url)
        self._written = MicroBatch[Outcome, Disabled | None](
            self._write, questions_max=_WRITTEN_MAX, pace_s=_WRITE_PACE_S
        )

    async def take(self, rooms: Mapping[str, int], room: int, limit: int) -> list[Taken]:
        """Take up to `limit` deliveries that are due, of each destination as many as `rooms` says, or `room`."""
        return await patiently(
            self._takes,
            lambda each: ledger.take_deliveries(each, self.channel, rooms, room, limit, self._lease_seconds),
        )

    async def next_due(self, full: Sequence[str]) -> float | None:
        """Seconds until something is due at a destination that is not one of `full`; None if nothing is."""
        return await patiently(self._takes, lambda each: ledger.read_next_due(each, self.channel, full))

    async def signers(self, endpoint_ids: Sequence[str]) -> list[tuple[str, bytes, bytes, datetime | None]]:
        """Endpoint, HMAC secret, Ed25519 seed, and when they expire: what these endpoints sign with now."""

        async def read(connection: Connection) -> list[tuple[str, bytes, bytes, datetime | None]]:
            cursor = await connection.execute(SQL["read_signers"], {"endpoint_ids": list(endpoint_ids)})
            return [(endpoint, bytes(key), bytes(seed), at) for endpoint, key, seed, at in await cursor.fetchall()]

        return await patiently(self._takes, read)

    async def letters(self, taken: Sequence[Taken]) -> dict[str, Letter]:
        """What these mails are written from, by delivery id; one whose endpoint was deleted meanwhile is absent."""
        return await patiently(self._takes, lambda each: email.read_letters(each, taken))

    async def write(self, outcome: Outcome) -> Disabled | None:
        """Write what a try has come to, with others that come at the same time; what it has disabled, if anything."""
        return await self._written.ask(outcome)

    async def count_due(self) -> tuple[int, float]:
        """Orders with a delivery under way, of all senders, and the age of the oldest such delivery in seconds."""
        return await patiently(self._counts, lambda each: ledger.count_due(each, self.channel))

    async def purge(self, now: datetime) -> None:
        """Delete what is older than it has to be."""

        async def delete(connection: Connection) -> bool:
            return await ledger.purge(connection, await believed(connection, now) - timedelta(days=ledger.KEPT_DAYS))

        has_more = True
        while has_more:
            # In portions, so that others get their turn.
            await asyncio.sleep(_PURGE_PACE_S)
            has_more = await patiently(self._counts, delete)

    async def listen(self, awake: Callable[[], None]) -> None:
        """Call `awake` whenever a transaction that has added deliveries is committed, until cancelled."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5, keepalives_idle=5, tcp_user_timeout=10_000
                ) as connection:
                    await connection.execute("LISTEN deliveries")
                    # What was added before we listened.
                    awake()
                    async for _ in connection.notifies():
                        awake()
            except OUTAGES as error:
                POSTGRES.failed(error)
            await asyncio.sleep(_LISTEN_PAUSE_S)

    async def close(self, unfinished: Sequence[Taken]) -> None:
        """Give back what was taken up and not called for, if Postgres is there, and close."""
        await self._written.close()
        if unfinished:
            with contextlib.suppress(*OUTAGES):
                async with self._writes.connection() as connection:
                    await ledger.release_deliveries(connection, unfinished)
        for session in (self._takes, self._writes, self._counts):
            await session.close()

    async def _write(self, outcomes: list[Outcome]) -> list[Disabled | None]:
        async def finish(connection: Connection) -> list[Disabled]:
            disabled = await ledger.finish_deliveries(connection, outcomes, self._failing_seconds_max)
            if disabled:
                # In the transaction that disables them: the seller is told of each, whatever ends in between.
                await email.add_notices(connection, disabled, datetime.now(UTC), os.urandom)
            return disabled

        disabled = await patiently(self._writes, finish, in_transaction=True)
        by_endpoint = {each.endpoint_id: each for each in disabled}
        # Told once.
        return [by_endpoint.pop(each.taken.destination, None) for each in outcomes]
