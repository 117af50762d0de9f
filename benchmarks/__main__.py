"""`python -m benchmarks [NAME…] [--record]`: measure, and say what came of the targets."""

import argparse
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import (
    against_peers,
    agents,
    catalogue,
    checkouts,
    deliveries,
    gateway,
    growth,
    open_model,
    readiness,
    recovery,
    sale,
    scaling,
    search,
    soak,
    storage,
    streams,
    waiting,
    whole_way,
)
from benchmarks.result import Result

RESULTS = Path(__file__).parent / "results"


def _documents() -> list[Result]:
    module = importlib.import_module("benchmarks.documents")
    results: list[Result] = module.run()
    return results


#: In the order in which a request meets them.
BENCHMARKS: dict[str, Callable[[], list[Result]]] = {
    "gateway": gateway.run,
    "checkouts_agent": agents.checkouts,
    "invoices_agent": agents.invoices,
    "documents": _documents,
    "whole_way": whole_way.run,
    "checkouts": checkouts.run,
    "open_model": open_model.run,
    "peers": against_peers.run,
    "sale": sale.run,
    "catalogue": catalogue.run,
    "search": search.run,
    "waiting": waiting.run,
    "readiness": readiness.run,
    "streams": streams.run,
    "deliveries": deliveries.run,
    "recovery": recovery.run,
    "storage": storage.run,
    "scaling": scaling.run,
    "growth": growth.run,
    "soak": soak.run,
}
#: They take from some minutes to an hour, and are run when they are named.
WHEN_NAMED = ("scaling", "growth", "soak")


def main() -> None:
    """Run the benchmarks named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the product on this machine.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(BENCHMARKS)}; all but {', '.join(WHEN_NAMED)} by default",
    )
    parser.add_argument("--record", action="store_true", help="keep the results in benchmarks/results/")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    # As an exception, so that what was started is ended: peers would go on for minutes, looking for their database.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit("ended before the last benchmark"))
    console = Console(highlight=False, width=None if os.isatty(1) else 140)
    load_before = os.getloadavg()[0]
    results: dict[str, list[Result]] = {}
    failed: list[str] = []
    for name in arguments.names or [each for each in BENCHMARKS if each not in WHEN_NAMED]:
        # One that fails does not take the others, some twenty minutes, with it.
        try:
            with console.status(name):
                results[name] = BENCHMARKS[name]()
        except Exception:  # noqa: BLE001 - the run fails at its end.
            console.print(f"{name} failed: {traceback.format_exc()}", markup=False)
            failed.append(name)
        else:
            console.print(_table(name, results[name]))
    if arguments.record:
        console.print(f"recorded in {_record(results, load_before)}", soft_wrap=True)
    if failed:
        sys.exit(f"these failed, and the reasons stand above: {', '.join(failed)}")


def _table(name: str, results: list[Result]) -> Table:
    table = Table(title=name, title_justify="left", show_header=False)
    for column in ("what", "value", "target", "note"):
        table.add_column(column, justify="right" if column in ("value", "target") else "left")
    for result in results:
        target = ""
        if result.target is not None:
            sign, colour = "≤" if result.less_is_better else "≥", "green" if result.reached else "red"
            target = f"[{colour}]{sign} {result.target:,g}[/{colour}]"
        table.add_row(result.name, f"{_figure(result.value)} {result.unit}", target, result.note)
    return table


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _record(results: dict[str, list[Result]], load_before: float) -> Path:
    """Write a dated file, with what it takes to judge the figures."""
    now = datetime.now(UTC)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    document = {
        "measured_at": now.isoformat(timespec="seconds"),
        "commit": commit or None,
        "machine": {
            "cores": os.cpu_count(),
            "architecture": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
            # Above the number of busy cores others were at work too, and the figures are too low.
            "load_before": round(load_before, 2),
        },
        "results": {
            name: [{**asdict(each), "reached": each.reached} for each in measured] for name, measured in results.items()
        },
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y-%m-%d-%H%M}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


if __name__ == "__main__":
    main()
