from __future__ import annotations

import numpy as np

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines.twin_choice import TwinCandidate, TwinChoice, TwinTrials
from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.scaled_images import ScaledImages
from shortcutscope.pixels.transferring import Transferring


def _choice(left, separation=0.99, n=200, *, within=True):
    tried = [TwinCandidate((name,), area, moved) for name, (area, moved) in left.items()]
    return TwinChoice(tried, separation, n, within)


def test_of_those_that_leave_as_little_the_gentlest_is_taken() -> None:
    choice = _choice({"exposure": (0.62, 0.1), "histogram": (0.6, 0.2), "offset": (0.8, 0.05)})
    assert choice.best.name == "exposure"
    assert choice.refusal() is None


def test_less_than_chance_is_no_better_than_chance() -> None:
    assert _choice({"exposure": (0.5, 0.1), "histogram": (0.41, 0.2)}).best.name == "exposure"


def test_what_leaves_most_of_it_is_refused_where_labels_have_both() -> None:
    left = {"frame": (0.98, 0.2)}
    assert "no transfer takes the concept away" in _choice(left).refusal()
    assert _choice(left, within=False).refusal() is None
    assert "do not show the concept" in _choice(left, separation=0.6).refusal()


def test_a_shortcut_of_the_whole_histogram_is_not_left_to_a_constant() -> None:
    """Gamma moves the mean, and with it all else: twins by a constant still show it, twins by gamma less."""
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 2
    carries = np.where(rng.random(160) < 0.8, labels, 1 - labels).astype(float)
    soft = rng.random((160, 1, 4, 4)).repeat(8, 2).repeat(8, 3)
    images = np.where(carries[:, None, None, None] == 1, soft**0.4, soft**2.2)
    table = ImageTable.from_arrays(images.astype(np.float32), labels=labels)
    samples = Samples(carries, labels.astype(np.int64), np.arange(160))
    choice = TwinTrials(Transferring(ScaledImages.of(table), samples)).choice()
    left = {one.name: one.left for one in choice.candidates}
    assert choice.separation > 0.95
    assert left["histogram"] < left["offset"]
    assert choice.best.left <= max(0.5, min(left.values())) + 0.06


def test_beside_what_twins_have_already_nothing_more_is_one_of_the_choices() -> None:
    rng = np.random.default_rng(0)
    labels, carries = np.arange(80) % 2, np.arange(80) // 2 % 2 * 1.0
    images = rng.normal(0.4 + 0.2 * carries[:, None, None, None], 0.05, (80, 1, 16, 16)).clip(0, 1)
    table = ImageTable.from_arrays(images.astype(np.float32), labels=labels)
    trials = TwinTrials(Transferring(ScaledImages.of(table), Samples(carries, labels, np.arange(80))))
    choice = trials.choice(["histogram"])
    assert choice.candidates[0].transfers == ("histogram",)
    assert all("histogram" in one.transfers for one in choice.candidates)
    assert ("frame", "histogram") in [one.transfers for one in choice.candidates]
