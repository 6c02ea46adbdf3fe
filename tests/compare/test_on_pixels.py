"""Networks on images that are alike in what the concept is made of."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import shortcutscope as ss
from shortcutscope.compare.on_pixels import LevelledImages
from shortcutscope.compare.performance import ComparedSamples
from shortcutscope.errors import InputError
from shortcutscope.models.heads.head import Head
from shortcutscope.pixels.of_findings import confirmed_transfer
from shortcutscope.probes.concept import Concept

N = 120


class _Grey(nn.Module):
    """Answers with the mean grey above a half, by a weight, and with a corner pixel that no level moves."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        grey = x.flatten(1).mean(1) - 0.5
        corner = x[:, 0, 0, 0] - x[:, 0, 0, 1]
        return (self.weight * grey + corner)[:, None]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 2
    images = rng.normal(0.4 + 0.2 * labels[:, None, None], 0.03, (N, 16, 16)).clip(0.05, 0.95)
    images[:, 0, 1], images[:, 0, 0] = 0.3, 0.3 + 0.05 * (2 * labels - 1)
    table = ss.ImageTable.from_arrays(images.astype(np.float32), labels=labels)
    bright = labels.astype(float)
    bright[::9] = 1 - bright[::9]
    return table.with_columns(bright=bright)


def _samples(table, concept):
    return ComparedSamples.of("data", table, concept, 1, against=False, n=50, seed=0)


def test_what_answers_to_the_grey_level_flips_and_what_does_not_keeps_its_word(table):
    concept = Concept.from_column(table.frame, "bright")[0]
    levelled = LevelledImages.of(table, concept, "exposure", seed=0)
    figures = {}
    for name, weight in (("follows", 10.0), ("does not", 0.0)):
        estimates = levelled.estimates(
            _Grey(weight), Head(task="binary"), _samples(table, concept), batch_size=32
        )
        figures[name] = {one.metric: one for one in estimates}
    assert figures["follows"]["pixel_flip_rate"].value == 1
    assert figures["does not"]["pixel_flip_rate"].value == 0
    assert figures["does not"]["levelled_auroc"].value > 0.99
    assert len(figures["follows"]["pixel_flip_rate"].resampled) == 50
    assert "all at mean grey 0.4" in figures["follows"]["pixel_flip_rate"].note


def test_another_transfer_shows_all_without_and_all_with(table):
    concept = Concept.from_column(table.frame, "bright")[0]
    levelled = LevelledImages.of(table, concept, "noise", seed=0)
    assert list(levelled.states) == ["all without bright", "all with bright"]
    carries = table.frame["bright"].to_numpy()
    for row in levelled.rows[:6]:
        as_it_is = levelled.states["all with bright" if carries[row] else "all without bright"](row)
        assert np.array_equal(as_it_is, levelled.images[int(row)])


def test_few_patients_are_said(table):
    few = table.take(np.arange(8))
    concept = Concept.from_column(table.frame, "bright")[0].aligned_to(few.frame["sample_id"])
    levelled = LevelledImages.of(few, concept, "noise", seed=0)
    (estimate,) = levelled.estimates(_Grey(1.0), Head(), _samples(few, concept), batch_size=8)
    assert "not measurable" in estimate.note


def test_the_transfer_is_that_of_the_test_on_the_pixels():
    seen = {"way": "transfer", "word": "confirmed", "how": "exposure"}
    assert confirmed_transfer(SimpleNamespace(pixels=seen)) == "exposure"
    assert confirmed_transfer(SimpleNamespace(pixels=seen | {"word": "not confirmed"})) is None
    erased = {"way": "erase", "word": "confirmed", "how": "convolution"}
    assert confirmed_transfer(SimpleNamespace(pixels=erased)) is None
    assert confirmed_transfer(SimpleNamespace(pixels={}, run=None)) is None
    assert confirmed_transfer(None) is None


def test_refuses_a_transfer_that_there_is_not(table):
    concept = Concept.from_column(table.frame, "bright")[0]
    with pytest.raises(InputError, match="exposures"):
        LevelledImages.of(table, concept, "exposures", seed=0)
