"""Each benchmark in a short form: it runs to its end and yields its figures. All share one stack, to take less time."""

import importlib
import math
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from benchmarks import documents
from benchmarks.__main__ import BENCHMARKS
from benchmarks.stacks import servers, stack
from local.stack import Stack
from schemas import catalog
from tests.e2e.running import Running
from tests.e2e.shown import ROOT
from tests.records import written

#: Benchmark → what makes it short (the constants of its module), and how many figures it yields.
SHORT: dict[str, tuple[str, dict[str, Any], int]] = {
    "gateway": ("gateway", {"REQUESTS": 40, "ROUNDS": 1, "CLIENTS": 8, "SKUS": 5}, 2),
    "checkouts_agent": ("agents", {"REQUESTS": 600, "SPREAD_SKUS": 50}, 3),
    "invoices_agent": ("agents", {"REQUESTS": 600}, 2),
    "documents": ("documents", {"RUNS": 1, "DOCUMENTS_PER_RUN": 20}, 7),
    "whole_way": ("whole_way", {"ORDERS": 300, "WARM_UP_ORDERS": 50}, 6),
    "checkouts": (
        "checkouts",
        {"ORDERS": 200, "WARM_UP_ORDERS": 100, "SPREAD_SKUS": 20, "STEADY_ORDERS": 60, "STEADY_PER_S": 20},
        5,
    ),
    "open_model": (
        "open_model",
        {
            "INVOICES_PER_S": {20: 60.0},
            "CHECKOUTS_PER_S": (20,),
            # A cut connection stands in for the timeout of 8 s: the order is charged as well, and asked for again.
            "FAULTS": {"tok_decline": 0.2, "tok_cut": 0.2},
            "SECONDS": 2.0,
            "WARM_UP_ORDERS": 50,
            "SKUS": 5,
        },
        2,
    ),
    "peers": ("against_peers", {"ORDERS": 40, "WARM_UP_ORDERS": 10, "SKUS": 5, "PROCESSES": 1}, 19),
    "sale": (
        "sale",
        {
            "BUYERS": 200,
            "CONNECTIONS": 100,
            "PIECES": 20,
            "_WARM_UP": 50,
            "_REDIS_KILLED_AFTER_S": 0.1,
            "_CHECKOUTS_KILLED_EVERY_S": 30.0,
        },
        12,
    ),
    "catalogue": (
        "catalogue",
        {
            "PRODUCTS": 300,
            "LINES": 100,
            "READS_PER_S": 50,
            "SECONDS": 1.0,
            "CHANGES_PER_S": 20,
            "CART_PUTS_PER_S": 50,
        },
        5,
    ),
    "search": (
        "search",
        {"PRODUCTS": 200, "LINES": 100, "QUESTIONS_PER_S": 20, "SECONDS": 1.0, "CHANGES_PER_S": 20},
        4,
    ),
    "waiting": ("waiting", {"CLIENTS": 20, "ROUNDS": 1}, 2),
    "readiness": ("readiness", {"BUSY_CLIENTS": (5,), "SECONDS": 1.0, "_WARM_UP_S": 0.5}, 2),
    "streams": ("streams", {"STREAMS": 50, "SHIPPED": 5}, 3),
    "deliveries": ("deliveries", {"DELIVERIES": 200}, 2),
    "recovery": ("recovery", {"KILLS": 1, "PROVEN_AFTER_SECONDS": 1.0}, 1),
    "storage": ("storage", {"ORDERS": 100, "WARM_UP_ORDERS": 10}, 4),
    "scaling": ("scaling", {"PARTITIONS": (4,), "WORKERS": (1,), "ORDERS": 200, "WARM_UP_ORDERS": 20}, 1),
    "growth": ("growth", {"INVOICES": 2_000, "ORDERS": 200, "WARM_UP_ORDERS": 20, "READS": 3}, 5),
    "soak": ("soak", {"PER_S": 50, "SECONDS": 1.0, "ROUND_ORDERS": 100, "_SAMPLE_S": 0.2}, 6),
}


def test_every_benchmark_has_a_short_form_and_a_row_in_the_table() -> None:
    """In `benchmarks/README.md`, which says what is measured."""
    table = (ROOT / "benchmarks" / "README.md").read_text()
    assert list(SHORT) == list(BENCHMARKS)
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(BENCHMARKS)


@pytest.fixture(scope="module")
def whole() -> Iterator[Stack]:
    """A stack with every worker that a benchmark asks for."""
    with stack({"checkouts": 2}) as made:
        yield made


@pytest.fixture(scope="module")
def bare() -> Iterator[Stack]:
    """Servers without any process of ours."""
    with servers() as made:
        yield made


@pytest.fixture
def _shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks get what is up already, instead of something of their own."""

    @contextmanager
    def lent(_: Mapping[str, int], **__: int) -> Iterator[Stack]:
        made: Stack = request.getfixturevalue("whole")
        yield made
        # Nothing of this benchmark is counted by the next.
        running = Running(made)
        running.wait_until_ready()
        running.wait_until_drained()

    for module, _, _ in SHORT.values():
        monkeypatch.setattr(f"benchmarks.{module}.stack", lent, raising=False)
        monkeypatch.setattr(
            f"benchmarks.{module}.servers", lambda: nullcontext(request.getfixturevalue("bare")), raising=False
        )


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.usefixtures("_shared")
def test_a_benchmark_runs_to_its_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it measures of so little says nothing; that it measures does."""
    module, constants, figures = SHORT[name]
    for constant, value in constants.items():
        monkeypatch.setattr(importlib.import_module(f"benchmarks.{module}"), constant, value)
    results = BENCHMARKS[name]()
    assert len(results) == figures, [each.name for each in results]
    assert all(each.name and each.unit for each in results)
    assert all(math.isfinite(each.value) for each in results), results
    # A difference may be of either sign; what grows or waits may not be seen of so little.
    least = 0.0 if name in ("soak", "storage", "streams") else sys.float_info.min
    assert all(each.value >= least for each in results if each.unit != "%"), results


@pytest.mark.parametrize("kind", documents.KINDS)
def test_what_the_documents_benchmark_renders_is_an_event(kind: str) -> None:
    """As the schema has it, every field of it."""
    written(catalog.INVOICE_ISSUED, dict(documents.KINDS[kind](1)))
