"""The dashboards, as far as they can be told without Grafana."""

import json
import re
from pathlib import Path

import pytest

from ops.generate import GENERATED
from ops.metrics import declared_metrics

ROOT = Path(__file__).parents[2]
DASHBOARDS = [name for name in GENERATED if "grafana" in name]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_up_to_date(name: str) -> None:
    """`make ops` writes it."""
    assert (ROOT / name).read_text() == GENERATED[name]()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_two_panels_share_an_id_or_a_place(name: str) -> None:
    panels = json.loads((ROOT / name).read_text())["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    squares = [
        (each["gridPos"]["x"] + right, each["gridPos"]["y"] + down)
        for each in panels
        for right in range(each["gridPos"]["w"])
        for down in range(each["gridPos"]["h"])
    ]
    assert len(set(squares)) == len(squares)
    assert max(right for right, _ in squares) < 24


def test_every_metric_is_on_a_dashboard() -> None:
    """What nobody can see need not be measured."""
    text = " ".join(expressions())
    assert {
        each.name for each in declared_metrics() if not re.search(rf"\b{each.name}(_bucket|_count)?\b", text)
    } == set()


def expressions() -> list[str]:
    """Of all panels."""
    dashboards = [json.loads((ROOT / name).read_text()) for name in DASHBOARDS]
    return [target["expr"] for each in dashboards for panel in each["panels"] for target in panel.get("targets", [])]


def test_every_dashboard_in_the_folder_is_generated() -> None:
    assert {f"ops/grafana/dashboards/{path.name}" for path in (ROOT / "ops/grafana/dashboards").iterdir()} == set(
        DASHBOARDS
    )
