"""Layer-wise relevance propagation by operation."""

from shortcutscope.attribution.lrp.audit import Defects, audit_defects
from shortcutscope.attribution.lrp.composites import COMPOSITES, Composite, get_composite
from shortcutscope.attribution.lrp.mode import Propagation, default_composite, propagation

__all__ = [
    "COMPOSITES",
    "Composite",
    "Defects",
    "Propagation",
    "audit_defects",
    "default_composite",
    "get_composite",
    "propagation",
]
