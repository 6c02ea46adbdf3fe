"""Concepts: what a column, a score or ten marks say, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcutscope.errors import InputError
from shortcutscope.probes.concept import Concept


def frame_of(values, name="site"):
    values = pd.Series(values)
    return pd.DataFrame({"sample_id": [f"s{k}" for k in range(len(values))], name: values})


def concepts(values, **options):
    return Concept.from_column(frame_of(values), "site", **options)


def test_two_values_make_one_concept():
    (numbers,) = concepts([0, 1, 1, 0] * 10)
    assert numbers.name == "site"
    assert numbers.n_carriers == 20
    (flags,) = concepts([True, False, None, False] * 10)
    assert flags.name == "site"
    np.testing.assert_array_equal(flags.values[:4], [1, 0, np.nan, 0])
    (strings,) = concepts(["A", "A", "B", "", " ", None] * 10, present="B")
    assert strings.name == "site=B"
    np.testing.assert_array_equal(strings.values[:6], [0, 0, 1, np.nan, np.nan, np.nan])
    assert strings.description == "1: site is B; 0: site is A (as was said)"
    (codes,) = concepts([3, 7, 7, np.nan] * 10)
    assert codes.name == "site=7"
    assert codes.origin == "metadata"
    assert list(codes.sample_ids[:2]) == ["s0", "s1"]


def test_levels_with_enough_carriers_become_concepts():
    made = concepts(["a"] * 30 + ["b"] * 20 + ["c"] * 9 + [None] * 5)
    assert [c.name for c in made] == ["site=a", "site=b"]
    assert [c.n_carriers for c in made] == [30, 20]
    assert all(np.isnan(c.values[-5:]).all() for c in made)
    whole_numbers = concepts([1, 2, 3, 4] * 12)
    assert [c.name for c in whole_numbers] == ["site=1", "site=2", "site=3", "site=4"]
    categories = concepts(pd.Categorical(np.tile([0.5, 1.5, 2.5], 12)))
    assert [c.name for c in categories] == ["site=0.5", "site=1.5", "site=2.5"]
    assert len(concepts(["a", "b", "c"] * 5, min_carriers=5)) == 3


def test_continuous_columns_are_top_against_bottom_third():
    age = np.random.default_rng(0).permutation(np.arange(20, 80)).astype(float)
    age[7] = np.nan
    (made,) = concepts(age)
    assert made.name == "site high"
    assert made.n_carriers == pytest.approx(20, abs=1)
    assert np.nanmin(age[made.values == 1]) > np.nanmax(age[made.values == 0])
    assert np.isnan(made.values[7])
    assert "top third" in made.description
    dates = pd.date_range("2020-01-01", periods=60, freq="D")
    (by_date,) = concepts(dates)
    np.testing.assert_array_equal(by_date.values[[0, 30, 59]], [0, np.nan, 1])
    assert "2020" in by_date.description
    (asked,) = concepts([1, 2, 3] * 20, kind="continuous")
    assert asked.n_carriers == 20


def test_a_column_that_is_mostly_one_number_is_that_number_against_the_rest():
    counts = np.r_[np.zeros(70), np.random.default_rng(0).random(30)]
    (made,) = concepts(counts)
    assert made.name == "site!=0"
    assert made.n_carriers == 30
    assert (made.values[:70] == 0).all()


def test_columns_that_are_no_concept_are_refused_with_the_reason():
    with pytest.raises(InputError, match="no column 'sex'"):
        Concept.from_column(frame_of([0, 1]), "sex")
    with pytest.raises(InputError, match="one value only \\('a'\\)"):
        concepts(["a"] * 40 + [None])
    with pytest.raises(InputError, match="no value at all"):
        concepts([None, np.nan, ""])
    with pytest.raises(InputError, match="looks like ids: all 40 values differ"):
        concepts([f"patient-{k}" for k in range(40)])
    with pytest.raises(InputError, match="numbers the samples"):
        concepts(np.arange(100))
    with pytest.raises(InputError, match="has 20 levels"):
        concepts([f"room {k % 20}" for k in range(200)])
    with pytest.raises(InputError, match="too few carriers: site=B: 3 with, 37 without"):
        concepts(["A"] * 37 + ["B"] * 3, present="B")
    with pytest.raises(InputError, match="no number"):
        concepts(["A", "B", "C"] * 20, kind="continuous")
    with pytest.raises(InputError, match="infinite"):
        concepts([np.inf, 1.5, 2.5] * 20)
    with pytest.raises(InputError, match="kind='ordinal'"):
        concepts([1, 2], kind="ordinal")


@given(
    st.lists(
        st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
        min_size=1,
        max_size=40,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_column_gives_valid_concepts_or_a_reason(values):
    try:
        made = Concept.from_column(frame_of(pd.Series(values, dtype=object)), "site", min_carriers=2)
    except InputError as refusal:
        reason = str(refusal)
    else:
        reason = ""
        for concept in made:
            assert min((concept.values == 1).sum(), (concept.values == 0).sum()) >= 2
    assert reason == "" or "'site'" in reason


def test_a_concept_checks_itself():
    with pytest.raises(InputError, match="occurs twice"):
        Concept("tag", [0, 1], "planted", ["a", "a"])
    with pytest.raises(InputError, match="allowed are 0, 1 and NaN"):
        Concept("tag", [0, 2], "planted", ["a", "b"])
    with pytest.raises(InputError, match="values for"):
        Concept("tag", [0, 1, 1], "planted", ["a", "b"])
    with pytest.raises(InputError, match="needs a name"):
        Concept("", [0, 1], "planted", ["a", "b"])
    given_values = np.array([0.0, 1.0])
    concept = Concept("tag", given_values, "planted", ["a", "b"])
    given_values[0] = 1
    assert concept.values[0] == 0  # its own copy
    with pytest.raises(ValueError, match="read-only"):
        concept.values[0] = 1
    assert repr(concept) == "Concept('tag', planted: 1 with, 1 without, 0 unknown)"


def test_alignment_by_id():
    concept = Concept("tag", [0, 1, np.nan], "planted", ["a", "b", "c"], "white tag")
    aligned = concept.aligned_to(["b", "x", "a"])
    np.testing.assert_array_equal(aligned.values, [1, np.nan, 0])
    assert list(aligned.sample_ids) == ["b", "x", "a"]
    assert aligned.description == "white tag"
    with pytest.raises(InputError, match="knows none of the 2 samples"):
        concept.aligned_to(["x", "y"])


def test_swapping_twice_is_the_concept_again():
    concept = Concept("tag", [0, 1, np.nan], "planted", ["a", "b", "c"])
    np.testing.assert_array_equal(concept.swapped().values, [1, 0, np.nan])
    np.testing.assert_array_equal(concept.swapped().swapped().values, concept.values)
    assert concept.swapped().name == "tag"


def test_fingerprint_follows_the_values():
    concept = Concept("tag", [0, 1, np.nan], "planted", ["a", "b", "c"])
    same = Concept("tag", [0, 1, np.nan], "planted", ["a", "b", "c"], "other words")
    assert concept.fingerprint() == same.fingerprint()
    others = [concept.swapped(), Concept("tag", [0, 1, 0], "planted", ["a", "b", "c"])]
    others.append(Concept("tag", [0, 1, np.nan], "planted", ["a", "b", "d"]))
    assert len({c.fingerprint() for c in [concept, *others]}) == 4


def test_a_score_with_two_groups_becomes_a_concept():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    truth = rng.random(600) < np.where(labels, 0.9, 0.05)
    scores = rng.normal(size=600) + 6 * truth
    scores[5] = np.nan
    ids = [f"s{k}" for k in range(600)]
    concept = Concept.from_scores("cluster 3", scores, ids, labels=labels)
    known = concept.known
    assert known.mean() > 0.9
    assert (concept.values[known] == truth[known]).mean() > 0.99
    assert np.isnan(concept.values[5])
    assert concept.origin == "discovered"
    with pytest.raises(InputError, match="do not fall into two groups"):
        Concept.from_scores("noise", rng.normal(size=600), ids)
    with pytest.raises(InputError, match="do not differ"):
        Concept.from_scores("flat", np.ones(600), ids)
    with pytest.raises(InputError, match="at least 10 of each"):
        Concept.from_scores("rare", np.r_[rng.normal(size=596), 20, 21, 20.5, 21.5], ids)
    with pytest.raises(InputError, match="confidence=1"):
        Concept.from_scores("sure", scores, ids, confidence=1.0)


def marked_scan(n=800, strength=3.0, seed=0, in_class=(0.05, 0.95)):
    """A stand-in for a scan: two early layers that show an artifact, a late one that shows the label."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n // 2)
    truth = (rng.random(n) < np.array(in_class)[labels]).astype(float)
    features = {name: rng.normal(size=(n, 24)).astype(np.float32) for name in ("stem", "block1", "block4")}
    features["stem"][:, :3] += strength * truth[:, None]
    features["block1"][:, :2] += strength * truth[:, None]
    features["block1"][:, 5] = 0
    features["block4"][:, :4] += 5 * labels[:, None]
    layers = [
        SimpleNamespace(name=name, depth=depth)
        for name, depth in (("stem", 0.1), ("block1", 0.4), ("block4", 0.9))
    ]
    samples = pd.DataFrame({"sample_id": [f"s{k}" for k in range(n)], "label": labels})
    samples["group"] = samples["sample_id"]
    scan = SimpleNamespace(
        layers=layers, samples=samples, features=features.__getitem__, require_one_label=lambda what: None
    )
    return scan, truth


