import time

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import chi2_contingency
from sklearn.metrics import roc_auc_score

from shortcutscope.discover.metadata import screen_metadata
from shortcutscope.errors import InputError
from shortcutscope.planting.phantoms import breast_mri
from shortcutscope.planting.phantoms.breast_metadata import SCANNER, patient_metadata


@pytest.fixture(scope="module")
def table():
    return breast_mri(n_patients=70, size=48, seed=4)


def pixels(table):
    return np.stack([table.image(i)[0].numpy() for i in range(len(table))])


def test_table_has_the_promised_roles(table):
    assert len(table) == 70 * 12
    assert table.image(0).shape == (1, 48, 48)
    assert table.has_groups
    assert table.frame["split"].drop_duplicates().tolist() == ["train", "val", "test"]
    patients = table.frame.groupby("split")["group"].nunique().to_dict()
    assert patients == {"train": 40, "val": 15, "test": 15}
    table.assert_groups_apart()
    assert table.verify(progress=False).skipped == ()
    inputs = torch.stack([table[i][0] for i in range(len(table))])
    assert abs(inputs.mean()) < 0.6
    assert 0.5 < inputs.std() < 1.5


def test_the_full_set_has_the_published_splits():
    frame = breast_mri(slices=2, size=32).frame
    assert frame.groupby("split")["group"].nunique().to_dict() == {"train": 400, "val": 150, "test": 150}
    assert frame.groupby("split")["label"].mean().to_dict() == {"train": 0.5, "val": 0.5, "test": 0.5}


def test_training_patients_are_of_one_class_and_test_patients_of_both(table):
    classes = table.frame.groupby(["split", "group"])["label"].mean()
    assert set(classes["train"]) == set(classes["val"]) == {0.0, 1.0}
    assert set(classes["test"]) == {0.5}


def test_at_a_correlation_of_one_no_training_sample_conflicts(table):
    seen = table.frame[table.frame["split"] != "test"]
    assert (seen["field_strength"].map({1.5: 1, 3.0: 0}) == seen["label"]).all()
    test = table.frame[table.frame["split"] == "test"]
    assert test.groupby("field_strength")["label"].mean().to_dict() == {1.5: 0.5, 3.0: 0.5}
    assert (test.groupby("group")["field_strength"].nunique() == 1).all()


@pytest.mark.parametrize("feature", ["field_strength", "orientation"])
def test_the_correlation_is_as_asked_and_the_other_feature_is_unrelated(feature):
    frame = breast_mri(n_patients=140, slices=2, size=32, feature=feature, correlation=0.8).frame
    train = frame[frame["split"] == "train"].assign(weak=lambda f: (f["field_strength"] == 1.5).astype(int))
    column = "weak" if feature == "field_strength" else "vertical_flip"
    shares = train.groupby("label")[column].mean().to_dict()
    assert shares == pytest.approx({0: 0.2, 1: 0.8}, abs=0.02)
    if feature == "orientation":
        assert train.groupby(["label", "vertical_flip"])["weak"].mean().to_numpy() == pytest.approx(
            0.5, abs=0.1
        )
        test = frame[frame["split"] == "test"]
        assert test.groupby("vertical_flip")["label"].mean().to_dict() == {0: 0.5, 1: 0.5}
    else:
        assert "vertical_flip" not in frame


def test_without_a_feature_the_field_strength_is_unrelated():
    frame = breast_mri(n_patients=140, slices=2, size=32, feature="none").frame
    assert frame.groupby(["split", "field_strength"])["label"].mean().between(0.45, 0.55).all()


def test_masks_mark_what_the_tumours_brighten_and_nothing_without_one():
    """Compared with the difference of two renderings that share everything but the tumours' contrast."""
    options = {"n_patients": 28, "feature": "none", "seed": 1}
    shown, hidden = (breast_mri(difficulty=d, **options) for d in (1.0, 1e9))
    change = pixels(shown) - pixels(hidden)
    for i in range(len(shown)):
        mask = shown.mask(i).numpy()
        assert mask.any() == bool(shown.frame["label"][i])
        if mask.any():
            assert change[i][mask].mean() > 0.05
            assert np.abs(change[i][~mask]).mean() < 0.1 * change[i][mask].mean()
        else:
            assert not change[i].any()


def test_the_outline_of_a_tumour_is_irregular(table):
    """A disc is filled in the same measure as its own area; these fill their circumscribed one less."""
    filled = []
    for i in np.flatnonzero(table.frame["label"]):
        at = np.argwhere(table.mask(i).numpy())
        if len(at) > 20:
            reach = np.linalg.norm(at - at.mean(0), axis=1).max() + 0.5
            filled.append(len(at) / (np.pi * reach**2))
    assert np.mean(filled) < 0.8


