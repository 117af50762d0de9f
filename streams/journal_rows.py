"""Events as agents read them from the relay's topics, and the journal's own rows of them.

A record proves nothing. Who can write to a topic must not be able to tell sellers anything: the journal has the last
word.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from domain.dead_letter import DeadLetterReason
from domain.numbering import SELLER_ID
from schemas import catalog
from schemas.codec import DecodeError, decode
from sinks.postgres.journal import JournalRow
from sinks.postgres.session import SQL, Connection
from streams.engine.batch import Batch, Record
from streams.engine.dead_letters import dead_letter

#: More digits don't fit into the journal's column.
_SEQ_DIGITS_MAX = 18


class RelayedEvent(NamedTuple):
    """A record decoded. `seq` is its number in the journal, if it is the relay's; 0 without one."""

    record: Record
    seq: int
    schema: catalog.Schema[Any]
    event: Any


def decode_relayed(
    agent: str, topic: catalog.Topic, batch: Batch, dead: list[JournalRow], now: datetime
) -> Iterator[RelayedEvent]:
    """The events of a batch; dead letters of what can't be decoded are added to `dead`."""
    for record in batch.records:
        try:
            schema, event = decode(record.value, *topic.schemas, bytes_max=topic.value_bytes_max)
            if SELLER_ID.fullmatch(str(event["seller_id"])) is None:
                raise DecodeError("seller_id must be 1 to 40 of a-z, 0-9 and -")
        except DecodeError as error:
            dead.append(dead_letter(agent, batch, record, DeadLetterReason.UNDECODABLE, str(error), now))
            continue
        yield RelayedEvent(record, seq_of(record), schema, event)


def foreign(agent: str, batch: Batch, record: Record, now: datetime) -> JournalRow:
    """The dead letter of a record that differs from the journal's row, or has none."""
    error = "the journal has no such event: it is not the relay's"
    return dead_letter(agent, batch, record, DeadLetterReason.FOREIGN, error, now)


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
