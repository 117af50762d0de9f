"""The folder, shared by all stacks of this user, that holds what was fetched once."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path


def folder() -> Path:
    """`$XDG_CACHE_HOME/gapless`, by default `~/.cache/gapless`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gapless"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`. The kernel lets go of it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """The folder `target`, which `make` fills if it is not there yet.

    It is made under another name and renamed at the end, under a lock: so a folder that exists is complete, whatever
    was interrupted, and of two who want it at the same time, one makes it and the other waits.
    """
    if target.is_dir():
        return target
    with locked(target.with_name(f".{target.name}.lock")):
        if not target.is_dir():
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            # Whatever our umask: another account may have to read what lies here.
            partial.chmod(0o755)
            try:
                make(partial)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return target
