"""The mixture of two groups: it finds them, and stays calm where there is only one."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from shortcutscope.probes.mixture import Mixture, fit_mixture


def drawn(shares, n=3000, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, len(shares), n)
    truth = rng.random(n) < np.array(shares)[codes]
    return np.where(truth, rng.normal(4, 1.5, n), rng.normal(0, 1, n)), codes, truth


def test_one_class_is_scikit_learns_mixture():
    scores, codes, _ = drawn([0.3])
    ours = fit_mixture(scores, codes, (0.0, 5.0), n_iterations=2000)
    theirs = GaussianMixture(2, means_init=[[0.0], [5.0]], tol=1e-9, max_iter=2000).fit(scores[:, None])
    np.testing.assert_allclose(ours.means, theirs.means_[:, 0], atol=0.02)
    np.testing.assert_allclose(ours.spreads**2, theirs.covariances_[:, 0, 0], rtol=0.03)
    assert ours.shares[0] == pytest.approx(theirs.weights_[1], abs=0.01)
    inside = (scores > ours.means[0]) & (scores < ours.means[1])
    expected = theirs.predict_proba(scores[inside, None])[:, 1]
    np.testing.assert_allclose(ours.posterior(scores[inside]), expected, atol=0.03)


def step_by_step(scores, codes, start, anchors, n_iterations=200):
    """Expectation maximisation as it is written down, sample by sample."""
    free, floor = np.isnan(anchors), 0.05 * scores.std() + 1e-12
    member = np.where(free, scores > sum(start) / 2, anchors).astype(float)
    means = None
    for _ in range(n_iterations + 1):
        before, weights = means, np.stack([1 - member, member])
        totals = np.maximum(weights.sum(1), 1e-9)
        means = (weights * scores).sum(1) / totals
        spreads = np.sqrt((weights * (scores - means[:, None]) ** 2).sum(1) / totals).clip(floor)
        means = np.full(2, means.mean()) if means[0] > means[1] else means
        shares = [
            (member[free & (codes == c)].sum() + 1) / ((free & (codes == c)).sum() + 2)
            for c in range(codes.max() + 1)
        ]
        mixture = Mixture(means, spreads, np.array(shares))
        if before is not None and np.abs(means - before).max() < 1e-6 * floor:
            break
        member = np.where(free, mixture.responsibility(scores, codes), anchors)
    return mixture


@pytest.mark.parametrize("seed", range(12))
def test_sums_give_what_samples_one_by_one_give(seed):
    rng = np.random.default_rng(seed)
    scores, codes, truth = drawn(rng.random(rng.integers(1, 4)), n=int(rng.integers(60, 900)), seed=seed)
    if seed % 3 == 0:
        scores = np.round(scores, 1)
    scores = scores * 10.0 ** rng.uniform(-4, 4) + 50 * (seed % 2)
    anchors = np.full(len(scores), np.nan)
    if seed % 4 == 0:
        anchors[:10] = truth[:10]
    start = tuple(np.quantile(scores, [0.2, 0.8]))
    fast, slow = fit_mixture(scores, codes, start, anchors), step_by_step(scores, codes, start, anchors)
    for name in ("means", "spreads"):
        ours, theirs = getattr(fast, name), getattr(slow, name)
        np.testing.assert_allclose(ours / scores.std(), theirs / scores.std(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fast.shares, slow.shares, atol=1e-6)


def test_each_class_has_its_own_share():
    scores, codes, truth = drawn([0.05, 0.95, 0.0])
    mixture = fit_mixture(scores, codes, (0.0, 4.0))
    np.testing.assert_allclose(mixture.shares, [0.05, 0.95, 0.0], atol=0.03)
    posterior = mixture.posterior(scores)
    assert truth[posterior > 0.9].mean() > 0.9
    assert truth[posterior < 0.1].mean() < 0.05


def test_samples_that_contradict_their_label_keep_their_value():
    scores, codes, truth = drawn([0.05, 0.95])
    mixture = fit_mixture(scores, codes, (0.0, 4.0))
    posterior = mixture.posterior(scores)
    conflicting = truth != codes
    called = posterior > 0.5
    assert (called == truth)[conflicting].mean() > 0.9
    by_class = mixture.responsibility(scores, codes) > 0.5
    assert (called == truth)[conflicting].mean() > (by_class == truth)[conflicting].mean() + 0.1


def test_known_samples_stay_in_their_group():
    scores, codes, truth = drawn([0.02], n=500)
    anchors = np.full(500, np.nan)
    anchors[np.flatnonzero(truth)[:5]] = 1
    mixture = fit_mixture(scores, codes, (0.0, 4.0), anchors)
    assert mixture.means[1] > 2.5
    assert mixture.separation > 2


def test_a_score_far_below_is_no_carrier_though_the_carriers_spread_wider():
    scores, codes, _ = drawn([0.3])
    mixture = fit_mixture(scores, codes, (0.0, 4.0))
    assert mixture.spreads[1] > mixture.spreads[0]
    far = mixture.posterior(np.array([-50.0, 50.0]))
    assert far[0] < 0.1
    assert far[1] > 0.9
