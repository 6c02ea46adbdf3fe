"""Phantoms: samples made on the spot, with a known truth about what tells the classes apart."""

from shortcutscope.planting.phantoms.breast_mri import breast_mri
from shortcutscope.planting.phantoms.ecgs import ecgs
from shortcutscope.planting.phantoms.findings import findings
from shortcutscope.planting.phantoms.heads import HeadRecipe, bias_mask, counterfactual, heads
from shortcutscope.planting.phantoms.radiographs import radiographs

__all__ = [
    "HeadRecipe",
    "bias_mask",
    "breast_mri",
    "counterfactual",
    "ecgs",
    "findings",
    "heads",
    "radiographs",
]
