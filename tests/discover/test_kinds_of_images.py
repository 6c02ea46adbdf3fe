"""Another kind of image differs in shape and texture everywhere; what is added or done to images does not."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from shortcutscope.discover.kinds_of_images import KindOfImage, QuartersOfImages, quarters_of

N, SIDE = 160, 48
UNIT = (0.0, 1.0)
LABELS = np.arange(N) % 2
#: 10 % of either label go against the concept.
CARRIES = np.where(np.arange(N) % 20 < 2, 1 - LABELS, LABELS).astype(float)


def pictures(change):
    """Smooth pictures of like shape, of which the carriers are changed."""
    rng = np.random.default_rng(3)
    base = gaussian_filter(rng.random((SIDE, SIDE)), 5, mode="wrap")
    other = gaussian_filter(rng.random((SIDE, SIDE)), 5, mode="wrap")
    for carries in CARRIES:
        own = gaussian_filter(rng.random((SIDE, SIDE)), 4, mode="wrap")
        grain = rng.standard_normal((SIDE, SIDE))
        shape = other if carries and change == "kind" else base
        picture = 0.5 + 4 * (shape - 0.5) + 2 * (own - 0.5) + 0.01 * grain
        if carries:
            picture = {
                "kind": lambda p=picture: gaussian_filter(p, 0.8),
                "noise": lambda p=picture: p + 0.05 * rng.standard_normal(p.shape),
                "darker": lambda p=picture: 0.7 * p,
                "tag": lambda p=picture: np.where(np.indices(p.shape).max(0) < 8, 1.0, p),
                "nothing": lambda p=picture: p,
            }[change]()
        yield picture.astype(np.float32)[None]


@pytest.mark.parametrize(
    ("change", "another"),
    [("kind", True), ("noise", False), ("darker", False), ("tag", False), ("nothing", False)],
)
def test_only_another_kind_shows_in_shape_and_texture(change, another):
    kind = QuartersOfImages.of(quarters_of(image, UNIT) for image in pictures(change)).kind(
        CARRIES, LABELS, np.arange(N)
    )
    assert kind.is_another is another
    assert kind.to_dict()["is_another"] is another
    if change == "noise":
        assert kind.texture > 0.9 > kind.shape


def test_what_is_no_picture_is_not_read():
    assert quarters_of(np.zeros((1, 100), np.float32), UNIT) is None
    assert quarters_of(np.zeros((1, 16, 16), np.float32), UNIT) is None
    assert QuartersOfImages.of([None]) is None
    assert not KindOfImage(1.0, 0.6).is_another


def test_large_pictures_are_read_coarsely():
    picture = next(iter(pictures("nothing")))
    large = np.kron(picture, np.ones((1, 8, 8), np.float32))  # 384 pixels, read as 128
    shape, texture = quarters_of(large, UNIT)
    np.testing.assert_allclose(shape, quarters_of(picture, UNIT)[0], atol=0.35)
    assert texture.shape == (4, 18)
