"""What can be done with results: the one place that knows all stages.

Records (`shortcutscope.audit.finding.FindingRecord` and others) are data and know nothing of the stages that
come after them. The classes here are those records, with what users do with them.
"""

from __future__ import annotations

from shortcutscope.facade.audits import Audit, audit
from shortcutscope.facade.comparisons import Amplification, Comparison, amplification_curve, compare
from shortcutscope.facade.embeddings import EmbeddingsAudit, audit_embeddings
from shortcutscope.facade.findings import Finding, annotate
from shortcutscope.facade.reviewing import review

__all__ = [
    "Amplification", "Audit", "Comparison", "EmbeddingsAudit", "Finding", "amplification_curve", "annotate",
    "audit", "audit_embeddings", "compare", "review",
]  # fmt: skip
