"""`gapless search`: run a search worker, and build its index again."""

import sys
from pathlib import Path

import click
import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gapless.local import data_option, settings_for
from gapless.processes import run_process
from runtime.kafka import TopicError
from runtime.settings import load


@click.group(invoke_without_command=True)
@click.pass_context
def search(context: click.Context) -> None:
    """Run a search worker until SIGTERM. Several may run, each with an index of its own: GAPLESS_WORKER_DATA."""
    if context.invoked_subcommand is None:
        run_process("search", load(), "search")


@search.command()
@data_option
def rebuild(data: Path | None) -> None:
    """Build a worker's index again from Postgres, for its next start; a running worker answers on meanwhile.

    Run it with the worker's own settings, on the worker's machine: the index is put into its folder.
    """
    # The library is loaded where it is used.
    from search.index import FolderInUseError, IndexFolder
    from search.rebuild import rebuild as build

    settings = settings_for(data, "search")
    folder = IndexFolder(settings.worker_data)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as shown:
        task = shown.add_task("rows")
        try:
            rows = build(
                folder,
                settings.kafka_bootstrap,
                settings.postgres_url.get_secret_value(),
                lambda done, total: shown.update(task, completed=done, total=total),
                for_next_start=True,
            )
        except (TopicError, psycopg.OperationalError, FolderInUseError) as error:
            raise click.ClickException(" ".join(str(error).split())) from None
        except OSError as error:
            raise click.ClickException(
                f"GAPLESS_WORKER_DATA: cannot write in {settings.worker_data}: {error.strerror}"
            ) from None
        finally:
            folder.close()
    click.echo(f"built of {rows:,} rows: the worker uses it from its next start")
