"""Known truth for tests, demos and benchmarks: planted artifacts, phantoms, thin networks.

The names below load their module on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_MODULES = {
    "artifact_mask": "planting",
    "breast_mri": "phantoms",
    "clean_twin": "planting",
    "counterfactual": "phantoms",
    "ecgs": "phantoms",
    "findings": "phantoms",
    "everywhere": "planting",
    "get_artifact": "artifacts",
    "heads": "phantoms",
    "plant": "planting",
    "plant_in": "planting",
    "radiographs": "phantoms",
    "thin_resnet18": "thin",
    "thin_resnet1d": "thin",
    "triad": "planting",
}

__all__ = [
    "artifact_mask",
    "breast_mri",
    "clean_twin",
    "counterfactual",
    "ecgs",
    "everywhere",
    "findings",
    "get_artifact",
    "heads",
    "plant",
    "plant_in",
    "radiographs",
    "thin_resnet1d",
    "thin_resnet18",
    "triad",
]

if TYPE_CHECKING:
    from shortcutscope.planting.artifacts import get_artifact
    from shortcutscope.planting.phantoms import breast_mri, counterfactual, ecgs, findings, heads, radiographs
    from shortcutscope.planting.planting import artifact_mask, clean_twin, everywhere, plant, plant_in, triad
    from shortcutscope.planting.thin import thin_resnet1d, thin_resnet18


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
