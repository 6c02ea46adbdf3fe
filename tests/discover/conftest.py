import numpy as np
import pandas as pd
import pytest

from shortcutscope.data.table import ImageTable


@pytest.fixture
def two_group_scores():
    """Scores of two classes in which 5 % and 95 % belong to a group four deviations away."""

    def make(n=400, share=0.05, distance=4.0, seed=0):
        generator = np.random.default_rng(seed)
        labels = np.repeat([0, 1], n)
        carriers = generator.random(2 * n) < np.where(labels == 1, 1 - share, share)
        return generator.standard_normal(2 * n) + distance * carriers, carriers, labels

    return make


@pytest.fixture(scope="session")
def noise_images():
    """Table of images of noise, in some of which the first class or the second has a bright square."""

    def make(n=120, channels=1, side=32, seed=0):
        generator = np.random.default_rng(seed)
        labels = np.arange(n) % 2
        images = generator.uniform(0.2, 0.5, (n, channels, side, side)).astype(np.float32)
        carriers = generator.random(n) < np.where(labels == 1, 0.9, 0.1)
        images[carriers, :, 4:12, 4:12] = 0.95
        frame = pd.DataFrame({"label": labels, "square": carriers.astype(int)})
        frame.insert(0, "sample_id", [f"s{i:03d}" for i in range(n)])
        return ImageTable.from_arrays(images, frame, value_range=(0, 1))

    return make
