"""A worker whose loop stands still, or that never takes its partitions up, doesn't stay so."""

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, cast

import pytest

from runtime.settings import SettingsError
from streams.engine import app
from streams.engine.transport import NOT_ASSIGNED, BatchApp

TURN_S = 0.01


class EndedError(Exception):
    """The process would have ended."""


def _raise(message: str) -> NoReturn:
    raise EndedError(message)


async def test_a_loop_that_stands_still_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    ended = threading.Event()

    def end(message: str) -> None:
        said.append(message)
        ended.set()
        # As the end of the process would: nothing goes on.
        threading.Event().wait()

    monkeypatch.setattr(app, "fatal", end)
    monkeypatch.setattr("faulthandler.dump_traceback", lambda: None)
    threading.Thread(target=app.watch_loop, args=(asyncio.get_running_loop(), 3, TURN_S), daemon=True).start()
    # In vain: the loop waits here, as it would in a call that never returns.
    assert ended.wait(60)
    assert said == ["the event loop has stood still for 0.03 s"]


async def test_a_loop_that_goes_on_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "fatal", lambda message: pytest.fail(message))
    loop = asyncio.new_event_loop()
    watching = threading.Thread(target=app.watch_loop, args=(loop, 1_000, TURN_S), daemon=True)
    running = threading.Thread(target=loop.run_forever, daemon=True)
    running.start()
    watching.start()
    turned = threading.Event()
    for _ in range(20):
        turned.clear()
        loop.call_soon_threadsafe(turned.set)
        assert turned.wait(60)
    loop.call_soon_threadsafe(loop.stop)
    running.join(5)
    loop.close()
    watching.join(5)
    assert not watching.is_alive()


class Settling:
    """An app whose partitions are in one state."""

    crashed = should_stop = False

    def __init__(self, state: str) -> None:
        self.state = state

    def partitions_state(self) -> str:
        return self.state


@pytest.mark.parametrize("state", [NOT_ASSIGNED, "being taken up"])
async def test_an_app_that_does_not_settle_ends_the_process(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """Also one that its group never gives a share: Faust waits for that without a word."""
    monkeypatch.setattr(app, "fatal", _raise)
    with pytest.raises(EndedError, match=f"partitions {state}, for more than 0.05 s"):
        async with asyncio.timeout(60):
            await app.watch_app(cast(BatchApp, Settling(state)), 0.05, TURN_S)


@pytest.mark.parametrize(("state", "is_kafka_away"), [("ok", False), (NOT_ASSIGNED, True)])
async def test_an_app_that_is_settled_or_has_no_brokers_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, state: str, is_kafka_away: bool
) -> None:
    monkeypatch.setattr(app, "fatal", _raise)
    monkeypatch.setattr(app, "KAFKA", SimpleNamespace(reason="away" if is_kafka_away else None, look_for_silence=list))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await app.watch_app(cast(BatchApp, Settling(state)), 0.05, TURN_S)


def test_a_folder_that_cannot_be_made_is_refused_with_the_fix(tmp_path: Path) -> None:
    """As where a file has its name, whoever the user is."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(SettingsError) as refused:
        app._make_folder(tmp_path / "taken" / "invoices-1")
    assert str(refused.value) == (
        f"GAPLESS_WORKER_DATA: {tmp_path}/taken/invoices-1 can't be made: Not a directory;"
        " name a folder that this user may make and write"
    )
