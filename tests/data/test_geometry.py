import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from shortcutscope.data.geometry import Geometry
from shortcutscope.data.readers.orientation import Orientation
from shortcutscope.data.sources import resize_mask
from shortcutscope.errors import InputError

sides = st.integers(1, 40)
sizes = st.tuples(sides, sides)


@pytest.mark.parametrize(("size", "target"), [((30, 41), (16, 16)), ((7, 5), (64, 33)), ((12, 12), (12, 30))])
def test_resizing_is_that_of_torch_both_ways(size, target):
    geometry = Geometry.of(size).resized(target)
    generator = np.random.default_rng(0)
    for values, ends, move in (
        (generator.random(size, dtype=np.float32), target, geometry.from_source),
        (generator.random(target, dtype=np.float32), size, geometry.to_source),
    ):
        expected = functional.interpolate(
            torch.from_numpy(values)[None, None], ends, mode="bilinear", align_corners=False, antialias=True
        )[0, 0]
        assert np.allclose(move(values), expected.numpy(), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(size=sizes, target=sizes)
def test_masks_go_to_the_nearest_pixel_as_annotation_masks_do(size, target):
    mask = np.random.default_rng(1).random(size) > 0.5
    assert np.array_equal(Geometry.of(size).resized(target).from_source(mask), resize_mask(mask, target))


@settings(max_examples=60, deadline=None)
@given(
    size=sizes,
    resized=sizes,
    start=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    cut=sizes,
    number=st.integers(1, 8),
)
def test_the_finer_frame_keeps_every_pixel_of_the_coarser(size, resized, start, cut, number):
    geometry = Geometry.of(size, Orientation.from_exif(number)).resized(resized).cropped(start, cut)
    generator = np.random.default_rng(2)
    frame = "stored" if number % 2 else "displayed"
    if all(s <= 1 for s in geometry.scale):
        mask = generator.random(geometry.input_size) > 0.5
        image_side = geometry.to_source(mask, frame=frame)
        assert image_side.shape == (geometry.stored_size if frame == "stored" else geometry.size)
        back = geometry.from_source(image_side, frame=frame)
        inside = geometry.from_source(np.ones(geometry.size, dtype=bool))
        covered = geometry.from_source(geometry.seen(frame=frame), frame=frame)
        assert np.array_equal(back & covered, mask & inside & covered)
    if all(s >= 1 for s in geometry.scale):
        mask = generator.random(geometry.size) > 0.5
        seen = geometry.seen()
        assert np.array_equal(geometry.to_source(geometry.from_source(mask)) & seen, mask & seen)


def test_what_was_cropped_away_and_padded_again_is_not_seen():
    geometry = Geometry.of((10, 10)).cropped((2, 2), (6, 6)).cropped((-2, -2), (10, 10))
    seen = np.zeros((10, 10), dtype=bool)
    seen[2:8, 2:8] = True
    assert np.array_equal(geometry.seen(), seen)
    values = geometry.to_source(np.ones((10, 10), dtype=np.float32), fill=-1)
    assert np.array_equal(values, np.where(seen, 1, -1).astype(np.float32))


def test_padding_is_left_out_of_maps_and_takes_no_part_in_their_edges():
    geometry = Geometry.of((6, 9)).resized((4, 6)).cropped((-1, 0), (6, 6))
    values = np.full((6, 6), 100.0, dtype=np.float32)
    values[1:5] = 1.0
    assert np.allclose(geometry.to_source(values), 1.0)
    padded = geometry.from_source(np.ones((6, 9), dtype=np.float32), fill=7)
    assert np.allclose(padded[[0, -1]], 7)
    assert np.allclose(padded[1:-1], 1)


def test_volumes_and_signals():
    volume = Geometry.of((5, 8, 12)).resized((5, 4, 4))
    mask = np.zeros((5, 4, 4), dtype=bool)
    mask[2, 1, 3] = True
    expected = np.zeros((5, 8, 12), dtype=bool)
    expected[2, 2:4, 9:12] = True
    assert np.array_equal(volume.to_source(torch.from_numpy(mask)), expected)
    signal = Geometry.of((1000,)).resized((250,))
    assert signal.to_source(np.arange(250) == 3).nonzero()[0].tolist() == [12, 13, 14, 15]


def test_values_of_another_size_are_refused():
    geometry = Geometry.of((8, 6)).resized((4, 4))
    with pytest.raises(InputError, match=r"\(8, 6\).*input.*\(4, 4\)"):
        geometry.to_source(np.zeros((8, 6)))
    with pytest.raises(InputError, match=r"stored frame"):
        geometry.from_source(np.zeros((4, 4)), frame="stored")
    with pytest.raises(InputError, match="frame must be"):
        geometry.to_source(np.zeros((4, 4)), frame="upside down")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="does not fit"):
        geometry.resized((4, 4, 4))
