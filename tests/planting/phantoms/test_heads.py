import pickle
import time

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest, norm, truncnorm
from sklearn.linear_model import LogisticRegression, Ridge

from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.artifacts.artifact import VISIBLE
from shortcutscope.planting.phantoms import heads, radiographs
from shortcutscope.planting.phantoms.heads import HeadRecipe, bias_mask, counterfactual
from shortcutscope.planting.planting import clean_twin, plant


@pytest.fixture(scope="module")
def slices():
    return heads(2000, HeadRecipe(dims=2, size=28, seed=3))


@pytest.fixture(scope="module")
def volumes():
    return heads(60, HeadRecipe(seed=2))


def pixels(table):
    return np.stack([table.image(i)[0].numpy() for i in range(len(table))])


def test_table_has_the_promised_roles(volumes):
    assert volumes.image(0).shape == (1, 32, 32, 32)
    assert volumes.value_range == (0.0, 1.0)
    assert volumes.metadata == ["subject", "disease", "bias_latent", "bias"]
    assert volumes.classes == ("healthy", "diseased")
    assert volumes.frame["label"].value_counts().to_dict() == {0: 30, 1: 30}
    assert volumes.frame["split"].value_counts().to_dict() == pytest.approx(
        {"train": 30, "val": 15, "test": 15}, abs=2
    )
    assert volumes.verify(progress=False).skipped == ()
    inputs = torch.stack([volumes[i][0] for i in range(60)])
    assert abs(inputs.mean()) < 0.2
    assert abs(inputs.std() - 1) < 0.2


def test_effects_follow_their_laws(slices):
    frame = slices.frame
    assert kstest(frame["subject"], truncnorm(-3.5, 3.5).cdf).pvalue > 0.05
    for label in (0, 1):
        own = frame[frame["label"] == label]
        assert kstest(own["subject"], truncnorm(-3.5, 3.5).cdf).pvalue > 0.05
        assert kstest(own["disease"], norm(2 * label - 1, 1).cdf).pvalue > 0.05
    biased = frame["bias"] == 1
    assert kstest(frame["bias_latent"][biased], norm(2, 1).cdf).pvalue > 0.01
    assert (frame["bias_latent"][~biased] == 0).all()


def test_the_disease_effect_allows_the_stated_accuracy(slices):
    """Phi(1) = .841, by the threshold at 0 and by a classifier of the effect."""
    effect, label = slices.frame["disease"].to_numpy(), slices.frame["label"].to_numpy()
    assert ((effect > 0) == label).mean() == pytest.approx(norm.cdf(1), abs=0.01)
    model = LogisticRegression().fit(effect[:1000, None], label[:1000])
    assert model.score(effect[1000:, None], label[1000:]) == pytest.approx(norm.cdf(1), abs=0.03)


@pytest.mark.parametrize("p", [0.7, 0.5, 1.0])
def test_disease_given_bias_is_as_asked(p):
    frame = heads(400, HeadRecipe(dims=2, size=24, seed=1), p_disease_given_bias=p).frame
    assert frame["label"][frame["bias"] == 1].mean() == pytest.approx(p, abs=0.01)
    assert frame["label"][frame["bias"] == 0].mean() == pytest.approx(1 - p, abs=0.01)
    for split in ("train", "val", "test"):
        own = frame[(frame["split"] == split) & (frame["bias"] == 1)]
        assert own["label"].mean() == pytest.approx(p, abs=0.03)


