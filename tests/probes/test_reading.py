"""How a column is read: which value is present, whatever the sample, and the same in every table."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest

from shortcutscope.data.manifests.words import which_is_present
from shortcutscope.errors import InputError
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.reading import Reading, entries


def frame_of(values, column="ring", start=0):
    ids = [f"s{start + k}" for k in range(len(values))]
    return pd.DataFrame({"sample_id": ids, column: pd.Series(values)})


def read(values, column="ring", **options):
    return Concept.from_column(frame_of(values, column), column, min_carriers=5, **options)


@pytest.mark.parametrize(
    ("absent", "present", "column"),
    [
        ("absent", "present", "ring"),
        ("no", "yes", "ring"),
        ("NO", "Yes ", "ring"),
        ("false", "true", "ring"),
        ("negative", "positive", "ring"),
        ("without", "with", "ring"),
        ("n", "y", "ring"),
        ("neg", "pos", "ring"),
        ("none", "frame", "collimation"),
        ("None", "pacemaker", "implant"),
        ("no tag", "tag", "tag"),
        ("clear", "pen_mark", "pen mark"),
        ("not portable", "portable", "acquisition"),
        ("non-portable", "portable", "acquisition"),
    ],
)
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_c1_words_say_which_value_is_present_and_not_their_frequency(absent, present, column, share):
    values = [present] * int(100 * share) + [absent] * int(100 - 100 * share)
    (concept,) = read(values, column)
    assert concept.n_carriers == int(100 * share)
    assert not concept.reading.symmetric
    assert concept.name in (f"{column}={present.strip()}", column)


@pytest.mark.parametrize("words", [("M", "F"), ("A", "B"), ("with", "yes"), ("none", "no"), ("NA", "AF")])
def test_c1_two_words_that_do_not_tell_are_asked_about(words):
    assert which_is_present(words, "site") is None
    values = [*words] * 20
    with pytest.raises(InputError, match=r"--present 'site=|--missing NA"):
        read(values, "site")
    for said in words:
        (concept,) = read(values, "site", present=said)
        assert concept.name == f"site={said}"
        assert (concept.values == (np.array(values) == said)).all()
    with pytest.raises(InputError, match="present='C' is no value of column 'site'; it has"):
        read(values, "site", present="C")


def test_c1_unasked_two_words_are_levels_of_which_none_is_the_artifact():
    for values in (["F"] * 30 + ["M"] * 10, ["F"] * 10 + ["M"] * 30):
        (concept,) = read(values, "sex", symmetric=True)
        assert concept.name == "sex=M"
        assert concept.reading.symmetric
        assert "no value is known to be the artifact" in concept.description


def test_c1_what_is_absent_is_no_artifact_among_several_levels():
    made = {c.name: c for c in read(["none", "none", "clip", "pacemaker"] * 10, "device")}
    assert sorted(made) == ["device!=none", "device=clip", "device=pacemaker"]
    assert made["device!=none"].n_carriers == made["device=clip"].n_carriers * 2 == 20
    assert [c.name for c in read([0, 1, 2] * 10, "clips")] == ["clips!=0", "clips=1", "clips=2"]


def test_c1_which_number_was_taken_for_present_is_said():
    for values in ([-1, 1], [1, 2]):
        (concept,) = read(values * 10)
        assert concept.name == f"ring={values[1]}"
        assert "the larger is taken for present" in concept.description
    (other,) = read([1, 2] * 10, present=1)
    assert (other.name, other.n_carriers) == ("ring=1", 10)


def test_c2_a_reading_is_applied_exactly_to_another_table():
    (concept,) = read(["frame"] * 40 + ["none"] * 10, "collimation")
    other = concept.on(frame_of(["none", "None", "frame", None, ""], "collimation", start=100))
    np.testing.assert_array_equal(other.values, [0, 0, 1, np.nan, np.nan])
    assert other.sample_ids[0] == "s100"
    assert other.name == concept.name
    with pytest.raises(InputError, match=r"holds 'circle' in 1 of 3 rows, which the concept does not know"):
        concept.on(frame_of(["none", "frame", "circle"], "collimation"))
    with pytest.raises(InputError, match=r"holds numbers here \(0, 1\), but the concept was read from words"):
        concept.on(frame_of([0, 1, 1], "collimation"))
    with pytest.raises(InputError, match="the table has no column 'collimation'"):
        concept.on(frame_of([0, 1, 1], "frame", start=100))
    assert concept.on(frame_of([0, 1, 1], "frame")).n_carriers == 3  # the same samples, by their ids


def test_c3_cuts_stay_those_of_the_audit():
    (age,) = read(np.arange(20.0, 80.0, 1.5), "age")
    assert age.name == "age high"
    older = age.on(frame_of(np.arange(70.0, 90.0), "age", start=200))
    assert (older.values == 1).all()
    low, high = age.reading.cuts
    np.testing.assert_array_equal(
        age.on(frame_of([low, (low + high) / 2, high], "age")).values, [0, np.nan, 1]
    )


@pytest.mark.parametrize(
    "values",
    [
        ["present", "absent"] * 10,
        [0, 1] * 10,
        [1, 0, -1] * 10,
        ["A", "B", "none"] * 10,
        np.arange(30) * 1.25,
        pd.date_range("2020-01-01", periods=30, freq="36h", tz="Europe/Berlin"),
        [datetime.date(2020, 1, 1) + datetime.timedelta(days=3 * k) for k in range(30)],
        [0.0] * 25 + list(np.linspace(1, 2, 5)),
        pd.Categorical(["present", "absent"] * 10),
        pd.array([True, False, None] * 10, dtype="boolean"),
    ],
)
def test_a_reading_outlives_json_and_gives_the_values_it_was_made_with(values):
    frame = frame_of(values)
    for concept in Concept.from_column(frame, "ring", min_carriers=5):
        from dataclasses import asdict

        kept = Reading.from_dict(json.loads(json.dumps(asdict(concept.reading))))
        assert kept == concept.reading
        np.testing.assert_array_equal(kept.of(frame), concept.values)
        np.testing.assert_array_equal(kept.of(frame.iloc[:3]), concept.values[:3])


def test_c4_words_of_ignorance_are_levels_unless_named_missing():
    with pytest.raises(InputError, match=r"does 'NA' mean that it is not known.*--missing NA"):
        read(["yes", "no", "NA"] * 10)
    with pytest.raises(InputError, match=r"does '\?' mean that it is not known"):
        read(["y", "n", "?"] * 10)
    with pytest.raises(InputError, match=r"does 'unknown' mean"):
        read(["None", "pacemaker", "unknown"] * 10, "implant")
    (concept,) = read(["yes", "no", "NA"] * 10, present="yes")
    assert (concept.n_carriers, concept.known.sum()) == (10, 30)
    assert [c.name for c in read(["L", "R", "NA"] * 10, "side")] == ["side=L", "side=NA", "side=R"]


def test_c4_numbers_with_marks_among_them_are_refused_with_the_mend():
    with pytest.raises(InputError, match=r"holds numbers, but 'NA' in 10 of 40 rows.*--missing NA"):
        read(["61", "45", "70.5", "NA"] * 10, "age")
    with pytest.raises(InputError, match="--missing unknown"):
        read([0, 1, "unknown"] * 10)
    assert [c.name for c in read(["61", "45"] * 10, "age")] == ["age=61"]
    assert [c.name for c in read([1, 2, "X"] * 10, "stage", kind="categorical")] == [
        "stage=1",
        "stage=2",
        "stage=X",
    ]


def test_c5_minus_one_beside_0_and_1_is_uncertain():
    (concept,) = read([1, 0, -1, np.nan] * 10)
    np.testing.assert_array_equal(concept.values[:4], [1, 0, np.nan, np.nan])
    assert concept.name == "ring"
    assert "unknown: -1 (-1 is taken for uncertain)" in concept.description
    (uncertain,) = read([1, 0, -1, np.nan] * 10, present=-1)
    np.testing.assert_array_equal(uncertain.values[:4], [0, 0, 1, np.nan])
    with pytest.raises(InputError, match=r"one value only \('1'\).*10 entries are empty.*write 0"):
        read([1, np.nan] * 10)


@pytest.mark.parametrize("several", [["a", "b"], ("a",), {"a": 1}, np.array([1, 2])])
def test_c6_entries_that_are_several_values_are_refused(several):
    frame = pd.DataFrame({"sample_id": ["x", "y"], "tags": [several, None]})
    with pytest.raises(InputError, match=r"several values in an entry.*Make a column of 0 and 1 for each"):
        Concept.from_column(frame, "tags")


def test_levels_are_the_same_in_any_spelling():
    assert entries(pd.Series(["Yes", "yes ", "NO", None]), "x").levels == ("NO", "Yes")
    large = read([1000001, 1000002, 1000003] * 10, "room")
    assert [c.name for c in large] == ["room=1000001", "room=1000002", "room=1000003"]


def test_a_reading_checks_itself():
    with pytest.raises(InputError, match="needs levels, or cuts"):
        Reading("ring", "words")
    with pytest.raises(InputError, match="kind='text'"):
        Reading("ring", "text", present=("a",))
