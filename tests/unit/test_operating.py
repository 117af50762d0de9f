"""`docs/operating.md` names what there is: whoever reads it at night must not look for what is called otherwise."""

import re
from pathlib import Path

from runtime.roles import ROLES
from runtime.settings import ENV_PREFIX, known_variables

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operating.md").read_text()


def test_every_role_is_named() -> None:
    """As the command takes it."""
    assert {role for role in ROLES if f"`{role}`" not in TEXT and f"`gapless {role}`" not in TEXT} == set()


def test_every_variable_that_it_names_is_a_setting() -> None:
    """Or the file of one."""
    assert set(re.findall(rf"`({ENV_PREFIX}[A-Z_]+)", TEXT)) <= set(known_variables())
