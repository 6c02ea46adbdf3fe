"""Circuits: the channels that carry a concept towards the decision, and what ablating them does."""

from shortcutscope.discover.circuits.ablation import Ablation, Effect, ablate
from shortcutscope.discover.circuits.circuit import Circuit, find_circuit

__all__ = ["Ablation", "Circuit", "Effect", "ablate", "find_circuit"]
