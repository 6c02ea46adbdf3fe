"""The picture of a circuit: a disc for every channel, lines by weight, nothing for nothing."""

import io

import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from shortcutscope.discover.circuits import Circuit
from shortcutscope.discover.circuits.ablation import Ablation, Effect
from shortcutscope.errors import InputError
from shortcutscope.report.circuit import BLUE, LARGEST, MUTED, THICKEST, VERMILION, draw_circuit


def make_circuit(**changes):
    nodes = pd.DataFrame(
        [
            ("stem", 3, 0.5, 0.9, False),
            ("stem", 1, 0.2, 0.8, False),
            ("middle", 7, 2.0, 0.99, True),
            ("middle", 4, 1.0, 0.95, True),
            ("middle", 5, -0.1, 0.4, True),
            ("top", 0, 1.5, 0.9, False),
        ],
        columns=["layer", "channel", "score", "auroc", "ablated"],
    )
    edges = pd.DataFrame(
        [
            ("stem", 3, "middle", 7, 0.8),
            ("stem", 1, "middle", 7, -0.4),
            ("stem", 1, "middle", 4, 0.001),
            ("middle", 7, "top", 0, 0.6),
        ],
        columns=["source_layer", "source_channel", "target_layer", "target_channel", "weight"],
    )
    good = Effect(2, 0.5, 0.05, 0.8, 0.81, 0.9)
    poor = Effect(2, 0.5, 0.45, 0.8, 0.7, 0.6)
    values = {
        "concept": "a $tag$", "layers": ("stem", "middle", "top"), "nodes": nodes, "edges": edges,
        "ablation": Ablation(good, (poor, poor), poor, 100), "notes": (),
    }  # fmt: skip
    return Circuit(**{**values, **changes})


def discs(figure: Figure):
    return next(c for c in figure.axes[0].collections if isinstance(c, PathCollection))


def test_every_channel_has_a_disc_as_large_as_its_score():
    figure = draw_circuit(make_circuit())
    drawn = discs(figure)
    assert len(drawn.get_offsets()) == 6
    assert drawn.get_sizes().max() == pytest.approx(LARGEST)
    assert drawn.get_offsets()[:, 0].tolist() == [0, 0, 1, 1, 1, 2]
    named = {text.get_text() for text in figure.axes[0].texts}
    assert named == {"3", "1", "7", "4", "5", "0"}


def test_ablated_channels_wear_a_ring():
    figure = draw_circuit(make_circuit())
    rings = [tuple(c) for c in discs(figure).get_edgecolors()]
    from matplotlib.colors import to_rgba

    assert [ring == to_rgba(VERMILION) for ring in rings] == [False, False, True, True, True, False]


def test_lines_are_as_wide_as_their_weight_and_faint_ones_are_left_out():
    lines = draw_circuit(make_circuit()).axes[0].lines
    assert [line.get_color() for line in lines] == [BLUE, MUTED, BLUE]
    assert [line.get_linewidth() for line in lines] == pytest.approx(
        [THICKEST, THICKEST / 2, 0.75 * THICKEST]
    )
    assert lines[1].is_dashed()
    assert not lines[0].is_dashed()


def test_channels_that_do_not_fit_are_counted():
    figure = draw_circuit(make_circuit(), channels=2)
    assert len(discs(figure).get_offsets()) == 5
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["stem", "middle\n+ 1 ablated", "top"]


def test_the_title_says_what_ablation_does():
    title = draw_circuit(make_circuit()).axes[0].get_title(loc="left")
    assert "a $tag$: ablation removes 90 % of the effect (random 10 %, largest 10 %)" in title
    assert "+1.0 points" in title
    assert draw_circuit(make_circuit(ablation=None)).axes[0].get_title(loc="left") == "a $tag$"


def test_it_draws_where_it_is_told_and_without_edges():
    axes = Figure().subplots(1, 2)
    empty = pd.DataFrame(columns=make_circuit().edges.columns)
    figure = draw_circuit(make_circuit(edges=empty), ax=axes[1])
    assert figure is axes[1].figure
    assert not axes[0].collections
    figure.savefig(io.BytesIO(), format="png")


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="nothing to draw"):
        draw_circuit(make_circuit(nodes=make_circuit().nodes.iloc[:0]))
    with pytest.raises(InputError, match="channels=0"):
        draw_circuit(make_circuit(), channels=0)