def marks(scan, truth, label, n=10, seed=0):
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(np.flatnonzero((truth == 1) & (scan.samples["label"] == label)))[:n]
    return list(scan.samples["sample_id"].to_numpy()[chosen])


@pytest.mark.parametrize("seed", range(3))
def test_ten_marks_in_the_rare_class_find_the_carriers_of_both_classes(seed):
    scan, truth = marked_scan(seed=seed)
    chosen = marks(scan, truth, 0, seed=seed)
    concept = Concept.from_marks(scan, chosen, name="tag")
    known = concept.known
    assert known.mean() == pytest.approx(0.7, abs=0.05)  # the surest seven tenths of either group
    for label in (0, 1):
        for value in (0, 1):
            cell = known & (scan.samples["label"] == label) & (truth == value)
            assert (concept.values[cell] == value).mean() > 0.9
    assert concept.origin == "marked"
    assert (concept.aligned_to(chosen).values == 1).all()
    assert "stem, block1" in concept.description
    again = Concept.from_marks(scan, chosen, name="tag")
    assert again.fingerprint() == concept.fingerprint()


def test_marks_in_both_classes_are_learned_from_where_the_artifact_is_rare():
    scan, truth = marked_scan()
    chosen = marks(scan, truth, 0, 6) + marks(scan, truth, 1, 20)
    concept = Concept.from_marks(scan, chosen)
    known = concept.known
    assert (concept.values[known] == truth[known]).mean() > 0.95


