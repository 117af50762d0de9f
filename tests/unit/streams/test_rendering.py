import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import cast

import psutil
import pytest

from documents.render import render
from domain.records import InvoiceIssued
from streams.rendering import Renderer, RendererBrokenError, RenderError
from tests.invoice_events import described, issued

#: Renders once, says which processes it started, and waits to be killed.
_RENDER_AND_WAIT = """
import asyncio, time
from streams.rendering import Renderer
from tests.invoice_events import issued

if __name__ == "__main__":
    renderer = Renderer(2)
    asyncio.run(renderer.render_many([(issued(), None)] * 4))
    print(*renderer._pool._processes, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    made = Renderer(2)
    yield made
    made.close()


def pids(renderer: Renderer) -> list[int]:
    return list(renderer._pool._processes)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_documents_come_back_in_order_and_as_one_process_makes_them(renderer: Renderer) -> None:
    """More than one chunk for each process."""
    events = [described(f"Thing {place}") for place in range(50)]
    assert await renderer.render_many([(event, None) for event in events]) == [render(event, None) for event in events]


async def test_nothing_to_render_is_nothing(renderer: Renderer) -> None:
    """A batch may hold no invoice."""
    assert await renderer.render_many([]) == []


async def test_an_event_that_has_no_document_does_not_keep_others_from_theirs(renderer: Renderer) -> None:
    """It comes back as an error that says why."""
    bodies = await renderer.render_many(
        [
            (issued(), b"no picture"),
            (issued(template_version=9), None),
            (cast(InvoiceIssued, {}), None),
            (issued(), None),
        ]
    )
    assert [str(body).split(":")[0] for body in bodies[:3]] == ["BadLogoError", "UnknownTemplateError", "KeyError"]
    assert all(isinstance(body, RenderError) for body in bodies[:3])
    assert bodies[3] == render(issued(), None)


async def test_the_event_loop_goes_on_while_documents_are_made(renderer: Renderer) -> None:
    """A worker that can't answer its broker for a second leaves the group."""
    await renderer.render_many([(issued(), None)])
    begun = time.monotonic()
    rendering = asyncio.ensure_future(renderer.render_many([(described("many " * 1_000), None)] * 40))
    longest = 0.0
    while not rendering.done():
        before = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - before)
    assert len(await rendering) == 40
    assert longest < (time.monotonic() - begun) / 2


async def test_a_process_that_dies_is_replaced(renderer: Renderer) -> None:
    """By the kernel for want of memory, say; the batch doesn't notice."""
    await renderer.render_many([(issued(), None)])
    first = pids(renderer)
    os.kill(first[0], signal.SIGKILL)
    assert await renderer.render_many([(issued(), None)] * 40) == [render(issued(), None)] * 40
    assert not set(pids(renderer)) & set(first)
    assert not any(map(alive, first))


class Deadly(dict[str, object]):
    """An event that ends the process which unpacks it."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (1,)


async def test_processes_that_die_again_are_an_error(renderer: Renderer) -> None:
    """Tried for ever, the batch would never end."""
    with pytest.raises(RendererBrokenError):
        await renderer.render_many([(cast(InvoiceIssued, Deadly()), None)])
    assert len(await renderer.render_many([(issued(), None)])) == 1


async def test_a_process_that_hangs_is_replaced(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, it would keep the batch waiting for ever."""
    await renderer.render_many([(issued(), None)] * 2)
    monkeypatch.setattr("streams.rendering._STALL_SECONDS_MAX", 1.0)
    replace = renderer._replace

    def replace_patiently(broken: ProcessPoolExecutor) -> None:
        # New processes get the usual time: on a busy machine they start for seconds.
        monkeypatch.undo()
        replace(broken)

    monkeypatch.setattr(renderer, "_replace", replace_patiently)
    first = pids(renderer)
    for pid in first:
        os.kill(pid, signal.SIGSTOP)
    assert len(await renderer.render_many([(issued(), None)] * 2)) == 2
    assert not any(map(alive, first))


async def test_closing_leaves_no_process() -> None:
    """Also one that is stopped."""
    renderer = Renderer(2)
    await renderer.render_many([(issued(), None)] * 4)
    started = pids(renderer)
    assert len(started) == 2
    renderer.close()
    assert not any(map(alive, started))


def test_processes_end_when_their_parent_is_killed() -> None:
    """With -9 it closes nothing."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _RENDER_AND_WAIT],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        started = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(started) == 2
    deadline = time.monotonic() + 60
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, started))


async def test_a_process_stays_small(renderer: Renderer) -> None:
    """250 MB is what a worker may have, with all fonts loaded."""
    await renderer.render_many([(described("山田 김철수 عبد الرحمن हिन्दी ✓ ≤"), None)] * 20)
    for pid in pids(renderer):
        assert psutil.Process(pid).memory_info().rss < 200 * 1024 * 1024
