import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from shortcutscope.data.readers.orientation import Orientation
from shortcutscope.errors import InputError


@pytest.mark.parametrize("number", range(1, 9))
def test_exif_numbers_turn_as_pillow_turns(number, tmp_path):
    stored = np.arange(15, dtype=np.uint8).reshape(3, 5)
    exif = Image.Exif()
    exif[0x0112] = number
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        shown = np.asarray(ImageOps.exif_transpose(image))
    orientation = Orientation.from_exif(number)
    assert np.array_equal(orientation.apply(stored), shown)
    assert np.array_equal(orientation.undo(shown), stored)
    assert orientation.shown_size(stored.shape) == shown.shape
    assert orientation.stored_size(shown.shape) == stored.shape


def test_unknown_exif_numbers_leave_the_image():
    assert Orientation.from_exif(0).is_identity
    assert Orientation.from_exif(77).is_identity


@given(axes=st.permutations(range(3)), flips=st.tuples(*[st.booleans()] * 3))
def test_three_axes_there_and_back(axes, flips):
    orientation = Orientation(tuple(axes), flips)
    stored = np.arange(24).reshape(2, 3, 4)
    shown = orientation.apply(stored)
    assert shown.shape == orientation.shown_size(stored.shape)
    assert np.array_equal(orientation.undo(shown), stored)
    assert Orientation.from_dict(orientation.to_dict()) == orientation


def test_what_is_no_permutation_is_refused():
    with pytest.raises(InputError, match="permutation"):
        Orientation((0, 0), (False, False))
    with pytest.raises(InputError, match="permutation"):
        Orientation((0, 1), (False,))
