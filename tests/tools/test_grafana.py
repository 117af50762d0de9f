"""The dashboards, as far as they can be told without Grafana."""

import json
from pathlib import Path

import pytest

from ops.generate import GENERATED

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


def test_every_dashboard_in_the_folder_is_generated() -> None:
    assert {f"ops/grafana/dashboards/{path.name}" for path in (ROOT / "ops/grafana/dashboards").iterdir()} == set(
        DASHBOARDS
    )
