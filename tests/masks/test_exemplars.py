"""Votes of other carriers' masks on what is alike in all of them."""

import numpy as np
import pytest

from shortcutscope.masks.exemplars import FEWEST, RIGID, Exemplars, signal, voted

SIDE = 48


def ticks(start):
    mask = np.zeros((SIDE, SIDE), bool)
    for k, y in enumerate(range(start, SIDE, 5)):
        mask[y, SIDE - (7 if k % 2 else 4) :] = True
    return mask


def seen(generator, truth, hidden):
    """A mask as one image shows it: some of it is hidden; and the contrast."""
    shown = truth & ~hidden
    contrast = np.where(shown, 1.0, 0.05 * truth) + 0.05 * generator.normal(size=truth.shape)
    return shown, contrast.astype(np.float32)


def half(generator):
    hidden = np.zeros((SIDE, SIDE), bool)
    top = int(generator.integers(0, SIDE // 2))
    hidden[top : top + SIDE // 2] = True
    return hidden


def of(truths, hide=half, seed=0):
    generator = np.random.default_rng(seed)
    pairs = [seen(generator, truth, hide(generator)) for truth in truths]
    masks = np.stack([mask for mask, _ in pairs])
    where = np.ones((SIDE, SIDE), np.float32)
    signals = np.stack([signal(contrast, where, mask) for mask, contrast in pairs])
    return Exemplars.fit(signals, masks, np.ones(len(masks))), pairs


def nothing(generator):
    return np.zeros((SIDE, SIDE), bool)


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def test_marks_that_an_image_hides_are_drawn_as_others_show_them():
    exemplars, _ = of([ticks(k % 5) for k in range(16)], nothing)
    assert exemplars.agreement > 0.9
    generator = np.random.default_rng(9)
    for start in range(5):
        shown, contrast = seen(generator, ticks(start), half(generator))
        votes = exemplars.votes(signal(contrast, np.ones_like(contrast), shown))
        _, mask = voted(contrast, np.ones_like(shown), shown, votes)
        assert overlap(shown, ticks(start)) < 0.7
        assert overlap(mask, ticks(start)) > 0.9


def test_what_differs_from_image_to_image_keeps_its_own_mask():
    generator = np.random.default_rng(1)
    lines = []
    for _ in range(16):
        mask = np.zeros((SIDE, SIDE), bool)
        columns = np.clip(np.cumsum(generator.integers(-1, 2, SIDE)) + generator.integers(5, 43), 0, 47)
        mask[np.arange(SIDE), columns] = True
        lines.append(mask)
    assert of(lines, nothing)[0] is None
    assert RIGID > 0.3


@pytest.mark.parametrize("count", [0, FEWEST - 1])
def test_too_few_masks_do_not_vote(count):
    masks = np.stack([ticks(0)] * count) if count else np.zeros((0, SIDE, SIDE), bool)
    assert Exemplars.fit(masks.astype(np.float32), masks, np.ones(count)) is None


def test_volumes_and_large_images_are_left_alone():
    volume = np.ones((8, 4, 4, 4), bool)
    assert Exemplars.fit(volume.astype(np.float32), volume, np.ones(8)) is None
    large = np.ones((8, 300, 300), bool)
    assert Exemplars.fit(large.astype(np.float32), large, np.ones(8)) is None


def test_an_image_that_shows_nothing_stays_empty():
    empty, contrast = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), np.float32)
    region, mask = voted(contrast, ~empty, empty, np.ones_like(contrast))
    assert not mask.any()
    assert region.all()
