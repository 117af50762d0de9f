"""The table of roles, and other places that name roles: none may name an unknown role, or lack one."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from audit.places import PLACES
from chaos import drain
from chaos.grounds import WAYS
from chaos.scenario import SCENARIOS
from chaos.scenarios import processes, servers
from domain.order import OrderState
from local import layout
from runtime.roles import READERS, ROLES
from runtime.settings import ENV_PREFIX, Settings
from schemas import catalog

ROOT = Path(__file__).parents[3]
#: Processes of the local stack that are not roles of the product.
OUTSIDE = {"provider", "mail"}


@pytest.mark.parametrize("role", ROLES.values(), ids=str)
def test_each_role_has_its_module(role: object) -> None:
    """Its `run` is the process; a worker's module has its positions under the same name."""
    its = next(each for each in ROLES.values() if each is role)
    module = importlib.import_module(its.module)
    assert callable(module.run)
    if its.reads:
        assert its.name == module.AGENT


def test_every_topic_that_is_asked_of_has_a_reader() -> None:
    read = {topic for topics in READERS.values() for topic in topics}
    assert set(catalog.INPUT_TOPICS) <= read
    for topic in read:
        assert catalog.TOPICS[topic.name] is topic


def test_what_a_process_must_be_told_for_itself_is_a_setting() -> None:
    for role in ROLES.values():
        assert set(role.own_settings) <= set(Settings.model_fields), role


def test_the_local_stack_runs_each_role_and_tells_each_process_its_own(tmp_path: Path) -> None:
    """A setting shared by two processes could be a port in use, or a locked table."""
    layout.describe(tmp_path, {"invoices": 2}, servers_only=False, special=layout.Special())
    description = layout.read_description(tmp_path)
    names = layout.process_names(description)
    assert {role for _, role in names} - set(layout.SERVERS) - OUTSIDE == set(ROLES)
    told: dict[tuple[str, str], set[str]] = {}
    for name, role in names:
        if role in ROLES:
            environment = layout.environment_of(tmp_path, description, name)
            for own in ROLES[role].own_settings:
                values = told.setdefault((role, own), set())
                value = environment[f"{ENV_PREFIX}{own.upper()}"]
                assert value not in values, (name, own)
                values.add(value)
    assert len(told["invoices", "metrics_port"]) == 2


def test_the_audit_looks_for_strays_in_every_input_topic() -> None:
    """Topics whose outcomes are checked have checks of their own."""
    its_own = {catalog.CHECKOUT_REQUESTS, catalog.INVOICE_REQUESTS}
    assert set(PLACES.values()) == set(catalog.INPUT_TOPICS) - its_own


def test_chaos_names_no_process_that_is_not_there() -> None:
    """It knows the product only from outside, so a renamed role would silently get no faults."""
    named = {*WAYS.workers, *servers._COMMITTERS, *processes._SHARED}
    named |= {name.rpartition("-")[0] or name for each in SCENARIOS.values() for name in each.ground.detours}
    for path in (ROOT / "chaos").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "processes":
                named |= {str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)}
    assert named <= {*ROLES, *OUTSIDE}
    # The stock worker writes nothing but its position; without an endpoint, neither does the notifications worker.
    assert set(servers._COMMITTERS) == set(READERS) - {"stock", "notifications"}
    assert {name: READERS[name][0].name for name in processes._SHARED} == processes._SHARED


def test_chaos_waits_for_every_undecided_order() -> None:
    """These are orders whose payment is not known, in states that exist."""
    states = re.search(r"state IN \(([^)]*)\)", drain._OPEN)
    assert states is not None
    assert set(re.findall(r"\w+", states[1])) == {OrderState.PLACED, OrderState.PAYMENT_PENDING}


def test_the_glossary_names_the_agents() -> None:
    [row] = re.findall(r"^\| agent \|.*$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(READERS)
