"""Documents rendered in processes of their own: one takes milliseconds of a core that the event loop can not spare."""

import asyncio
import gc
import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from documents import render as pdf
from runtime.exits import start_thread

#: Documents handed over at one go: few enough that all processes have work to the end of a batch.
_CHUNK_MAX = 8
#: If no chunk ends for so long, a process hangs. The largest document that the topic has room for, a megabyte of
#: letters that all need shaping, takes 10 seconds.
_STALL_SECONDS_MAX = 180.0
#: A process that is closed ends its chunk first.
_CLOSE_SECONDS_MAX = 5.0

Item = tuple[pdf.DocumentEvent, bytes | None]


class RenderError(Exception):
    """This event can't be made a document, now or ever; the message says why."""


class RendererBrokenError(Exception):
    """The processes that render die or hang, also new ones: too little memory, or a bug in a library."""


class Renderer:
    """A pool of processes that render. They end when it is closed, and when this process dies, however it dies."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool = self._start()

    async def render_many(self, items: Sequence[Item]) -> list[bytes | RenderError]:
        """The document of each event with its seller's logo, or why there is none, in the order of `items`.

        A pool that breaks is replaced once, and all is rendered again, which gives the same bytes. Raises
        `RendererBrokenError` if that one breaks too.
        """
        if not items:
            return []
        pool = self._pool
        try:
            return await self._render(pool, items)
        except (BrokenProcessPool, TimeoutError):
            self._replace(pool)
        pool = self._pool
        try:
            return await self._render(pool, items)
        except (BrokenProcessPool, TimeoutError) as error:
            self._replace(pool)
            raise RendererBrokenError(f"two pools of processes in a row: {error or 'no answer'}") from error

    def close(self) -> None:
        """End the processes. No document that is being rendered comes to anything."""
        _end(self._pool, _CLOSE_SECONDS_MAX)

    async def _render(self, pool: ProcessPoolExecutor, items: Sequence[Item]) -> list[bytes | RenderError]:
        loop = asyncio.get_running_loop()
        size = max(1, min(_CHUNK_MAX, -(-len(items) // self._processes)))
        chunks = [
            loop.run_in_executor(pool, _render_chunk, items[start : start + size])
            for start in range(0, len(items), size)
        ]
        waiting: set[asyncio.Future[list[bytes | str]]] = set(chunks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=_STALL_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise TimeoutError
        # Gathered, so that each chunk's exception is looked at.
        results = await asyncio.gather(*chunks)
        return [RenderError(body) if isinstance(body, str) else body for chunk in results for body in chunk]

    def _start(self) -> ProcessPoolExecutor:
        # Spawned: a fork would copy the locks of Faust's and librdkafka's threads in whatever state they are.
        pool = ProcessPoolExecutor(self._processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
        # A process starts when there is work and none is idle. For the first of them now is better than with the first
        # batch.
        pool.submit(_idle)
        return pool

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        # Two batches may see one pool break; the second finds a new one.
        if self._pool is broken:
            self._pool = self._start()
            _end(broken, 0.0)


def _end(pool: ProcessPoolExecutor, patience_seconds: float) -> None:
    # The executor offers no way to end a process that hangs; it forgets its processes when it shuts down.
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.join(patience_seconds)
        if process.is_alive():
            process.kill()
            process.join()


def _begin() -> None:
    # Ctrl-C reaches the whole group: the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start_thread("end-with-parent", _end_with_parent)
    pdf.warm()
    # Fonts and modules stay: the collector need not look at them after each document.
    gc.freeze()


def _end_with_parent() -> None:
    # A worker killed with -9 closes nothing: without this its processes would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _idle() -> None:
    """Nothing to do: the process is up once this has run."""


def _render_chunk(items: Sequence[Item]) -> list[bytes | str]:
    """Documents, and messages in place of those that there can't be. An exception's own class may not travel."""
    return [_render_one(event, logo) for event, logo in items]


def _render_one(event: pdf.DocumentEvent, logo: bytes | None) -> bytes | str:
    try:
        return pdf.render(event, logo)
    except MemoryError:
        # Of the machine, not of the event.
        raise
    # Rendering is a pure function: what it raises it raises again, and would hold up its partition for ever.
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
