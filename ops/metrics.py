"""`docs/metrics.md`: every metric that our processes declare, read from the source without importing it."""

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grimp

from runtime.roles import READERS, ROLES

ROOT = Path(__file__).parents[1]

#: How a metric is declared, and its type. The last two are those of collectors that ask when they are scraped.
_TYPES = {
    "Counter": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "CounterMetricFamily": "counter",
    "GaugeMetricFamily": "gauge",
}

#: Each process that serves `/metrics`, and the module that it runs.
PROCESSES = {name: role.module for name, role in ROLES.items()} | {"audit": "audit.watch"}

_HEAD = """\
# Metrics

This page is generated from the code: `make ops` writes it.

Every process serves its metrics at `/metrics` on `GAPLESS_METRICS_PORT`, and nowhere else. `audit` is
`gapless audit --follow`. In addition each process has the `process_…` and `python_…` metrics of Prometheus' client
library. [operating.md](operating.md#alerts) has the alerts and dashboards that use them.

| metric | type | process | meaning |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as its declaration has it."""

    #: As `/metrics` shows it.
    name: str
    type: str
    labels: tuple[str, ...]
    meaning: str
    #: The module that declares it.
    module: str


def declared_metrics() -> list[Metric]:
    """Every metric that a process may serve, by name. Raises `ValueError` for a declaration that is not literal."""
    rooms = _rooms()
    paths = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    return sorted((each for path in paths for each in _declared(path)), key=lambda each: each.name)


def processes_of(metrics: list[Metric]) -> dict[str, list[str]]:
    """Metric → the processes that import its module, and so serve it."""
    graph = grimp.build_graph(*_rooms(), cache_dir=None)
    modules = {name: {module, *graph.find_upstream_modules(module)} for name, module in PROCESSES.items()}
    return {each.name: [name for name in PROCESSES if each.module in modules[name]] for each in metrics}


def render() -> str:
    """The page."""
    metrics = declared_metrics()
    processes = processes_of(metrics)
    rows = []
    for each in metrics:
        name = each.name + (f"{{{','.join(each.labels)}}}" if each.labels else "")
        rows.append(f"| `{name}` | {each.type} | {_told(processes[each.name])} | {each.meaning} |\n")
    return _HEAD + "".join(rows)


def _told(processes: list[str]) -> str:
    if set(processes) == set(PROCESSES):
        return "all"
    workers = set(READERS)
    if workers <= set(processes):
        processes = ["workers", *(each for each in processes if each not in workers)]
    return ", ".join(processes)


def _rooms() -> list[str]:
    """The rooms that processes are made of."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [each.removesuffix("*") for each in project["tool"]["setuptools"]["packages"]["find"]["include"]]


def _declared(path: Path) -> Iterator[Metric]:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    tree = ast.parse(path.read_text())
    constants = {
        target.id: each.value
        for each in tree.body
        if isinstance(each, ast.Assign)
        for target in each.targets
        if isinstance(target, ast.Name)
    }

    def literal(node: ast.expr) -> Any:
        return ast.literal_eval(constants.get(node.id, node) if isinstance(node, ast.Name) else node)

    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _TYPES):
            continue
        # `collections.Counter` has the same name.
        if not (len(node.args) >= 2 and ast.unparse(node.args[0]).startswith("'gapless_")):
            continue
        name, meaning, *labels = map(literal, node.args)
        labels += [literal(each.value) for each in node.keywords if each.arg in ("labelnames", "labels")]
        kind = _TYPES[node.func.id]
        suffix = "_total" if kind == "counter" and not name.endswith("_total") else ""
        yield Metric(name + suffix, kind, tuple(labels[0]) if labels else (), meaning, module)
