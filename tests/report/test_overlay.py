import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import PathPatch
from PIL import Image

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.masks.mask_files import Assessment
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import artifact_mask, plant
from shortcutscope.report.overlay import COUNT, draw_areas, draw_overlays


@pytest.fixture(scope="module")
def table():
    return plant(radiographs(40, size=32, seed=50), get_artifact("tag"), prevalence={0: 0.7, 1: 0.9}, seed=50)


@pytest.fixture(scope="module")
def masks(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("overlay") / "tag"
    with MaskWriter(folder, "$tag$ & more") as writer:
        for i, name in enumerate(table.frame["sample_id"]):
            mask = artifact_mask(table, i).numpy()
            writer.append(name, mask, assessment=Assessment(confidence=(i + 1) / 50, flagged=i < 5))
    return MaskSet.open(folder)


def pictures(figure):
    return [ax for ax in figure.axes if ax.images and ax.get_title()]


def covered(ax, size):
    """Pixels whose centre the filled outline of a panel holds, holes left out."""
    inside = np.zeros(size, bool)
    filled = [patch for patch in ax.patches if isinstance(patch, PathPatch) and patch.get_fill()]
    centres = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), -1).reshape(-1, 2) + 0.5
    for patch in filled:
        for polygon in patch.get_path().to_polygons():
            path = type(patch.get_path())(polygon)
            inside ^= path.contains_points(centres).reshape(size)
    return inside


def test_each_image_has_its_mask_and_its_caption(masks, table, tmp_path):
    chosen = [entry.sample_id for entry in masks.entries if not entry.empty][:4]
    empty = next(entry.sample_id for entry in masks.entries if entry.empty)
    kept = masks.reviewed({chosen[1]: True, chosen[2]: False})
    figure = draw_overlays(kept, table, [*chosen, empty], columns=3)
    panels = pictures(figure)
    assert len(panels) == 5
    rows = {name: k for k, name in enumerate(table.frame["sample_id"])}
    for ax, name in zip(panels, [*chosen, empty], strict=True):
        assert np.array_equal(covered(ax, (32, 32)), masks.mask(name))
        drawn = np.asarray(ax.images[0].get_array())
        np.testing.assert_array_equal(drawn, (table.image(rows[name])[0].numpy() * 255).round())
        assert ax.images[0].get_clim() == (0, 255), "one scale for all"
        title = ax.get_title().splitlines()
        assert title[0] == name
        assert title[1].startswith(f"confidence {masks.entry(name).confidence:.2f}")
    assert "accepted" in panels[1].get_title()
    assert "rejected" in panels[2].get_title()
    assert "empty" in panels[4].get_title()
    assert not panels[4].patches
    scale = figure.axes[-1]
    assert scale.get_ylim() == table.value_range
    figure.savefig(tmp_path / "overlays.png")
    assert (tmp_path / "overlays.png").stat().st_size > 5000


def test_without_names_the_whole_range_of_confidence_is_drawn(masks, table):
    panels = pictures(draw_overlays(masks, table))
    told = [float(ax.get_title().split("confidence ")[1].split(",")[0].split()[0]) for ax in panels]
    inside = sorted(round(entry.confidence, 2) for entry in masks.entries if not entry.empty)
    assert len(told) == COUNT < len(inside)
    assert told == sorted(told, reverse=True)
    assert (told[-1], told[0]) == (inside[0], inside[-1])
    assert len(pictures(draw_overlays(masks, table.take(range(6))))) <= 6


def test_colour_holes_and_an_oblong_file(tmp_path):
    image = np.zeros((1, 3, 20, 10), np.float32)
    image[0, 0] = 1
    table = ImageTable.from_arrays(image, pd.DataFrame({"sample_id": ["x" * 40], "label": [0]}))
    mask = np.zeros((20, 10), bool)
    mask[3:12, 2:9] = True
    mask[5:8, 4:6] = False
    with MaskWriter(tmp_path / "m", "ring") as writer:
        writer.append("x" * 40, mask)
    (ax,) = draw_overlays(MaskSet.open(tmp_path / "m"), table).axes  # colour has no grey scale
    assert ax.images[0].get_extent() == [0, 10, 20, 0]
    assert (ax.get_xlim(), ax.get_ylim()) == ((-5, 15), (20, 0)), "in the middle of a square"
    assert np.asarray(ax.images[0].get_array())[0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(covered(ax, (20, 10)), mask)
    assert len(ax.get_title().splitlines()[0]) == 18


def test_a_hole_is_not_painted_over(tmp_path):
    table = ImageTable.from_arrays(
        np.zeros((1, 1, 16, 16), np.float32), pd.DataFrame({"sample_id": ["a"], "label": [0]})
    )
    mask = np.ones((16, 16), bool)
    mask[6:10, 6:10] = False
    with MaskWriter(tmp_path / "m", "ring") as writer:
        writer.append("a", mask)
    figure = draw_overlays(MaskSet.open(tmp_path / "m"), table)
    figure.savefig(tmp_path / "ring.png", dpi=100)
    drawn = np.asarray(Image.open(tmp_path / "ring.png").convert("RGB"))
    ax = figure.axes[0]
    points = ax.transData.transform([(8, 8), (3, 8)]).round().astype(int)
    hole, inside = (drawn[len(drawn) - y, x] for x, y in points)
    assert hole.max() == 0
    assert inside.max() > 40


def test_areas_and_where_the_masks_lie(masks, tmp_path):
    figure = draw_areas(masks, bins=7)
    histogram, mean, bar = figure.axes
    values = histogram.patches[0].get_data().values
    inside = [entry for entry in masks.entries if not entry.empty]
    assert values.sum() == len(inside)
    assert len(values) == 7
    assert histogram.get_title() == f"{len(inside)} masks, {len(masks) - len(inside)} more are empty"
    assert f"{np.median([e.share for e in inside]):.2%}" in histogram.get_legend().get_texts()[0].get_text()
    np.testing.assert_array_equal(mean.images[0].get_array(), masks.mean_mask())
    assert bar.get_ylim()[0] == 0
    figure.savefig(tmp_path / "areas.png")


def test_the_mean_of_volumes_and_of_oblong_images(tmp_path):
    mask = np.zeros((4, 10, 20), bool)
    mask[1, 2:4, 5:9] = True
    with MaskWriter(tmp_path / "v", "device") as writer:
        writer.append("v", mask)
    mean = draw_areas(MaskSet.open(tmp_path / "v")).axes[1]
    assert mean.images[0].get_array().ndim == 2
    assert mean.get_aspect() == 0.5


def test_nothing_and_too_much(masks, table, tmp_path):
    with pytest.raises(InputError, match="columns"):
        draw_overlays(masks, table, columns=0)
    with pytest.raises(InputError, match="0 masks are to be drawn"):
        draw_overlays(masks, table, [])
    with pytest.raises(InputError, match="301 masks"):
        draw_overlays(masks, table, masks.sample_ids[:1] * 301)
    with MaskWriter(tmp_path / "m", "none") as writer:
        writer.append("a", np.zeros((9, 9), bool))
    with pytest.raises(InputError, match="empty"):
        draw_areas(MaskSet.open(tmp_path / "m"))
