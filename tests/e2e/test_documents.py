"""Every command that a document shows, in the order shown on a fresh local stack: it works, and says what is shown.

One stack for all documents, as for a reader who goes from one to the next: what one leaves must not trip the other.
The command that stops it is run after the last of them, so that it starts once.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from local.errors import StackError
from local.stack import Stack
from tests.e2e.shown import Shell, commands, documents, statements

_KEPT_LOGS = Path("test-logs") / "documents"


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """That of the folder where a newcomer stands, who has a `.venv` and has not started anything yet."""
    made = Path(tempfile.mkdtemp(prefix="gapless-documents-"))
    (made / ".venv").symlink_to(sys.prefix)
    stack = Stack(made / ".gapless")
    failed_before = request.session.testsfailed
    yield stack
    try:
        stack.stop()
    finally:
        if request.session.testsfailed > failed_before and stack.data.is_dir():
            shutil.copytree(stack.data / "logs", _KEPT_LOGS, dirs_exist_ok=True)
            print(f"\nthe stack's logs are in {_KEPT_LOGS.absolute()}")
        stack.remove()
        shutil.rmtree(made)


def _start(stack: Stack) -> None:
    """Start it unless it is up."""
    with contextlib.suppress(StackError):
        if stack.status()["ready"]:
            return
    stack.stop()
    stack.start()


def _shell(stack: Stack) -> Shell:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return Shell(stack.data.parent, path)


@pytest.mark.parametrize("document", [name for name in documents() if commands(name)])
def test_what_a_document_shows_works_in_the_order_shown(document: str, stack: Stack) -> None:
    """A reader pastes the commands from top to bottom."""
    # The README says how to come by a stack; all others take for granted that there is one.
    if document != "README.md":
        _start(stack)
    with _shell(stack) as shell:
        for shown in commands(document):
            if shown.to_run is not None and not shown.ends_the_stack:
                shell.run_as_shown(shown)


@pytest.mark.parametrize("document", [name for name in documents() if statements(name)])
def test_the_sql_that_a_document_shows_runs(document: str, stack: Stack) -> None:
    """On the tables as they are; what it would change is undone."""
    _start(stack)
    with psycopg.connect(stack.endpoints()["postgres"]) as connection:
        for statement in statements(document):
            connection.execute(statement.encode())
        connection.rollback()


def test_the_command_that_stops_the_stack_does_so(stack: Stack) -> None:
    """As shown; it comes last, in its document too."""
    _start(stack)
    [shown] = [each for name in documents() for each in commands(name) if each.ends_the_stack]
    with _shell(stack) as shell:
        shell.run_as_shown(shown)
    assert stack.pid() is None
