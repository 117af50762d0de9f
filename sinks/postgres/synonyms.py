"""A seller's synonyms, read and changed by gateways: one transaction for the row and its event."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from domain.moments import micros
from domain.records import SynonymGroup, SynonymsChanged
from schemas.catalog import CATALOGUE_EVENTS, SYNONYMS_CHANGED
from schemas.codec import decode, encode
from schemas.placement import partition_of
from sinks.microbatch import MicroBatch
from sinks.postgres import journal
from sinks.postgres.journal import JournalRow
from sinks.postgres.lanes import Lane, check_url
from sinks.postgres.session import Connection, Session, believed

_MAKE: LiteralString = """
    INSERT INTO synonyms (seller_id, version, event) VALUES (%(seller_id)s, 0, '') ON CONFLICT DO NOTHING
"""
_LOCK: LiteralString = "SELECT version, event FROM synonyms WHERE seller_id = %(seller_id)s FOR UPDATE"
_READ: LiteralString = "SELECT version, event FROM synonyms WHERE seller_id = %(seller_id)s"
_WRITE: LiteralString = """
    UPDATE synonyms SET version = %(version)s, event = %(event)s WHERE seller_id = %(seller_id)s
"""

#: Whether synonyms of this version may be changed; 0 before the first change.
Permits = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class StoredSynonyms:
    """A seller's synonyms as they are stored; version 0 and no groups before the first change."""

    version: int
    groups: list[SynonymGroup]


@dataclass(frozen=True, slots=True)
class StaleSynonyms:
    """The synonyms have another version than the change permits."""

    version: int


@dataclass(frozen=True, slots=True)
class _Change:
    seller_id: str
    groups: list[SynonymGroup]
    permits: Permits
    partitions: int
    now: datetime


class Synonyms:
    """Reads and writes synonyms for one gateway. Every method raises `PostgresUnavailableError`."""

    def __init__(self, url: str) -> None:
        """Connects on first use. Raises `ValueError`."""
        check_url(url)
        self._writes = lane = Lane(url, read_only=False)
        self._reads = Lane(url, read_only=True)
        self._changes: MicroBatch[_Change, StoredSynonyms | StaleSynonyms] = MicroBatch(
            lambda changes: lane.run(lambda session: _change_each(session, changes)), questions_max=1
        )

    async def put(
        self, seller_id: str, groups: list[SynonymGroup], permits: Permits, partitions: int, now: datetime
    ) -> StoredSynonyms | StaleSynonyms:
        """The synonyms after the change, or the version to which it was not permitted.

        `partitions` is the number of each topic's partitions. What says the same as before changes nothing, so a
        repeat is safe. After a `PostgresUnavailableError` it is unknown whether the change was made.
        """
        return await self._writes.ask(self._changes, _Change(seller_id, groups, permits, partitions, now))

    async def read(self, seller_id: str) -> StoredSynonyms:
        """The seller's synonyms."""
        rows = await self._reads.query(_READ, seller_id=seller_id)
        return _stored(*rows[0].values()) if rows else StoredSynonyms(0, [])

    async def close(self) -> None:
        """Close the connections, even hanging ones."""
        await self._writes.close(self._changes)
        await self._reads.close()


def synonyms_of(event: bytes) -> SynonymsChanged:
    """The event of a row."""
    return decode(event, SYNONYMS_CHANGED, bytes_max=CATALOGUE_EVENTS.value_bytes_max)[1]


async def _change_each(session: Session, changes: list[_Change]) -> list[StoredSynonyms | StaleSynonyms]:
    results = []
    for change in changes:
        async with session.pipelined_transaction() as connection:
            results.append(await _change(connection, change))
    return results


async def _change(connection: Connection, change: _Change) -> StoredSynonyms | StaleSynonyms:
    seller_id = {"seller_id": change.seller_id}
    # So that two first changes wait for each other as any others do.
    await connection.execute(_MAKE, seller_id)
    cursor = await connection.execute(_LOCK, seller_id)
    [row] = await cursor.fetchall()
    before = _stored(*row)
    if not change.permits(before.version):
        return StaleSynonyms(before.version)
    if change.groups == before.groups:
        return before
    after = StoredSynonyms(before.version + 1, change.groups)
    now = await believed(connection, change.now)
    value: SynonymsChanged = {
        "seller_id": change.seller_id,
        "version": after.version,
        "groups": after.groups,
        "occurred_at": micros(now),
    }
    event, key = encode(SYNONYMS_CHANGED, value), change.seller_id.encode()
    await connection.execute(_WRITE, {**seller_id, "version": after.version, "event": event})
    place = CATALOGUE_EVENTS.name, partition_of(key, change.partitions)
    await journal.append(connection, {place: [JournalRow(key, event, now)]})
    return after


def _stored(version: int, event: bytes) -> StoredSynonyms:
    return StoredSynonyms(version, synonyms_of(event)["groups"] if event else [])
