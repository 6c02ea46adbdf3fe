"""An audit of embeddings, and what can be seen of it."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from shortcutscope.embeddings import stages
from shortcutscope.embeddings.result import EmbeddingsAuditRecord
from shortcutscope.facade.giving import giving, widened
from shortcutscope.report.embeddings import draw_encoders, write_embeddings
from shortcutscope.report.notebook import show_embeddings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["EmbeddingsAudit", "audit_embeddings"]


class EmbeddingsAudit(EmbeddingsAuditRecord):
    """An audit of embeddings, and what can be seen of it. Attributes: see `EmbeddingsAuditRecord`.

    Examples
    --------
    >>> embeddings = ss.audit_embeddings("features.npz", "samples.csv", label="label")  # doctest: +SKIP
    >>> embeddings.plot().savefig("encoders.png")  # doctest: +SKIP
    >>> embeddings.report("encoders.html")  # doctest: +SKIP
    """

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw encoders by concepts: how well each is encoded, and the verdicts."""
        return draw_encoders(self, ax)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML file."""
        return write_embeddings(self, Path(path))

    @cached_property
    def _shown(self) -> str:
        return show_embeddings(self, repr(self))

    def _repr_html_(self) -> str:
        return self._shown


audit_embeddings = giving(stages.audit_embeddings, partial(widened, result=EmbeddingsAudit))
