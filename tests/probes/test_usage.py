import numpy as np
import pytest
import torch
from torch import nn

from shortcutscope.probes.usage import (
    Prefix,
    UseSamples,
    derivative_test,
    directional_derivative,
    evaluation_samples,
    fit_projection,
    projection_use,
)
from shortcutscope.stats.testing import permute_within

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


def use(head, concept=CONCEPT, h=None):
    """Effect of taking the concept out in front of a linear head."""
    h = activations() if h is None else h

    def intervene(indices, edit):
        return (edit(torch.from_numpy(h[indices])[..., None])[..., 0].numpy() @ head).astype(float)

    chosen = evaluation_samples(concept, LABELS, HALVES)
    return projection_use(h, UseSamples(concept, LABELS, GROUPS, h @ head, HALVES), chosen, intervene)


def test_projection_takes_the_concept_out_and_keeps_the_rest():
    h = activations()
    edited = fit_projection(h, CONCEPT, LABELS)(torch.from_numpy(h)[..., None])[..., 0].numpy()
    gap = [h_[CONCEPT == 1].mean(0) - h_[CONCEPT == 0].mean(0) for h_ in (h, edited)]
    assert np.abs(gap[0][1:3]).min() > 1.5
    assert np.abs(gap[1][1:3]).max() < 0.3
    label_gap = edited[LABELS == 1, 0].mean() - edited[LABELS == 0, 0].mean()
    assert label_gap == pytest.approx(3, abs=0.3)


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
    first, second = evaluation_samples(concept, LABELS, HALVES, per_cell=7)
    assert set(HALVES[first]) == {0}
    assert set(HALVES[second]) == {1}
    assert np.isfinite(concept[np.r_[first, second]]).all()
    assert len(first) == len(second) == 28


def test_directional_derivative_equals_autograd_on_a_small_network():
    h = activations()
    net = nn.Sequential(nn.Linear(C, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    leaf = torch.from_numpy(h).requires_grad_()
    logits = net(leaf)
    target = torch.from_numpy(LABELS)
    gradients = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), leaf)[0].numpy()
    towards = np.where(LABELS == 1, 1.0, -1.0)
    pattern = np.mean(
        [
            h[(c == LABELS) & (CONCEPT == 1)].mean(0) - h[(c == LABELS) & (CONCEPT == 0)].mean(0)
            for c in (0, 1)
        ],
        axis=0,
    )
    slow = np.mean([(gradients[LABELS == 1] @ pattern).mean(), -(gradients[LABELS == 0] @ pattern).mean()])
    fast = directional_derivative(gradients, h, CONCEPT[:, None], LABELS, towards)[0]
    assert fast == pytest.approx(slow)


def test_derivative_of_a_used_concept_leaves_the_null_of_permuted_ones():
    h, head = activations(), np.array([1.0, 1, 0, 0, 0, 0, 0, 0])
    towards = np.where(LABELS == 1, 1.0, -1.0)
    gradients = towards[:, None] * head
    permuted = permute_within(CONCEPT, LABELS, None, 200, 0)
    value, p = derivative_test(gradients, h, CONCEPT, permuted, LABELS, towards, 1.0)
    assert value > 1
    assert p < 0.01


def test_the_class_token_loses_the_concept_along_its_own_direction():
    patches = np.random.default_rng(1).standard_normal((N, C))
    class_token = np.random.default_rng(2).standard_normal((N, C))
    patches[:, 1] += 3 * CONCEPT
    class_token[:, 5] += 3 * CONCEPT
    head = np.eye(C)[5]

    def intervene(indices, edit):
        tokens = np.stack([class_token, patches, patches], axis=2)[indices]
        return (edit(torch.from_numpy(tokens))[..., 0].numpy() @ head).astype(float)

    chosen = evaluation_samples(CONCEPT, LABELS, HALVES)
    options = {"prefix": Prefix(class_token, 1)}
    samples = UseSamples(CONCEPT, LABELS, GROUPS, class_token @ head, HALVES)
    arguments = (patches, samples, chosen, intervene)
    assert projection_use(*arguments, **options).effect > 1
    assert abs(projection_use(*arguments).effect) < 0.3
