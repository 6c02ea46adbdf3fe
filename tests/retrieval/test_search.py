import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from stamped import stamped

from shortcutscope.data.file_images import in_file_size
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.retrieval.checks import shows_more_than_input, why_not_searched
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.search import FileSearch
from shortcutscope.stats.metrics import auroc


@pytest.fixture(scope="module")
def made():
    return stamped()


def search(made, view="auto", images=True):
    frame = made.table.frame
    table = made.table if images else None
    return FileSearch(table, frame["sample_id"], frame["group"], view, Running(progress=False), 0)


def marks(made, box=None):
    ids = made.table.frame["sample_id"].tolist()
    boxes = {ids[row]: [tuple(made.boxes[row] if box is None else box)] for row in range(8)}
    return Marks.of(ids[:8], ids[30:38], boxes)


def test_boxes_are_checked_before_anything_is_read(made):
    with pytest.raises(InputError, match="need the images"):
        search(made, images=False).check(marks(made))
    with pytest.raises(InputError, match="multiply them by the ratio"):
        search(made).check(marks(made, (90, 90, 99, 99)))
    search(made, "layers").check(marks(made, (90, 90, 99, 99)))
    with pytest.raises(InputError, match="searches the images"):
        search(made, "places", images=False)
    with pytest.raises(InputError, match="view='all'"):
        search(made, "all")


def test_boxes_that_do_not_say_where_leave_the_picture_as_a_whole(made):
    layers = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
    searched = search(made)(marks(made, (0, 0, 90, 90)), layers)
    assert set(searched.scores) == {"layers, borders and lines"}
    assert searched.detection is None
    assert not search(made, "places")(marks(made, (0, 0, 90, 90)), layers).scores
    assert "cover 88% of their images" in searched.notes[0]
    sizes = {"a": (100, 100), "b": (100, 100), "c": (100, 100)}
    assert "too few" in why_not_searched({"a": [(0, 0, 9, 9)]}, sizes)
    boxes = {"a": [(0, 0, 2, 2)], "b": [(0, 0, 60, 60)], "c": [(0, 0, 3, 3)]}
    assert "different things" in why_not_searched(boxes, sizes)


def test_crops_of_mined_patches_can_be_kept_and_dropped(made):
    ids = made.table.frame["sample_id"].tolist()
    alone = Marks.of(ids[:8], ids[30:38])
    found = search(made)
    layers = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)
    searched = found(alone, layers)
    assert set(searched.scores) == {"places", "layers, borders and lines"}
    crops = found.crops(searched.detection)
    assert crops.mined
    assert "keep()" in crops._repr_html_()
    found.kept = [searched.detection.kinds[0]]
    kept = found(alone, layers)
    assert len(kept.detection.kinds) == 1
    assert kept.detection.kinds[0] == searched.detection.kinds[0]
    assert (searched.mined, kept.mined) == ({"places": len(searched.detection.kinds)}, {"places": 1})
    found.kept = []
    dropped = found(alone, layers)
    assert set(dropped.scores) == {"layers, borders and lines"}
    assert "all mined crops were dropped: box a few" in dropped.notes[0]


def test_clicks_say_where_to_mine(made):
    ids = made.table.frame["sample_id"].tolist()
    middles = {
        ids[row]: [
            ((made.boxes[row][0] + made.boxes[row][2]) / 2, (made.boxes[row][1] + made.boxes[row][3]) / 2)
        ]
        for row in range(8)
    }
    searched = search(made, "places")(Marks.of(ids[:8], ids[30:38], middles), np.zeros((48, 1), np.float32))
    for kind in searched.detection.kinds:
        for row, (x0, y0, x1, y1) in kind:
            x, y = middles[ids[row]][0]
            assert abs((x0 + x1) / 2 - x) < 18
            assert abs((y0 + y1) / 2 - y) < 18


def test_files_that_show_no_more_than_the_input_are_not_searched_without_boxes(made):
    assert shows_more_than_input(made.table)
    assert not shows_more_than_input(in_file_size(made.table))


def wired(n=40, side=96):
    """Smooth pictures, half of which have a thin line across, with two boxes along it."""
    generator = np.random.default_rng(0)
    images = 0.5 + 1.2 * gaussian_filter(generator.normal(size=(n, side, side)), (0, 4, 4))
    y, x = np.mgrid[:side, :side]
    boxes = []
    for row in range(n):
        start, slope = generator.uniform(20, 60), generator.uniform(-0.2, 0.2)
        if row < n // 2:
            images[row] += 0.25 * np.exp(-((y - start - slope * x) ** 2) / 1.5)
        halves = [(start + slope * left, start + slope * (left + side // 2), left) for left in (0, side // 2)]
        boxes.append([(left, min(a, b) - 3, left + side // 2, max(a, b) + 4) for a, b, left in halves])
    frame = pd.DataFrame({"sample_id": [f"s{row}" for row in range(n)], "label": np.arange(n) % 2})
    pixels = (255 * images.clip(0, 1)).astype(np.uint8)
    return ImageTable.from_arrays(pixels, frame, size=side // 2), boxes


def test_boxed_lines_rank_beside_the_picture_and_new_pictures_score_alike():
    table, boxes = wired()
    ids = table.frame["sample_id"].tolist()
    given = Marks.of(ids[:7], ids[20:27], {ids[row]: boxes[row] for row in range(7)})
    quiet = Running(progress=False)
    found = FileSearch(table, ids, table.frame["group"], "auto", quiet, 0)
    layers = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    searched = found(given, layers)
    free = np.r_[7:20, 27:40]
    carries = (np.arange(40) < 20).astype(float)
    assert auroc(carries[free], searched.lines.scores[free]) > 0.9
    assert searched.lines.places.shape == (40, 4)
    assert np.nanmax(searched.lines.places) <= 96
    again = found.score_pictures(searched, layers, table, quiet)
    assert np.allclose(again[free], searched.scores["layers, borders and lines"][free])
