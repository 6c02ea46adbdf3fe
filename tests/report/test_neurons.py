import numpy as np
import pytest
from matplotlib.patches import Rectangle

from shortcutscope.discover.receptive import Field
from shortcutscope.errors import InputError
from shortcutscope.report.neurons import draw_neurons


def field(channels=1, name="sample", box=((2, 6), (3, 10))):
    image = np.random.default_rng(0).uniform(-3, 5, (channels, 16, 16)).astype(np.float32)
    return Field(name, (1, 1), 0.7, box, image, np.full((16, 16), 1 / 256, np.float32))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_samples_are_drawn_with_their_field_outlined_and_cut_out(channels, tmp_path):
    galleries = {"channel 3": [field(channels), field(channels, "a_very_long_name_of_a_$sample$")]}
    galleries["channel 8"] = [field(channels)]
    drawn = draw_neurons(galleries)
    pictures = [ax for ax in drawn.axes if ax.images]
    assert len(pictures) == 6
    wholes = [ax for ax in pictures if ax.patches]
    assert len(wholes) == 3
    (outline,) = (patch for patch in wholes[0].patches if isinstance(patch, Rectangle))
    assert (outline.get_xy(), outline.get_width(), outline.get_height()) == ((2.5, 1.5), 7, 4)
    shapes = {ax.images[0].get_array().shape[:2] for ax in pictures if not ax.patches}
    assert shapes == {(4, 7)}
    whole = np.asarray(wholes[0].images[0].get_array())
    crop = np.asarray(next(ax for ax in pictures if not ax.patches).images[0].get_array())
    np.testing.assert_allclose(crop, whole[2:6, 3:10])
    assert 0 <= whole.min() < whole.max() <= 1
    titles = [ax.get_title() for ax in wholes]
    assert titles[0] == "sample"
    assert titles[1].startswith("…")
    assert len(titles[1]) == 16
    drawn.savefig(tmp_path / "gallery.png")
    assert (tmp_path / "gallery.png").stat().st_size > 1000


def test_an_image_of_one_value_is_drawn():
    flat = field()
    flat.image[:] = 4
    assert draw_neurons({"channel 0": [flat]}).axes


def test_what_is_no_picture_is_refused():
    with pytest.raises(InputError, match="nothing to draw"):
        draw_neurons({})
    volume = Field(
        "v", (0, 0, 0), 0.0, ((0, 1),) * 3, np.zeros((1, 4, 4, 4), np.float32), np.zeros((4, 4, 4))
    )
    with pytest.raises(InputError, match="are no pictures"):
        draw_neurons({"channel 0": [volume]})
