"""The command line: help, errors, settings."""

import resource
import subprocess
import sys
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
    """The table is written by hand, so each of its entries must lead to a command with its own help."""
    for name in cli.COMMANDS:
        result = CliRunner().invoke(cli.cli, [name, "--help"])
        assert result.exit_code == 0, (name, result.output)
        assert len(result.output.splitlines()) > 3, name


def test_help_loads_none_of_the_heavy_parts(tmp_path: Path) -> None:
    """Shell completion uses it, and must not wait for Kafka's client to be imported."""
    code = "import sys, gapless.cli as c; c.cli.main(['--help'], standalone_mode=False); \
print(sorted({'faust', 'confluent_kafka', 'psycopg', 'reportlab', 'aiohttp'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["status", "down"])
def test_a_folder_without_a_stack_is_one_line(tmp_path: Path, command: str) -> None:
    """The error is one line with the folder's name, without a traceback, and the exit status is 1."""
    done = run(command, "--data", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gapless: there is no stack in ")
    assert str(tmp_path / "nowhere") in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("workers", ["invoices", "invoices=x", "invoices=-1", "nobody=1", "invoices=1000", "="])
def test_wrong_numbers_of_workers_are_refused(tmp_path: Path, workers: str) -> None:
    """The error comes before anything is started or written."""
    done = run("up", "--workers", workers, "--data", "d", cwd=tmp_path)
    assert done.returncode == 2
    assert "ROLE=COUNT" in done.stderr
    assert not (tmp_path / "d").exists()


def test_every_setting_is_listed_and_no_secret_is_shown() -> None:
    """Each setting is listed with its variable; secrets are hidden, even default ones."""
    output = CliRunner().invoke(settings, env={"GAPLESS_POSTGRES_URL": "postgresql://x:hunter2@h/d"}).output
    for name, field in Settings.model_fields.items():
        assert f"GAPLESS_{name.upper()} " in output
        assert field.description is not None
        assert field.description in output
    assert "postgresql://" not in output
    assert "redis://" not in output
    assert "hunter2" not in output


def test_a_wrong_setting_names_its_variable_and_hides_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value may be a secret in the wrong variable."""
    monkeypatch.setenv("GAPLESS_GATEWAY_PORT", "hunter2")
    monkeypatch.setenv("GAPLESS_WORKER_SLOT", "hunter 2")
    with pytest.raises(SettingsError) as refused:
        load()
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["GAPLESS_GATEWAY_PORT", "GAPLESS_WORKER_SLOT"]
    assert "hunter" not in str(refused.value)


def test_a_secret_can_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret is not printed with the settings."""
    (tmp_path / "url").write_text("postgresql://x:hunter2@h/d\n")
    monkeypatch.setenv("GAPLESS_POSTGRES_URL_FILE", str(tmp_path / "url"))
    loaded = load()
    assert loaded.postgres_url.get_secret_value() == "postgresql://x:hunter2@h/d"
    assert "hunter2" not in repr(loaded) + str(loaded) + str(loaded.model_dump())
    monkeypatch.setenv("GAPLESS_POSTGRES_URL_FILE", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match=r"^GAPLESS_POSTGRES_URL_FILE: .*No such file"):
        load()


def test_help_is_quick(tmp_path: Path) -> None:
    """The limit is generous, because the test is about imports and not about the machine's speed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run("--help", cwd=tmp_path).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 5


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_an_empty_folder_name_is_refused(tmp_path: Path, command: str) -> None:
    """It would mean the current folder, and write files there."""
    done = run(command, "--data", "", cwd=tmp_path)
    assert done.returncode == 2
    assert "name a folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damaged", ["", '{"id": "1', "[]", "{}"])
def test_a_damaged_description_is_one_line_with_the_fix(tmp_path: Path, damaged: str) -> None:
    """There is no traceback, and nothing is started."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "stack.json").write_text(damaged)
    for command in ("status", "up"):
        done = run(command, "--data", "d", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "stack.json is damaged: remove it." in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command", [("up",), ("gateway",), ("relay",), ("worker", "invoices"), ("migrate",), ("topics",), ("audit",)]
)
def test_a_misspelt_variable_is_refused_at_the_start(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The error names the nearest setting, and no value, which may be a secret."""
    done = run(*command, cwd=tmp_path, GAPLESS_POSTGRESS_URL="hunter2", GAPLESS_LOG_LEVEL_FILE="none")
    assert (done.returncode, done.stdout) == (1, "")
    assert "GAPLESS_POSTGRESS_URL: there is no such setting; the nearest is GAPLESS_POSTGRES_URL" in done.stderr
    assert "`gapless settings`" in done.stderr
    assert "hunter2" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_local_provider_refuses_a_misspelt_variable(tmp_path: Path) -> None:
    """It reads settings as the other processes do."""
    module = [sys.executable, "-m", "local.provider", "--port", "1", "--data", str(tmp_path / "d")]
    done = subprocess.run(module, env={"GAPLESS_PROVIDER_KEY": "x"}, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "GAPLESS_PROVIDER_KEY: there is no such setting" in done.stderr


def test_a_choice_lists_what_there_is_to_choose() -> None:
    """`Literal` means nothing to an operator."""
    assert "GAPLESS_PROVIDER  (local or stripe; default: local)" in CliRunner().invoke(settings).output
