import numpy as np
import pytest

from shortcutscope.discover.candidates import SampleInfo, judge
from shortcutscope.discover.confirm import confirm


@pytest.fixture
def told(two_group_scores):
    """A candidate, early features that know its carriers, and what the model makes of them."""
    scores, carriers, labels = two_group_scores(n=200)
    generator = np.random.default_rng(2)
    margin = 3.0 * carriers + labels + generator.standard_normal(len(labels))
    samples = SampleInfo(labels.astype(np.int64), np.arange(len(labels)), {1: margin})
    early = generator.standard_normal((len(labels), 6))
    early[:, 2] += 6 * carriers
    (candidate,) = judge("filters: x", scores, samples)
    return candidate, early, samples, carriers


def test_carriers_are_read_from_other_patients(told):
    candidate, early, samples, carriers = told
    (held_out,) = confirm([candidate], early, samples)
    known = ~np.isnan(held_out.values)
    assert held_out.failure == ""
    assert known.mean() > 0.9
    assert (held_out.values[known] == carriers[known]).mean() > 0.97


def test_a_samples_own_score_does_not_decide_its_value(told):
    candidate, early, samples, carriers = told
    before = confirm([candidate], early, samples)[0].values
    one = int(np.flatnonzero(carriers & (before == 1))[0])
    candidate.scores[one] = candidate.scores.min()
    assert confirm([candidate], early, samples)[0].values[one] == 1


def test_what_other_patients_do_not_tell_is_not_confirmed(told):
    candidate, early, samples, _ = told
    (held_out,) = confirm([candidate], np.random.default_rng(5).standard_normal(early.shape), samples)
    assert "read from other patients' samples" in held_out.failure


def test_groups_that_hardly_anybody_is_sure_to_belong_to_are_not_confirmed(told):
    candidate, early, samples, _ = told
    candidate.scores[:] = np.random.default_rng(0).standard_normal(len(early))
    (held_out,) = confirm([candidate], early, samples)
    assert held_out.failure


def test_nothing_to_confirm(told):
    _, early, samples, _ = told
    assert confirm([], early, samples) == []
