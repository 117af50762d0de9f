"""All scenarios. Importing the modules of this folder adds them to the list."""

import importlib
import pkgutil

import chaos.scenarios
from chaos.scenario import SCENARIOS as _ENTERED
from chaos.scenario import Scenario

for _module in pkgutil.iter_modules(chaos.scenarios.__path__):
    if _module.name != "all":
        importlib.import_module(f"chaos.scenarios.{_module.name}")

#: By number.
SCENARIOS: dict[int, Scenario] = dict(sorted(_ENTERED.items()))
