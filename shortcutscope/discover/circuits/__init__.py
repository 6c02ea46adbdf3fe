"""Circuits: the channels that carry a concept towards the decision, and what ablating them does."""

from shortcutscope.discover.circuits.ablation import Ablation, Effect
from shortcutscope.discover.circuits.circuit import Circuit, find_circuit
from shortcutscope.discover.circuits.problem import Judging, Searching

__all__ = ["Ablation", "Circuit", "Effect", "Judging", "Searching", "find_circuit"]
