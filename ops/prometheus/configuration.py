"""`ops/prometheus/prometheus.yml`: what Prometheus scrapes, and which rules it evaluates."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from ops.metrics import PROCESSES
from ops.prometheus.alerts import duration

#: Each of our processes in `docker-compose.yml`.
METRICS_PORT = 9100
SCRAPE_SECONDS = 15.0

_HEAD = """\
# Generated from ops/prometheus/configuration.py by `make ops`, for the containers of docker-compose.yml.
# Alerts are shown at http://127.0.0.1:9090/alerts and sent nowhere: add `alerting:` with your Alertmanager.
"""


def configuration(
    processes: Mapping[str, str],
    nodes: Iterable[str],
    *,
    rules: str,
    seconds: float = SCRAPE_SECONDS,
) -> dict[str, Any]:
    """`processes` are ours by role with their addresses, `nodes` the addresses of node exporters, `rules` the file."""
    gapless = [{"targets": [address], "labels": {"role": name}} for name, address in processes.items()]
    return {
        "global": {"scrape_interval": duration(seconds), "evaluation_interval": duration(seconds)},
        "rule_files": [rules],
        "scrape_configs": [
            {"job_name": "gapless", "static_configs": gapless},
            {"job_name": "node", "static_configs": [{"targets": list(nodes)}]},
        ],
    }


def render() -> str:
    """The file."""
    addresses = {name: f"{name}:{METRICS_PORT}" for name in PROCESSES}
    made = configuration(addresses, ["node-exporter:9100"], rules="alerts.yml")
    return _HEAD + yaml.safe_dump(made, sort_keys=False)
