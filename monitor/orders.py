"""Finds one order, for the dashboard: the same answer as `gapless order`."""

import asyncio

from runtime.records import RecordReader
from runtime.settings import Settings
from sinks.postgres.session import Session
from sinks.trail import FoundTrails
from sinks.trail_finder import SEARCHED_MAX, SECONDS_MAX, find_trails


class OrderSearch:
    """Keeps its connections for the next question; one question at a time."""

    def __init__(self, settings: Settings) -> None:
        """Connects when first asked."""
        self._session = Session(settings.postgres_url.get_secret_value(), default_transaction_read_only="on")
        self._reader = RecordReader(settings.kafka_bootstrap, seconds_max=SECONDS_MAX, records_max=SEARCHED_MAX)
        self._turn = asyncio.Lock()

    async def find(self, wanted: str) -> FoundTrails:
        """As `find_trails`, of all sellers. Raises one of `session.OUTAGES`."""
        async with self._turn, self._session.connection() as connection:
            return await find_trails(connection, self._reader, wanted)

    async def close(self) -> None:
        """Let the connections go."""
        await self._session.close()
        await asyncio.to_thread(self._reader.close)
