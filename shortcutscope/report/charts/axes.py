"""Figures that a notebook shows by themselves, whether or not pyplot was imported."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Dots an inch, of the picture that a notebook shows.
DPI = 100


class ShownFigure(Figure):
    """A figure that pyplot does not know, with a picture of itself for notebooks.

    Parameters
    ----------
    width, height
        In inches.
    """

    def __init__(self, width: float = 6.4, height: float = 4.8) -> None:
        super().__init__(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, dpi=DPI, format="png")
        return buffer.getvalue()


def own_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Axes to draw on: those that were given, else those of a figure of this size in inches."""
    return ShownFigure(width, height).subplots() if ax is None else ax


def figure_of(ax: Axes) -> Figure:
    """The figure that axes belong to, also from within a part of it."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure
