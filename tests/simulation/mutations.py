"""All mutations, by name: the simulation must catch every one of them."""

from tests.simulation import mutated_effects, mutated_output, mutated_payments, mutated_positions
from tests.simulation.mutation import MUTATIONS

__all__ = ["MUTATIONS", "mutated_effects", "mutated_output", "mutated_payments", "mutated_positions"]
