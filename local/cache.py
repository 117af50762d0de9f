"""The download cache, shared by all stacks of this user."""

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
    """Hold the lock file `path`. The kernel releases it if its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """The folder `target`, which `make` fills if it does not exist.

    It is filled under another name and then renamed, under a lock. So a folder that exists is complete, even after an
    interruption, and of two concurrent callers one creates it and the other waits.
    """
    if target.is_dir():
        return target
    with locked(target.with_name(f".{target.name}.lock")):
        if not target.is_dir():
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            # Independent of the umask: another account may have to read the folder.
            partial.chmod(0o755)
            try:
                make(partial)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return target
