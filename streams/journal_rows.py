"""The journal's own rows of events that an agent has read from a topic: a record there proves nothing."""

from collections.abc import Iterable
from datetime import datetime

from schemas import catalog
from sinks.postgres.session import SQL, Connection
from streams.engine.batch import Batch, Record

#: More digits don't fit into the journal's column.
_SEQ_DIGITS_MAX = 18


async def read_journal(connection: Connection, batch: Batch, seqs: Iterable[int]) -> dict[int, tuple[bytes, datetime]]:
    """What the journal has under these numbers of the batch's partition, by number."""
    wanted = sorted(set(seqs))
    if not wanted:
        return {}
    cursor = await connection.execute(
        SQL["read_events"], {"topic": batch.topic, "partition": batch.partition, "seqs": wanted}
    )
    return {seq: (bytes(payload), at) for seq, payload, at in await cursor.fetchall()}


def seq_of(record: Record) -> int:
    """The number that the record's header names; 0, which no row has, for none."""
    values = [value for name, value in record.headers if name == catalog.SEQ_HEADER]
    if len(values) != 1 or not values[0].isdigit() or len(values[0]) > _SEQ_DIGITS_MAX:
        return 0
    return int(values[0])
