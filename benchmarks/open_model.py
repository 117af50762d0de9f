"""Checkouts at times fixed beforehand, some declined, some charged without an answer: how long buyers wait.

See `benchmarks.arrivals`: a latency counts from when its request was due, not from when a client was free to send it.
"""

import json
import subprocess
import sys
from typing import Any

from benchmarks.result import Result
from benchmarks.stacks import stack

RATES_PER_S = (50, 150, 300)
SECONDS = 20.0
WARM_UP_SECONDS = 10.0
_DEADLINE_S = 300.0


def run() -> list[Result]:
    """One rate after the other on one stack."""
    results = []
    with stack({"documents": 0}) as made:
        where = ["--url", made.endpoints()["gateway"], "--api-key-file", str(made.data / "api_key")]
        _load([*where, "--rate", str(RATES_PER_S[0]), "--seconds", str(WARM_UP_SECONDS), "--prefix", "OPEN-WARM"])
        for rate in RATES_PER_S:
            told = _load([*where, "--rate", str(rate), "--seconds", str(SECONDS), "--prefix", f"OPEN-{rate}"])
            latency, statuses = told["latency_ms"], told["statuses"]
            if unknown := set(statuses) - {"201", "202", "402"}:
                raise RuntimeError(f"at {rate}/s some were answered otherwise: {unknown}")
            answers = ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
            note = f"p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms, worst {latency['max']:.0f} ms; {answers}"
            results.append(Result(f"open model at {rate}/s, answered: p99", latency["p99"], "ms", None, True, note))
    return results


def _load(options: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.arrivals", *options]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_DEADLINE_S)
    if done.returncode:
        raise RuntimeError(f"the load ended with {done.returncode}: {done.stderr.decode()}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told
