"""Subgroups of an audit: which columns part the samples, what is kept, and what is said of it."""

import json

import numpy as np
import pandas as pd
import pytest
import small_study
from scipy.special import expit, softmax

import shortcutscope as ss
from shortcutscope.audit.subgroups import DELTAS, FACTS, FIGURES, log_odds, measure_subgroups, partings
from shortcutscope.errors import InputError
from shortcutscope.files import to_json, write_json
from shortcutscope.probes.concept import Concept

N = 240


class Scanned:
    """What subgroups need of a scan."""

    task = "multiclass"

    def __init__(self, classes=2, seed=0, **columns):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, classes, N)
        self.samples = pd.DataFrame(
            {
                "sample_id": [f"s{k}" for k in range(N)],
                "label": labels,
                "group": rng.integers(0, 150, N).astype(str),
                "split": "",
                "prediction": labels,
                "target": labels,
                "sex": np.where(rng.random(N) < 0.5, "F", "M"),
                "age": rng.normal(60, 12, N).round(1),
                **columns,
            }
        )
        logits = rng.normal(size=(N, classes))
        logits[np.arange(N), labels] += 1.5
        women = (self.samples["sex"] == "F").to_numpy() & (labels == 1)
        logits[women, 1] -= 2.5  # missed in women
        self.logits = logits


def measured(scanned, *concepts, statistics=None):
    return to_json(measure_subgroups(scanned, concepts, (), statistics or ss.Statistics(n_bootstrap=100)))


