import numpy as np
from matplotlib.collections import PathCollection

from shortcutscope.report.embedding import draw_embedding


def test_every_sample_is_a_point_and_the_legend_names_class_and_side():
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    values = np.where(np.arange(40) < 10, np.nan, (np.arange(40) % 3 == 0).astype(float))
    drawn = draw_embedding(generator.normal(size=(40, 2)), labels, values, classes=["well", "ill"], title="x")
    (ax,) = drawn.axes
    points = [c for c in ax.collections if isinstance(c, PathCollection)]
    assert sum(len(c.get_offsets()) for c in points) == 40
    told = {text.get_text() for text in ax.get_legend().get_texts()}
    assert told == {f"{c}, {s}" for c in ("well", "ill") for s in ("with it", "without it", "unknown")}


def test_without_a_concept_the_classes_alone_are_told_apart():
    drawn = draw_embedding(np.zeros((6, 2)), np.arange(6) % 3)
    told = [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]
    assert told == ["class 0", "class 1", "class 2"]