def test_the_field_strength_acts_on_noise_contrast_and_shading():
    table = breast_mri(n_patients=56, feature="none", difficulty=1e9, seed=2)
    images, weak = pixels(table), (table.frame["field_strength"] == 1.5).to_numpy()
    air = images[:, :8].mean((1, 2))
    assert roc_auc_score(weak, air) > 0.99
    assert air[weak].mean() > 1.5 * air[~weak].mean()
    tissue = images[:, 30:44, 12:52].mean((1, 2))
    assert tissue[~weak].mean() > 1.1 * tissue[weak].mean()
    wall = images[:, 46:52]
    slope = wall[:, :, 44:].mean((1, 2)) / wall[:, :, :20].mean((1, 2))
    assert slope[~weak].mean() > slope[weak].mean() + 0.1


def test_orientation_turns_images_and_masks_upside_down():
    table = breast_mri(n_patients=28, feature="orientation", seed=3)
    flipped = (table.frame["vertical_flip"] == 1).to_numpy()
    images = pixels(table)
    # Air lies in front of the breasts: above where a slice is upright.
    assert roc_auc_score(flipped, images[:, :8].mean((1, 2)) - images[:, -20:-8].mean((1, 2))) > 0.99
    other = breast_mri(n_patients=28, feature="orientation", correlation=0.5, seed=3)
    kept = ["label", "field_strength"]
    turned = (table.frame[kept] == other.frame[kept]).all(axis=1) & (other.frame["vertical_flip"] != flipped)
    assert turned.sum() >= 12
    for i in np.flatnonzero(turned):
        assert torch.equal(table.image(i), other.image(i).flip(1))
        assert torch.equal(table.mask(i), other.mask(i).flip(0))


def test_slices_of_a_patient_are_alike_but_not_the_same(table):
    images = pixels(table).reshape(70, 12, -1)
    same = [np.corrcoef(images[p, 4], images[p, 5])[0, 1] for p in range(70)]
    other = [np.corrcoef(images[p, 4], images[(p + 1) % 70, 5])[0, 1] for p in range(70)]
    assert np.mean(same) > np.mean(other) + 0.05
    assert max(same) < 0.999
    assert (np.diff(table.frame["slice_position"].to_numpy().reshape(70, 12)) >= 0).all()


def test_more_than_a_hundred_columns_of_several_kinds(table):
    assert len(table.metadata) > 100
    frame = table.frame
    assert (frame.groupby("group")[table.metadata].nunique().drop(columns="slice_position") <= 1).all(
        axis=None
    )
    kinds = [pd.api.types.is_numeric_dtype(frame[c]) for c in table.metadata]
    assert 20 < np.sum(kinds) < len(kinds) - 20
    assert frame[table.metadata].isna().any().sum() >= 5
    assert (frame[table.metadata].nunique() > 1).all()
    pd.to_datetime(frame["study_date"], format="%Y-%m-%d")


def test_scanner_columns_tell_the_field_strength_and_no_others_do():
    field = np.where(np.arange(3000) % 2, 1.5, 3.0)
    frame = patient_metadata(field, seed=5)
    told = {}
    for column in frame.columns.drop(["field_strength", "study_date"]):
        values = frame[column]
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 12:
            there = values.notna()
            told[column] = abs(roc_auc_score(field[there] > 2, values[there]) - 0.5) * 2
        else:
            counts = pd.crosstab(field, values.astype(str))
            told[column] = np.sqrt(chi2_contingency(counts).statistic / len(field))
    told = pd.Series(told)
    assert (told[list(SCANNER)] > 0.3).all()
    assert told.drop(list(SCANNER)).max() < 0.12


def test_a_screen_finds_the_field_strength_and_its_kin():
    table = breast_mri(n_patients=300, slices=2, size=32, seed=1).where(split=["train", "val"])
    screen = screen_metadata(table.frame, seed=0, classify=False, n_permutations=300)
    found = screen.columns["column"][screen.columns["q"] < 0.1].tolist()
    assert {"field_strength", "imaging_frequency"} <= set(found[:3])
    assert len(set(found) & set(SCANNER)) >= 6
    assert len(set(found) - {"field_strength", *SCANNER}) <= 2


def test_seeds(table):
    again = breast_mri(n_patients=70, size=48, seed=4)
    assert again.fingerprint() == table.fingerprint()
    assert again.frame.equals(table.frame)
    assert breast_mri(n_patients=70, size=48, seed=5).fingerprint() != table.fingerprint()


def test_a_thousand_slices_take_seconds():
    started = time.process_time()
    breast_mri(n_patients=50, slices=10)
    assert time.process_time() - started < 10


def test_the_global_generator_is_left_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002  (that it is not used is the point)
    breast_mri(n_patients=28, slices=2, size=32)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_patients": 27}, "n_patients >= 28"),
        ({"slices": 3}, "even number of slices"),
        ({"size": 31}, "size >= 32"),
        ({"feature": "menopause"}, "feature is 'menopause'"),
        ({"correlation": 0.4}, "correlation"),
        ({"difficulty": 0.0}, "difficulty"),
    ],
)
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        breast_mri(**options)
