"""Boxes against the evidence of a finding, on the marked images."""

import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.masks.boxed.held_out import HeldOutFigures
from shortcutscope.masks.boxed.rival import MARGIN, Rival, compared, quality
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.retrieval.detecting.detection import Where

IDS = ["a", "b", "c"]
WHERE = Where({0: [(0, 0, 4, 4)], 1: [(2, 2, 6, 6)]}, [0, 1], [2])


def evidence(part, asked=None):
    """Draws the same part of every image of 8 x 8."""

    def draw(samples, folder):
        if asked is not None:
            asked.extend(samples)
        with MaskWriter(folder, "stamps", {}) as writer:
            for name in samples:
                mask = np.zeros((8, 8), bool)
                if name != "c":
                    mask[part] = True
                writer.append(name, mask)
        return MaskSet.open(folder)

    return Rival(draw)


def boxes(touched=2, inside=0.9):
    return HeldOutFigures(2, 2, 1, 0, 2, touched, inside, 40)


def test_the_better_one_draws_and_both_are_told():
    asked = []
    chosen = compared(evidence(np.s_[2:4, 2:4], asked), boxes(touched=1), WHERE, IDS)
    assert asked == IDS  # the marked images alone
    assert chosen.way == "evidence"
    assert "By what the boxes taught: 2 of 2 carriers" in str(chosen)
    chosen = compared(evidence(np.s_[6:, 6:]), boxes(), WHERE, IDS)
    assert chosen.way == "boxes"
    assert "By the evidence of the finding" in str(chosen)


def test_a_small_difference_is_none():
    near = boxes(inside=0.95)
    assert 0 < 1 - quality(near) < MARGIN
    assert compared(evidence(np.s_[2:4, 2:4]), near, WHERE, IDS).way == "boxes"


def test_an_evidence_that_draws_nothing_says_why():
    def draw(samples, folder):
        raise InputError("too few")

    assert compared(Rival(draw), boxes(), WHERE, IDS).rival.endswith("nothing was drawn: too few")


@pytest.mark.parametrize(
    "worse", [boxes(touched=1), boxes(inside=0.5), HeldOutFigures(2, 2, 1, 1, 2, 2, 0.9, 40)]
)
def test_less_found_less_right_and_false_masks_all_count(worse):
    assert quality(worse) < quality(boxes())
