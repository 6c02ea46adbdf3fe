"""A curve over the correlation of the user's own training samples."""

from __future__ import annotations

import numpy as np
import pytest

import shortcutscope as ss
from shortcutscope.compare.amplification import resampled_rows
from shortcutscope.errors import InputError
from shortcutscope.facade import Amplification, amplification_curve
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.planting.thin import thin_resnet18

TAG = ss.phantoms.get_artifact("tag")
QUICK = ss.Training(steps=2, batch_size=16, augmentation="none", precision="fp32")
COUNTED = {"statistics": ss.Statistics(50, 40), "running": ss.Running(progress=False)}


@pytest.fixture(scope="module")
def tables():
    pool = ss.phantoms.radiographs(700, size=32, seed=77, patients=False)
    half = {0: 0.5, 1: 0.5}
    train = ss.phantoms.plant(pool.take(np.arange(400)), TAG, prevalence=half, seed=1)
    test = ss.phantoms.plant(pool.take(np.arange(400, 700)), TAG, prevalence=half, seed=2)
    return train, test


def test_every_table_has_the_correlation_and_all_have_one_size():
    labels, values = np.repeat([0, 1], [120, 60]), np.tile([0.0, 1.0, np.nan], 60)
    sizes, kept = set(), []
    for c in (0.5, 0.8, 1.0):
        rows = resampled_rows(labels, values, c, 0.3, 1, False, 0)
        assert len(set(rows)) == len(rows)
        sizes.add((int((labels[rows] == 0).sum()), int((labels[rows] == 1).sum())))
        assert values[rows][labels[rows] == 1].mean() == pytest.approx(c, abs=0.03)
        assert values[rows][labels[rows] == 0].mean() == pytest.approx(1 - c, abs=0.03)
        kept.append(set(rows))
    assert sizes == {(36, 18)}
    assert len(kept[1] & kept[2]) > 0.7 * len(kept[1])
    against = resampled_rows(labels, values, 0.8, 0.3, 1, True, 0)
    assert values[against][labels[against] == 1].mean() == pytest.approx(0.2, abs=0.05)


def test_a_curve_is_measured_kept_and_drawn(tables, tmp_path):
    train, test = tables
    model = thin_resnet18(width=4, seed=0).eval()
    before = model_fingerprint(model)
    curve = amplification_curve(
        model, train, test, concept="tag", correlations=(0.5, 1.0), training=QUICK, out=tmp_path, **COUNTED
    )
    assert model_fingerprint(model) == before
    assert sorted(curve.frame["correlation"].unique()) == [0.5, 1.0]
    accuracy = curve.frame[curve.frame["metric"] == "conflicting_accuracy"]
    assert accuracy["value"].between(0, 1).all()
    assert (accuracy["low"] <= accuracy["high"]).all()
    groups = curve.settings["groups"]["1"]
    assert sorted(groups.values())[:2] == [0, 0]
    assert sum(groups.values()) == curve.settings["n_train"]
    again = Amplification.open(tmp_path)
    assert again.frame.equals(curve.frame)
    assert repr(again) == repr(curve)
    axes = curve.plot().axes[0]
    assert [len(line.get_xdata()) for line in axes.lines] == [2, 2]
    assert axes.get_xlabel() == "training samples in which tag agrees with the label (%)"


def test_a_group_with_too_few_samples_is_refused_with_the_numbers(tables):
    train, test = tables
    labels, tags = (train.frame[c].to_numpy() for c in ("label", "tag"))
    conflicting = np.flatnonzero((labels == 1) & (tags == 0))
    few = train.take(np.setdiff1d(np.arange(len(train)), conflicting[6:]))
    with pytest.raises(
        InputError, match=r"could have 12 samples of class 1, and 20 .* 6 of class 1 without tag"
    ):
        amplification_curve(thin_resnet18(width=4), few, test, concept="tag", training=QUICK, **COUNTED)
    with pytest.raises(InputError, match=r"or correlations from 0\.7 on, for which there are enough"):
        amplification_curve(thin_resnet18(width=4), few, test, concept="tag", training=QUICK, **COUNTED)


@pytest.mark.parametrize("correlations", [(), (0.4, 1.0), (0.5, 1.2), (float("nan"),)])
def test_correlations_outside_of_a_half_to_one_are_refused(correlations, tables):
    with pytest.raises(InputError, match=r"give some shares from 0\.5 to 1"):
        amplification_curve(
            thin_resnet18(width=4), *tables, concept="tag", correlations=correlations, **COUNTED
        )


def test_training_samples_that_do_not_say_are_refused(tables):
    train, test = tables
    concept = ss.Concept("tag", test.frame["tag"].to_numpy(float), "user", test.frame["sample_id"].to_numpy())
    with pytest.raises(InputError, match="do not say which of them carry 'tag'"):
        amplification_curve(thin_resnet18(width=4), train, test, concept=concept, training=QUICK, **COUNTED)


@pytest.mark.slow
def test_the_accuracy_against_the_label_falls_as_the_correlation_grows(tables):
    train, test = tables
    training = ss.Retraining(ss.Training(epochs=12, lr=3e-3, batch_size=32), start="fresh")
    curve = amplification_curve(
        thin_resnet18(width=8, seed=9),
        train,
        test,
        concept="tag",
        correlations=(0.5, 1.0),
        training=training,
        **COUNTED,
    )
    accuracy = curve.frame[curve.frame["metric"] == "conflicting_accuracy"].set_index("correlation")["value"]
    assert accuracy[1.0] < accuracy[0.5] - 0.2
