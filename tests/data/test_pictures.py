"""Samples of every geometry as pictures."""

import numpy as np
import pytest

from shortcutscope.data.pictures import kind_of, sample_picture, slices_picture, trace_picture
from shortcutscope.data.table import ImageTable
from shortcutscope.retrieval.hits import pictures_of


def test_traces_lie_in_the_rows_of_their_leads():
    signal = np.zeros((3, 200))
    signal[1, 100] = 1.0
    picture = trace_picture(signal, 100)
    assert picture.dtype == np.uint8
    assert picture.shape == (54, 100)
    dark = np.argwhere(picture < 150)
    assert {int(row) // 18 for row in dark[:, 0]} == {0, 1, 2}
    column = picture[:, 50]
    assert (column[18:36] < 200).sum() > 5  # the spike reaches from the middle of its row to the top
    assert (column[:18] < 200).sum() <= 3


@pytest.mark.parametrize(
    ("shape", "kind", "picture"),
    [
        ((12, 400), "signal", (216, 480)),
        ((1, 20, 30), "image", (20, 30)),
        ((3, 20, 30), "image", (20, 30, 3)),
        ((1, 8, 20, 30), "volume", (20, 30)),
        ((3, 8, 20, 30), "volume", (20, 30, 3)),
    ],
)
def test_every_kind_of_sample_is_a_picture(shape, kind, picture):
    sample = np.random.default_rng(0).random(shape).astype(np.float32)
    assert kind_of(sample) == kind
    shown = sample_picture(sample, (0, 1))
    assert (shown.shape, shown.dtype) == (picture, np.uint8)


def test_a_slice_of_a_volume_is_the_middle_one_or_the_one_asked_for():
    volume = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1) * np.ones((1, 5, 4, 4), np.float32)
    assert (sample_picture(volume, (0, 5)) == round(2 / 5 * 255)).all()
    assert (sample_picture(volume, (0, 5), plane=4) == round(4 / 5 * 255)).all()


def test_nine_slices_stand_for_the_whole_volume():
    volume = np.arange(27, dtype=np.float32).reshape(1, 27, 1, 1) * np.ones((1, 27, 8, 4), np.float32)
    shown = slices_picture(volume, (0, 255), 8)
    assert shown.shape == (24, 12)
    middles = shown[4::8, 2::4]
    assert middles.tolist() == [[1, 4, 7], [10, 13, 16], [19, 22, 25]]


@pytest.mark.parametrize(("shape", "small"), [((12, 100), (216, 192)), ((1, 9, 200, 100), (192, 96))])
def test_signals_and_volumes_have_small_pictures_for_review(shape, small):
    samples = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    table = ImageTable.from_arrays(samples, np.array([0, 1, 0]), dims=len(shape) - 1)
    pictures = pictures_of(table, [*table.frame["sample_id"], "another"])
    assert [picture.shape for picture in pictures.values()] == [small] * 3
