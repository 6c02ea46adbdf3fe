from types import SimpleNamespace

import numpy as np
import pytest

from shortcutscope.discover.beside import CLEAR_AMONG_FREE, Beside, search_beside
from shortcutscope.discover.candidates import SampleInfo, judge
from shortcutscope.discover.confirm import HeldOut, confirm
from shortcutscope.discover.early import EarlyFeatures
from shortcutscope.discover.proposal import Proposal
from shortcutscope.stats.metrics import within_class_auroc

SHARES = np.array([0.1, 0.9])
SCAN = SimpleNamespace(layers=[SimpleNamespace(name="stem")])


def drawn(generator, labels):
    return generator.random(len(labels)) < SHARES[labels]


def study(*, hidden, second=True, n=600, seed=0):
    """Two artifacts, of which the second cannot be seen where the first one is, if hidden."""
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n // 2)
    carries, also = drawn(generator, labels), drawn(generator, labels) & second
    seen = also & ~carries if hidden else also
    values = generator.standard_normal((n, 12))
    values[:, :3] += 6.0 * carries[:, None]
    values[:, 3:6] += 6.0 * seen[:, None]
    margin = labels + 3.0 * carries + 2.0 * seen + generator.standard_normal(n)
    samples = SampleInfo(labels, np.arange(n), {1: margin})
    (candidate,) = judge("filters: a", values[:, :3].sum(1), samples)
    (held_out,) = confirm([candidate], values, samples)
    strongest = Proposal("discovered 1", candidate, ("filters: a",)), held_out
    return strongest, EarlyFeatures(values, 0, "no bank"), samples, carries, also


def test_what_the_strongest_hides_is_told_among_the_samples_free_of_it():
    strongest, early, samples, carries, also = study(hidden=True)
    beside = search_beside(strongest, SCAN, early, samples, 7)
    assert beside.everywhere == []
    ((proposal, held_out),) = beside.free
    assert proposal.name == "discovered 7"
    assert proposal.families == ("activation",)
    assert "of samples without discovered 1" in proposal.views[0]
    assert proposal.candidate.separation >= CLEAR_AMONG_FREE
    assert held_out.failure == ""
    free = ~carries
    assert within_class_auroc(also[free], proposal.scores[free], samples.labels[free]) > 0.99
    assert np.isfinite(proposal.scores).all()
    # Of the carriers of the strongest nothing is claimed.
    assert np.isnan(held_out.values[carries]).all()
    assert not proposal.seeds[carries].any()
    known = np.isfinite(held_out.values)
    assert (held_out.values[known] == also[known]).mean() > 0.98
    assert beside.looked_at > 0


def test_what_can_be_told_in_all_samples_is():
    strongest, early, samples, carries, also = study(hidden=False)
    beside = search_beside(strongest, SCAN, early, samples, 2)
    assert beside.free == []
    ((proposal, held_out),) = beside.everywhere
    assert within_class_auroc(also, proposal.scores, samples.labels) > 0.99
    assert within_class_auroc(carries, proposal.scores, samples.labels) == pytest.approx(0.5, abs=0.1)
    assert np.isfinite(held_out.values).mean() > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_without_a_second_one_nothing_is_proposed_and_what_is_dropped_is_of_all_samples(seed):
    strongest, early, samples, _, _ = study(hidden=True, second=False, seed=seed)
    beside = search_beside(strongest, SCAN, early, samples, 2)
    assert beside.everywhere == beside.free == []
    assert beside.looked_at > 0
    for proposal in beside.dropped:
        assert proposal.dropped
        assert len(proposal.scores) == len(proposal.seeds) == len(samples.labels)


def test_too_few_free_samples_or_one_class_of_them_are_not_searched():
    (proposal, held_out), early, samples, carries, _ = study(hidden=True)
    for free in (np.arange(600) < 30, samples.labels == 0):
        values = np.where(free, 0.0, 1.0)
        one = HeldOut(held_out.scores, carries, values)
        beside = search_beside((proposal, one), SCAN, early, samples, 2)
        assert beside.everywhere == beside.free == beside.dropped == []
        assert beside.looked_at == 0


def test_a_pure_proposal_of_all_samples_stands_before_one_of_some_and_a_mixed_one_after_it():
    strongest, _, samples, carries, also = study(hidden=False)

    def confirmed(name, carriers):
        values = carriers.astype(float)
        return Proposal(name, strongest[0].candidate, ("filters: a",)), HeldOut(values, carriers, values)

    beside = Beside([confirmed("everywhere", also)], [confirmed("free", also)], [], 1)
    others = [confirmed("mixed", also | carries), confirmed("pure", also)]
    order = [p.name for p, _ in beside.merged(others, carries, samples.labels)]
    assert order == ["everywhere", "pure", "free", "mixed"]
