"""Writes what is generated for operators and for `gapless-client`: `make ops`, or `python -m ops.generate`."""

from collections.abc import Callable
from functools import partial

from ops import metrics
from ops.metrics import ROOT
from ops.prometheus import alerts, configuration


def _client(name: str) -> str:
    # Imported on use: the gateway is large.
    from ops import client

    text: str = getattr(client, f"render_{name}")()
    return text


#: The package of `gapless-client`.
_CLIENT = "producers/gapless_client/src/gapless_client"


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
    f"{_CLIENT}/models.py": partial(_client, "models"),
    f"{_CLIENT}/operations.py": partial(_client, "operations"),
    f"{_CLIENT}/records.py": partial(_client, "records"),
    f"{_CLIENT}/schemas.json": partial(_client, "schemas"),
    "ops/grafana/dashboards/processes.json": partial(_dashboard, "processes"),
}


def main() -> None:
    """Write them all."""
    for name, make in GENERATED.items():
        (ROOT / name).write_text(make())


if __name__ == "__main__":
    main()
