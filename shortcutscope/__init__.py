"""Find out whether a trained medical-image model leans on shortcuts, where, and what they cost.

The names below load their module on first use, so that ``import shortcutscope`` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "ImageTable": "shortcutscope.data.table",
    "plant": "shortcutscope.data.planting",
    "triad": "shortcutscope.data.planting",
    "get_artifact": "shortcutscope.data.artifacts",
    "radiographs": "shortcutscope.data.phantoms",
    "load_model": "shortcutscope.models.loading",
    "find_layers": "shortcutscope.models.layers",
    "frozen": "shortcutscope.models.frozen",
    "scan": "shortcutscope.scan.scanner",
    "Scan": "shortcutscope.scan.scanner",
    "Concept": "shortcutscope.probes.concept",
    "audit": "shortcutscope.audit",
    "Audit": "shortcutscope.audit",
    "Finding": "shortcutscope.audit",
}

__all__ = [*_HOME, "__version__"]

if TYPE_CHECKING:
    from shortcutscope.audit import Audit, Finding, audit
    from shortcutscope.data.artifacts import get_artifact
    from shortcutscope.data.phantoms import radiographs
    from shortcutscope.data.planting import plant, triad
    from shortcutscope.data.table import ImageTable
    from shortcutscope.models.frozen import frozen
    from shortcutscope.models.layers import find_layers
    from shortcutscope.models.loading import load_model
    from shortcutscope.probes.concept import Concept
    from shortcutscope.scan.scanner import Scan, scan


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value  # also undoes the sub-module of the same name shadowing the function
        return value
    raise AttributeError(f"module 'shortcutscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
