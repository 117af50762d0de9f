"""The client's side of the fake Postgres: the product's own `Session`, over connections that can be cut."""

from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psycopg

from sinks.postgres.session import Session
from tests.simulation.postgres import Backend, Pending, Rows
from tests.simulation.statements import COLUMNS

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.scheduler import Process

Until = Callable[[], bool] | None


class Step:
    """Awaited wherever the real process can be interrupted; continues when it has its turn and `until` holds."""

    __slots__ = ("until",)

    def __init__(self, until: Until = None) -> None:
        self.until = until

    def __await__(self) -> Generator[Until, None, None]:
        yield self.until


STEP = Step()


class Cursor:
    """The answer to a statement, possibly still under way."""

    __slots__ = ("_at", "_connection", "_pending")

    def __init__(self, connection: "Connection", pending: Pending) -> None:
        self._connection = connection
        self._pending = pending
        self._at = 0

    @property
    def statusmessage(self) -> str:
        return self._pending.status

    @property
    def description(self) -> list["Column"]:
        """The columns' names, for statements that are read as mappings."""
        return [Column(name) for name in COLUMNS.get(self._pending.text, ())]

    async def fetchone(self) -> tuple[Any, ...] | None:
        rows = await self._connection.answer(self._pending)
        self._at += 1
        return rows[self._at - 1] if self._at <= len(rows) else None

    async def fetchall(self) -> list[tuple[Any, ...]]:
        return list(await self._connection.answer(self._pending))


class Column:
    """A column's name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Pipeline:
    """Statements inside are sent without waiting; at the end all have been answered."""

    __slots__ = ("_connection",)

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    async def __aenter__(self) -> None:
        self._connection.pipelined = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._connection
        connection.pipelined = False
        if kind is None:
            for pending in connection.sent:
                await connection.answer(pending)
        connection.sent.clear()


class Connection:
    """The part of psycopg's `AsyncConnection` that the product uses."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        #: Neither statements nor answers get through any more.
        self.broken = False
        self.closed = False
        self.pipelined = False
        self.sent: list[Pending] = []

    def cut(self, *, received: bool) -> None:
        """Cut the network; the server executes what it has received, or does not."""
        self.broken = True
        if self.backend.ended:
            return
        if received:
            self.backend.client_gone = True
        else:
            self.backend.end()

    def pipeline(self) -> Pipeline:
        return Pipeline(self)

    async def execute(self, text: str, parameters: Mapping[str, Any] | None = None, **_: Any) -> Cursor:
        if self.broken or self.closed:
            self.closed = True
            raise psycopg.OperationalError("the connection is lost")
        pending = Pending(text, parameters or {})
        self.backend.queue.append(pending)
        if self.pipelined:
            self.sent.append(pending)
        else:
            await self.answer(pending)
        return Cursor(self, pending)

    async def answer(self, pending: Pending) -> Rows:
        """Wait until the statement is done; raises its error."""
        # An answer that arrived before the cut has been read.
        if not pending.done:
            await Step(lambda: pending.done or self.broken or self.backend.ended)
        if not pending.done or self.broken:
            self.closed = True
            raise psycopg.OperationalError("the connection is lost")
        if pending.error is not None:
            # Results are read in order, so a later statement gets the first error.
            raise next((each.error for each in self.sent if each.error is not None), pending.error)
        return pending.rows

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        await self.execute("BEGIN")
        yield
        await self.execute("COMMIT")

    async def close(self) -> None:
        self.close_now()

    def close_now(self) -> None:
        """Close the connection; the server reads that after what was sent before."""
        self.closed = True
        if not self.backend.ended:
            self.backend.client_gone = True


class SimulatedSession(Session):
    """The product's session, with simulated connections."""

    def __init__(self, cluster: "Cluster", process: "Process") -> None:
        super().__init__("")
        self._cluster = cluster
        self._process = process

    def connection(self) -> Any:
        """As in the product."""
        return super().connection()

    async def _open(self) -> Any:
        """An open connection, or `OperationalError` if none can be opened."""
        present: Any = self._connection
        if present is None or present.closed:
            await STEP
            if self._cluster.faults_now(4):
                raise psycopg.OperationalError("Postgres can't be reached")
            present = Connection(self._cluster.database.connect())
            self._connection = present
            self._process.connections = [each for each in self._process.connections if not each.closed]
            self._process.connections.append(present)
        return present
