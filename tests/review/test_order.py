"""The order of looking: unanswered, flagged, with something inside, unsure; the list and the grid agree."""

import pytest

from shortcutscope.masks.mask_files import MaskEntry
from shortcutscope.review.order import ordered


def entry(name, area=4, **told):
    return MaskEntry(name, name, f"{name}.png", "image", (4, 4), area, None, "", **told)


ENTRIES = (
    entry("answered", confidence=0.1, flagged=True, accepted=False),
    entry("sure", area=8, confidence=0.9),
    entry("empty", area=0, confidence=0.2, flagged=True),
    entry("doubtful", confidence=0.4, flagged=True),
    entry("unsure", area=2, confidence=0.3, flagged=True),
)


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("benefit", ["unsure", "doubtful", "empty", "sure", "answered"]),
        ("confidence", ["answered", "empty", "unsure", "doubtful", "sure"]),
        ("area", ["sure", "answered", "doubtful", "unsure", "empty"]),
        (None, ["answered", "sure", "empty", "doubtful", "unsure"]),
    ],
)
def test_order(order, names):
    assert [one.sample_id for one in ordered(ENTRIES, order)] == names
