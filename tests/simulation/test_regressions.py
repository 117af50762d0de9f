"""Bugs that the simulation has found, each as a test of its own, because seeds change with every new draw."""

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg.errors import UniqueViolation

from streams.engine.batch import Batch
from streams.engine.work import Worker


class Ledger:
    """A session whose position is before a hole of the log."""

    def __init__(self, position: int) -> None:
        self.position = position

    @asynccontextmanager
    async def pipelined_transaction(self) -> Any:
        yield self

    connection = pipelined_transaction

    async def execute(self, _: str, parameters: Any) -> Any:
        moves = parameters.get("first_offsets") == [self.position]
        rows = [("7",)] if moves else [(self.position,)] if "first_offsets" not in parameters else []

        async def fetchone() -> Any:
            return rows[0] if rows else None

        return SimpleNamespace(fetchone=fetchone)


class Hinted:
    """Work that uses a wrong hint until `distrust` is called."""

    agent = "hinted"
    outages: tuple[type[Exception], ...] = ()

    def __init__(self) -> None:
        self.believes = True
        self.done: list[Batch] = []

    async def prepare(self, batch: Batch) -> None:
        self.believes = True

    async def apply(self, _: Any, __: Any) -> None:
        if self.believes:
            raise UniqueViolation("the order is there already")

    async def committed(self, batch: Batch, _: None) -> None:
        self.done.append(batch)

    def distrust(self, _: None) -> bool:
        was, self.believes = self.believes, False
        return was


class EndedError(BaseException):
    """Represents the end of the process."""


async def test_a_wrong_hint_is_put_right_behind_a_hole_of_the_log_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fatal(message: str, error: BaseException | None = None) -> None:
        raise EndedError(message) from error

    async def probe(topic: str, partition: int, offset: int) -> tuple[int, int]:
        return 6, 0

    monkeypatch.setattr("streams.engine.work.fatal", fatal)
    session: Any = Ledger(position=5)
    work = Hinted()
    batch = Batch("requests", 0, [SimpleNamespace(offset=6, key=None, value=b"", headers=())])
    await Worker(session, probe).run(work, batch)
    assert work.done == [batch]
