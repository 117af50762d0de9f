"""Writes everything in the repository that is generated for operators: `make ops`, or `python -m ops.generate`."""

from collections.abc import Callable
from functools import partial

from ops import metrics
from ops.metrics import ROOT
from ops.prometheus import alerts, configuration


def _dashboard(name: str) -> str:
    # Imported on use: the other files need nothing of Grafana's.
    from ops.grafana.dashboards import render

    return render(name)


#: File → what makes its text. A test compares them.
GENERATED: dict[str, Callable[[], str]] = {
    "docs/metrics.md": metrics.render,
    "ops/prometheus/alerts.yml": alerts.render,
    "ops/prometheus/prometheus.yml": configuration.render,
    "ops/grafana/dashboards/orders.json": partial(_dashboard, "orders"),
    "ops/grafana/dashboards/processes.json": partial(_dashboard, "processes"),
}


def main() -> None:
    """Write them all."""
    for name, make in GENERATED.items():
        (ROOT / name).write_text(make())


if __name__ == "__main__":
    main()
