import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score
from torch import nn

from shortcutscope.discover.prototypes import fit_prototypes, prototypes, rare_members
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.scan.scanner import scan


def mixture(sizes=(300, 60, 30), channels=60, distance=10.0, scale=1e-3, seed=0):
    """Relevances of strategies with channels of their own, and which strategy each sample follows."""
    generator = np.random.default_rng(seed)
    members = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = np.zeros((len(sizes), channels))
    for k in range(len(sizes)):
        centres[k, 3 * k : 3 * k + 3] = distance
    vectors = centres[members] + generator.standard_normal((len(members), channels))
    return (scale * vectors).astype(np.float32), members


@pytest.mark.parametrize("scale", [1e-4, 1.0, 100.0])
def test_strategies_are_counted_and_found_whatever_the_unit(scale):
    vectors, members = mixture(scale=scale)
    fitted = fit_prototypes(vectors)
    assert fitted.count == 3
    assert adjusted_rand_score(members, fitted.membership) > 0.99
    np.testing.assert_allclose(fitted.weights, [300 / 390, 60 / 390, 30 / 390], atol=0.01)
    (best,) = fitted.bic[fitted.bic["chosen"]].itertuples()
    assert (best.components, best.form) == (3, fitted.form)


def test_one_strategy_is_one_component():
    assert fit_prototypes(mixture((200,))[0]).count == 1


@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_the_outlier_score_is_that_of_scipy(form):
    vectors, _ = mixture((80, 20), channels=6)
    fitted = fit_prototypes(vectors, components=2, forms=(form,))
    directions = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)[2]
    points = (vectors - vectors.mean(0)) @ directions.T
    points /= points[:, 0].std(ddof=1)
    points *= np.sign((points * fitted.projection(vectors, np.arange(100))).sum(0))
    covariances = {
        "full": lambda c, k: c[k],
        "tied": lambda c, k: c,
        "diag": lambda c, k: np.diag(c[k]),
        "spherical": lambda c, k: c[k] * np.eye(6),
    }
    logs = [
        np.log(fitted.weights[k])
        + multivariate_normal(
            fitted.mixture.means_[k], covariances[form](fitted.mixture.covariances_, k)
        ).logpdf(points)
        for k in range(2)
    ]
    np.testing.assert_allclose(fitted.outlier, -logsumexp(logs, axis=0), rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(fitted.membership, np.argmax(logs, axis=0))


def test_prototypes_are_the_members_nearest_to_the_mean():
    vectors, _ = mixture(channels=20)
    fitted = fit_prototypes(vectors, nearest=4)
    for k in range(fitted.count):
        members = np.flatnonzero(fitted.membership == k)
        # All channels are kept by as many principal components, which do not change distances.
        distance = np.linalg.norm(vectors[members] - vectors[members].mean(0), axis=1)
        assert set(fitted.prototypes[k]) <= set(members[np.argsort(distance)[:8]])
        np.testing.assert_allclose(fitted.centres[k], vectors[members].mean(0), atol=1e-7)
        np.testing.assert_allclose(fitted.spreads[k], vectors[members].std(0), atol=1e-7)


def test_what_differs_is_the_channel_that_was_changed():
    vectors, _ = mixture()
    vectors[7, 41] += 0.02
    fitted = fit_prototypes(vectors)
    frame = fitted.difference(7, most=3)
    assert frame["channel"].iloc[0] == 41
    assert len(frame) == 3
    first = frame.iloc[0]
    component = fitted.membership[7]
    assert first["relevance"] == pytest.approx(vectors[7, 41])
    assert first["prototype"] == pytest.approx(fitted.centres[component, 41])
    expected = (first["relevance"] - first["prototype"]) / fitted.spreads[component, 41]
    assert first["z"] == pytest.approx(expected)
    assert first["z"] > 5
    assert fitted.difference(0)["z"].abs().is_monotonic_decreasing


def test_a_planted_outlier_has_the_greatest_score():
    vectors, _ = mixture()
    vectors[11] -= 0.02
    fitted = fit_prototypes(vectors)
    assert fitted.outlier.argmax() == 11
    assert fitted.percentile[11] == 100
    assert fitted.to_frame()["sample_id"].iloc[0] == 11
    np.testing.assert_allclose(fitted.percentile[[11, fitted.outlier.argmin()]], [100, 100 / 390])


def test_rare_members_are_the_small_components_and_the_far_outliers():
    vectors, members = mixture((300, 30))
    far = np.flatnonzero(members == 0)[:10]
    vectors[far] += 1e-3 * np.random.default_rng(1).standard_normal((10, 60)) * 3
    sets = list(rare_members(fit_prototypes(vectors)))
    assert any(set(np.flatnonzero(found)) == set(np.flatnonzero(members == 1)) for found in sets)
    assert set(far) <= set(np.flatnonzero(sets[-1]))
    assert all(8 <= found.sum() <= 0.4 * 330 for found in sets)


def test_most_samples_are_scored_without_being_fitted_and_further_ones_can_be():
    vectors, members = mixture((900, 300))
    fitted = fit_prototypes(vectors, most_fitted=300)
    assert fitted.n_fitted == 300
    assert "300 of 1200" in fitted.note
    assert adjusted_rand_score(members, fitted.membership) > 0.99
    component, outlier = fitted.assess(vectors[:50])
    np.testing.assert_array_equal(component, fitted.membership[:50])
    np.testing.assert_allclose(outlier, fitted.outlier[:50], rtol=1e-5)  # projected in float32


def test_rows_choose_a_class_and_the_seed_decides():
    vectors, members = mixture()
    rows = np.flatnonzero(members != 2)
    chosen, copied = fit_prototypes(vectors, rows=rows, seed=4), fit_prototypes(vectors[rows], seed=4)
    np.testing.assert_array_equal(chosen.outlier, copied.outlier)
    np.testing.assert_array_equal(chosen.prototypes, copied.prototypes)
    assert chosen.difference(5).equals(copied.difference(5))


def test_more_channels_than_samples_and_samples_that_are_all_the_same():
    vectors, members = mixture((30, 30), channels=500, distance=20)
    assert adjusted_rand_score(members, fit_prototypes(vectors).membership) == 1
    same = fit_prototypes(np.ones((40, 5)))
    assert same.count == 1
    assert np.isfinite(same.outlier).all()
    assert (same.difference(3)["z"] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": np.zeros((10, 4))}, "at least 20"),
        ({"vectors": np.zeros(30)}, r"\(n, C\)"),
        ({"vectors": np.full((30, 4), np.nan)}, "not finite"),
        ({"components": 0}, "0 components"),
        ({"components": 50}, "50 components"),
        ({"forms": ("round",)}, "allowed are 'full'"),
    ],
)
def test_bad_input_is_refused(change, message):
    options = {"vectors": np.random.default_rng(0).standard_normal((30, 4))} | change
    with pytest.raises(InputError, match=message):
        fit_prototypes(options.pop("vectors"), **options)


