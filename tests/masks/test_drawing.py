"""What predictors of different folds are compared by, and which of two ways draws a mask."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from shortcutscope.masks.contrast import Contrast, ContrastChoice
from shortcutscope.masks.drawing import UNSURE, WHERE, MaskEvidence, MaskPredictor, _odds
from shortcutscope.masks.evidence import PATCHES, Evidence
from shortcutscope.masks.outlines import Areas, outline


def predictor(**changes):
    choice = ContrastChoice(Contrast("difference", "brighter"), 1.0, 0.5)
    evidence = Evidence({}, (), {}, None)
    return MaskPredictor(evidence, {}, None, choice, "otsu", Areas.fit([25]), **changes)


def test_networks_that_are_sure_in_different_ways_are_compared_alike():
    logits = np.random.default_rng(0).normal(0, 2, 200) + 4 * np.tile([0, 1], 100)
    values = []
    for scale, shift in ((1.0, 0.0), (0.4, -1.5)):
        features = {PATCHES: np.exp(scale * logits + shift), "map": np.exp(scale * logits)}
        values.append(predictor().with_units(features).in_units(features))
    assert values[0][PATCHES] == pytest.approx(values[1][PATCHES])
    assert np.median(values[0]["map"]) == pytest.approx(1)


def test_probabilities_of_none_and_one_have_finite_odds_in_all_units():
    certain = _odds(np.array([0, 0.5, 1], np.float32))
    assert certain[1] == 1
    assert (np.diff(certain) > 0).all()
    told = predictor().with_units({PATCHES: np.ones(20)})
    assert np.isfinite(np.log(told.in_units({PATCHES: certain})[PATCHES])).all()


def square(top, size=40):
    mask = np.zeros((size, size), bool)
    mask[top : top + 5, 8:13] = True
    return mask


def look(drawn_at):
    """A bright square, evidence around it, and what single pixels say."""
    image = np.where(square(10), 1.0, 0.0).astype(np.float32)
    drawn = square(drawn_at).astype(np.float32)
    outlined = outline(image, square(10) | square(12))
    return image, MaskEvidence(image[None], image[None], [outlined], {}, drawn[None])


def test_the_mask_of_hard_edges_is_that_of_the_contrast_and_sure_where_it_was_drawn_over():
    image, seen = look(drawn_at=10)
    mask, sure, doubt = predictor()._assessed(seen, 0, image, 0.9)
    assert (mask == square(10)).all()
    assert sure == pytest.approx(0.9, abs=0.01)
    assert doubt is None
    image, elsewhere = look(drawn_at=25)
    mask, less_sure, doubt = predictor()._assessed(elsewhere, 0, image, 0.9)
    assert (mask == square(10)).all()
    assert less_sure < sure - 0.2
    assert doubt == WHERE


def test_a_right_mask_of_whose_pixels_the_edges_alone_were_seen_is_not_in_doubt():
    image, seen = look(drawn_at=10)
    inner = np.asarray(binary_erosion(square(10)), bool)
    edges = replace(seen, drawn=np.where(square(10) & ~inner, 0.5, 0.0).astype(np.float32)[None])
    mask, sure, doubt = predictor()._assessed(edges, 0, image, 0.95)
    assert (mask == square(10)).all()
    assert doubt is None
    assert sure >= UNSURE


def test_without_what_single_pixels_say_the_contour_tells():
    image, seen = look(drawn_at=10)
    mask, sure, doubt = predictor()._assessed(replace(seen, drawn=None), 0, image, 0.9)
    assert (mask == square(10)).all()
    assert sure == pytest.approx(1)
    assert doubt is None


def test_single_places_draw_where_the_ways_disagree_and_nothing_is_alike():
    image = np.where(square(10) | square(25), 1.0, 0.0).astype(np.float32)
    _, seen = look(drawn_at=25)
    both = MaskEvidence(seen.fusion, image[None], seen.outlines, {}, seen.drawn)
    chosen = predictor()._by_pixels(both, image[None, None], np.array([0]))
    assert chosen
    mask, _, _ = predictor(by_pixels=chosen)._ways(both, 0, image)
    assert (mask & square(25)).sum() > 0
    assert not (mask & square(10)).any()