def test_samples_named_free_of_it_stay_so():
    scan, truth = marked_scan()
    free = list(scan.samples["sample_id"].to_numpy()[(truth == 0)][:5])
    concept = Concept.from_marks(scan, marks(scan, truth, 0), free)
    assert (concept.aligned_to(free).values == 0).all()


def test_no_sample_is_scored_by_a_model_that_took_it_for_a_negative(monkeypatch):
    from shortcutscope.probes import marks as module

    scan, truth = marked_scan(n=200)
    fitted, scored = [], []
    original = module._Problem._fit

    def spy(self, train, seed):
        model = original(self, train, seed)
        fitted.append(set(np.flatnonzero(train & np.isnan(self.marks))))
        decide = model.decision_function

        def decision_function(rows):
            found = {int(np.flatnonzero((self.features == row).all(axis=1))[0]) for row in rows}
            scored.append(found)
            return decide(rows)

        model.decision_function = decision_function
        return model

    monkeypatch.setattr(module._Problem, "_fit", spy)
    Concept.from_marks(scan, marks(scan, truth, 0, 5))
    assert len(fitted) == len(scored) > 0
    assert all(not (a & b) for a, b in zip(fitted, scored, strict=True))


def test_marks_that_say_nothing_are_refused():
    scan, truth = marked_scan()
    ids = scan.samples["sample_id"].to_numpy()
    random = list(ids[np.random.default_rng(1).permutation(400)[:10]])
    with pytest.raises(InputError, match="cannot be told from the unlabelled"):
        Concept.from_marks(scan, random, layers=["block4"])
    with pytest.raises(InputError, match="4 marked samples; at least 5"):
        Concept.from_marks(scan, marks(scan, truth, 0, 4))
    with pytest.raises(InputError, match=r"not in the scan, among them \['zz'\]"):
        Concept.from_marks(scan, [*marks(scan, truth, 0), "zz"])
    chosen = marks(scan, truth, 0)
    with pytest.raises(InputError, match="as carriers and as others"):
        Concept.from_marks(scan, chosen, chosen[:1])
    with pytest.raises(InputError, match="keep=0"):
        Concept.from_marks(scan, marks(scan, truth, 0), keep=0)
    with pytest.raises(InputError, match="no layer"):
        Concept.from_marks(scan, marks(scan, truth, 0), layers=[])
    one_patient, truth = marked_scan()
    one_patient.samples["group"] = np.where(truth == 1, "p", one_patient.samples["sample_id"])
    with pytest.raises(InputError, match="one patient"):
        Concept.from_marks(one_patient, marks(one_patient, truth, 0))


def test_the_marks_alone_are_what_the_artifact_is_looked_at_with():
    scan, truth = marked_scan()
    labels = scan.samples["label"].to_numpy()
    chosen = marks(scan, truth, 0)
    concept = Concept.from_marks(scan, chosen)
    seen = concept.as_marked(labels)
    assert set(scan.samples["sample_id"][seen == 1]) == set(chosen)
    assert np.isnan(seen[labels == 1]).all()
    assert (seen[labels == 0] == 0).sum() == (labels == 0).sum() - len(chosen)
    np.testing.assert_array_equal(concept.swapped().as_marked(labels), 1 - seen)
    again = concept.aligned_to(concept.sample_ids[::-1]).as_marked(labels[::-1])
    np.testing.assert_array_equal(again, seen[::-1])
    given = Concept("given", truth.astype(float), "metadata", concept.sample_ids)
    np.testing.assert_array_equal(given.as_marked(labels), truth)


def test_the_first_row_counts_like_any_other():
    scan, truth = marked_scan()
    labels = scan.samples["label"].to_numpy()
    first = scan.samples["sample_id"].iloc[0]
    chosen = [i for i in marks(scan, truth, int(labels[0])) if i != first]
    concept = Concept.from_marks(scan, [first, *chosen])
    assert concept.values[0] == 1
    assert concept.as_marked(labels)[0] == 1
