"""Commands in documents: those that are not run as shown are tried elsewhere, and those in sentences exist."""

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from gapless.cli import cli
from schemas.catalog import TOPICS
from tests.e2e.shown import ELSEWHERE, ROOT, SHORT, commands, difference, documents, inline

ALL = [(shown.where, shown.command) for name in documents() for shown in commands(name)]
INLINE = [(name, command) for name in documents() for command in inline(name)]

_COLUMNS_MAX = 120
_CODE_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
#: A source file of ours, and what is in it: `runtime/settings.py:load`.
_SOURCE = re.compile(r"`((\w+/[\w/]+\.(?:py|sql|lua|avsc))(?::(\w+))?)`")
_MARKDOWN = sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part == "node_modules" for part in path.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("name", _MARKDOWN)
def test_a_line_of_a_document_has_120_columns_at_most(name: str) -> None:
    """Tables, code and a single word, such as a link, may be longer: they can't be wrapped."""
    text = _CODE_BLOCK.sub(lambda block: "\n" * block.group().count("\n"), (ROOT / name).read_text())
    too_long = [
        number
        for number, line in enumerate(text.splitlines(), start=1)
        if len(line) > _COLUMNS_MAX and not line.startswith("|") and " " in line.strip()
    ]
    assert too_long == []


@pytest.mark.parametrize("name", _MARKDOWN)
def test_a_file_that_a_document_names_is_there(name: str) -> None:
    """And a function or class behind its colon is in it."""
    text = (ROOT / name).read_text()
    missing = [named for named, path, inside in _SOURCE.findall(text) if not _is_there(ROOT / path, inside)]
    assert missing == []


def _is_there(path: Path, inside: str) -> bool:
    if not path.exists():
        return False
    return not inside or re.search(rf"^(?:\s*(?:async )?def |class )?{inside}\b", path.read_text(), re.M) is not None


@pytest.mark.parametrize("pattern", [*ELSEWHERE, *SHORT])
def test_the_table_of_commands_that_take_minutes_names_what_there_is(pattern: str) -> None:
    """No entry outlives its command, or its test."""
    assert any(re.match(pattern, command) for _, command in [*ALL, *INLINE]), "no document shows it"
    assert (ROOT / ELSEWHERE.get(pattern, "tests")).exists()


@pytest.mark.parametrize(("where", "command"), [*ALL, *INLINE])
def test_every_command_of_a_document_is_one_that_there_is(where: str, command: str) -> None:
    """Program, subcommand and options, by name; values may be placeholders."""
    for part in command.splitlines():
        words = shlex.split(re.sub(r"[\[\]]", "", part), comments=True) if part.startswith(_OURS) else []
        if words[:1] == ["gapless"]:
            _resolve(words[1:])
        elif words[:1] == ["make"]:
            subprocess.run(["make", "-n", words[1]], cwd=ROOT, check=True, capture_output=True)
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None, where


_OURS = ("gapless ", "make ", "python -m ")


def _resolve(words: list[str]) -> None:
    command: click.Command = cli
    context = click.Context(cli)
    for word in words:
        if word in (">", "|", "…"):
            return
        if word.startswith("-"):
            known = {name for option in command.get_params(context) for name in option.opts}
            assert word.partition("=")[0] in {*known, "--help"}, f"{command.name} has no option {word}"
        elif isinstance(command, click.Group):
            following = command.get_command(context, word)
            # `gapless load FILE…` is `gapless load invoices FILE…`.
            if following is None and command.name == "load":
                return
            assert following is not None, f"{command.name} has no command {word}"
            command = following


@pytest.mark.parametrize(
    ("shown", "found", "same"),
    [
        ('{"a": 1, "b": "x 12"}', '{"a":7,"b":"x 3"}', True),
        ('{"a": 1, …}', '{"a":7,"b":"x"}', True),
        ('{"a": 1}', '{"a":7,"b":"x"}', False),
        ('{"a": 1, "b": 2}', '{"a":7}', False),
        ('{"a": 1}', '{"a":"7"}', False),
        ('{"a": "CONFIRMED"}', '{"a":"PLACED"}', False),
        ('{"status": "issued", "document": null}', '{"status":"stored","document":{"size":1}}', True),
        ('{"status": "issued", …}', '{"status":"stored","document":{"size":1}}', True),
        ('{"status": "issued"}', '{"status":"rejected"}', False),
        ('{"status": "stored"}', '{"status":"issued"}', False),
        ('{"a": [{"b": 1}, …]}', '{"a":[{"b":5},{"b":6}]}', True),
        ('{"a": [{"b": 1}]}', '{"a":[{"b":5},{"b":6}]}', False),
        ('{"a": "…/x"}', '{"a":"/tmp/y/x"}', True),
        ("done in 41 s", "done in 2 s\n", True),
        ("done in 41 s", "not done in 2 s", False),
        ("1. sold ━━━━━ 3/3 2 kept, 1 sold out", "1. sold ━━━━ 7/7 7 sold out", True),
        ("one: …/a.pdf (INV-01)", "one: /tmp/j38_f5/a.pdf (INV-02)\n", True),
        ("…\nclean…", "a\nb\nclean, in 2 s", True),
        ("…\nclean…", "a\nunclean, in 2 s", False),
        ("ready: …/.gapless\n…", "ready: /tmp/x/.gapless\n  a   b\n", True),
        ("", "anything", True),
    ],
)
def test_an_output_is_compared_by_its_shape(shown: str, found: str, same: bool) -> None:
    """Names, words and types count; numbers and what `…` stands for don't."""
    assert (difference(shown, found) is None) is same


def test_the_table_of_topics_is_the_catalogue() -> None:
    """Names, records and retention are those that `gapless topics` makes."""
    text = (ROOT / "docs" / "topics.md").read_text()
    table = text.split("| topic | records | key | retention |\n")[1].split("\n\n")[0].splitlines()[1:]
    shown: dict[str, tuple[set[str], str]] = {}
    for row in table:
        name, records, _, retention = (cell.strip() for cell in row.strip("|").split("|"))
        listed = re.search(rf"^- {name}: (.*?)\.$", text, re.MULTILINE | re.DOTALL)
        shown[name.strip("`")] = set(re.findall(r"`(\w+)`", listed[1] if listed else records)), retention
    made = {
        topic.name: (
            {schema.type.__name__ for schema in topic.schemas},
            "for ever" if topic.retention_ms is None else f"{topic.retention_ms // 86_400_000} days",
        )
        for topic in TOPICS.values()
        if topic.schemas
    }
    assert shown == made
    for topic in TOPICS.values():
        assert f"`{topic.name}`" in text
