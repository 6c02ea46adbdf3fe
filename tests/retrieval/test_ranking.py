import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.retrieval.ranking import choose_views, rank
from shortcutscope.retrieval.views import Views
from shortcutscope.stats.metrics import auroc


def marked(frame, n=10):
    rare = np.flatnonzero(frame["carries"] & (frame["label"] == 0))
    marks = np.full(len(frame), np.nan)
    marks[rare[:n]] = 1
    return marks


def test_carriers_of_both_classes_rank_first_from_ten_marks_in_one(made_up):
    views, frame = made_up
    marks = marked(frame)
    found = rank(views, marks, frame["label"], frame["group"])
    assert found.classes == (0,)
    assert found.recovery > 0.8
    for label in (0, 1):
        own = (frame["label"] == label).to_numpy() & np.isnan(marks)
        assert auroc(frame["carries"].to_numpy(float)[own], found.scores[own]) > 0.95


def test_marked_samples_are_scored_by_models_that_did_not_see_them():
    """On noise with more features than samples, scores on fitted samples would be near perfect."""
    rng = np.random.default_rng(0)
    aurocs = []
    for seed in range(5):
        views = Views({"stem": rng.standard_normal((120, 300)).astype(np.float32)})
        marks = np.where(np.arange(120) < 20, 1.0, np.where(np.arange(120) < 40, 0.0, np.nan))
        found = rank(views, marks, np.zeros(120), np.arange(120), seed=seed)
        aurocs.append(auroc(marks[:40], found.scores[:40]))
        assert auroc(marks[:40], found.vector.score(views.features)[:40]) > 0.95
    assert 0.35 < np.mean(aurocs) < 0.65


def test_the_same_marks_and_seed_give_the_same_ranking(made_up):
    views, frame = made_up
    first, second = (rank(views, marked(frame), frame["label"], frame["group"], seed=4) for _ in range(2))
    assert (first.scores == second.scores).all()


def test_fewer_than_five_carriers_are_refused(made_up):
    views, frame = made_up
    with pytest.raises(InputError, match="4 carriers are marked; at least 5"):
        rank(views, marked(frame, 4), frame["label"], frame["group"])


def test_marks_choose_the_view_that_knows(made_up):
    views, frame = made_up
    found = choose_views(
        views, [("input",), ("stem",)], marked(frame), frame["label"].to_numpy(), frame["group"].to_numpy()
    )
    assert found.views == ("stem",)


def test_a_class_in_which_most_carry_it_is_not_learnt_in(made_up):
    views, frame = made_up
    marks = marked(frame)
    common = np.flatnonzero(frame["carries"] & (frame["label"] == 1))
    marks[common[:10]] = 1
    assert rank(views, marks, frame["label"], frame["group"]).classes == (0,)


def test_a_class_whose_marked_carriers_are_all_of_one_patient_is_not_learnt_in(made_up):
    views, frame = made_up
    marks, groups = marked(frame), frame["group"].astype(str).to_numpy()
    common = np.flatnonzero(frame["carries"] & (frame["label"] == 1))[:3]
    marks[common], groups[common] = 1, "one patient"
    assert rank(views, marks, frame["label"], groups).classes == (0,)
