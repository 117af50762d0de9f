"""A full disk for Postgres: a file system in memory, or limits on the sizes of its files."""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from chaos.world import World

#: More than any run writes.
_ROOMY = "8g"
#: For limits instead of a disk: most tables and every WAL segment are larger.
_FILE_BYTES_MAX = 64 * 1024 + 1
_DOWN_S_MAX = 120.0
_LIMIT_EVERY_S = 0.05


class Disk:
    """Fills and empties the disk that Postgres writes to."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.form = "limits on the sizes of Postgres's files"
        self._limiting: asyncio.Task[None] | None = None

    async def fill(self) -> None:
        """Make all further writes fail."""
        self._limiting = asyncio.create_task(self._limit())
        self._world.timeline.befell(f"the disk is full ({self.form})")

    async def empty(self) -> None:
        """Make room for writes again."""
        if self._limiting is not None:
            self._limiting.cancel()
            self._limiting = None
            _limit_files(self._world.stack.process_pid("postgres"), resource.RLIM_INFINITY)
            self._world.timeline.note("the disk has space again")

    async def _limit(self) -> None:
        # Repeated: if Postgres ends for lack of space, it is restarted without the limit.
        while True:
            _limit_files(self._world.stack.process_pid("postgres"), _FILE_BYTES_MAX)
            await asyncio.sleep(_LIMIT_EVERY_S)


class _Mounted(Disk):
    """A file system in memory, whose size can be changed."""

    def __init__(self, world: World, folder: Path) -> None:
        super().__init__(world)
        self.form = "a small file system"
        self._folder = folder
        self._full = False

    async def fill(self) -> None:
        told = os.statvfs(self._folder)
        pages = told.f_blocks - told.f_bfree
        await self._resize(str(pages * told.f_frsize))
        self._full = True
        self._world.timeline.befell(f"the disk is full ({self.form})")

    async def empty(self) -> None:
        if self._full:
            await self._resize(_ROOMY)
            self._full = False
            self._world.timeline.note("the disk has space again")

    async def _resize(self, size: str) -> None:
        # Retry with a larger size: Postgres may have written more meanwhile.
        while not await asyncio.to_thread(_ran, "mount", "-o", f"remount,size={size}", str(self._folder)):
            told = os.statvfs(self._folder)
            size = str((told.f_blocks - told.f_bfree) * told.f_frsize)


@asynccontextmanager
async def small_disk(world: World) -> AsyncIterator[Disk]:
    """Have Postgres on a disk that can be filled, while the block runs. Restarts Postgres before and after."""
    folder = world.stack.data / "postgres" / "cluster"
    disk: Disk = Disk(world)
    kept = folder.with_name("cluster.kept")
    mounted = os.geteuid() == 0 and await _with_postgres_down(world, lambda: _move_in(folder, kept))
    if mounted:
        disk = _Mounted(world, folder)
    try:
        await world.until_ready()
        yield disk
    finally:
        await disk.empty()
        if mounted:
            await _with_postgres_down(world, lambda: _move_out(folder, kept))
            await world.until_ready()


async def _with_postgres_down(world: World, do: Callable[[], bool]) -> bool:
    world.hold("postgres", signal.SIGINT)
    try:
        await world.until(lambda: world.stack.process_pid("postgres") is None, "Postgres is down", _DOWN_S_MAX)
        return await asyncio.to_thread(do)
    finally:
        world.release("postgres")


def _move_in(folder: Path, kept: Path) -> bool:
    """Move the cluster to a new file system; False if this machine does not permit mounts."""
    folder.rename(kept)
    folder.mkdir(mode=0o700)
    shutil.copystat(kept, folder)
    owner = kept.stat()
    options = f"size={_ROOMY},mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    if not _ran("mount", "-t", "tmpfs", "-o", options, "gapless-chaos", str(folder)):
        folder.rmdir()
        kept.rename(folder)
        return False
    if not _ran("cp", "-a", f"{kept}/.", str(folder)):
        raise RuntimeError(f"{kept} can't be copied to {folder}")
    shutil.rmtree(kept)
    return True


def _move_out(folder: Path, kept: Path) -> bool:
    copied = _ran("cp", "-a", f"{folder}/.", str(kept))
    if not _ran("umount", str(folder)):
        raise RuntimeError(f"{folder} can't be unmounted")
    folder.rmdir()
    kept.rename(folder)
    return copied


def _ran(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603


def _limit_files(postmaster: int | None, size: int) -> None:
    if postmaster is None:
        return
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        main = psutil.Process(postmaster)
        for process in (main, *main.children(recursive=True)):
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                # Without limits, `prlimit` reads them. The hard limit is unchanged, so that the soft one can be raised
                # again.
                hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))
