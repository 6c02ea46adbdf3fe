"""Find out whether a trained medical-image model leans on shortcuts, where, and what they cost.

The names below load their module on first use, so that ``import shortcutscope`` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shortcutscope._version import __version__

_HOME = {
    "ImageTable": "shortcutscope.data.table",
    "plant": "shortcutscope.planting.planting",
    "triad": "shortcutscope.planting.planting",
    "get_artifact": "shortcutscope.planting.artifacts",
    "radiographs": "shortcutscope.planting.phantoms",
    "heads": "shortcutscope.planting.phantoms",
    "counterfactual": "shortcutscope.planting.phantoms",
    "breast_mri": "shortcutscope.planting.phantoms",
    "ecgs": "shortcutscope.planting.phantoms",
    "open_dataset": "shortcutscope.data.medical",
    "load_model": "shortcutscope.models.loading",
    "find_layers": "shortcutscope.models.layers",
    "frozen": "shortcutscope.models.frozen",
    "attribute": "shortcutscope.attribution.attribute",
    "Attribution": "shortcutscope.attribution.attribute",
    "Head": "shortcutscope.models.heads.head",
    "Scan": "shortcutscope.scan.scanner",
    "Concept": "shortcutscope.probes.concept",
    "audit": "shortcutscope.audit",
    "Audit": "shortcutscope.facade",
    "Finding": "shortcutscope.facade",
    "screen_metadata": "shortcutscope.discover.metadata",
    "Circuit": "shortcutscope.discover.circuits",
    "draw_circuit": "shortcutscope.report.circuit",
    "Retrieval": "shortcutscope.retrieval.retrieval",
    "Hits": "shortcutscope.retrieval.hits",
    "read_marks": "shortcutscope.retrieval.imports",
    "compare": "shortcutscope.compare",
    "Comparison": "shortcutscope.facade",
    "review": "shortcutscope.facade",
    "MaskSet": "shortcutscope.masks.maskset",
    "debias": "shortcutscope.debias",
    "distill": "shortcutscope.debias.unlearn",
    "Student": "shortcutscope.debias.student",
    "Training": "shortcutscope.debias.training.fit",
}

#: Folders that are called like functions.
_ROOMS = ("audit", "compare", "debias")

__all__ = [
    "Attribution",
    "Audit",
    "Circuit",
    "Comparison",
    "Concept",
    "Finding",
    "Head",
    "Hits",
    "ImageTable",
    "MaskSet",
    "Retrieval",
    "Scan",
    "Student",
    "Training",
    "__version__",
    "attribute",
    "audit",
    "breast_mri",
    "compare",
    "counterfactual",
    "debias",
    "distill",
    "draw_circuit",
    "ecgs",
    "find_layers",
    "frozen",
    "get_artifact",
    "heads",
    "load_model",
    "open_dataset",
    "plant",
    "radiographs",
    "read_marks",
    "review",
    "screen_metadata",
    "triad",
]

if TYPE_CHECKING:
    from shortcutscope.attribution.attribute import Attribution, attribute
    from shortcutscope.data.medical import open_dataset
    from shortcutscope.data.table import ImageTable
    from shortcutscope.debias.student import Student
    from shortcutscope.debias.training.fit import Training
    from shortcutscope.debias.unlearn import debias, distill
    from shortcutscope.discover.circuits import Circuit
    from shortcutscope.discover.metadata import screen_metadata
    from shortcutscope.facade import Audit, Comparison, Finding, audit, compare, review
    from shortcutscope.masks.maskset import MaskSet
    from shortcutscope.models.frozen import frozen
    from shortcutscope.models.heads.head import Head
    from shortcutscope.models.layers import find_layers
    from shortcutscope.models.loading import load_model
    from shortcutscope.planting.artifacts import get_artifact
    from shortcutscope.planting.phantoms import breast_mri, counterfactual, ecgs, heads, radiographs
    from shortcutscope.planting.planting import plant, triad
    from shortcutscope.probes.concept import Concept
    from shortcutscope.report.circuit import draw_circuit
    from shortcutscope.retrieval.hits import Hits
    from shortcutscope.retrieval.imports import read_marks
    from shortcutscope.retrieval.retrieval import Retrieval
    from shortcutscope.scan.scanner import Scan


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(_HOME[name])
    value = home if name in _ROOMS else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
