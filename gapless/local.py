"""`gapless up`, `down` and `status`, and how other commands find the local stack."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from local.errors import StackError
from local.layout import WORKERS_MAX
from local.stack import READY_SECONDS_MAX, Stack
from runtime.roles import READERS
from runtime.settings import ENV_PREFIX, Settings, load

DEFAULT_DATA = Path(".gapless")


class Folder(click.Path):
    """A folder's path. An empty one is refused, because it would mean the current folder."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if value == "":
            self.fail("is empty: name a folder, or leave the option out", param, ctx)
        return super().convert(value, param, ctx)


#: The option `--data` for commands that work on a local stack only.
stack_option: Callable[[Any], Any] = click.option(
    "--data",
    type=Folder(),
    default=DEFAULT_DATA,
    show_default=True,
    help="Folder of the local stack.",
)

#: The option `--data` for commands that also work with configured services: see `settings_for`.
data_option: Callable[[Any], Any] = click.option(
    "--data",
    type=Folder(),
    default=None,
    help="Folder of the local stack to use. Default: GAPLESS_… if set, else ./.gapless.",
)


def settings_for(data: Path | None, process: str = "") -> Settings:
    """The settings of a command: of the stack in `data`; without `data`, of the environment, or of `./.gapless`.

    With `process`, a stack's are those of its process of this name.

    Raises `StackError` if `data` is given and contains no stack, `SettingsError` if the environment's are wrong.
    """
    if data is not None:
        return Stack(data).settings(process)
    services = ("KAFKA_BOOTSTRAP", "POSTGRES_URL", "REDIS_URL", "OBJECTS_URL")
    configured = any(f"{ENV_PREFIX}{name}{file}" in os.environ for name in services for file in ("", "_FILE"))
    if not configured and (DEFAULT_DATA / "stack.json").exists():
        return Stack(DEFAULT_DATA).settings(process)
    return load()


def _workers(_: click.Context, __: click.Parameter, value: str | None) -> dict[str, int] | None:
    if value is None:
        return None
    workers: dict[str, int] = {}
    for part in value.split(","):
        role, _equals, count = part.strip().partition("=")
        if role not in READERS or not count.isdecimal() or not 0 <= int(count) <= WORKERS_MAX:
            roles = " and ".join(READERS)
            raise click.BadParameter(f"{part!r} is not ROLE=COUNT; roles are {roles}, counts 0 to {WORKERS_MAX}")
        workers[role] = int(count)
    return workers


@click.command()
@click.option("--detach", is_flag=True, help="Return when all is ready, and leave it running.")
@stack_option
@click.option("--workers", callback=_workers, metavar="ROLE=N,…", help="Workers per role: invoices=2,documents=2.")
def up(detach: bool, data: Path, workers: dict[str, int] | None) -> None:
    """Start the local stack: Kafka, Postgres, Valkey, and our own processes.

    Processes that die are restarted. Ctrl-C or `gapless down` stops everything. Ports are chosen once and stay the
    same.
    """
    stack = Stack(data, workers)
    if detach:
        stack.start(READY_SECONDS_MAX)
        click.echo(_summary(stack))
        return
    from local.supervisor import supervise

    stack.describe()

    def say(line: str) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)

    say(f"starting in {stack.data}")
    supervise(stack.data, say, lambda: click.echo(_summary(stack) + "\nCtrl-C stops it all."))
    say("all stopped")


@click.command()
@stack_option
def down(data: Path) -> None:
    """Stop the local stack; its data is preserved."""
    stack = Stack(data)
    if not (stack.data / "stack.json").exists():
        raise StackError(f"there is no stack in {stack.data}")
    click.echo(f"stopped {stack.data}" if stack.stop() else f"nothing was running in {stack.data}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@stack_option
def status(as_json: bool, data: Path) -> None:
    """Show what runs in the local stack, and where it listens."""
    stack = Stack(data)
    click.echo(json.dumps(stack.status(), indent=2) if as_json else _summary(stack))


def _summary(stack: Stack) -> str:
    told = stack.status()
    lines = [f"{'ready' if told['ready'] else 'not ready'}: {told['data']}"]
    # The URL with the password is for programs: `--json` has it.
    shown = {**told["endpoints"], "postgres": _without_password(told["endpoints"]["postgres"])}
    lines += [f"  {name:10} {where}" for name, where in shown.items()]
    # No secret here: whoever sees this output can also read the stack's folder.
    lines.append(f"  {'api key':10} {told['api_key']}")
    for process in told["processes"]:
        lines.append(f"  {process['name']:14} {process['state']:9} {process['pid'] or ''}".rstrip())
    return "\n".join(lines)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    login, at, where = rest.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}{at}{where}"
