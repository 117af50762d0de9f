"""`gapless-client` as a stranger gets it: installed into an empty environment, without any code of the server."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.test_wheel import ROOT, run

#: The distributions that it brings are httpx and what that needs.
WITH_HTTPX = {"anyio", "certifi", "gapless-client", "h11", "httpcore", "httpx", "idna", "typing-extensions"}
_LIST = """
import importlib, importlib.metadata, json, pkgutil, sys
import gapless_client
wanting = {}
for found in pkgutil.iter_modules(gapless_client.__path__, "gapless_client."):
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        wanting[found.name] = error.name
print(json.dumps({
    "wanting": wanting,
    "distributions": sorted(each.metadata["Name"].lower() for each in importlib.metadata.distributions()),
    "packages": sorted({name.partition(".")[0] for name in sys.modules}),
    "where": gapless_client.__path__[0],
}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that has it, installed from the folder as `pip install ./producers/gapless_client` does."""
    folder = tmp_path_factory.mktemp("client")
    # The build leaves files beside the sources.
    shutil.copytree(
        ROOT / "producers" / "gapless_client", folder / "sources", ignore=shutil.ignore_patterns("__pycache__")
    )
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    made = folder / "venv" / "bin" / "python"
    run(made, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", folder / "sources", cwd=folder)
    return made


def test_it_brings_httpx_and_no_code_of_the_server(python: Path, tmp_path: Path) -> None:
    found = json.loads(run(python, "-c", _LIST, cwd=tmp_path))
    brought = {each.replace("_", "-") for each in found["distributions"]}
    assert brought - {"pip", "setuptools"} <= WITH_HTTPX
    rooms = {each.parent.name for each in ROOT.glob("*/__init__.py")}
    assert set(found["packages"]) & rooms == set()
    assert found["where"].startswith(str(python.parents[1]))
    # The extra `consumer`; everything else works without one.
    assert found["wanting"] == {
        "gapless_client.consumer": "confluent_kafka",
        "gapless_client.events": "fastavro",
    }


def test_it_says_that_it_is_typed_and_knows_the_schemas(python: Path, tmp_path: Path) -> None:
    files = "import gapless_client, os; print(*sorted(os.listdir(gapless_client.__path__[0])))"
    assert {"py.typed", "schemas.json"} <= set(run(python, "-c", files, cwd=tmp_path).split())
