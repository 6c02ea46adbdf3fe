from types import SimpleNamespace

import numpy as np
import pytest

from shortcutscope.retrieval.fusion import Fusion
from shortcutscope.retrieval.learning import Learnt
from shortcutscope.retrieval.notes import notes_of
from shortcutscope.retrieval.presence import FindOdds
from shortcutscope.retrieval.progress import advise
from shortcutscope.retrieval.search import Searched

IDS = np.array([f"s{k}" for k in range(8)])
KNOWN = np.array([1, 1, 1, 1, 1, 0, 0, np.nan])


def learnt(weight, share, trusting=False):
    scores = np.array([5.0, 1, 4, 2, 3, 0, 0, 0])
    fusion = Fusion(
        scores,
        {"layers": 0.6, "places": 0.5},
        {"layers": 1 - share, "places": share},
        FindOdds(scores, 0.4, 0.3, weight),
    )
    return Learnt(SimpleNamespace(recovery=0.6), trusting, Searched({"places": scores}), fusion)


@pytest.mark.parametrize(("weight", "share"), [(0.1, 0.2), (0.9, 0.0)])
def test_it_says_on_which_carriers_boxes_would_help(weight, share):
    notes = notes_of(learnt(weight, share), KNOWN, IDS, advise(0.6, np.array([]), None))
    assert "it is not clear where it is" in notes[0]
    assert notes[0].endswith("such as s1, s3, s4")


def test_what_is_clear_needs_no_boxes():
    notes = notes_of(learnt(0.9, 0.5), KNOWN, IDS, advise(0.6, np.array([]), None))
    assert not [note for note in notes if "box" in note]
    assert notes[0].startswith("ranked by")


def test_inferred_values_are_spoken_of():
    few = np.where(np.arange(8) < 2, KNOWN, np.nan)
    advice = advise(0.6, np.array([]), None)
    assert "confirm some first" in notes_of(learnt(0.9, 0.5, trusting=True), few, IDS, advice)[-1]
    assert "no worse with them" in notes_of(learnt(0.9, 0.5, trusting=True), KNOWN, IDS, advice)[-2]
