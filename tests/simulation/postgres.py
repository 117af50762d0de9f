"""A fake Postgres: transactions, row locks, read committed, unique constraints, deadlocks, and sessions that end.

It may do what the real server may: a session executes what it has received after its client has ended, and then rolls
back; a transaction that waits for a row sees it as it is after the wait; a uniquely keyed row that another transaction
has inserted and not yet committed is waited for.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import errors

from tests.simulation.violation import Violation

Key = tuple[str, Hashable]
Rows = Sequence[tuple[Any, ...]]
Statement = Callable[["Backend", Mapping[str, Any]], Rows]


def columns(parameters: Mapping[str, Any], names: str) -> Iterable[tuple[Any, ...]]:
    """The elements of the arrays with these names, row by row."""
    return zip(*(parameters[name] for name in names.split()), strict=True)


def unique(table: str, rows: dict[Any, Any], count: int) -> dict[Any, Any]:
    """`rows`, after checking that no two rows of one statement had the same key."""
    if len(rows) != count:
        raise errors.UniqueViolation(table)
    return rows


class Blocked(Exception):  # noqa: N818
    """The statement must wait for a row that another transaction has locked, and is then executed again."""

    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self.key = key


class Paused(Exception):  # noqa: N818
    """The statement continues at its next turn."""


class Pending:
    """A statement under way: sent, then done with rows or an error."""

    __slots__ = ("done", "error", "parameters", "rows", "status", "text")

    def __init__(self, text: str, parameters: Mapping[str, Any]) -> None:
        self.text = text
        self.parameters = parameters
        self.rows: Rows = ()
        self.error: psycopg.Error | None = None
        self.status = ""
        self.done = False


class Database:
    """Committed rows by table and key, and the locks."""

    def __init__(
        self,
        statements: Mapping[str, Statement],
        on_commit: Callable[[dict[Key, Any]], None],
        clock: Callable[[], float],
    ) -> None:
        """`clock` is the server's, in seconds since 1970."""
        self.statements = statements
        self.clock = clock
        self._on_commit = on_commit
        self.tables: dict[str, dict[Any, Any]] = {}
        self.locks: dict[Key, Backend] = {}
        self.advisory: dict[tuple[int, int], Backend] = {}
        #: Sessions that hold the relays' shared lock, in the order of their ids.
        self.relays: dict[Backend, None] = {}
        self.backends: list[Backend] = []
        #: The ids of committed transactions.
        self.committed: set[str] = set()
        self._transactions = 0

    def begin(self) -> str:
        """The id of a new transaction."""
        self._transactions += 1
        return str(self._transactions)

    def table(self, name: str) -> dict[Any, Any]:
        """The committed rows of a table."""
        found = self.tables.get(name)
        if found is None:
            found = self.tables[name] = {}
        return found

    def connect(self) -> "Backend":
        """A new session."""
        backend = Backend(self)
        self.backends.append(backend)
        return backend

    def commit(self, writes: dict[Key, Any]) -> None:
        """Make the rows visible atomically, and have the judge check the change."""
        if writes:
            self._on_commit(writes)
            for (table, key), row in writes.items():
                self.table(table)[key] = row


class Backend:
    """The server's side of one session."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.queue: deque[Pending] = deque()
        self.writes: dict[Key, Any] = {}
        self.held: list[Key] = []
        self.blocked_on: Key | None = None
        self.in_transaction = False
        self.transaction = ""
        self.failed = False
        #: The client has ended: received statements are still executed, then the session ends.
        self.client_gone = False
        self.ended = False

    @property
    def runnable(self) -> bool:
        """Whether it has something to do and is not blocked."""
        if self.blocked_on is not None:
            return self.blocked_on not in self.database.locks
        return bool(self.queue) or self.client_gone

    def step(self) -> None:
        """Execute one statement, or end."""
        self.blocked_on = None
        if not self.queue:
            self.end()
            return
        pending = self.queue[0]
        try:
            pending.rows = self._execute(pending)
        except Paused:
            return
        except Blocked as blocked:
            self.blocked_on = blocked.key
            if not self._deadlocked():
                return
            self.blocked_on = None
            # Locks are taken in the same order everywhere, so a deadlock is a bug and not an outage.
            raise Violation(f"deadlock: two transactions wait for each other, one of them for {blocked.key}") from None
        except psycopg.Error as error:
            pending.error = error
            self.failed = self.in_transaction
            self._release()
        self.queue.popleft()
        pending.done = True

    def end(self) -> None:
        """End the session and roll back."""
        self._release()
        self.queue.clear()
        self.ended = True
        for key in [key for key, holder in self.database.advisory.items() if holder is self]:
            del self.database.advisory[key]
        self.database.relays.pop(self, None)
        self.database.backends.remove(self)

    def read(self, table: str, key: Hashable) -> Any:
        """The row as this transaction sees it; None if there is none."""
        own = self.writes.get((table, key))
        return own if own is not None else self.database.table(table).get(key)

    def lock(self, table: str, key: Hashable) -> None:
        """Lock a row, existing or not, until the transaction ends; raises `Blocked`."""
        name = (table, key)
        holder = self.database.locks.get(name)
        if holder is None:
            self.database.locks[name] = self
            self.held.append(name)
        elif holder is not self:
            raise Blocked(name)

    def write(self, table: str, key: Hashable, row: Any) -> None:
        """Write a locked row."""
        self.writes[(table, key)] = row

    def write_outside(self, table: str, key: Hashable, row: Any) -> None:
        """Write a row that no rollback undoes, as a sequence does. For mutations only."""
        self.database.table(table)[key] = row

    def pause(self) -> None:
        """Let others run between two rows of this statement."""
        raise Paused

    def insert(self, table: str, rows: Mapping[Any, Any]) -> None:
        """Insert rows; raises `UniqueViolation` if one exists."""
        for key in rows:
            # A committed row is seen at once, even if it is locked; an uncommitted one is waited for.
            if self.read(table, key) is not None:
                raise errors.UniqueViolation(f"{table} {key}")
            self.lock(table, key)
        for key, row in rows.items():
            if self.read(table, key) is not None:
                raise errors.UniqueViolation(f"{table} {key}")
            self.writes[(table, key)] = row

    def _execute(self, pending: Pending) -> Rows:
        text = pending.text
        if text == "BEGIN":
            self.in_transaction = True
            self.transaction = self.database.begin()
            return ()
        if text == "COMMIT":
            pending.status = "ROLLBACK" if self.failed else "COMMIT"
            if not self.failed:
                self.database.committed.add(self.transaction)
                self._commit()
            self._release()
            self.in_transaction = self.failed = False
            return ()
        if self.failed:
            raise psycopg.errors.InFailedSqlTransaction("an earlier statement has failed")
        rows = self.database.statements[text](self, pending.parameters)
        if not self.in_transaction:
            self._commit()
            self._release()
        return rows

    def _commit(self) -> None:
        writes, self.writes = self.writes, {}
        self.database.commit(writes)

    def _release(self) -> None:
        self.writes = {}
        locks = self.database.locks
        for key in self.held:
            del locks[key]
        self.held = []

    def _deadlocked(self) -> bool:
        waiting: Backend | None = self
        while waiting is not None and waiting.blocked_on is not None:
            waiting = self.database.locks.get(waiting.blocked_on)
            if waiting is self:
                return True
        return False
