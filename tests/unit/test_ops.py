"""What operators get is what the code has: metrics, alerts, runbooks."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.generate import GENERATED
from ops.metrics import PROCESSES, declared_metrics, processes_of
from ops.prometheus.alerts import Alert, alerts

ROOT = Path(__file__).parents[2]
ALERTS = alerts()
RUNBOOKS = ROOT / "ops" / "runbooks"
SECTIONS = ["Symptom", "Meaning", "First command", "Fix"]


#: Those of Grafana are compared in tests/tools.
@pytest.mark.parametrize("name", [name for name in GENERATED if "grafana" not in name])
def test_what_is_generated_is_up_to_date(name: str) -> None:
    """`make ops` writes it."""
    assert (ROOT / name).read_text() == GENERATED[name](), "run `make ops`"


def test_each_metric_is_declared_once_in_a_module_that_a_process_runs() -> None:
    """A metric of no process would be in the table, and in no answer."""
    metrics = declared_metrics()
    assert len({each.name for each in metrics}) == len(metrics) > 40
    assert {name for name, processes in processes_of(metrics).items() if not processes} == set()


def test_a_metric_is_listed_with_the_processes_that_serve_it() -> None:
    processes = processes_of(declared_metrics())
    assert processes["gapless_payment_breaker"] == ["payments"]
    assert processes["gapless_audit_violations"] == ["audit"]
    assert set(processes["gapless_records_total"]) == set(PROCESSES) - {
        "gateway",
        "relay",
        "monitor",
        "search",
        "audit",
    }


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    assert {each.runbook for each in ALERTS} == {
        str(path.relative_to(ROOT)) for path in RUNBOOKS.glob("*.md") if path.name != "README.md"
    }


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_runbook_says_what_is_seen_what_it_means_what_to_run_and_how_it_ends(alert: Alert) -> None:
    text = (ROOT / alert.runbook).read_text()
    assert text.startswith(f"# {alert.name}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    sections = re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]
    assert all(len(each.strip()) > 10 for each in sections)
    assert re.search("`[^`]+`", sections[SECTIONS.index("First command")])


def test_every_metric_of_an_alert_or_a_panel_is_declared() -> None:
    """An expression on a metric that is not there is silent for ever."""
    declared = {each.name for each in declared_metrics()}
    named = {
        name for expr in [*(alert.expr for alert in ALERTS), *shown()] for name in re.findall(r"gapless_\w+", expr)
    }
    assert {re.sub("_(count|sum|bucket)$", "", name) for name in named} <= declared


def shown() -> list[str]:
    """The expressions of all panels."""
    dashboards = [json.loads(path.read_text()) for path in (ROOT / "ops" / "grafana" / "dashboards").glob("*.json")]
    return [target["expr"] for each in dashboards for panel in each["panels"] for target in panel.get("targets", [])]


def test_each_alert_is_tried_on_a_history_where_it_fires_and_on_one_where_it_is_silent() -> None:
    """By `promtool test rules`, in tests/tools."""
    tried: dict[str, set[bool]] = {each.name: set() for each in ALERTS}
    histories: list[dict[str, Any]] = yaml.safe_load((ROOT / "ops/prometheus/alerts_test.yml").read_text())["tests"]
    for history in histories:
        for asked in history["alert_rule_test"]:
            tried[asked["alertname"]].add(bool(asked["exp_alerts"]))
    assert {name: fires for name, fires in tried.items() if fires != {True, False}} == {}


def test_faster_alerts_differ_in_their_times_alone() -> None:
    def without_times(alert: Alert) -> str:
        return re.sub(r"\[\d+m?s?\]|> [\d.]+", "", alert.expr)

    assert [without_times(each) for each in alerts(20)] == [without_times(each) for each in ALERTS]
    assert {each.name for each in alerts(20) if each.for_seconds > 60} == set()