def test_bad_samples_are_refused():
    fitted = fit_prototypes(mixture((40,))[0])
    for sample in (40, -1, "nobody"):
        with pytest.raises(InputError, match="sample"):
            fitted.difference(sample)
    with pytest.raises(InputError, match="at least 1"):
        fitted.difference(0, most=0)
    with pytest.raises(InputError, match=r"\(m, 60\)"):
        fitted.assess(np.zeros((3, 2)))
    with pytest.raises(InputError, match="not finite"):
        fitted.assess(np.full((3, 60), np.nan))


def test_prototypes_of_a_scan(noise_images, tmp_path):
    table = noise_images(n=80)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    )
    model(torch.zeros(1, 1, 32, 32))
    scanned = scan(model, table, tmp_path / "scan", running=Running(progress=False))
    layer = scanned.layers[-1]
    found = prototypes(scanned, layer)
    assert list(found) == [0, 1]
    labels = scanned.samples["label"].to_numpy()
    ids = scanned.samples["sample_id"].to_numpy()
    for label, fitted in found.items():
        assert (fitted.label, fitted.layer) == (label, layer.name)
        np.testing.assert_array_equal(fitted.sample_ids, ids[labels == label])
        sample = ids[labels == label][3]
        row = np.flatnonzero(ids == sample)[0]
        frame = fitted.difference(sample)
        np.testing.assert_allclose(
            frame["relevance"], scanned.relevance(layer)[row, frame["channel"]], rtol=1e-6
        )
    assert list(prototypes(scanned, layer.name, 1, components=1)) == [1]
    with pytest.raises(InputError, match="label=7"):
        prototypes(scanned, layer, 7)
    with pytest.raises(InputError, match="allowed are 'label'"):
        prototypes(scanned, layer, by="split")
