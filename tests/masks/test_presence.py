"""Presence: few false alarms, also where carriers and others overlap."""

import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.masks.evidence import PATCHES
from shortcutscope.masks.presence import FALSE_ALARMS, Presence, require_separable


def samples(n, gap, seed):
    generator = np.random.default_rng(seed)
    concept = np.tile([0.0, 1.0], n // 2)
    peaks = {name: np.exp(generator.standard_normal(n) + gap * concept) for name in "ab"}
    return peaks, generator.standard_normal(n) + gap * concept, concept


def test_clear_carriers_are_told():
    fitted = Presence.fit(*samples(200, 6, seed=0))
    peaks, score, concept = samples(400, 6, seed=1)
    told = fitted.probability(peaks, score) >= fitted.limit
    assert (told == (concept == 1)).mean() > 0.98


def test_false_alarms_are_few_where_carriers_overlap_with_the_others():
    fitted = Presence.fit(*samples(240, 1.5, seed=0))
    peaks, score, concept = samples(2000, 1.5, seed=1)
    told = fitted.probability(peaks, score) >= fitted.limit
    assert told[concept == 0].mean() < 0.05
    assert told[concept == 1].mean() > 0.3


@pytest.mark.parametrize("gap", [0, 1])
@pytest.mark.parametrize("n", [60, 240])
def test_s7_false_alarms_are_few_however_weak_the_artifact_and_few_the_samples(gap, n):
    shares = []
    for seed in range(8):
        fitted = Presence.fit(*samples(n, gap, seed))
        peaks, score, concept = samples(600, gap, 1000 + seed)
        told = fitted.probability(peaks, score)
        shares.append((told > fitted.limit)[concept == 0].mean())
    # No limit can promise less than one in (n + 1) of the known samples without the artifact.
    assert np.mean(shares) <= max(FALSE_ALARMS, 1 / (n // 2 + 1)) + 0.02


def test_s7_where_nobody_can_tell_it_is_said():
    peaks, score, concept = samples(2000, 1, seed=1)
    weak = Presence.fit(*samples(240, 1, seed=0))
    told = weak.probability(peaks, score)
    doubtful = (told <= weak.limit) & (told >= weak.absent)
    assert doubtful[concept == 1].mean() > 0.3
    assert (told < weak.absent)[concept == 1].mean() < 0.1
    peaks, score, concept = samples(2000, 6, seed=1)
    clear = Presence.fit(*samples(240, 6, seed=0))
    told = clear.probability(peaks, score)
    assert ((told <= clear.limit) & (told >= clear.absent)).mean() < 0.01


def test_s7_a_concept_that_cannot_be_told_is_refused():
    generator = np.random.default_rng(0)
    concept = np.tile([0.0, 1.0], 60)
    with pytest.raises(InputError, match="no better than chance"):
        require_separable(generator.random(120), concept, "ward")
    require_separable(generator.random(120) + 0.5 * concept, concept, "ward")


def test_what_single_places_say_stands_alone_where_the_rest_only_blurs_it():
    generator = np.random.default_rng(0)
    concept = np.tile([0, 1], 100)
    places = np.exp(2 * concept + generator.normal(0, 0.7, 200))
    noise = {f"map {k}": np.exp(3 * generator.normal(0, 1, 200)) for k in range(12)}
    alone = Presence.fit({**noise, PATCHES: places}, generator.normal(0, 1, 200), concept)
    assert (alone.names, alone.scored) == ((PATCHES,), False)
    told = {**noise, "map 0": np.exp(6 * concept + generator.normal(0, 0.7, 200)), PATCHES: places}
    assert Presence.fit(told, generator.normal(0, 1, 200), concept).names == tuple(told)
