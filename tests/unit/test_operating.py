"""`docs/operating.md` names what there is: whoever reads it at night must not look for what is called otherwise."""

import re
from pathlib import Path

from runtime.roles import ROLES
from runtime.settings import ENV_PREFIX, known_variables

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operating.md").read_text()
#: Whose processes an operator watches.
ROOMS = ("admission", "audit", "gateway", "runtime", "sinks", "streams")


def test_every_metric_is_described_and_none_that_is_not_there() -> None:
    """By the name that `/metrics` shows."""
    declared = {
        name + "_total" * (kind == "Counter" and not name.endswith("_total"))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for kind, name in re.findall(r'\b(Counter|Gauge|Histogram)\(\s*"(gapless_\w+)"', path.read_text())
    }
    described = set(re.findall(r"^\| `(gapless_\w+)", TEXT, re.MULTILINE))
    assert described == declared


def test_every_role_is_named() -> None:
    """As the command takes it."""
    assert {role for role in ROLES if f"`{role}`" not in TEXT and f"`gapless {role}`" not in TEXT} == set()


def test_every_variable_that_it_names_is_a_setting() -> None:
    """Or the file of one."""
    assert set(re.findall(rf"`({ENV_PREFIX}[A-Z_]+)", TEXT)) <= set(known_variables())
