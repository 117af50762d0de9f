"""The memory of a stack's processes over time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from local.stack import Stack

_EVERY_S = 0.5
_BARS = "▁▂▃▄▅▆▇█"
_BARS_MAX = 40


class Memory:
    """Curves in MB by process, each with its children and with shared pages counted once."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.curves: dict[str, list[float]] = {}

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Measure twice a second while the block runs."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    def lines(self) -> list[str]:
        """One line per process: minimum, curve, maximum."""
        return [
            f"{name:<12} {min(curve):6.0f} {_drawn(curve)} {max(curve):.0f} MB"
            for name, curve in self.curves.items()
            if curve
        ]

    async def _watch(self) -> None:
        while True:
            for name, size in (await asyncio.to_thread(self._look)).items():
                self.curves.setdefault(name, []).append(size)
            await asyncio.sleep(_EVERY_S)

    def _look(self) -> dict[str, float]:
        sizes = {}
        for each in self._stack.status()["processes"]:
            if each["pid"] is not None:
                with contextlib.suppress(psutil.Error, OSError):
                    sizes[each["name"]] = family_mb(each["pid"])
        return sizes


def family_mb(pid: int) -> float:
    """The memory of a process with its children, with shared pages counted once (PSS), in MB.

    Raises `psutil.Error`, `OSError`.
    """
    process = psutil.Process(pid)
    return sum(_pss_mb(each.pid) for each in (process, *process.children(recursive=True)))


def _pss_mb(pid: int) -> float:
    # A hundred times faster than adding up all mappings, as psutil does.
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _drawn(curve: list[float]) -> str:
    step = max(1, -(-len(curve) // _BARS_MAX))
    parts = [max(curve[first : first + step]) for first in range(0, len(curve), step)]
    least, most = min(parts), max(parts)
    height = (most - least) or 1.0
    return "".join(_BARS[int((part - least) / height * (len(_BARS) - 1))] for part in parts)
