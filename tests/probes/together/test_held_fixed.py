"""Others held fixed: against slow least squares, and what must change nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcutscope.probes.blocks import Blocks
from shortcutscope.probes.together.held_fixed import (
    MOST_SAMPLES,
    contrasting_samples,
    partial_effect,
    related_concepts,
    residual,
)
from shortcutscope.probes.together.partial_patterns import pattern_cosine
from shortcutscope.probes.usage import Projections, UseSamples, drawn_order, fit_projection, use_edits

N, C = 800, 6
LABELS = np.arange(N) % 2
HALVES = np.arange(N) // 2 % 2
GROUPS = np.arange(N) // 2
HEAD = np.array([0.3, 1.0, 0, 0, 0, 0])


def tied(values, agree, seed):
    flips = np.random.default_rng(seed).random(len(values)) > agree
    return np.where(flips, 1 - values, values).astype(float)


CAUSE = np.random.default_rng(1).integers(0, 2, N).astype(float)
BYSTANDER = tied(CAUSE, 0.8, 2)
FURTHER = tied(CAUSE, 0.7, 3)


def activations(seed=0):
    """(N, C) with the label along channel 0 and the cause along channel 1."""
    h = np.random.default_rng(seed).standard_normal((N, C))
    h[:, 0] += 3 * LABELS
    h[:, 1] += 3 * CAUSE
    return h


def least_squares(values, strata, others):
    """Residual on an indicator of each stratum and the others, all at once."""
    design = np.column_stack([(strata == s).astype(float) for s in np.unique(strata)] + [others])
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


def test_the_residual_is_that_of_least_squares():
    others = np.column_stack([CAUSE, BYSTANDER, CAUSE + BYSTANDER, np.ones(N), FURTHER])
    h = activations()
    np.testing.assert_allclose(residual(h, LABELS, others), least_squares(h, LABELS, others), atol=1e-9)
    np.testing.assert_allclose(residual(h, LABELS, others[:, :0]), least_squares(h, LABELS, others[:, :0]))


def test_the_projection_is_that_of_a_slow_reference():
    h, others = activations(), np.column_stack([CAUSE, FURTHER])
    fitted = fit_projection(h, BYSTANDER, LABELS, others=others)
    r, t = least_squares(h, LABELS, others), least_squares(BYSTANDER, LABELS, others)
    spread = r.std(0) + 1e-4 * r.std(0).max() + 1e-12
    np.testing.assert_allclose(fitted.pattern, np.array([r[:, k] @ t for k in range(C)]) / (t @ t), atol=1e-9)
    gram = (r / spread).T @ (r / spread) + 0.02 * N * np.eye(C)
    np.testing.assert_allclose(fitted.filter, np.linalg.inv(gram) @ (r / spread).T @ t / spread, atol=1e-9)


def test_with_nothing_held_fixed_the_projection_is_the_one_of_use_alone():
    h = activations()
    alone, none = (fit_projection(h, CAUSE, LABELS, others=o) for o in (None, np.empty((N, 0))))
    for name in ("pattern", "filter", "middle"):
        assert np.array_equal(getattr(alone, name), getattr(none, name))


def held_fixed(concept, others, h=None):
    """Effect of taking a concept out in front of a linear head, with others held fixed."""
    h = activations() if h is None else h
    samples = UseSamples(np.where(others.known, concept, np.nan), LABELS, GROUPS, h @ HEAD, HALVES)
    chosen = contrasting_samples(samples.concept, others, (LABELS, HALVES), drawn_order(N, 0))
    edits = use_edits(h, samples, chosen, others=others.values)
    if not edits:
        return None
    rows = np.concatenate([rows for rows, _ in edits])
    edited = [
        Projections([one])
        .edit(torch.zeros(len(some), dtype=torch.int64))(torch.from_numpy(h[some])[..., None])[..., 0]
        .numpy()
        .astype(float)
        @ HEAD
        for some, one in edits
    ]
    change = (h[rows] @ HEAD - np.concatenate(edited)) / (h @ HEAD).std()
    strata = 2 * LABELS[rows] + HALVES[rows]
    return partial_effect(change, samples.concept[rows], strata, others.values[rows], GROUPS[rows])


def test_the_cause_keeps_its_effect_and_the_bystander_loses_it():
    columns = {"cause": CAUSE, "bystander": BYSTANDER, "further": FURTHER}
    for name, values in columns.items():
        others = related_concepts(values, LABELS, {n: v for n, v in columns.items() if n != name})
        assert len(others) == 2
        found = held_fixed(values, others)
        if name == "cause":
            assert found.interval[0] > 0.8
        else:
            assert abs(found.effect) < 0.1


@settings(max_examples=8)
@given(order=st.permutations(range(4)), seed=st.integers(0, 5))
def test_the_order_of_the_others_changes_nothing(order, seed):
    columns = {"a": tied(CAUSE, 0.75, seed), "b": BYSTANDER, "c": FURTHER, "d": 1 - BYSTANDER}
    shuffled = {list(columns)[k]: columns[list(columns)[k]] for k in order}
    one, other = (related_concepts(CAUSE, LABELS, some) for some in (columns, shuffled))
    assert one.names == other.names
    assert held_fixed(CAUSE, one) == held_fixed(CAUSE, other)
    backwards = replace(one, values=one.values[:, ::-1])
    pooled = activations()
    fitted = [fit_projection(pooled, CAUSE, LABELS, others=o.values) for o in (one, backwards)]
    np.testing.assert_allclose(fitted[0].pattern, fitted[1].pattern, atol=1e-9)


def test_columns_that_follow_from_others_change_nothing_and_the_concept_itself_leaves_nothing():
    plain = related_concepts(CAUSE, LABELS, {"b": BYSTANDER, "c": FURTHER})
    more = {"b": BYSTANDER, "c": FURTHER, "not b": 1 - BYSTANDER, "b again": BYSTANDER}
    collinear = related_concepts(CAUSE, LABELS, more)
    assert len(collinear) == 4
    both = [residual(activations(), LABELS, others.values) for others in (plain, collinear)]
    np.testing.assert_allclose(both[0], both[1], atol=1e-9)
    assert held_fixed(CAUSE, related_concepts(CAUSE, LABELS, {"not it": 1 - CAUSE})) is None


def test_many_collinear_columns_do_not_blow_up():
    rng = np.random.default_rng(0)
    columns = {f"c{k}": tied(CAUSE, a, k) for k, a in enumerate(rng.uniform(0.6, 0.95, 30))}
    columns |= {f"d{k}": np.maximum(columns[f"c{k}"], columns[f"c{k + 1}"]) for k in range(20)}
    others = related_concepts(CAUSE, LABELS, columns)
    assert len(others) == 50
    chosen = contrasting_samples(CAUSE, others, (LABELS, HALVES), drawn_order(N, 0))
    assert max(map(len, chosen)) <= MOST_SAMPLES + 8 * 40
    found = held_fixed(CAUSE, others)
    assert np.isfinite(found.effect)
    assert found.error < 1


def test_the_partial_effect_is_that_of_a_slow_regression_with_patients():
    rng, others = np.random.default_rng(5), np.column_stack([BYSTANDER, FURTHER])
    strata = 2 * LABELS + HALVES
    change = rng.standard_normal(N) + 0.5 * CAUSE + 0.3 * FURTHER + np.repeat(rng.standard_normal(N // 2), 2)
    design = np.column_stack([CAUSE, others] + [(strata == s).astype(float) for s in range(4)])
    bread = np.linalg.inv(design.T @ design)
    beta = bread @ design.T @ change
    meat = np.zeros((7, 7))
    for patient in np.unique(GROUPS):
        score = sum(design[i] * (change[i] - design[i] @ beta) for i in np.flatnonzero(patient == GROUPS))
        meat += np.outer(score, score)
    g = N // 2
    covariance = bread @ meat @ bread * g / (g - 1) * (N - 1) / (N - 7)
    found = partial_effect(change, CAUSE, strata, others, GROUPS)
    assert found.effect == pytest.approx(beta[0])
    assert found.error == pytest.approx(np.sqrt(covariance[0, 0]))


def test_what_is_known_of_few_samples_is_left_out_and_named():
    rare, often = BYSTANDER.copy(), FURTHER.copy()
    rare[: int(0.6 * N)] = np.nan
    often[: int(0.3 * N)] = np.nan
    others = related_concepts(CAUSE, LABELS, {"rare": rare, "often": often})
    assert (others.names, others.unknown) == (("often",), ("rare",))
    assert others.known.sum() == N - int(0.3 * N)
    assert held_fixed(CAUSE, others).interval[0] > 0.8


def test_concepts_that_correlate_by_chance_are_not_held_fixed():
    rng = np.random.default_rng(7)
    few = slice(0, 60)
    names = {f"c{k}": rng.integers(0, 2, 60).astype(float) for k in range(200)}
    assert len(related_concepts(CAUSE[few], LABELS[few], names)) < 20
    assert related_concepts(CAUSE, LABELS, {"label": LABELS.astype(float)}).names == ()


def test_a_concept_differs_from_its_opposite_where_they_are_the_same():
    others = related_concepts(CAUSE, LABELS, {"not": 1 - BYSTANDER, "b": BYSTANDER})
    assert others.differ.tolist() == [int((CAUSE != BYSTANDER).sum())] * 2
    assert set(np.sign(others.phi)) == {-1, 1}


def test_two_notes_of_one_thing_have_one_pattern_and_two_things_have_two():
    h = activations()
    h[:, 2] += 3 * BYSTANDER
    notes = [tied(CAUSE, 0.9, 11), tied(CAUSE, 0.9, 12)]
    halves = np.arange(N) // 4 % 2
    same = pattern_cosine([Blocks.of(h)], np.column_stack(notes), LABELS, halves)
    two = pattern_cosine([Blocks.of(h)], np.column_stack([CAUSE, BYSTANDER]), LABELS, halves)
    assert same > 0.95
    assert abs(two) < 0.3
    noise = np.random.default_rng(0).standard_normal((N, C))
    assert abs(pattern_cosine([Blocks.of(noise)], np.column_stack(notes), LABELS, halves)) <= 1
