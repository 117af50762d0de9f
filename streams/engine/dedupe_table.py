"""The dedupe table: which orders of a partition were done already, in RocksDB. A hint.

It saves look-ups, and decides nothing: what it knows is looked up in Postgres, what it doesn't know is inserted under
a unique constraint. It costs one changelog record per batch, where a write per order would cost most of the rate.
"""

import hashlib
import logging
import shutil
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import faust
import rocksdict
from faust.stores.rocksdb import Store
from faust.types import EventT

from runtime.exits import fatal
from streams.engine.batch import Batch
from streams.engine.transport import FAUST_LOG, BatchApp

Key = TypeVar("Key")

_log = logging.getLogger(__name__)

# Changelog record: first offset, next offset, then (key digest, number) pairs.
_RANGE = struct.Struct(">QQ")
_PAIR = struct.Struct(">16sQ")
# Table keys of orders have 16 bytes, so this one is none of theirs.
_COVERED_KEY = b"covered"

_MIB = 1024 * 1024
#: What a worker that has all partitions may take for them together: RocksDB's defaults are 2 GiB of cache for each, and
#: memory grows until write buffers have been full once.
_BLOCK_CACHE_BYTES, _WRITE_BUFFER_BYTES, _OPEN_FILES = 32 * _MIB, 8 * _MIB, 1_024
#: Of one partition, however many there are; RocksDB itself goes no lower with its files.
_CACHE_BYTES_MIN, _OPEN_FILES_MIN = _MIB, 20


class ForgetfulStore(Store):
    """Partitions in RocksDB; one that can't be opened or read is forgotten, and read again from its changelog."""

    logger = FAUST_LOG

    def forget(self, partition: int) -> None:
        """Remove what is kept of a partition."""
        self._dbs.pop(partition, None)
        shutil.rmtree(self.partition_path(partition), ignore_errors=True)

    def _open_for_partition(self, partition: int) -> Any:
        try:
            return super()._open_for_partition(partition)
        except Exception as error:
            # The next who holds it is a worker that hasn't ended yet; Faust waits for that.
            if "lock" in str(error).lower():
                raise
            _log.warning("partition %d of the dedupe table can't be opened, and is made anew: %s", partition, error)
            self.forget(partition)
        return super()._open_for_partition(partition)


class DedupeTable(faust.Table[bytes, bytes]):
    """Order digests of 16 bytes to invoice numbers, by partition."""

    logger = FAUST_LOG

    def known(self, partition: int, digests: Sequence[bytes]) -> list[bool]:
        """For each order whether the table remembers it."""
        if not digests:
            return []
        return [value is not None for value in self._get(partition, list(digests))]

    def covers(self, partition: int, offset: int) -> bool:
        """Whether the table has seen every batch from the log's start to `offset`, so that unknown means new."""
        return self._covered(partition) == (0, offset)

    def mark(self, partition: int, first_offset: int, next_offset: int, pairs: Sequence[tuple[bytes, int]]) -> None:
        """Remember a batch. Called after its commit: a mark before would lose orders if the process died between."""
        self.changelog_topic.send_soon(
            key=_RANGE.pack(first_offset, next_offset),
            value=b"".join(_PAIR.pack(digest, number) for digest, number in pairs),
            partition=partition,
            key_serializer="raw",
            value_serializer="raw",
            callback=self._on_changelog_sent,
            eager_partitioning=True,
        )
        self._write(partition, [(first_offset, next_offset, pairs)])

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """Rebuild from the changelog, as far as it is ours to read; called by Faust in recovery."""
        last: dict[Any, int] = {}
        marks: dict[int, list[tuple[int, int, Sequence[tuple[bytes, int]]]]] = {}
        for event in batch:
            message = event.message
            last[message.tp] = message.offset
            try:
                first_offset, next_offset = _RANGE.unpack(message.key or b"")
                pairs = list(_PAIR.iter_unpack(message.value or b""))
            except struct.error:
                # Not a mark of ours. What it might have told is looked up instead.
                _log.warning("%s offset %d is no mark of the dedupe table", message.tp, message.offset)
                continue
            marks.setdefault(message.partition, []).append((first_offset, next_offset, pairs))
        for partition, entries in marks.items():
            self._write(partition, entries)
        for tp, offset in last.items():
            self.data.set_persisted_offset(tp, offset)

    def _write(self, partition: int, marks: Iterable[tuple[int, int, Sequence[tuple[bytes, int]]]]) -> None:
        start, end = self._covered(partition)
        write = rocksdict.WriteBatch(raw_mode=True)
        for first_offset, next_offset, pairs in marks:
            for digest, number in pairs:
                write.put(digest, number.to_bytes(8, "big"))
            if start <= first_offset <= end:
                end = max(end, next_offset)
            else:
                start, end = first_offset, next_offset
        write.put(_COVERED_KEY, _RANGE.pack(start, end))
        self._db(partition).write(write)

    def _covered(self, partition: int) -> tuple[int, int]:
        stored = self._get(partition, _COVERED_KEY)
        return (0, 0) if stored is None else _RANGE.unpack(stored)

    def _get(self, partition: int, key: bytes | list[bytes]) -> Any:
        try:
            return self._db(partition).get(key)
        except Exception as error:  # noqa: BLE001 - rocksdict raises nothing more exact where a file is torn.
            self._partitions.forget(partition)
            fatal(f"partition {partition} of the dedupe table can't be read: forgotten, and made anew", error)

    @property
    def _partitions(self) -> ForgetfulStore:
        store: Any = self.data
        forgetful: ForgetfulStore = store
        return forgetful

    def _new_store_by_url(self, url: Any) -> ForgetfulStore:
        return ForgetfulStore(
            url,
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            value_type=self.value_type,
            loop=self.loop,
            options=self.options,
        )

    def _db(self, partition: int) -> Any:
        return self._partitions._db_for_partition(partition)


def must_look_up(table: DedupeTable, batch: Batch, digests: Mapping[Key, bytes]) -> list[Key]:
    """Those of a batch's keys that don't count as new before they were looked up in Postgres.

    All of them, unless the table has seen the partition from its start.
    """
    if not table.covers(batch.partition, batch.first_offset):
        return list(digests)
    known = table.known(batch.partition, list(digests.values()))
    return [key for key, is_known in zip(digests, known, strict=True) if is_known]


def digest(key: Sequence[str]) -> bytes:
    """16 bytes that stand for a key made of texts. A collision costs a look-up."""
    # blake2b is the fastest keyless digest of hashlib on short inputs; NUL can't occur in the parts.
    return hashlib.blake2b("\0".join(key).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def add_dedupe_table(app: BatchApp, name: str) -> DedupeTable:
    """Register the table with its app; its changelog is `<app id>-<name>-changelog`."""
    table = DedupeTable(
        app,
        name=name,
        partitions=app.partitions,
        key_type=bytes,
        value_type=bytes,
        options=rocksdb_options(app.partitions),
    )
    app.tables.add(table)
    return table


def rocksdb_options(partitions: int) -> dict[str, int]:
    """What each of so many partitions may take: its share of one budget."""
    return {
        "block_cache_size": max(_BLOCK_CACHE_BYTES // partitions, _CACHE_BYTES_MIN),
        "write_buffer_size": max(_WRITE_BUFFER_BYTES // partitions, _CACHE_BYTES_MIN),
        "max_open_files": max(_OPEN_FILES // partitions, _OPEN_FILES_MIN),
    }
