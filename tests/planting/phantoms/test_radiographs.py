import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from shortcutscope.errors import InputError
from shortcutscope.planting.phantoms import radiographs


@pytest.fixture(scope="module")
def table():
    return radiographs(600, seed=5)


def pixels(table):
    return np.stack([table.image(i)[0].numpy() for i in range(len(table))])


def test_table_has_the_promised_roles(table):
    assert len(table) == 600
    assert table.value_range == (0.0, 1.0)
    assert table.metadata == ["sex", "age", "room"]
    assert table.has_groups
    assert table.frame["label"].value_counts().to_dict() == {0: 300, 1: 300}
    assert table.verify(progress=False).skipped == ()


def test_images_are_in_range_and_the_transform_standardizes(table):
    images = pixels(table)
    assert images.dtype == np.float32
    assert images.shape == (600, 64, 64)
    assert 0 <= images.min() < images.max() <= 1
    inputs, label, row = table[3]
    np.testing.assert_allclose(inputs.numpy(), (table.image(3).numpy() - 0.45) / 0.25, rtol=1e-5)
    assert (label, row) == (1, 3)


def test_patients_have_one_to_three_images_of_one_label_and_one_person(table):
    by_patient = table.frame.groupby("group")
    assert by_patient.size().between(1, 3).all()
    assert by_patient.size().max() == 3
    for column in ("label", "sex", "age"):
        assert (by_patient[column].nunique() == 1).all()


def test_without_patients_every_image_is_its_own(tmp_path):
    assert radiographs(20, patients=False).frame["group"].is_unique


def test_the_first_images_do_not_depend_on_their_number(table):
    few = radiographs(33, seed=5)
    assert few.frame.equals(table.frame.iloc[:33])
    np.testing.assert_array_equal(pixels(few), pixels(table)[:33])
    assert not np.array_equal(pixels(radiographs(33, seed=6)), pixels(few))


def test_masks_mark_what_the_lesions_brighten_and_nothing_in_class_zero():
    """Compared with the difference of two renderings that share everything but the lesions' contrast."""
    shown, hidden = (radiographs(60, seed=2, noise=False, difficulty=d) for d in (1.0, 1e9))
    alone = 0
    for i in range(60):
        change = (shown.image(i) - hidden.image(i))[0].numpy()
        mask = shown.mask(i).numpy()
        assert mask.any() == bool(i % 2)
        if i % 2:
            half = change >= change.max() / 2
            assert (half & ~mask).sum() < 0.3 * mask.sum()
            if mask.sum() < 42:  # one lesion: 34 pixels; two of them may differ in height
                alone += 1
                assert (half ^ mask).sum() <= 0.2 * mask.sum()
    assert alone > 5


def test_a_lesion_is_as_wide_as_its_full_width_at_half_maximum():
    table = radiographs(200, seed=1, size=128)
    areas = np.array([table.mask(i).sum() for i in range(1, 200, 2)])
    one = np.pi * (np.sqrt(2 * np.log(2)) * 2.8 * 2) ** 2
    assert np.median(np.abs(areas[areas < 1.05 * one] / one - 1)) < 0.03
    assert areas.max() <= 2.05 * one


def test_metadata_are_unrelated_to_label_and_image(table):
    frame = radiographs(2000, seed=9, size=28, patients=False).frame
    assert chi2_contingency(np.histogram2d(frame["label"], frame["sex"] == "F", 2)[0]).pvalue > 0.001
    assert ks_2samp(frame["age"][frame["label"] == 0], frame["age"][frame["label"] == 1]).pvalue > 0.001
    assert set(frame["room"]) == {"A", "B", "C"}
    features = pixels(table)[:, ::4, ::4].reshape(600, -1)
    room = (table.frame["room"] == "A").to_numpy()
    model = LogisticRegression(C=0.01, max_iter=500).fit(features[:400], room[:400])
    assert abs(roc_auc_score(room[400:], model.decision_function(features[400:])) - 0.5) < 0.12


def test_difficulty_lowers_the_contrast_of_the_core_feature():
    def signal(difficulty):
        table = radiographs(60, seed=3, noise=False, difficulty=difficulty)
        hidden = radiographs(60, seed=3, noise=False, difficulty=1e9)
        return np.abs(pixels(table) - pixels(hidden)).max()

    assert signal(1.0) == pytest.approx(2 * signal(2.0), rel=0.05)


def test_noise_is_optional_and_of_the_stated_size():
    noisy, plain = pixels(radiographs(50, seed=4)), pixels(radiographs(50, seed=4, noise=False))
    inside = (
        slice(None),
        slice(20, 44),
        slice(20, 44),
    )  # away from the dark border, where values are clipped
    level = (noisy - plain)[inside].std(axis=(1, 2))
    assert 0.009 < level.min() < 0.013
    assert 0.018 < level.max() < 0.023


@pytest.mark.parametrize("size", [28, 100])
def test_other_sizes_show_the_same_anatomy(size):
    table = radiographs(12, size=size, noise=False, difficulty=1e9)
    images = pixels(table)
    assert images.shape == (12, size, size)
    middle = images[:, size // 2 - 2 : size // 2 + 2, size // 2 - 2 : size // 2 + 2].mean()
    corner = images[:, :3, :3].mean()
    assert middle > 3 * corner


def test_the_global_generator_is_left_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002  (that it is not used is the point)
    radiographs(4)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("options", [{"n": 1}, {"n": 4, "size": 27}, {"n": 4, "difficulty": 0.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="allowed are"):
        radiographs(**options)
