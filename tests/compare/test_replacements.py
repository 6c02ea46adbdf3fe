"""A student that gives one shortcut up for another is found out."""

from __future__ import annotations

import numpy as np
import pytest

import shortcutscope as ss
from shortcutscope.compare.replacements import Replacement, ReplacementSearch
from shortcutscope.debias.training.classifier import Optimizing, train_classifier
from shortcutscope.facade import Comparison, compare
from shortcutscope.planting.thin import thin_resnet18

TAG, RULER = (ss.phantoms.get_artifact(name) for name in ("tag", "ruler"))
COUNTED = {"statistics": ss.Statistics(50, 200), "running": ss.Running(progress=False)}


def trained(table, seed=0):
    model = thin_resnet18(width=4, seed=seed)
    train_classifier(model, table, epochs=5, optimizing=Optimizing(batch_size=32), seed=seed, progress=False)
    return model


@pytest.fixture(scope="module")
def study():
    """A network biased by a tag, one biased by another artifact instead, and samples with both."""
    phantoms = ss.phantoms.radiographs(600, size=32, seed=51)
    patients = phantoms.frame["group"]
    first = patients.isin(patients.unique()[: int(0.5 * patients.nunique())]).to_numpy()
    pool, held_out = phantoms.take(first), phantoms.take(~first)
    half = {0: 0.5, 1: 0.5}

    def with_both(table, tag, ruler):
        return ss.phantoms.plant(ss.phantoms.plant(table, TAG, seed=3, **tag), RULER, seed=4, **ruler)

    biased = trained(with_both(pool, {"correlation": 0.95}, {"prevalence": half}))
    student = trained(with_both(pool, {"prevalence": half}, {"correlation": 0.95}))
    test = with_both(held_out, {"prevalence": half}, {"prevalence": half})
    train = with_both(pool, {"correlation": 0.95}, {"prevalence": half})
    return biased, student, train, test


def test_the_shortcut_that_took_the_place_of_the_old_one_is_listed(study, tmp_path):
    biased, student, train, test = study
    comparing = ss.Comparing(layers=["**stem.2", "**blocks.7"], others=[RULER.name])
    comparison = compare(
        biased,
        {"student": student, "same": biased},
        test,
        concept=TAG.name,
        train=train,
        comparing=comparing,
        out=tmp_path,
        **COUNTED,
    )
    found = [(r["student"], r["concept"], r["kind"]) for r in comparison.replacements]
    assert ("student", RULER.name, "new") in found
    assert not [one for one in found if one[0] == "same"]
    top = comparison.replacements[0]
    assert abs(top["after"]) > 0.2 > abs(top["before"])
    assert top["change_interval"][0] > 0
    assert top["q"] <= 0.05
    assert f"replacement: student, {RULER.name}" in repr(comparison)
    assert any("same: of" in note and "none took" in note for note in comparison.notes)
    again = Comparison.open(tmp_path)
    assert again.replacements == comparison.replacements
    page = comparison.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'data-test="replacements"' in page


@pytest.mark.slow
def test_it_is_found_without_a_column_and_can_be_switched_off(study):
    biased, student, train, test = study
    bare = ss.Comparing(layers=["**stem.2", "**blocks.7"], others=False)
    comparison = compare(biased, student, test, concept=TAG.name, train=train, comparing=bare, **COUNTED)
    assert [r["origin"] for r in comparison.replacements] == ["discovered"] * len(comparison.replacements)
    assert comparison.replacements
    off = ss.Comparing(layers=["**blocks.7"], others=False, replacements=False)
    unsearched = compare(biased, student, test, concept=TAG.name, train=train, comparing=off, **COUNTED)
    assert not unsearched.replacements
    assert unsearched.settings["replacements"] is False


def test_a_search_says_how_much_it_looked_at():
    nothing = ReplacementSearch((), ("age",), ("no patients",))
    assert nothing.sentences("erm") == [
        "erm: of 1 concepts that were looked at, none took the place of what was unlearnt",
        "erm: no patients",
    ]
    one = Replacement(
        "erm",
        "pen",
        "",
        "metadata",
        "stronger",
        0.3,
        -0.9,
        0.6,
        (0.2, 0.4),
        (-1.0, -0.8),
        (0.4, 0.8),
        0.01,
        40,
    )
    assert one.text() == (
        "erm, pen: use of +0.30 before, -0.90 after, stronger (change +0.60, +0.40 to +0.80; q 0.01)"
    )
    assert np.isfinite(one.q)
