"""Stored documents, and the logos they contain."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from sinks.postgres.session import SQL, Connection

#: Logos cached in memory: one has about 20 KB, and most workers see few sellers at a time.
_LOGOS_MAX = 256


class DocumentRow(NamedTuple):
    """A row of `documents`, in the order of its columns."""

    series_id: str
    number: int
    key: str
    sha256: bytes
    size_bytes: int
    template_version: int
    stored_at: datetime


class InvoiceState(NamedTuple):
    """The ledger's data about a number: its event, and whether its document is stored."""

    event: bytes
    has_document: bool


async def read_invoice_states(
    connection: Connection, topic: str, numbers: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], InvoiceState]:
    """The states by (series id, number); a number that was never issued is absent."""
    cursor = await connection.execute(
        SQL["read_invoice_states"],
        {
            "topic": topic,
            "series_ids": [series_id for series_id, _ in numbers],
            "numbers": [number for _, number in numbers],
        },
    )
    return {(series_id, number): InvoiceState(*state) for series_id, number, *state in await cursor.fetchall()}


async def insert_documents(connection: Connection, rows: Sequence[DocumentRow]) -> set[tuple[str, int]]:
    """Insert rows that don't exist yet, in the caller's transaction; return the (series id, number) of the new ones."""
    names = ["series_ids", "numbers", "keys", "digests", "sizes", "template_versions", "stored_ats"]
    columns = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    cursor = await connection.execute(SQL["insert_documents"], columns)
    return {(series_id, number) for series_id, number in await cursor.fetchall()}


class Logos:
    """A cache of logos by digest. Their bytes never change."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}

    async def read(self, connection: Connection, digests: Collection[str]) -> dict[str, bytes]:
        """The logos by hex digest; one that was never stored is absent."""
        found = {digest: self._bodies[digest] for digest in digests if digest in self._bodies}
        missing = [digest for digest in digests if digest not in found]
        if missing:
            cursor = await connection.execute(SQL["read_logos"], {"digests": [bytes.fromhex(each) for each in missing]})
            read: dict[str, bytes] = dict(await cursor.fetchall())
            # Other partitions may change the cache during the await, so what was found is collected separately.
            found |= read
            self._bodies |= read
            while len(self._bodies) > _LOGOS_MAX:
                del self._bodies[next(iter(self._bodies))]
        return found
