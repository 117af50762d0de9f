"""What `pyproject.toml` declares: all that the wheel imports, and what the locks pin."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: The rooms that are in the wheel.
ROOMS = tuple(each.removesuffix("*") for each in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"])
#: Whose servers run as processes of this machine: the extra of the same name is for it.
LOCAL = "local"


def declared(*extras: str) -> dict[str, Requirement]:
    """The requirements by name, those of the extras included."""
    texts = [*PROJECT["project"]["dependencies"]]
    texts += [text for extra in extras for text in PROJECT["project"]["optional-dependencies"][extra]]
    return {canonicalize_name(each.name): each for each in map(Requirement, texts)}


def imported(room: str) -> Iterator[tuple[str, str]]:
    """Top-level modules of other packages that the room imports, anywhere in its files, and where."""
    for path in (ROOT / room).rglob("*.py"):
        # A distribution of its own, with its own dependencies.
        if "gapless_client" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        # What only the type checker imports comes with it.
        unseen = {
            each
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for each in ast.walk(node)
        }
        for node in ast.walk(tree):
            if node in unseen:
                continue
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names, *ROOMS}:
                yield name, str(path.relative_to(ROOT))


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_imports_is_declared(room: str) -> None:
    """A package that only another one brings may be gone with its next version."""
    distributions = packages_distributions()
    known = declared(LOCAL) if room == LOCAL else declared()
    missing = {
        (name, where)
        for name, where in imported(room)
        if not {canonicalize_name(each) for each in distributions[name]} & known.keys()
    }
    assert missing == set()


@pytest.mark.parametrize(("lock", "extras"), [("production.lock", ()), ("dev.lock", ("local", "dev"))])
def test_a_lock_pins_what_is_declared(lock: str, extras: tuple[str, ...]) -> None:
    """In a version that is permitted."""
    text = (ROOT / "requirements" / lock).read_text()
    pins: dict[str, str] = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    asked = declared(*extras)
    assert asked.keys() - pins.keys() == set()
    assert {name: pins[name] for name, each in asked.items() if pins[name] not in each.specifier} == {}
