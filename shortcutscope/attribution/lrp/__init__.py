"""Layer-wise relevance propagation by operation."""

from shortcutscope.attribution.lrp.audit import Defects, audit_defects
from shortcutscope.attribution.lrp.composites import COMPOSITES, Composite, get_composite
from shortcutscope.attribution.lrp.conditional import ConditionalRelevance, conditional_relevance
from shortcutscope.attribution.lrp.conditions import AttentionHead, Channels, Direction
from shortcutscope.attribution.lrp.mode import Propagation, default_composite, propagation

__all__ = [
    "COMPOSITES",
    "AttentionHead",
    "Channels",
    "Composite",
    "ConditionalRelevance",
    "Defects",
    "Direction",
    "Propagation",
    "audit_defects",
    "conditional_relevance",
    "default_composite",
    "get_composite",
    "propagation",
]
