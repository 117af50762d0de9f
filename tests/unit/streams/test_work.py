"""What a worker logs of dead letters: each once it is committed, and none that another attempt has not made."""

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from domain.dead_letter import DeadLetterReason
from streams.engine.batch import Batch
from streams.engine.dead_letters import dead_letter
from streams.engine.work import Worker


class Ledger:
    """A session that commits everything."""

    @asynccontextmanager
    async def pipelined_transaction(self) -> Any:
        yield self

    async def execute(self, *_: Any) -> Any:
        async def fetchone() -> Any:
            return ("7",)

        return SimpleNamespace(fetchone=fetchone)


class Doubting:
    """Work to which other records are wrong after each outage."""

    agent = "doubting"
    outages: tuple[type[Exception], ...] = ()

    def __init__(self, *wrong: set[int]) -> None:
        self._wrong = iter(wrong)

    async def prepare(self, batch: Batch) -> set[int]:
        return next(self._wrong)

    async def apply(self, _: Any, parts: Any) -> None:
        [part] = parts
        batch, wrong = part.batch, part.prepared
        for record in batch.records:
            if record.offset in wrong:
                dead_letter("doubting", batch, record, DeadLetterReason.FOREIGN, "private words", datetime.now(UTC))
        if record.offset == 3 and wrong != {2, 3}:
            raise psycopg.OperationalError("unavailable")

    async def committed(self, batch: Batch, wrong: set[int]) -> None:
        """Nothing."""

    def distrust(self, _: set[int]) -> bool:
        return False


async def test_a_dead_letter_is_a_line_once_it_is_committed(capsys: pytest.CaptureFixture[str]) -> None:
    """With the order that its key names, whatever that holds; of its content nothing."""
    headers = (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),)
    records = [
        SimpleNamespace(offset=1, key=b"A", value=b"", headers=()),
        SimpleNamespace(offset=2, key=b"B\xff" + bytes(1_000), value=b"", headers=headers),
        SimpleNamespace(offset=3, key=None, value=b"", headers=()),
    ]

    async def no_sleep(_: float) -> None:
        """At once."""

    session: Any = Ledger()
    work: Any = Doubting({1, 2}, {2, 3})
    await Worker(session, None, no_sleep).run(work, Batch("t", 7, records))  # type: ignore[arg-type]
    text = capsys.readouterr().err
    assert "private" not in text
    first, second = (each for each in map(json.loads, text.splitlines()) if each["event"] == "dead letter")
    assert (first["level"], first["topic"], first["partition"], first["offset"]) == ("warning", "t", 7, 2)
    assert (first["reason"], first["trace_id"]) == (DeadLetterReason.FOREIGN, "4bf92f3577b34da6a3ce929d0e0e4736")
    assert first["order_id"].startswith("B\\xff\0")
    assert len(first["order_id"]) < 300
    assert (second["offset"], second["order_id"], "trace_id" in second) == (3, None, False)
