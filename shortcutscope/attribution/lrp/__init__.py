"""Layer-wise relevance propagation by operation."""

from shortcutscope.attribution.lrp.audit import Defects, audit_defects
from shortcutscope.attribution.lrp.composites import COMPOSITES, Composite, get_composite
from shortcutscope.attribution.lrp.conditional import ConditionalRelevance, conditional_relevance
from shortcutscope.attribution.lrp.conditions import Channels, Direction, Head
from shortcutscope.attribution.lrp.mode import Propagation, default_composite, propagation

__all__ = [
    "COMPOSITES",
    "Channels",
    "Composite",
    "ConditionalRelevance",
    "Defects",
    "Direction",
    "Head",
    "Propagation",
    "audit_defects",
    "conditional_relevance",
    "default_composite",
    "get_composite",
    "propagation",
]
