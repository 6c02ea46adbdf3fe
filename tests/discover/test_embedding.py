import numpy as np
import pytest

from shortcutscope.discover.embedding import embed
from shortcutscope.errors import InputError


@pytest.mark.slow
def test_two_far_groups_stay_apart_and_the_layout_is_deterministic():
    generator = np.random.default_rng(0)
    group = np.arange(60) % 2
    vectors = generator.normal(size=(60, 20)) + 30 * group[:, None]
    rows, points = embed(vectors, seed=1)
    assert rows.tolist() == list(range(60))
    centres = [points[group == g].mean(0) for g in (0, 1)]
    within = max(np.linalg.norm(points[group == g] - centres[g], axis=1).max() for g in (0, 1))
    assert np.linalg.norm(centres[0] - centres[1]) > within
    np.testing.assert_array_equal(embed(vectors, seed=1)[1], points)


@pytest.mark.slow
def test_of_many_samples_a_draw_is_laid_out():
    vectors = np.random.default_rng(0).normal(size=(80, 4))
    rows, points = embed(vectors, most=30)
    assert len(rows) == len(points) == len(set(rows.tolist())) == 30


@pytest.mark.parametrize("vectors", [np.zeros((5, 3)), np.zeros(40), np.full((20, 3), np.nan)])
def test_what_cannot_be_laid_out_is_refused(vectors):
    with pytest.raises(InputError):
        embed(vectors)
