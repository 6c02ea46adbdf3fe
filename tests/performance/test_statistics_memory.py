"""Concepts are probed and ranked on any number of samples in the same memory, but for their scores."""

import tracemalloc

import numpy as np
import pytest

from shortcutscope.audit.cost import BYTES_PER_VALUE, BYTES_RANKED
from shortcutscope.probes.crossfit import ProbeSettings, availability
from shortcutscope.probes.rank import effective_ranks
from shortcutscope.probes.ridge import ridge_bytes

FEW, MANY, FEATURES, CONCEPTS = 2_000, 20_000, 512, 8
#: Ten times the samples may need this much more, scores of every sample and concept apart.
GROWTH = 1.2
#: Readings of the features: two for each concept, those of all concepts, and of the features' own statistics.
READINGS = 2 * CONCEPTS + 6


class MadeWhenRead:
    """Features of samples that are nowhere at once, and how many rows of them were read."""

    dtype = np.dtype(np.float32)

    def __init__(self, n):
        self.shape = (n, FEATURES)
        self.rows_read = 0
        self._base = np.random.default_rng(0).standard_normal((64, FEATURES), np.float32)

    def read(self, start, stop):
        self.rows_read += stop - start
        rows = np.arange(start, stop)
        return self._base[rows % 64] * np.cos(rows, dtype=np.float32)[:, None] + self._base[rows % 61]


def samples(n):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, n)
    return labels, (rng.random((n, CONCEPTS)) < 0.3 + 0.2 * labels[:, None]).astype(float), np.arange(n) % 4


def peak(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def probed(n):
    labels, concepts, folds = samples(n)
    rows = MadeWhenRead(n)
    settings = ProbeSettings(n_bootstrap=60)
    needed = peak(lambda: availability(rows, concepts, labels, None, folds, settings=settings))
    return needed, rows.rows_read / n


def ranked(n):
    labels, concepts, folds = samples(n)
    rows = MadeWhenRead(n)
    needed = peak(lambda: effective_ranks(rows, concepts, labels, folds, n_bootstrap=60))
    return needed, rows.rows_read / n


@pytest.mark.parametrize("statistics", [probed, ranked])
def test_memory_grows_by_the_scores_alone_and_readings_do_not(statistics):
    (few, _), (many, readings) = statistics(FEW), statistics(MANY)
    assert many - BYTES_PER_VALUE * MANY * CONCEPTS <= GROWTH * few
    assert readings <= READINGS


def test_the_estimate_holds():
    for n in (FEW // 5, FEW, MANY):  # of more features than samples, too
        needed, _ = probed(n)
        estimated = ridge_bytes(n, FEATURES, CONCEPTS, 200) + BYTES_PER_VALUE * n * CONCEPTS + BYTES_RANKED
        assert 0.2 * estimated < needed <= estimated
