"""Prometheus' own tool on our rules and configuration."""

import subprocess
import sys
from pathlib import Path

import pytest

from ops.metrics import PROCESSES
from ops.prometheus.alerts import render

PROMETHEUS = Path(__file__).parents[2] / "ops" / "prometheus"

#: Imports a process's module and writes what it would serve.
_METRICS = """
import importlib, sys
importlib.import_module(sys.argv[1])
from runtime.metrics import render
sys.stdout.buffer.write(render())
"""


def promtool(*arguments: str, given: str = "", folder: Path = PROMETHEUS) -> str:
    """Run it; what it says. It must have nothing to say against what it was given."""
    ended = subprocess.run(["promtool", *arguments], cwd=folder, input=given, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_the_rules_and_the_configuration_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")


def test_the_rules_fire_where_they_must_and_are_silent_otherwise() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_faster_rules_are_valid_too(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(render(faster=20))
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml", folder=tmp_path)


# What the monitor serves it has measured first: that of a live stack is checked in test_alerts.
@pytest.mark.parametrize("process", [name for name in PROCESSES if name != "monitor"])
def test_the_metrics_of_each_process_keep_prometheus_conventions(process: str) -> None:
    """Names, units and help, before it has counted anything."""
    served = subprocess.run(
        [sys.executable, "-c", _METRICS, PROCESSES[process]], capture_output=True, text=True, check=True
    ).stdout
    assert "gapless_" in served
    assert promtool("check", "metrics", given=served) == ""
