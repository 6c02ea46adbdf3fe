import numpy as np
import pytest
import torch

from shortcutscope.probes.usage import (
    Prefix,
    Projections,
    UseSamples,
    drawn_order,
    evaluation_samples,
    fit_projection,
    use_edits,
    use_result,
)

N, C = 600, 8
RNG = np.random.default_rng(0)
LABELS = np.arange(N) % 2
CONCEPT = (np.arange(N) // 2 % 2).astype(float)
HALVES = np.arange(N) // 4 % 2
GROUPS = np.arange(N)


def activations(seed=0):
    """(N, C) with the label along channel 0 and the concept along channels 1 and 2."""
    h = np.random.default_rng(seed).standard_normal((N, C))
    h[:, 0] += 3 * LABELS
    h[:, 1] += 3 * CONCEPT
    h[:, 2] -= 2 * CONCEPT
    return h


ORDER = drawn_order(N, 0)


def effect(pooled, samples, read, prefix=None):
    """Use of a concept at a layer; `read` gives the margins of some samples with the layer edited."""
    chosen = evaluation_samples(samples.concept, samples.labels, samples.halves, ORDER)
    edits = use_edits(pooled, samples, chosen, prefix)
    rows = np.concatenate([rows for rows, _ in edits]) if edits else np.empty(0, int)
    edited = [
        read(half, Projections([one]).edit(torch.zeros(len(half), dtype=torch.int64))) for half, one in edits
    ]
    return use_result(samples, rows, np.concatenate(edited) if edited else np.empty(0))


def use(head, concept=CONCEPT, h=None):
    """Effect of taking the concept out in front of a linear head."""
    h = activations() if h is None else h

    def read(indices, edit):
        return (edit(torch.from_numpy(h[indices])[..., None])[..., 0].numpy() @ head).astype(float)

    return effect(h, UseSamples(concept, LABELS, GROUPS, h @ head, HALVES), read)


def test_projection_takes_the_concept_out_and_keeps_the_rest():
    h = activations()
    edit = Projections([fit_projection(h, CONCEPT, LABELS)]).edit(torch.zeros(N, dtype=torch.int64))
    edited = edit(torch.from_numpy(h)[..., None])[..., 0].numpy()
    gap = [h_[CONCEPT == 1].mean(0) - h_[CONCEPT == 0].mean(0) for h_ in (h, edited)]
    assert np.abs(gap[0][1:3]).min() > 1.5
    assert np.abs(gap[1][1:3]).max() < 0.3
    label_gap = edited[LABELS == 1, 0].mean() - edited[LABELS == 0, 0].mean()
    assert label_gap == pytest.approx(3, abs=0.3)


def test_with_more_channels_than_samples_the_filter_is_the_same_ridge():
    h, t, y = np.random.default_rng(3).standard_normal((40, 90)), CONCEPT[:40], LABELS[:40]
    member = (y[:, None] == [0, 1]).astype(float)
    within = np.eye(40) - member @ np.diag(1 / member.sum(0)) @ member.T
    spread = (within @ h).std(0)
    z = within @ h / (spread + 1e-4 * spread.max())
    slow = np.linalg.solve(z.T @ z + 0.02 * 40 * np.eye(90), z.T @ within @ t)
    found = fit_projection(h, t, y).filter * (spread + 1e-4 * spread.max())
    np.testing.assert_allclose(found, slow, atol=1e-9)


def test_a_used_concept_has_an_effect_and_an_unused_one_has_none():
    used = use(np.array([1.0, 1, 0, 0, 0, 0, 0, 0]))
    ignored = use(np.array([1.0, 0, 0, 0, 0, 0, 0, 0]))
    assert used.effect > 1
    assert used.interval[0] > 0.2
    assert used.p < 1e-6
    assert abs(ignored.effect) < 0.15


def test_effect_equals_a_slow_reference():
    head = np.array([1.0, 0.5, 0, 0, 0, 0, 0, 0])
    h, result = activations(), use(head)
    spread = np.sqrt(np.mean([(h @ head)[c == LABELS].var() for c in (0, 1)]))
    change = dict(zip(result.samples, result.change, strict=True))
    gaps = [
        np.mean([v for i, v in change.items() if LABELS[i] == c and CONCEPT[i] == 1])
        - np.mean([v for i, v in change.items() if LABELS[i] == c and CONCEPT[i] == 0])
        for c in (0, 1)
    ]
    assert result.effect == pytest.approx(np.mean(gaps) / spread)


def test_the_effect_turns_its_sign_when_the_other_value_is_called_present():
    head = np.array([1.0, 1, 0, 0, 0, 0, 0, 0])
    concept = CONCEPT.copy()
    one = use(head, concept)
    swapped = use(head, 1 - concept)
    assert swapped.effect == pytest.approx(-one.effect, abs=0.1)


def test_the_direction_never_sees_the_patients_it_is_judged_on():
    h = np.random.default_rng(3).standard_normal((N, 200))
    concept = np.random.default_rng(4).integers(0, 2, N).astype(float)
    result = use(np.random.default_rng(5).standard_normal(200), concept, h)
    assert abs(result.effect) < 0.2


def test_no_class_with_both_values_gives_nothing_instead_of_a_number():
    result = use(np.ones(C), LABELS.astype(float))
    assert np.isnan(result.effect)
    assert len(result.samples) == 0


def test_evaluation_samples_are_balanced_and_known():
    concept = CONCEPT.copy()
    concept[:50] = np.nan
    first, second = evaluation_samples(concept, LABELS, HALVES, ORDER, per_cell=7)
    assert set(HALVES[first]) == {0}
    assert set(HALVES[second]) == {1}
    assert np.isfinite(concept[np.r_[first, second]]).all()
    assert len(first) == len(second) == 28


def test_the_class_token_loses_the_concept_along_its_own_direction():
    patches = np.random.default_rng(1).standard_normal((N, C))
    class_token = np.random.default_rng(2).standard_normal((N, C))
    patches[:, 1] += 3 * CONCEPT
    class_token[:, 5] += 3 * CONCEPT
    head = np.eye(C)[5]

    def read(indices, edit):
        tokens = np.stack([class_token, patches, patches], axis=2)[indices]
        return (edit(torch.from_numpy(tokens))[..., 0].numpy() @ head).astype(float)

    samples = UseSamples(CONCEPT, LABELS, GROUPS, class_token @ head, HALVES)
    assert effect(patches, samples, read, Prefix(class_token, 1)).effect > 1
    assert abs(effect(patches, samples, read).effect) < 0.3


def test_each_sample_is_given_its_own_projection():
    h = activations()
    fitted = [fit_projection(h, concept, LABELS) for concept in (CONCEPT, np.roll(CONCEPT, 1))]
    which = torch.arange(N) % 2
    values = torch.from_numpy(h)[..., None].expand(-1, -1, 3)
    both = Projections(fitted).edit(which)(values)
    for k, one in enumerate(fitted):
        alone = Projections([one]).edit(torch.zeros(N, dtype=torch.int64))(values)
        torch.testing.assert_close(both[which == k], alone[which == k])
        # h - s (w . (h - m)) / (w . s)
        amount = (h - one.middle) @ one.filter / (one.filter @ one.pattern)
        slow = torch.from_numpy(h - amount[:, None] * one.pattern)
        torch.testing.assert_close(alone[..., 1], slow, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("level", [0.0, 4.2])
def test_logits_that_only_rounding_tells_apart_have_no_ranks(level):
    margins = 3 * CONCEPT - 1.5
    samples = UseSamples(CONCEPT, LABELS, GROUPS, margins, HALVES)
    digits = level + 1e-7 * (2 * LABELS - 1)  # the order in which a processor adds may go with anything
    result = use_result(samples, np.arange(N), digits)
    assert result.robust_auroc[1] == 0.5
    assert result.worst_group[1] == 0.0  # all are called one class, not each its own
    told_apart = use_result(samples, np.arange(N), level + 1e-3 * (2 * LABELS - 1))
    assert told_apart.robust_auroc[1] == 1.0


def test_samples_of_several_concepts_are_mostly_the_same_ones():
    other = np.random.default_rng(9).integers(0, 2, N).astype(float)
    one, two = (
        np.concatenate(evaluation_samples(c, LABELS, HALVES, ORDER, per_cell=10)) for c in (CONCEPT, other)
    )
    assert len(np.intersect1d(one, two)) > 40 > 80 * 80 / N
