import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from shortcutscope.discover.gaussians import PrincipalProjection, assess, best_mixture, member_moments
from shortcutscope.errors import InputError


def test_the_smallest_criterion_wins_and_the_heaviest_component_is_first():
    generator = np.random.default_rng(0)
    points = generator.standard_normal((400, 3)) + 9 * (np.arange(400) < 90)[:, None]
    mixture, criteria = best_mixture(points, [1, 2, 3], ("tied", "full"), seed=0)
    assert len(mixture.weights_) == 2
    assert mixture.weights_[0] == pytest.approx(310 / 400, abs=0.01)
    np.testing.assert_allclose(mixture.means_[0], 0, atol=0.3)
    chosen = criteria[criteria["chosen"]].iloc[0]
    assert chosen["bic"] == criteria["bic"].min()
    again = GaussianMixture(2, covariance_type=chosen["form"], random_state=0, max_iter=200).fit(points)
    assert chosen["bic"] == pytest.approx(again.bic(points))
    membership, outlier = assess(mixture, points)
    assert (membership == (np.arange(400) < 90)).all()
    np.testing.assert_allclose(outlier, -again.score_samples(points))


def test_a_far_sample_gets_no_component_of_its_own_unless_it_is_asked_for():
    points = np.random.default_rng(1).standard_normal((100, 2))
    points[3] = 300
    mixture, criteria = best_mixture(points, [1, 2], ("diag",), seed=0)
    assert criteria["bic"].idxmin() == 1
    assert criteria["smallest"].tolist() == pytest.approx([100, 1])
    assert len(mixture.weights_) == 1
    assert assess(mixture, points)[1].argmax() == 3
    assert len(best_mixture(points, [2], ("diag",), seed=0)[0].weights_) == 2


def test_moments_are_those_of_the_members_however_far_from_zero():
    generator = np.random.default_rng(2)
    vectors = (1e4 + generator.standard_normal((9000, 5))).astype(np.float32)
    rows = generator.permutation(9000)[:8000]
    membership = generator.integers(0, 2, 8000)
    membership[5] = 2
    means, spreads = member_moments(vectors, rows, membership, 3, vectors[0].astype(float))
    for k in range(2):
        members = vectors[rows[membership == k]].astype(float)
        np.testing.assert_allclose(means[k], members.mean(0))
        np.testing.assert_allclose(spreads[k], members.std(0), rtol=1e-9)
    np.testing.assert_allclose(means[2], vectors[rows[5]])
    np.testing.assert_allclose(spreads[2], vectors[rows].astype(float).std(0), rtol=1e-9)


def test_points_are_principal_components_in_one_unit():
    vectors = np.random.default_rng(3).standard_normal((5000, 4)) * [9, 3, 1, 0.1]
    points = PrincipalProjection.fitted(vectors, 3, seed=0)(vectors, np.arange(5000))
    assert points.shape == (5000, 3)
    np.testing.assert_allclose(points.std(0, ddof=1), [1, 1 / 3, 1 / 9], rtol=0.05)
    assert PrincipalProjection.fitted(vectors[:20], 32, seed=0)(vectors, np.arange(7)).shape == (7, 2)
    with pytest.raises(InputError, match="not finite"):
        PrincipalProjection.fitted(vectors, 3, seed=0)(np.full((2, 4), np.inf), np.arange(2))