def test_subjects_are_stratified_across_class_bias_and_split(slices):
    frame = slices.frame
    s = np.minimum((truncnorm.cdf(frame["subject"], -3.5, 3.5) * 10).astype(int), 9)
    d = np.minimum((norm.cdf(frame["disease"] - (2 * frame["label"] - 1)) * 10).astype(int), 9)
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    for label in (0, 1):
        own = (frame["label"] == label).to_numpy()
        sizes = np.histogram2d(s[own], d[own], bins=(np.arange(11), np.arange(11)))[0]
        assert (sizes == 10).all()
        for bias in (0, 1):
            carrying = 0.7 if bias == label else 0.3
            for split, share in shares.items():
                part = own & (frame["bias"] == bias).to_numpy() & (frame["split"] == split).to_numpy()
                counts = np.histogram2d(s[part], d[part], bins=(np.arange(11), np.arange(11)))[0]
                assert np.abs(counts - 10 * carrying * share).max() < 2
    train, test = (frame[frame["split"] == name] for name in ("train", "test"))
    for column in ("subject", "disease"):
        assert ks_2samp(train[column], test[column]).pvalue > 0.5
        biased = frame["bias"] == 1
        same_class = frame["label"] == 1
        assert ks_2samp(frame[column][biased & same_class], frame[column][~biased & same_class]).pvalue > 0.5


@pytest.mark.parametrize("options", [{"dims": 3}, {"dims": 2, "size": 48}, {"bias": "intensity"}])
def test_pairs_differ_in_the_bias_alone(options):
    table = heads(20, HeadRecipe(seed=6, **options))
    without, with_bias = counterfactual(table, False), counterfactual(table, True)
    carries = table.frame["bias"].to_numpy() == 1
    own, clean, full = pixels(table), pixels(without), pixels(with_bias)
    np.testing.assert_array_equal(own[carries], full[carries])
    np.testing.assert_array_equal(own[~carries], clean[~carries])
    for made, value in ((without, 0), (with_bias, 1)):
        assert (made.frame["bias"] == value).all()
        fixed = ["sample_id", "label", "split", "subject", "disease"]
        assert made.frame[fixed].equals(table.frame[fixed])
        np.testing.assert_array_equal(pixels(counterfactual(made, True)), full)
        np.testing.assert_array_equal(pixels(counterfactual(made, False)), clean)
    assert (without.frame["bias_latent"] == 0).all()
    np.testing.assert_allclose(with_bias.frame["bias_latent"][carries], table.frame["bias_latent"][carries])
    for i in range(20):
        changed = np.abs(full[i] - clean[i]) > VISIBLE
        np.testing.assert_array_equal(bias_mask(with_bias, i).numpy(), changed)
        assert not bias_mask(without, i).any()
        assert bias_mask(table, i).any() == bool(carries[i])


def test_morphology_is_local_and_apart_from_the_disease(volumes):
    full = counterfactual(volumes, True)
    for i in range(20):
        changed = bias_mask(full, i)
        assert 0.001 < changed.float().mean() < 0.08
        assert not (changed & full.mask(i)).any()


def test_intensity_follows_its_formula():
    table = heads(20, HeadRecipe(bias="intensity", dims=2, seed=4))
    clean, full = pixels(counterfactual(table, False)), pixels(counterfactual(table, True))
    np.testing.assert_allclose(full, np.clip(1.2 * (clean - 0.5) + 0.5, 0, 1), atol=1e-6)
    assert bias_mask(counterfactual(table, True), 0).float().mean() > 0.8


def test_a_bias_of_none_is_a_column_without_a_trace():
    table = heads(40, HeadRecipe(bias="none", dims=2, seed=4))
    assert 0 < table.frame["bias"].mean() < 1
    assert (table.frame["bias_latent"] == 0).all()
    np.testing.assert_array_equal(pixels(counterfactual(table, True)), pixels(counterfactual(table, False)))
    assert not bias_mask(counterfactual(table, True), 0).any()


def test_the_disease_effect_can_be_read_from_the_image_and_only_so_well(slices):
    """A ridge regression reads the effect, and tells the classes apart as well as the effect allows."""
    clean = counterfactual(slices, False)
    features = pixels(clean).reshape(2000, -1)
    effect, label = slices.frame["disease"].to_numpy(), slices.frame["label"].to_numpy()
    model = Ridge(alpha=1.0).fit(features[:1400], effect[:1400])
    read = model.predict(features[1400:])
    assert np.corrcoef(read, effect[1400:])[0, 1] > 0.95
    assert ((read > 0) == label[1400:]).mean() == pytest.approx(norm.cdf(1), abs=0.03)
    weight = np.abs(model.coef_).reshape(28, 28)
    everywhere = np.mean([slices.mask(i).numpy() for i in range(200)], axis=0)
    assert weight[everywhere > 0.9].mean() > 3 * weight[everywhere < 0.1].mean()


