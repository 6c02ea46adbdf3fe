"""Find out whether a trained medical-image model leans on shortcuts, where, and what they cost.

The names below load their module on first use, so that ``import shortcutscope`` costs no torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "ImageTable": "shortcutscope.data.table",
    "plant": "shortcutscope.data.planting",
    "triad": "shortcutscope.data.planting",
    "get_artifact": "shortcutscope.data.artifacts",
    "radiographs": "shortcutscope.data.phantoms",
    "heads": "shortcutscope.data.phantoms",
    "counterfactual": "shortcutscope.data.phantoms",
    "breast_mri": "shortcutscope.data.phantoms",
    "ecgs": "shortcutscope.data.phantoms",
    "open_dataset": "shortcutscope.data.medical",
    "load_model": "shortcutscope.models.loading",
    "find_layers": "shortcutscope.models.layers",
    "frozen": "shortcutscope.models.frozen",
    "attribute": "shortcutscope.attribution.attribute",
    "Attribution": "shortcutscope.attribution.attribute",
    "Head": "shortcutscope.models.head",
    "Scan": "shortcutscope.scan.scanner",
    "Concept": "shortcutscope.probes.concept",
    "audit": "shortcutscope.audit",
    "Audit": "shortcutscope.audit",
    "Finding": "shortcutscope.finding",
    "screen_metadata": "shortcutscope.discover.metadata",
    "Circuit": "shortcutscope.discover.circuits",
    "draw_circuit": "shortcutscope.report.circuit",
    "Retrieval": "shortcutscope.annotate.retrieve",
    "Hits": "shortcutscope.annotate.hits",
    "read_marks": "shortcutscope.annotate.imports",
    "compare": "shortcutscope.compare",
    "Comparison": "shortcutscope.compare",
    "debias": "shortcutscope.debias.unlearn",
    "distill": "shortcutscope.debias.unlearn",
    "Student": "shortcutscope.debias.student",
    "Training": "shortcutscope.debias.training.fit",
}

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
    "screen_metadata",
    "triad",
]

if TYPE_CHECKING:
    from shortcutscope.annotate.hits import Hits
    from shortcutscope.annotate.imports import read_marks
    from shortcutscope.annotate.retrieve import Retrieval
    from shortcutscope.attribution.attribute import Attribution, attribute
    from shortcutscope.audit import Audit, audit
    from shortcutscope.compare import Comparison, compare
    from shortcutscope.data.artifacts import get_artifact
    from shortcutscope.data.medical import open_dataset
    from shortcutscope.data.phantoms import breast_mri, counterfactual, ecgs, heads, radiographs
    from shortcutscope.data.planting import plant, triad
    from shortcutscope.data.table import ImageTable
    from shortcutscope.debias.student import Student
    from shortcutscope.debias.training.fit import Training
    from shortcutscope.debias.unlearn import debias, distill
    from shortcutscope.discover.circuits import Circuit
    from shortcutscope.discover.metadata import screen_metadata
    from shortcutscope.finding import Finding
    from shortcutscope.models.frozen import frozen
    from shortcutscope.models.head import Head
    from shortcutscope.models.layers import find_layers
    from shortcutscope.models.loading import load_model
    from shortcutscope.probes.concept import Concept
    from shortcutscope.report.circuit import draw_circuit
    from shortcutscope.scan.scanner import Scan


class _Face(ModuleType):
    """Keeps functions such as ``audit`` from being hidden by the module or folder of that name.

    After importing a submodule, Python binds it on its package. Where the public face has a function
    of the same name, that binding is left out: ``shortcutscope.audit`` is always the function, and
    ``from shortcutscope.audit import Audit`` works all the same.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOME[name]), name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted(__all__)


sys.modules[__name__].__class__ = _Face
