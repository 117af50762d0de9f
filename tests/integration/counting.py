"""The analytics agent on a ledger of the test's own, fed from the journal as the relay would feed it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from runtime.roles import READERS
from schemas import catalog
from sinks.postgres.positions import read_positions
from sinks.postgres.session import Session
from streams.analytics import AGENT, AnalyticsWork
from streams.engine.batch import Batch
from streams.engine.work import Worker
from tests.conftest import PARTITIONS


@dataclass(frozen=True)
class Published:
    """A record as the consumer hands it over."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class Counting:
    """A worker fed by hand."""

    url: str
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        self.session = Session(self.url)
        self.worker = Worker(self.session, self._log)
        self.work = AnalyticsWork(READERS[AGENT], self.session, lambda: datetime.now(UTC))

    async def close(self) -> None:
        """End its connection."""
        await self.session.close()

    async def published(self, topic: catalog.Topic, partition: int) -> list[Published]:
        """All records of a partition, as the relay has them; each at the offset before its number."""
        async with self.session.connection() as connection:
            cursor = await connection.execute(
                "SELECT seq, key, payload FROM journal WHERE topic = %s AND partition = %s ORDER BY seq",
                (topic.name, partition),
            )
            rows = await cursor.fetchall()
        return [
            Published(seq - 1, key, payload, ((catalog.SEQ_HEADER, str(seq).encode()),)) for seq, key, payload in rows
        ]

    async def position(self, topic: catalog.Topic, partition: int) -> int:
        """Where it stands."""
        async with self.session.connection() as connection:
            return (await read_positions(connection, AGENT, topic.name, [partition]))[partition]

    async def run(self, *batches: Batch) -> None:
        """Do them in one transaction."""
        await self.worker.run(self.work, *batches)

    async def catch_up(self, topics: Iterable[catalog.Topic] = READERS[AGENT]) -> None:
        """Count all that it has not counted yet, some records at a time."""
        for topic in topics:
            for partition in range(PARTITIONS):
                position = await self.position(topic, partition)
                left = [each for each in await self.published(topic, partition) if each.offset >= position]
                for first in range(0, len(left), 5):
                    await self.run(Batch(topic.name, partition, left[first : first + 5]))

    async def _log(self, topic: str, partition: int, offset: int) -> tuple[int, int]:
        return offset, 0


async def count_all(url: str) -> None:
    """Count all that the journal has."""
    counting = Counting(url)
    try:
        await counting.catch_up()
    finally:
        await counting.close()
