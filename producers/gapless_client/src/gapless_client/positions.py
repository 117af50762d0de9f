"""Where a consumer stands: the last `seq` of each partition that it has processed, stored with what it has done."""

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gapless_client.errors import GaplessError


class Position(NamedTuple):
    """What was processed of a partition: events up to `seq`; reading goes on at `next_offset`."""

    seq: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Move:
    """The step of a partition's position that a batch is. `before` is None for the first batch."""

    topic: str
    partition: int
    before: Position | None
    after: Position


class TakenOverError(GaplessError):
    """Another process has moved the position: this one must not go on with the partition."""


class Positions(Protocol):
    """A store of positions."""

    def load(self, topic: str, partition: int) -> Position | None:
        """The position; None if there is none yet."""

    def moving(self, move: Move) -> AbstractContextManager[object]:
        """Entered around a batch's handlers: the position moves if they return, and stays if one raises.

        Raises `TakenOverError` if it is not where the move begins.
        """


class PostgresPositions:
    """Positions in a table, moved in the transaction of the handlers: each event has its effect exactly once.

    Handlers write over the same connection. The table, which your migrations create:

        CREATE TABLE gapless_positions (
            consumer text, topic text, partition integer, seq bigint NOT NULL, next_offset bigint NOT NULL,
            PRIMARY KEY (consumer, topic, partition))
    """

    def __init__(self, connection: Any, consumer: str) -> None:
        """`connection` is one of psycopg 3, with `autocommit=True`; `consumer` names what the effects are for."""
        self._connection = connection
        self._consumer = consumer

    def load(self, topic: str, partition: int) -> Position | None:
        """The position; None if there is none yet."""
        row = self._connection.execute(
            "SELECT seq, next_offset FROM gapless_positions WHERE (consumer, topic, partition) = (%s, %s, %s)",
            (self._consumer, topic, partition),
        ).fetchone()
        return None if row is None else Position(*row)

    @contextlib.contextmanager
    def moving(self, move: Move) -> Iterator[None]:
        """A transaction. The position moves first: its row's lock keeps out a process that was taken for dead."""
        where = {"consumer": self._consumer, "topic": move.topic, "partition": move.partition}
        after = {"seq": move.after.seq, "next_offset": move.after.next_offset}
        with self._connection.transaction():
            if move.before is None:
                cursor = self._connection.execute(
                    "INSERT INTO gapless_positions VALUES"
                    " (%(consumer)s, %(topic)s, %(partition)s, %(seq)s, %(next_offset)s) ON CONFLICT DO NOTHING",
                    {**where, **after},
                )
            else:
                cursor = self._connection.execute(
                    "UPDATE gapless_positions SET seq = %(seq)s, next_offset = %(next_offset)s WHERE (consumer,"
                    " topic, partition, seq) = (%(consumer)s, %(topic)s, %(partition)s, %(before)s)",
                    {**where, **after, "before": move.before.seq},
                )
            if cursor.rowcount != 1:
                raise TakenOverError(f"{move.topic}/{move.partition}: another process is past {move.before}")
            yield


class FilePositions:
    """Positions in a file of one process, moved after the handlers: a crash between repeats a batch.

    So handlers must be harmless to repeat; `Event.id` tells a repeat.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._positions: dict[str, Position] = {}
        if path.exists():
            self._positions = {name: Position(*each) for name, each in json.loads(path.read_text()).items()}

    def load(self, topic: str, partition: int) -> Position | None:
        """The position; None if there is none yet."""
        return self._positions.get(f"{topic}/{partition}")

    @contextlib.contextmanager
    def moving(self, move: Move) -> Iterator[None]:
        """Written to the disk once the handlers have returned."""
        if self.load(move.topic, move.partition) != move.before:
            raise TakenOverError(f"{move.topic}/{move.partition}: the position is not {move.before}")
        yield
        positions = {**self._positions, f"{move.topic}/{move.partition}": move.after}
        new = self._path.with_suffix(".new")
        with new.open("w") as file:
            json.dump(positions, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        self._positions = positions
