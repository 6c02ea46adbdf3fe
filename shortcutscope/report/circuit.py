"""A circuit as a picture: layers as columns, channels as discs, conditional relevance as lines."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from shortcutscope.discover.circuits import Circuit
from shortcutscope.discover.circuits.edges import strongest_nodes
from shortcutscope.errors import InputError
from shortcutscope.report.charts.axes import figure_of, own_axes

#: Okabe and Ito's blue and vermilion: told apart with any colour vision.
BLUE, VERMILION = "#0072B2", "#D55E00"
INK, MUTED = "#222222", "#6b6b6b"
FONT_SIZE = 8.0
#: Areas of the discs, in points squared, and widths of the lines, in points.
SMALLEST, LARGEST = 40.0, 520.0
THICKEST = 5.0
#: Edges that carry less than this share of the strongest one are left out.
FAINTEST = 0.05


def draw_circuit(circuit: Circuit, *, ax: Axes | None = None, channels: int = 5) -> Figure:
    """Draw a circuit.

    Columns are layers in the order in which they run, the decision at the right. A disc is a channel, as
    large as its score; a ring round it says that it belongs to the ablated set. Of that set, which can be
    most of a layer, the strongest channels are drawn and the others are counted. A line is as wide as its
    edge's weight: solid where carriers send more relevance along it than others do, dashed where less.

    Parameters
    ----------
    circuit
        As `find_circuit` returns it.
    ax
        Where to draw; by default on a figure of its own.
    channels
        Most channels of a layer.

    Raises
    ------
    InputError
        A circuit without nodes, or fewer channels than 1.

    Examples
    --------
    >>> circuit = audit["tag"].circuit(model, data, edges=False, running=quiet)
    >>> ss.draw_circuit(circuit).savefig("circuit.png")
    """
    if channels < 1 or not len(circuit.nodes):
        raise InputError(f"channels={channels} of {len(circuit.nodes)} nodes: there is nothing to draw")
    nodes = _strongest(circuit, channels)
    layers = list(dict.fromkeys(nodes["layer"]))
    ax = own_axes(ax, 1.5 + 1.35 * len(layers), 1.6 + 0.62 * channels)
    places = _places(nodes, layers)
    _draw_edges(ax, circuit.edges, places)
    _draw_nodes(ax, nodes, places)
    _label_layers(ax, circuit, nodes, layers)
    _finish(ax, circuit, layers, channels)
    return figure_of(ax)


def _strongest(circuit: Circuit, channels: int) -> pd.DataFrame:
    """Strongest channels of the layers that edges join, the ablated one among them."""
    ablated = list(circuit.ablated)
    return strongest_nodes(circuit.nodes, circuit.layers, ablated[0] if ablated else None, channels)


def _places(nodes: pd.DataFrame, layers: list[str]) -> dict[tuple[str, int], tuple[float, float]]:
    """Where each channel is: its layer's column, rows from the strongest downwards about the middle."""
    places = {}
    for x, name in enumerate(layers):
        members = nodes.loc[nodes["layer"] == name, "channel"].tolist()
        for row, channel in enumerate(members):
            places[name, int(channel)] = (float(x), (len(members) - 1) / 2 - row)
    return places


def _draw_edges(ax: Axes, edges: pd.DataFrame, places: dict[tuple[str, int], tuple[float, float]]) -> None:
    strongest = float(edges["weight"].abs().max()) if len(edges) else 0.0
    if not strongest > 0:
        return
    for edge in edges.to_dict("records"):
        ends = [(edge[f"{end}_layer"], edge[f"{end}_channel"]) for end in ("source", "target")]
        share = abs(edge["weight"]) / strongest
        if share < FAINTEST or not all(end in places for end in ends):
            continue
        (x0, y0), (x1, y1) = (places[end] for end in ends)
        more = edge["weight"] > 0
        ax.plot(
            [x0, x1], [y0, y1], color=BLUE if more else MUTED, linewidth=max(0.4, THICKEST * share),
            linestyle="-" if more else (0, (2, 1.5)), alpha=0.25 + 0.5 * share, zorder=1,
            solid_capstyle="round",
        )  # fmt: skip


def _draw_nodes(ax: Axes, nodes: pd.DataFrame, places: dict[tuple[str, int], tuple[float, float]]) -> None:
    names = list(zip(nodes["layer"], nodes["channel"].astype(int), strict=True))
    at = np.array([places[name] for name in names])
    score = nodes["score"].abs().to_numpy(float)
    top = float(score.max()) if len(score) and score.max() > 0 else 1.0
    size = SMALLEST + (LARGEST - SMALLEST) * score / top
    ring = [VERMILION if ablated else "white" for ablated in nodes["ablated"]]
    ax.scatter(at[:, 0], at[:, 1], s=size, color=BLUE, edgecolors=ring, linewidths=1.8, zorder=2)
    for (x, y), (_, channel), area in zip(at, names, size, strict=True):
        ax.annotate(
            str(channel), (x, y), xytext=(0, -(np.sqrt(area) / 2 + 2)), textcoords="offset points",
            ha="center", va="top", fontsize=FONT_SIZE - 1, color=INK, zorder=3,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
        )  # fmt: skip


def _label_layers(ax: Axes, circuit: Circuit, nodes: pd.DataFrame, layers: list[str]) -> None:
    ax.set_xticks(range(len(layers)))
    labels = []
    for name in layers:
        hidden = len(circuit.ablated.get(name, [])) - int(nodes.loc[nodes["layer"] == name, "ablated"].sum())
        labels.append(f"{name}\n+ {hidden} ablated" if hidden else name)
    ax.set_xticklabels(labels, fontsize=FONT_SIZE, color=INK, parse_math=False)


def _finish(ax: Axes, circuit: Circuit, layers: list[str], channels: int) -> None:
    ax.set_xlim(-0.5, len(layers) - 0.5)
    ax.set_ylim(-channels / 2 - 0.2, channels / 2 - 0.2)
    ax.set_yticks([])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(_title(circuit), fontsize=FONT_SIZE + 1, color=INK, loc="left", parse_math=False)
    keys = [
        Line2D([], [], marker="o", linestyle="", color=BLUE, markersize=8, label="channel, by its score"),
        Line2D(
            [], [], marker="o", linestyle="", color=BLUE, markeredgecolor=VERMILION, markeredgewidth=1.8,
            markersize=8, label="ablated",
        ),
        Line2D([], [], color=BLUE, linewidth=2.5, label="more relevance in carriers"),
        Line2D([], [], color=MUTED, linewidth=2.5, linestyle=(0, (2, 1.5)), label="less"),
    ]  # fmt: skip
    ax.legend(
        handles=keys, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, frameon=False,
        fontsize=FONT_SIZE - 1, labelcolor=INK, handletextpad=0.4, columnspacing=1.2,
    )  # fmt: skip


def _title(circuit: Circuit) -> str:
    if circuit.ablation is None or circuit.ablation.circuit.removed is None:
        return circuit.concept
    effect = circuit.ablation.circuit
    sets = (effect, circuit.ablation.random_mean, circuit.ablation.magnitude)
    removed, random, magnitude = (f"{100 * (one.removed or 0.0):.0f} %" for one in sets)
    return (
        f"{circuit.concept}: ablation removes {removed} of the effect (random {random}, largest {magnitude});"
        f"\nbalanced AUROC {-100 * effect.balanced_drop:+.1f} points"
    )