def test_the_subject_effect_changes_the_whole_head_and_the_template_is_fixed(slices):
    ordered = np.argsort(slices.frame["subject"].to_numpy())
    images = pixels(counterfactual(slices.take(np.r_[ordered[:100], ordered[-100:]]), False))
    change = np.abs(images[:100].mean(0) - images[100:].mean(0))
    assert (change > 0.03).mean() > 0.2
    other = heads(20, HeadRecipe(dims=2, size=28, seed=3, template_seed=1))
    same = heads(20, HeadRecipe(dims=2, size=28, seed=3))
    assert other.frame.equals(same.frame)
    assert not np.array_equal(pixels(other), pixels(same))


def test_seeds_subsets_and_pickles(volumes):
    again = heads(60, HeadRecipe(seed=2))
    assert again.fingerprint() == volumes.fingerprint() != heads(60, HeadRecipe(seed=1)).fingerprint()
    part = volumes.take([7, 3, 40])
    full = counterfactual(volumes, True)
    np.testing.assert_array_equal(pixels(counterfactual(part, True)), pixels(full)[[7, 3, 40]])
    copied = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(pixels(counterfactual(copied, True)), pixels(full)[[7, 3, 40]])
    assert torch.equal(bias_mask(full.take([7]), 0), bias_mask(full, 7))


def test_planted_artifacts_stay():
    planted = plant(heads(20, HeadRecipe(dims=2, seed=1)), get_artifact("tag"))
    changed = counterfactual(planted, True)
    assert changed.frame["tag"].equals(planted.frame["tag"])
    np.testing.assert_array_equal(
        pixels(clean_twin(changed)), pixels(counterfactual(clean_twin(planted), True))
    )
    assert not np.array_equal(pixels(changed), pixels(clean_twin(changed)))
    assert torch.equal(bias_mask(changed, 3), bias_mask(clean_twin(changed), 3))


def test_noise_is_optional_and_the_same_with_and_without_the_bias():
    plain = heads(20, HeadRecipe(dims=2, noise=0.0, seed=9))
    noisy = heads(20, HeadRecipe(dims=2, noise=0.05, seed=9))
    inside = np.s_[:, 12:20, 12:20]
    assert (pixels(noisy) - pixels(plain))[inside].std() == pytest.approx(0.05, rel=0.1)


def test_two_thousand_volumes_take_less_than_a_minute():
    started = time.process_time()
    heads(100)
    assert (time.process_time() - started) * 20 < 60


def test_the_global_generator_is_left_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002  (that it is not used is the point)
    heads(20, HeadRecipe(dims=2))
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("options", "recipe", "match"),
    [
        ({"n": 19}, {}, "n >= 20"),
        ({}, {"size": 23}, "size >= 24"),
        ({}, {"dims": 1}, "2 or 3 dims"),
        ({}, {"bias": "texture"}, "bias is 'texture'"),
        ({"p_disease_given_bias": 0.4}, {}, "p_disease_given_bias"),
        ({}, {"noise": -0.1}, "noise"),
        ({"splits": {"train": 0.5}}, {}, "add up to 1"),
    ],
)
def test_options_out_of_range_are_refused(options, recipe, match):
    with pytest.raises(InputError, match=match):
        heads(**{"n": 20, "recipe": HeadRecipe(**recipe), **options})


def test_other_tables_are_refused():
    for call in (lambda t: counterfactual(t, True), lambda t: bias_mask(t, 0)):
        with pytest.raises(InputError, match="no head phantoms"):
            call(radiographs(4))
