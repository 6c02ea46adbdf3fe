"""Figures of subgroups against other people's implementations, and their intervals against the bootstrap."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score, roc_auc_score

from shortcutscope.errors import InputError
from shortcutscope.stats.bootstrap import cluster_interval, cluster_weights, group_draws
from shortcutscope.stats.metrics import auroc
from shortcutscope.stats.operating import Operating
from shortcutscope.stats.subgroups import FEWEST, SMALL, Scored, auroc_influence, slope_influence


def study(n=900, patients=500, levels=4, seed=0):
    rng = np.random.default_rng(seed)
    who = np.unique(rng.integers(0, patients, n), return_inverse=True)[1]
    events = rng.random(n) < 0.4
    scores = rng.normal(size=n).round(1) + 1.2 * events - 0.6  # with ties
    return Scored(events, scores, who, 0.0, 200, 0), rng.integers(-1, levels, n)


def test_figures_are_those_of_scikit_learn():
    scored, codes = study()
    called = scored.scores >= scored.threshold
    for code, part in enumerate(scored.parts(codes)):
        inside, rest = codes == code, (codes >= 0) & (codes != code)
        y, p, s = scored.events[inside], called[inside], scored.scores[inside]
        figures = {name: figure.value for name, figure in part.figures.items()}
        tpr, tnr = recall_score(y, p), recall_score(~y, ~p)
        exact = {"rel": 0, "abs": 1e-12}
        assert figures["auroc"] == pytest.approx(roc_auc_score(y, s), **exact)
        assert figures["sensitivity"] == pytest.approx(tpr, **exact)
        assert figures["specificity"] == pytest.approx(tnr, **exact)
        assert figures["calibration"] == pytest.approx(y.mean() - expit(s).mean(), **exact)
        regression = LogisticRegression(C=1e12, tol=1e-12, max_iter=1000).fit(s[:, None], y)
        assert figures["slope"] == pytest.approx(regression.coef_[0, 0], rel=1e-4)
        other, called_other = scored.events[rest], called[rest]
        assert figures["delta_tpr"] == pytest.approx(tpr - recall_score(other, called_other), **exact)
        assert figures["delta_fpr"] == pytest.approx(recall_score(~other, ~called_other) - tnr, **exact)
        assert part.samples == inside.sum()
        assert part.patients == len(np.unique(scored.patients[inside]))
        assert part.events == y.sum()


def test_figures_are_those_of_a_metric_frame():
    fairlearn = pytest.importorskip("fairlearn.metrics", reason="fairlearn is not installed")
    scored, codes = study()
    called, known = scored.scores >= 0, codes >= 0
    metrics = {
        "sensitivity": fairlearn.true_positive_rate,
        "specificity": fairlearn.true_negative_rate,
        "samples": fairlearn.count,
    }
    y, p = scored.events[known].astype(int), called[known].astype(int)
    frame = fairlearn.MetricFrame(metrics=metrics, y_true=y, y_pred=p, sensitive_features=codes[known])
    parts = scored.parts(codes)
    for name in ("sensitivity", "specificity"):
        values = [part.figures[name].value for part in parts]
        np.testing.assert_allclose(values, frame.by_group[name], rtol=0, atol=1e-12)
    assert [part.samples for part in parts] == frame.by_group["samples"].tolist()
    two = np.where(codes < 0, -1, codes % 2)
    frame = fairlearn.MetricFrame(
        metrics=fairlearn.true_positive_rate, y_true=y, y_pred=p, sensitive_features=two[known]
    )
    odd = scored.parts(two)[1].figures["delta_tpr"].value
    assert abs(odd) == pytest.approx(frame.difference(), rel=0, abs=1e-12)


def test_intervals_are_those_of_the_bootstrap_of_whole_patients():
    scored, codes = study(n=1500, levels=2)
    part, inside = scored.parts(codes)[0], codes == 0
    y, s, who = scored.events[inside], scored.scores[inside], scored.patients[inside]
    slow = cluster_interval(lambda w: auroc(y, s, w), who, 1000, by="rows")
    figure = part.figures["auroc"]
    assert (figure.low, figure.high) == pytest.approx(slow, abs=0.012)
    slow = cluster_interval(lambda w: (w @ (y & (s >= 0))) / (w @ y), who, 1000, by="rows")
    figure = part.figures["sensitivity"]
    assert (figure.low, figure.high) == pytest.approx(slow, abs=0.015)


def test_draws_are_those_of_the_cluster_bootstrap():
    assert np.array_equal(group_draws(50, 30, 7), cluster_weights(np.arange(50), 30, 7))


def test_the_influence_is_the_derivative_by_the_weights():
    rng = np.random.default_rng(1)
    events, scores = rng.random(60) < 0.5, rng.normal(size=60).round(1)
    area, influence = auroc_influence(events, scores)
    step = 1e-6
    for k in (0, 17, 40):
        weights = np.ones(60)
        weights[k] += step
        change = (auroc(events.astype(float), scores, weights) - area) / step
        assert influence[k] == pytest.approx(change, abs=1e-5)
    slope, added = slope_influence(events, scores)
    repeated = np.append(np.arange(60), 5)
    assert slope_influence(events[repeated], scores[repeated])[0] - slope == pytest.approx(added[5], abs=0.01)


def test_small_groups_have_no_figures_or_wide_intervals():
    scored, _ = study(n=300, patients=300)
    order = np.argsort(~scored.events, kind="stable")  # events first
    codes = np.full(len(order), 0)
    codes[order[: FEWEST - 1]] = codes[order[-40:]] = 1  # four events and forty others
    few = scored.parts(codes)[1].figures
    assert few["sensitivity"].value is None
    assert "4 patients, 5 are needed" in few["sensitivity"].why
    assert few["auroc"].value is few["delta_tpr"].value is None
    assert few["specificity"].value is not None
    codes[order[: SMALL // 4 + 2]] = 1  # seven
    seven = scored.parts(codes)[1].figures
    assert seven["sensitivity"].high - seven["sensitivity"].low > 0.3
    assert seven["delta_tpr"].p is None
    assert seven["delta_tpr"].low < seven["delta_tpr"].value < seven["delta_tpr"].high


def test_a_group_that_is_all_right_is_not_certain():
    events = np.arange(60) % 2 == 0
    scored = Scored(events, np.where(events, 3.0, -3.0), np.arange(60), 0.0, 50)
    figures = scored.parts(np.arange(60) // 30)[0].figures
    assert figures["sensitivity"].value == figures["auroc"].value == 1
    assert figures["sensitivity"].low < 0.85
    assert "separates" in figures["slope"].why


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_differences_that_are_not_there_are_seldom_found(share):
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        events, codes = rng.random(400) < 0.5, rng.integers(0, 2, 400)
        scores = rng.normal(size=400) + events - 0.5 + share * 6 * codes * events
        found.append(Scored(events, scores, rng.integers(0, 250, 400), 0.0, 100).parts(codes)[0])
    p = np.array([part.figures["delta_tpr"].p for part in found])
    assert (p < 0.05).mean() < 0.17 if share == 0 else (p < 0.05).mean() > 0.8


def test_operating_points():
    rng = np.random.default_rng(0)
    events, scores = np.arange(200) % 3 == 0, rng.normal(size=200).round(1) + (np.arange(200) % 3 == 0)
    assert Operating.of("0.5").threshold(events, scores) == 0
    threshold = Operating.of("sensitivity=.9").threshold(events, scores)
    above = [t for t in np.unique(scores) if (scores[events] >= t).mean() >= 0.9]
    assert threshold == max(above)
    youden = [(scores[events] >= t).mean() - (scores[~events] >= t).mean() for t in np.unique(scores)]
    chosen = Operating.of("Youden").threshold(events, scores)
    assert youden[np.unique(scores).tolist().index(chosen)] == pytest.approx(max(youden))
    assert "too good" in str(Operating.of("youden"))
    assert not Operating.of(0.3).on_these_data


@pytest.mark.parametrize("given", [0, 1.0, "yes", "sensitivity", "sensitivity=2", "youden=.4", True, "nan"])
def test_other_operating_points_are_refused(given):
    with pytest.raises(InputError, match="youden"):
        Operating.of(given)
