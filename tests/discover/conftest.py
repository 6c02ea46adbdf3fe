import numpy as np
import pytest


@pytest.fixture
def two_group_scores():
    """Scores of two classes in which 5 % and 95 % belong to a group four deviations away."""

    def make(n=400, share=0.05, distance=4.0, seed=0):
        generator = np.random.default_rng(seed)
        labels = np.repeat([0, 1], n)
        carriers = generator.random(2 * n) < np.where(labels == 1, 1 - share, share)
        return generator.standard_normal(2 * n) + distance * carriers, carriers, labels

    return make