def test_the_columns_part_the_samples_by_level_and_by_thirds():
    scanned = Scanned(
        site=np.arange(N) % 3,
        code=[f"id {k}" for k in range(N)],
        only="one",
        number=np.arange(N),
        file_codec=["PNG", "JPEG"] * (N // 2),
        spots=np.where(np.arange(N) % 9 == 0, np.nan, np.arange(N) % 2),
    )
    samples = scanned.samples
    given = Concept("tag", np.arange(N) % 2.0, "marked", samples["sample_id"])
    levels = {part.columns: part.levels for part in partings(samples, [given])}
    assert levels["tag",] == ("without tag", "with tag")
    assert levels["sex",] == ("sex=F", "sex=M")
    assert levels["site",] == ("site=0", "site=1", "site=2")
    assert len(levels["age",]) == 3
    assert set(levels) == {("tag",), ("sex",), ("age",), ("site",), ("spots",)}
    age = next(part for part in partings(samples, []) if part.columns == ("age",))
    assert min(np.bincount(age.codes)) > N / 4
    assert age.levels[0].startswith("age <= 5")
    spots = next(part for part in partings(samples, []) if part.columns == ("spots",))
    assert (spots.codes == -1).sum() == samples["spots"].isna().sum()
    codec = Concept.from_column(samples, "file_codec", present="JPEG", origin="file")
    assert ("file_codec",) in {part.columns for part in partings(samples, codec)}


def test_a_group_that_is_missed_is_found_and_others_are_not():
    stored = measured(Scanned())
    (point,) = stored["operating"]
    assert (point["positive"], point["threshold"], point["on_these_data"]) == (1, 0.5, False)
    single = [row for row in stored["groups"] if len(row["columns"]) == 1]
    differing = {row["group"] for row in single if row["delta_tpr"]["q"] <= 0.05}
    assert differing == {"sex=F", "sex=M"}
    women = next(row for row in single if row["group"] == "sex=F")
    assert women["delta_tpr"]["value"] < -0.3
    assert single[0]["group"] in differing
    crossed = [row for row in stored["groups"] if len(row["columns"]) == 2]
    assert {tuple(row["columns"]) for row in crossed} == {("sex", "age")}
    assert len(crossed) == 6
    assert sum(row["samples"] for row in crossed) == N


def test_figures_are_those_of_the_samples():
    scanned = Scanned()
    stored = measured(scanned, statistics=ss.Statistics(n_bootstrap=50, operating=0.3))
    p = softmax(scanned.logits, axis=1)[:, 1]
    inside = (scanned.samples["sex"] == "F").to_numpy()
    events = scanned.samples["label"].to_numpy() == 1
    row = next(row for row in stored["groups"] if row["group"] == "sex=F")
    assert row["sensitivity"]["value"] == pytest.approx((p[inside & events] >= 0.3).mean(), abs=1e-12)
    assert row["specificity"]["value"] == pytest.approx((p[inside & ~events] < 0.3).mean(), abs=1e-12)
    assert row["calibration"]["value"] == pytest.approx((events - p)[inside].mean(), abs=1e-12)
    assert (row["samples"], row["events"]) == (inside.sum(), (inside & events).sum())
    assert row["patients"] == scanned.samples["group"][inside].nunique()


@pytest.mark.parametrize(("operating", "said"), [("youden", "Youden"), ("sensitivity=.9", "0.9")])
def test_a_threshold_of_these_data_is_said_to_be_one(operating, said):
    (point,) = measured(Scanned(), statistics=ss.Statistics(operating=operating, n_bootstrap=50))["operating"]
    assert point["on_these_data"]
    assert said in point["source"]
    assert "too good" in point["source"]
    if operating != "youden":
        assert point["sensitivity"] >= 0.9


def test_several_classes_are_each_measured_against_the_others():
    stored = measured(Scanned(classes=3))
    assert [point["positive"] for point in stored["operating"]] == [0, 1, 2]
    assert all(len(row["columns"]) == 1 for row in stored["groups"])
    assert any("each class" in note for note in stored["notes"])
    one = measured(Scanned(classes=3), statistics=ss.Statistics(positive=2, n_bootstrap=50))
    assert [point["positive"] for point in one["operating"]] == [2]
    assert any(len(row["columns"]) == 2 for row in one["groups"])


def test_log_odds_are_those_of_the_probabilities():
    logits = np.random.default_rng(0).normal(size=(20, 4))
    np.testing.assert_allclose(expit(log_odds(logits, "multiclass", 2)), softmax(logits, axis=1)[:, 2])
    np.testing.assert_array_equal(log_odds(logits[:, :1], "binary", 0), -logits[:, 0])
    np.testing.assert_array_equal(log_odds(logits, "multilabel", 3), logits[:, 3])


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    images, frame = small_study.pictures(120)
    sex = np.random.default_rng(0).choice(["F", "M"], 120)
    table = ss.ImageTable.from_arrays(images[:, None], frame.drop(columns="image").assign(sex=sex))
    return ss.audit(
        small_study.tag_reader(),
        table,
        tmp_path_factory.mktemp("audit") / "run",
        concepts=["tag"],
        scanning=ss.Scanning(measure=False),
        statistics=ss.Statistics(n_permutations=50, n_bootstrap=40, operating="youden"),
        running=ss.Running(progress=False, workers=0),
    )


def test_an_audit_keeps_its_subgroups(audited):
    stored = json.loads((audited.path / "subgroups.json").read_text())
    assert set(stored) == {"format", "operating", "groups", "notes"}
    figure = {"value", "low", "high", "n", "p", "why"}
    for row in stored["groups"]:
        assert set(row) == {"columns", "level", *FACTS, *FIGURES}
        assert all(set(row[name]) == figure | ({"q"} if name in DELTAS else set()) for name in FIGURES)
        assert row["patients"] <= row["samples"]
    assert audited.run["stages"]["subgroups"]["state"] == "done"
    assert audited.operating_points[0]["source"].startswith("Youden")
    frame = audited.subgroups()
    assert len(frame) == len(stored["groups"])
    assert {"tag", "coin", "sex", "tag x sex"} <= set(frame["columns"])
    assert {"sensitivity_low", "delta_tpr_q", "auroc_n"} <= set(frame)
    tag = frame[frame["columns"] == "tag"]
    assert tag["samples"].sum() == 120


def test_a_run_without_them_says_so(audited, tmp_path):
    other = tmp_path / "run"
    other.mkdir()
    for name in ("run.json", "findings.json", "profile.parquet"):
        (other / name).write_bytes((audited.path / name).read_bytes())
    with pytest.raises(InputError, match=r"no subgroups.json: run the same audit again"):
        ss.Audit.open(other).subgroups()
    write_json(other / "subgroups.json", {"format": 99})
    with pytest.raises(InputError, match="format 99"):
        ss.Audit.open(other).subgroups()
