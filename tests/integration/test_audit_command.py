"""`gapless audit` as people and machines call it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gapless.audit import audit
from tests.conftest import Services


@pytest.fixture
def configured(services: Services, ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of an empty ledger."""
    monkeypatch.setenv("GAPLESS_KAFKA_BOOTSTRAP", services.kafka_bootstrap)
    monkeypatch.setenv("GAPLESS_POSTGRES_URL", ledger_url)
    monkeypatch.setenv("GAPLESS_OBJECTS_URL", tmp_path.as_uri())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(audit, arguments, standalone_mode=False)


@pytest.mark.usefixtures("configured")
def test_a_store_that_cannot_be_read_is_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value, said in (
        ("GAPLESS_POSTGRES_URL", "postgresql://x:hush@127.0.0.1:1/x", "Postgres can't be reached"),
        ("GAPLESS_OBJECTS_URL", "file:///there/is/none", "the object store can't be read"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(variable, value)
            result = run()
        assert result.return_value == 2
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith(f"gapless: {said}")
        assert "hush" not in line


@pytest.mark.usefixtures("configured")
def test_what_is_wrong_is_shown_to_people_and_machines(query: Callable[..., object]) -> None:
    query("INSERT INTO journal VALUES ('dead-letters', 7, 1, NULL, '\\x00', now())")
    result = run("--json")
    assert result.return_value == 1
    told = json.loads(result.stdout)
    assert told["clean"] is False
    assert told["violations"]["journal"]["count"] == 1
    assert told["violations"]["journal"]["samples"][0] == {"where": "dead-letters/7", "what": "has 1 rows, but no head"}
    shown = run()
    assert shown.return_value == 1
    assert "journal dead-letters/7: has 1 rows, but no head" in shown.stdout
    # Other tests may have left records in the same topics, of which this ledger knows nothing.
    violations = sum(each["count"] for each in told["violations"].values())
    assert f"audit: {violations:,} violations" in shown.stdout
