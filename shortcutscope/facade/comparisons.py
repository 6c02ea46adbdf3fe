"""Networks beside each other, and what can be seen of them."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from shortcutscope.compare import amplification, before_after
from shortcutscope.compare.amplification import AmplificationRecord
from shortcutscope.compare.result import ComparisonRecord
from shortcutscope.facade.giving import giving, widened
from shortcutscope.report.charts.plots import draw_amplification, draw_metric
from shortcutscope.report.comparison import write_comparison
from shortcutscope.report.notebook import show_comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Amplification", "Comparison", "amplification_curve", "compare"]


class Comparison(ComparisonRecord):
    """What changed from the biased network to each of the others. Attributes: see `ComparisonRecord`.

    Examples
    --------
    >>> compared = ss.compare(audit, student, test, model=model, concept="tag")  # doctest: +SKIP
    >>> compared.plot("balanced_auroc").savefig("before_after.png")  # doctest: +SKIP
    >>> compared.report("before_after.html")  # doctest: +SKIP
    """

    def plot(
        self, metric: str = "balanced_auroc", *, table: str | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw a metric of every network with its interval.

        Parameters
        ----------
        metric
            One of ``self.frame["metric"]``.
        table
            Samples that it was measured on; by default the main ones.
        ax
            Where to draw; by default on a figure of its own.

        Raises
        ------
        InputError
            For a metric that was not measured on them.
        """
        return draw_metric(self, metric, table, ax)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML file."""
        return write_comparison(self, Path(path))

    @cached_property
    def _shown(self) -> str:
        return show_comparison(self, repr(self))

    def _repr_html_(self) -> str:
        return self._shown


class Amplification(AmplificationRecord):
    """How networks do that were trained at growing correlations. Attributes: see `AmplificationRecord`."""

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """Draw accuracy where the concept goes against the label, and where it agrees with it.

        Parameters
        ----------
        ax
            Where to draw; by default on a figure of its own.
        """
        return draw_amplification(self, ax)


compare = giving(before_after.compare, partial(widened, result=Comparison))
amplification_curve = giving(amplification.amplification_curve, partial(widened, result=Amplification))
