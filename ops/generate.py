"""Writes everything in the repository that is generated for operators: `make ops`, or `python -m ops.generate`."""

from collections.abc import Callable

from ops import metrics
from ops.metrics import ROOT
from ops.prometheus import alerts, configuration

#: File → what makes its text. A test compares them.
GENERATED: dict[str, Callable[[], str]] = {
    "docs/metrics.md": metrics.render,
    "ops/prometheus/alerts.yml": alerts.render,
    "ops/prometheus/prometheus.yml": configuration.render,
}


def main() -> None:
    """Write them all."""
    for name, make in GENERATED.items():
        (ROOT / name).write_text(make())


if __name__ == "__main__":
    main()
