"""Phantoms with several labels: signs where the labels say, drawn alike whoever else is there."""

from __future__ import annotations

import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.planting import findings, get_artifact, plant_in
from shortcutscope.planting.phantoms.findings import FINDINGS


def test_the_first_images_do_not_depend_on_their_number():
    few, many = findings(4, size=32, seed=3), findings(9, size=32, seed=3)
    np.testing.assert_array_equal(few.label_values, many.label_values[:4])
    np.testing.assert_array_equal(few.image(3).numpy(), many.image(3).numpy())
    assert few.labels == FINDINGS
    assert not set(few.frame["sample_id"]) & set(findings(4, size=32, seed=4).frame["sample_id"])


def test_labels_are_as_frequent_and_as_alike_as_asked():
    table = findings(400, names=["a", "b", "c"], size=28, together={"b": ("a", 0.9)}, prevalence=0.3, seed=1)
    a, b, c = table.label_values.T
    assert np.mean(a) == pytest.approx(0.3, abs=0.08)
    assert np.mean(a == b) == pytest.approx(0.9, abs=0.05)
    assert abs(np.corrcoef(a, c)[0, 1]) < 0.15


def test_a_sign_is_where_its_label_says():
    loud = findings(60, names=["a", "b"], size=32, contrast={"a": 0.5, "b": 0.5}, prevalence=0.5, seed=2)
    plain = findings(60, names=["a", "b"], size=32, contrast={"a": 1e-9, "b": 1e-9}, prevalence=0.5, seed=2)
    moved = np.stack([(loud.image(k) - plain.image(k)).numpy()[0] for k in range(60)])
    without = loud.label_values.sum(1) == 0
    assert np.abs(moved[without]).max() < 1e-6
    only_a = (loud.label_values == [1, 0]).all(1)
    assert moved[only_a].mean(0).max() > 0.1
    assert moved[only_a].mean(0).min() > -0.05


def test_open_labels_are_unknown_and_their_signs_are_drawn():
    whole, some = (findings(80, size=28, open_=shares, seed=5) for shares in ((0, 0), (0.1, 0.1)))
    known = np.isfinite(some.label_values)
    assert known.mean() == pytest.approx(0.8, abs=0.05)
    np.testing.assert_array_equal(some.label_values[known], whole.label_values[known])
    np.testing.assert_array_equal(some.image(7).numpy(), whole.image(7).numpy())
    assert any("uncertain" in note for note in some.label_notes)


def test_artifacts_are_planted_in_given_samples():
    table = findings(6, size=32, seed=0)
    planted = plant_in(table, get_artifact("tag"), [1, 0, 0, 1, 0, 0])
    assert planted.frame["tag"].tolist() == [1, 0, 0, 1, 0, 0]
    changed = [bool((planted.image(k) != table.image(k)).any()) for k in range(6)]
    assert changed == [True, False, False, True, False, False]


@pytest.mark.parametrize(
    "options", [{"names": list("abcdefghijklmnopq")}, {"together": {"x": ("Mass", 0.9)}}, {"prevalence": 2}]
)
def test_impossible_findings_are_refused(options):
    with pytest.raises(InputError):
        findings(4, size=28, **options)
