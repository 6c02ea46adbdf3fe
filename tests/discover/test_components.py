import numpy as np
import pytest

from shortcutscope.discover.components import class_components, independent_components, skewness
from shortcutscope.stats.metrics import within_class_auroc


def mixed(share, n=400, features=20, seed=0):
    """Two-valued and Gaussian sources, mixed at random; the first source goes with the class."""
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n)
    carriers = generator.random(2 * n) < np.where(labels == 1, 1 - share, share)
    sources = generator.standard_normal((2 * n, 8))
    sources[:, 0] = 3 * carriers + 0.4 * sources[:, 0]
    sources[:, 1] += labels  # a feature of the task
    mixing = generator.standard_normal((8, features))
    return sources @ mixing + 0.01 * generator.standard_normal((2 * n, features)), carriers, labels


def best(components, carriers, labels):
    aurocs = [
        abs(within_class_auroc(carriers.astype(float), column, labels) - 0.5) + 0.5
        for _, scores in components
        for column in scores.T
    ]
    return max(aurocs)


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_a_two_valued_cause_stands_alone_at_any_rarity(share):
    features, carriers, labels = mixed(share)
    assert best(class_components(features, labels, 8), carriers, labels) > 0.98


def test_skewness_finds_what_heavy_tails_cannot():
    """At a share of .211 a two-valued source has the kurtosis of a Gaussian."""
    found = {"class": [], "all": []}
    for seed in range(4):
        features, carriers, labels = mixed(0.211, seed=seed)
        for name, scores in class_components(features, labels, 8, seed=seed):
            found[name[:5] if name.startswith("class") else "all"].append(
                best([(name, scores)], carriers, labels)
            )
    assert np.mean(found["class"]) > np.mean(found["all"])


def test_components_are_deterministic_and_as_many_as_the_samples_have_dimensions():
    features, _, labels = mixed(0.1, features=30)
    features[:, 5] = 7.0  # a dead feature
    features[:, 6] = features[:, 7]
    one, two = (list(class_components(features, labels, 16, seed=3)) for _ in range(2))
    for (name, a), (_, b) in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.shape == (len(features), 16), name
    few = independent_components(features[:, :3], features[:, :3], 16)
    assert few.shape == (len(features), 3)


def test_constant_features_have_no_component():
    assert independent_components(np.ones((40, 3)), np.ones((40, 3)), 4).shape == (40, 0)


def test_the_contrast_is_the_square_and_its_mean_derivative():
    values = np.array([[1.0, -2.0, 3.0]])
    contrast, derivative = skewness(values)
    np.testing.assert_allclose(contrast, [[1, 4, 9]])
    np.testing.assert_allclose(derivative, [(2 - 4 + 6) / 3])
