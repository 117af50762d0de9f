"""The command line's own part: help, errors, settings."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from gapless import cli
from gapless.settings import settings
from runtime.settings import Settings, SettingsError, load


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gapless", *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_every_command_is_there_and_says_what_it_does() -> None:
    """The table is written by hand: each of its lines must lead to a command with a help of its own."""
    for name in cli.COMMANDS:
        result = CliRunner().invoke(cli.cli, [name, "--help"])
        assert result.exit_code == 0, (name, result.output)
        assert len(result.output.splitlines()) > 3, name


def test_help_loads_none_of_the_heavy_parts(tmp_path: Path) -> None:
    """A shell completes with it; nobody waits for Kafka's client to learn what the commands are."""
    code = "import sys, gapless.cli as c; c.cli.main(['--help'], standalone_mode=False); \
print(sorted({'faust', 'confluent_kafka', 'psycopg', 'reportlab', 'aiohttp'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["status", "down"])
def test_a_folder_without_a_stack_is_one_line(tmp_path: Path, command: str) -> None:
    """No traceback, exit 1, and the folder is named."""
    done = run(command, "--data", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gapless: there is no stack in ")
    assert str(tmp_path / "nowhere") in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("workers", ["invoices", "invoices=x", "invoices=-1", "nobody=1", "invoices=1000", "="])
def test_wrong_numbers_of_workers_are_refused(tmp_path: Path, workers: str) -> None:
    """Before anything is started or written."""
    done = run("up", "--workers", workers, "--data", "d", cwd=tmp_path)
    assert done.returncode == 2
    assert "ROLE=COUNT" in done.stderr
    assert not (tmp_path / "d").exists()


def test_every_setting_is_listed_and_no_secret_is_shown() -> None:
    """With its variable, and without what a secret holds, be it the default."""
    output = CliRunner().invoke(settings, env={"GAPLESS_POSTGRES_URL": "postgresql://x:hunter2@h/d"}).output
    for name, field in Settings.model_fields.items():
        assert f"GAPLESS_{name.upper()} " in output
        assert field.description is not None
        assert field.description in output
    assert "postgresql://" not in output
    assert "redis://" not in output
    assert "hunter2" not in output


def test_a_wrong_setting_names_its_variable_and_hides_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value may be a secret that was put into the wrong variable."""
    monkeypatch.setenv("GAPLESS_GATEWAY_PORT", "hunter2")
    monkeypatch.setenv("GAPLESS_WORKER_SLOT", "hunter 2")
    with pytest.raises(SettingsError) as refused:
        load()
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["GAPLESS_GATEWAY_PORT", "GAPLESS_WORKER_SLOT"]
    assert "hunter" not in str(refused.value)


def test_a_secret_can_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is printed by nothing that prints settings."""
    (tmp_path / "url").write_text("postgresql://x:hunter2@h/d\n")
    monkeypatch.setenv("GAPLESS_POSTGRES_URL_FILE", str(tmp_path / "url"))
    loaded = load()
    assert loaded.postgres_url.get_secret_value() == "postgresql://x:hunter2@h/d"
    assert "hunter2" not in repr(loaded) + str(loaded) + str(loaded.model_dump())
    monkeypatch.setenv("GAPLESS_POSTGRES_URL_FILE", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match=r"^GAPLESS_POSTGRES_URL_FILE: .*No such file"):
        load()


def test_help_is_quick(tmp_path: Path) -> None:
    """A generous bound: it is a matter of imports, not of this machine's speed."""
    started = time.monotonic()
    assert run("--help", cwd=tmp_path).returncode == 0
    assert time.monotonic() - started < 5
