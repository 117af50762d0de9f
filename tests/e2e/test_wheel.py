"""The wheel, as somebody gets it who has no clone: installed into an empty environment, with what it pins."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from gapless.cli import COMMANDS, LOCAL_MODULES
from runtime.settings import known_variables

ROOT = Path(__file__).parents[2]
_SECONDS_MAX = 600
#: Of files that are no code.
DATA = {".avsc", ".lua", ".properties", ".sha256", ".sql", ".ttf"}
#: Imports every module of the packages that it is given; prints those that want what is not installed, and what.
_IMPORT_ALL = """
import importlib, json, pkgutil, sys
wanting = {}
for room in sys.argv[1:]:
    package = importlib.import_module(room)
    for found in pkgutil.walk_packages(package.__path__, room + "."):
        try:
            found.name.endswith("__main__") or importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            wanting[found.name] = error.name
print(json.dumps(wanting))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What the command prints. Nothing of this clone, and no setting, is in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GAPLESS_", "PYTHON"))}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of all packages: the build leaves files beside the sources."""
    sources = tmp_path_factory.mktemp("sources")
    for package in (path.parent for path in ROOT.glob("*/__init__.py")):
        shutil.copytree(package, sources / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        sources,
        cwd=folder,
    )
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def rooms() -> list[str]:
    """The packages that the wheel is to have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return sorted(each.removesuffix("*") for each in project["tool"]["setuptools"]["packages"]["find"]["include"])


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel's commands are. uv, as pip would take a minute where it takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    uv, python = Path(sys.executable).with_name("uv"), folder / "bin" / "python"
    lock = ROOT / "requirements" / "production.lock"
    run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder, cwd=folder)
    run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock, cwd=folder)
    run(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--offline", wheel, cwd=folder)
    run(uv, "pip", "check", "--quiet", "--python", python, cwd=folder)
    return folder / "bin"


def test_the_wheel_holds_the_rooms_with_their_files_and_nothing_else(wheel: Path, rooms: list[str]) -> None:
    """What breaks things, measures and tests stays out."""
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = {name.partition("/")[0] for name in names}
    assert sorted(each for each in packages if not each.endswith(".dist-info")) == rooms
    assert {Path(name).suffix for name in names} >= DATA
    # The client is a distribution of its own.
    others = tuple(f"{path.parent.relative_to(ROOT).as_posix()}/" for path in ROOT.glob("*/*/pyproject.toml"))
    for room in rooms:
        files = {path.relative_to(ROOT).as_posix() for path in (ROOT / room).rglob("*") if path.is_file()}
        missing = {each for each in files if "__pycache__" not in each and not each.startswith(others)} - names
        assert missing == set()


def test_its_commands_run_in_an_empty_environment(environment: Path, tmp_path: Path) -> None:
    """With what the lock of the image has, and nothing of the local stack."""
    shown = run(environment / "gapless", "--help", cwd=tmp_path)
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    settings = run(environment / "gapless", "settings", cwd=tmp_path)
    assert all(name in settings for name in known_variables() if not name.endswith("_FILE"))


def test_all_its_modules_can_be_imported_but_for_those_of_the_local_stack(
    environment: Path, rooms: list[str], tmp_path: Path
) -> None:
    """A part that forgets a dependency fails here, and not on somebody's machine."""
    wanting = json.loads(run(environment / "python", "-I", "-c", _IMPORT_ALL, *rooms, cwd=tmp_path))
    assert set(wanting.values()) <= set(LOCAL_MODULES), wanting
    others = {name for name in wanting if not name.startswith("local.")}
    assert others <= {"gapless.local", "gapless.demo", "gapless.audit", "gapless.stock", "gapless.load"}, others
