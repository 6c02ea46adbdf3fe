import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mutual_info_score

from shortcutscope.discover.metadata import _cramers_v, _information, _read, _tables, screen_metadata
from shortcutscope.errors import InputError
from shortcutscope.stats.metrics import auroc

PLANTED = {"field strength", "echo time"}


def breast_study(seed, correlation, n=700, n_columns=105):
    """Patients with 3 to 8 slices; over 100 columns that mean nothing, and two that go with the label."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)

    def agreeing():
        return np.where(generator.random(n) < correlation, labels, 1 - labels)

    def column(k):
        if k % 5 == 0:
            return generator.standard_normal(n)
        if k % 5 == 1:
            return generator.choice(list("abcd"), n, p=[0.5, 0.3, 0.15, 0.05])
        if k % 5 == 2:
            return generator.integers(0, 2, n)
        if k % 5 == 3:
            return np.where(generator.random(n) < 0.2, np.nan, generator.standard_normal(n))
        days = pd.to_timedelta(generator.integers(0, 3000, n), "D")
        return np.asarray((pd.Timestamp("2010-01-01") + days).strftime("%Y-%m-%d"))

    columns = {"label": labels, "group": [f"p{i}" for i in range(n)]}
    columns |= {f"column {k}": column(k) for k in range(n_columns)}
    columns["field strength"] = np.array(["1.5 T", "3 T"])[agreeing()]
    columns["echo time"] = 2.0 * agreeing() + 0.3 * generator.standard_normal(n)
    slices = np.repeat(np.arange(n), generator.integers(3, 9, n))
    frame = pd.DataFrame(columns).iloc[slices].reset_index(drop=True)
    return frame.assign(slice_position=generator.standard_normal(len(frame)))


@pytest.mark.parametrize("correlation", [0.7, 0.95])
def test_the_planted_columns_rank_first_and_none_is_accused_falsely(correlation):
    screen = screen_metadata(breast_study(0, correlation), n_permutations=300, classify=False)
    assert set(screen.columns["column"][:2]) == PLANTED
    assert set(screen.found()) == PLANTED
    assert len(screen.columns) > 105


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.7, 0.8, 0.95])
def test_false_columns_in_at_most_one_of_twenty_draws(correlation):
    draws = [screen_metadata(breast_study(s, correlation), classify=False, seed=s) for s in range(20)]
    assert all(set(screen.columns["column"][:2]) == PLANTED for screen in draws)
    assert sum(set(screen.found()) != PLANTED for screen in draws) <= 1


def test_slices_of_one_patient_are_one_observation():
    """A column of the patient that means nothing is found among slices taken for patients."""
    generator = np.random.default_rng(5)
    patients = pd.DataFrame({"label": np.arange(40) % 2, "group": range(40)})
    patients["site"] = generator.permutation(np.r_[np.arange(30) % 2, np.ones(4), np.zeros(6)])
    patients.loc[patients["label"].eq(1).to_numpy().nonzero()[0][:6], "site"] = 1
    slices = patients.loc[np.repeat(np.arange(40), 50)].reset_index(drop=True)
    with_patients = screen_metadata(slices, classify=False)
    without = screen_metadata(slices.assign(group=range(len(slices))), classify=False)
    alone = screen_metadata(patients, classify=False)
    assert with_patients.columns["n"][0] == 40
    assert with_patients.columns["p"][0] == alone.columns["p"][0]
    assert without.columns["p"][0] < alone.columns["p"][0]


def test_missing_entries_are_screened_by_themselves():
    frame = breast_study(1, 0.9, n=200, n_columns=3)
    generator = np.random.default_rng(0)
    weight = generator.standard_normal(len(frame))
    of_patient = dict(zip(frame["group"].unique(), generator.random(200), strict=True))
    gone = (frame["label"] == 1) & (frame["group"].map(of_patient) < 0.7)
    screen = screen_metadata(frame.assign(weight=np.where(gone, np.nan, weight)), classify=False)
    row = screen.columns.set_index(["column", "kind"]).loc[("weight", "missing")]
    assert row["q"] < 0.01
    assert row["cramers_v"] > 0.4


def test_information_v_and_auroc_are_those_of_their_definitions():
    generator = np.random.default_rng(0)
    codes, labels = generator.integers(0, 4, 200), generator.integers(0, 3, 200)
    tables = _tables(codes[None].astype(np.int64), labels.astype(np.int64))
    assert _information(tables)[0] == pytest.approx(mutual_info_score(codes, labels))
    assert _cramers_v(np.diag([50.0, 50.0])) == pytest.approx(1)
    assert _cramers_v(np.full((2, 2), 25.0)) == 0
    frame = pd.DataFrame({"label": np.arange(200) % 2, "group": range(200)})
    frame["age"] = 50 + 10 * frame["label"] + generator.normal(0, 10, 200)
    screen = screen_metadata(frame, classify=False)
    assert screen.columns["auroc"][0] == pytest.approx(auroc(frame["label"], frame["age"]))


@pytest.mark.slow
def test_the_metadata_alone_score_what_their_correlation_allows():
    frame = breast_study(2, 0.9, n=300, n_columns=4)
    train = frame["group"].str[1:].astype(int) < 200
    screen = screen_metadata(frame.assign(split=np.where(train, "train", "test")), n_permutations=100)
    scores = screen.classifier.set_index("split")
    assert list(scores.index) == ["train", "test", "all"]
    assert scores.loc["all", "n"] == len(frame)
    assert scores.loc["all", "accuracy"] > 0.85
    assert scores.loc["test", "auroc"] > 0.85
    noise = screen_metadata(frame.drop(columns=sorted(PLANTED)), n_permutations=100)
    assert noise.classifier.set_index("split").loc["all", "balanced_accuracy"] < 0.62


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.1, 0.2, None], "numeric"),
        ([1, 2, 3], "categorical"),
        (["1.5", "2.5", ""], "numeric"),
        (["2020-01-05", "2021-02-03", None], "date"),
        (["20200105", "20210203", "20210204"], "date"),
        (["a", "b", " "], "categorical"),
        ([True, False, True], "categorical"),
        (pd.to_datetime(["2020-01-05", "2021-02-03", None]), "date"),
        (pd.Categorical(["x", "y", None]), "categorical"),
    ],
)
def test_kinds_of_columns(values, kind):
    series = pd.Series(values)
    found, numbers = _read(series)
    assert found == kind
    missing = series.isna() | series.map(lambda v: isinstance(v, str) and not v.strip())
    np.testing.assert_array_equal(np.isnan(numbers), missing)


def test_columns_that_say_nothing_are_left_out_with_the_reason():
    frame = pd.DataFrame({"label": [0, 1] * 20, "group": range(40), "one": 3, "none": np.nan})
    frame["name"] = [f"patient {i}" for i in range(40)]
    screen = screen_metadata(frame)
    assert set(screen.skipped) == {"one", "none", "name"}
    assert "ids" in screen.skipped["name"]
    assert len(screen.columns) == 0
    assert screen.found() == []


def test_labels_of_one_class_and_unknown_columns_are_refused():
    frame = pd.DataFrame({"label": [1, 1], "group": [0, 1], "x": [0, 1]})
    with pytest.raises(InputError, match="all samples have label 1"):
        screen_metadata(frame)
    with pytest.raises(InputError, match="no column 'y'"):
        screen_metadata(frame, columns=["y"])
