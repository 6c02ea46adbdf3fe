"""Which pixels of a place are drawn."""

import numpy as np
import torch

from shortcutscope.masks.boxed.pixels import PlacePixels

SIDE = 64
GLYPH = np.random.default_rng(3).random((9, 13)) > 0.5


def background(generator):
    slope = np.linspace(*generator.uniform(0, 0.6, 2), SIDE)
    return slope[None] + 0.02 * generator.normal(size=(SIDE, SIDE))


def stamped(generator, y, x):
    image, truth = background(generator), np.zeros((SIDE, SIDE), bool)
    truth[y : y + 9, x : x + 13] = GLYPH
    image[truth] += 0.5
    return torch.from_numpy(image[None]).float(), truth


def boxed(generator, places):
    return [(stamped(generator, y, x)[0], (float(x), float(y), x + 13.0, y + 9.0)) for y, x in places]


def others(generator, count=8):
    return [torch.from_numpy(background(generator)[None]).float() for _ in range(count)]


def test_strokes_are_drawn_and_not_the_paper_between_them():
    generator = np.random.default_rng(0)
    pixels = PlacePixels.fit(
        boxed(generator, [(5, 5), (30, 40), (50, 20), (20, 8), (40, 10)]), others(generator)
    )
    for y, x in ((12, 30), (0, 0), (SIDE - 9, SIDE - 13)):  # also at the very edge
        image, truth = stamped(generator, y, x)
        mask, clear = pixels.mask(image, (float(x), float(y), x + 13.0, y + 9.0))
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85
        assert 0.5 < clear <= 1


def test_whole_places_are_drawn_where_boxes_are_too_few():
    generator = np.random.default_rng(0)
    pixels = PlacePixels.fit(boxed(generator, [(5, 5), (30, 40)]), others(generator))
    mask, clear = pixels.mask(torch.zeros(1, SIDE, SIDE), (20.0, 10.0, 37.0, 23.0))  # found a little larger
    assert mask.sum() == 9 * 13
    assert mask[12:21, 22:35].all()
    assert clear == 1
    mask, _ = pixels.mask(torch.zeros(1, SIDE, SIDE), (56.0, 2.0, 64.0, 13.0))  # cut off at the edge
    assert mask.sum() == 9 * 10


def test_others_may_be_of_another_size():
    generator = np.random.default_rng(0)
    small = [torch.from_numpy(background(generator)[None, ::2, ::2].copy()).float() for _ in range(4)]
    pixels = PlacePixels.fit(boxed(generator, [(5, 5), (30, 40), (50, 20)]), small)
    assert pixels.choice is not None
