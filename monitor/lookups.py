"""What an operator asks for by name on the dashboard: one order, or the series of a seller."""

import asyncio
from typing import Any

from monitor import statements
from runtime.records import RecordReader
from runtime.settings import Settings
from sinks.postgres.session import Session, fetch_dicts
from sinks.trail import FoundTrails
from sinks.trail_finder import SEARCHED_MAX, SECONDS_MAX, find_trails


class Lookups:
    """Keeps its connections for the next question; one question at a time. Raises one of `session.OUTAGES`."""

    def __init__(self, settings: Settings) -> None:
        """Connects when first asked."""
        self._session = Session(settings.postgres_url.get_secret_value(), default_transaction_read_only="on")
        self._reader = RecordReader(settings.kafka_bootstrap, seconds_max=SECONDS_MAX, records_max=SEARCHED_MAX)
        self._turn = asyncio.Lock()

    async def find_orders(self, wanted: str) -> FoundTrails:
        """As `find_trails`, of all sellers."""
        async with self._turn, self._session.connection() as connection:
            return await find_trails(connection, self._reader, wanted)

    async def read_series(self, seller_id: str) -> list[dict[str, Any]]:
        """Each series of a seller with its last number, which was given at `at`, in seconds since 1970."""
        async with self._turn, self._session.connection() as connection:
            return await fetch_dicts(await connection.execute(statements.SERIES, (seller_id,)))

    async def close(self) -> None:
        """Let the connections go."""
        await self._session.close()
        await asyncio.to_thread(self._reader.close)
