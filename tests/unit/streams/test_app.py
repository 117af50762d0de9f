"""A worker whose loop stands still doesn't stay so."""

import asyncio
import threading

import pytest

from streams.engine import app

TURN_S = 0.01


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
    assert ended.wait(5)
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
        assert turned.wait(5)
    loop.call_soon_threadsafe(loop.stop)
    running.join(5)
    loop.close()
    watching.join(5)
    assert not watching.is_alive()
