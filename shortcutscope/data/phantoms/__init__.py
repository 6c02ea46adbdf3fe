"""Phantoms: samples made on the spot, with a known truth about what tells the classes apart."""

from shortcutscope.data.phantoms.breast_mri import breast_mri
from shortcutscope.data.phantoms.ecgs import ecgs
from shortcutscope.data.phantoms.heads import bias_mask, counterfactual, heads
from shortcutscope.data.phantoms.radiographs import radiographs

__all__ = ["bias_mask", "breast_mri", "counterfactual", "ecgs", "heads", "radiographs"]
