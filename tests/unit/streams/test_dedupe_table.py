"""The dedupe table is a hint: whatever becomes of its files, a worker goes on."""

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from streams.engine import dedupe_table
from streams.engine.dedupe_table import DedupeTable, add_dedupe_table, rocksdb_options
from streams.engine.transport import make_app

KNOWN = b"k" * 16
PAIRS = 2_000


class EndedError(Exception):
    """The process would have ended."""


async def _read(topic: str, partitions: list[int]) -> Mapping[int, int]:
    return {}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DedupeTable:
    def end(message: str, error: BaseException) -> NoReturn:
        raise EndedError(message) from error

    monkeypatch.setattr(dedupe_table, "fatal", end)
    app = make_app(
        "test",
        bootstrap="127.0.0.1:1",
        partitions=1,
        slot="1",
        datadir=str(tmp_path),
        batch_records_max=10,
        read_positions=_read,
    )
    made = add_dedupe_table(app, "done")
    made._write(0, [(0, PAIRS, [(KNOWN, 7), *((number.to_bytes(16, "big"), number) for number in range(PAIRS))])])
    return made


@pytest.mark.parametrize("partitions", [1, 3, 4, 16, 1_000])
def test_a_worker_with_all_partitions_takes_no_more_for_many_than_for_few(partitions: int) -> None:
    """Each takes its share of one budget, and what RocksDB needs at least."""
    options = rocksdb_options(partitions)
    assert partitions * options["block_cache_size"] <= max(32, partitions) * 2**20
    assert partitions * options["write_buffer_size"] <= max(8, partitions) * 2**20
    assert partitions * options["max_open_files"] <= max(1_024, 20 * partitions)
    assert min(options["block_cache_size"], options["write_buffer_size"]) >= 2**20


def reopened(table: DedupeTable) -> None:
    """As after a restart. What was in its log is in a table file then."""
    table._partitions._dbs.clear()
    gc.collect()


def spoil(table: DedupeTable, pattern: str) -> None:
    files = list(table._partitions.partition_path(0).glob(pattern))
    assert files
    for file in files:
        file.write_bytes(bytes(byte ^ 0x55 for byte in file.read_bytes()))


def test_a_table_outlives_a_restart(table: DedupeTable) -> None:
    reopened(table)
    assert table.known(0, [KNOWN]) == [True]
    assert table.covers(0, PAIRS)


@pytest.mark.parametrize("pattern", ["MANIFEST-*", "CURRENT", "*.sst"])
def test_a_partition_that_cant_be_opened_is_made_anew(table: DedupeTable, pattern: str) -> None:
    """A worker that ended instead would find the same at each restart, and its partitions would stand still."""
    reopened(table)
    spoil(table, pattern)
    assert table.known(0, [KNOWN]) == [False]
    assert not table.covers(0, PAIRS)


def test_a_partition_that_cant_be_read_is_forgotten_and_the_restart_begins_anew(table: DedupeTable) -> None:
    reopened(table)
    table._partitions._db_for_partition(0)
    spoil(table, "*.sst")
    with pytest.raises(EndedError):
        table.known(0, [KNOWN])
    reopened(table)
    assert table.known(0, [KNOWN]) == [False]
