"""Presence: few false alarms, also where carriers and others overlap."""

import numpy as np

from shortcutscope.annotate.presence import Presence


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
