from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcutscope.pixels.decision import LEAST, decide
from shortcutscope.pixels.effects import Changes, Response, Scale, response


def changes(rows, moved, rng):
    before = rng.normal(0, 1, len(rows))
    return Changes(np.asarray(rows), before, before + moved)


@settings(max_examples=20)
@given(st.integers(0, 999))
def test_the_excess_is_the_mean_over_labels_of_the_differences(seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 0, 1], [30, 40, 20, 15])
    scale = Scale(labels, np.arange(len(labels)), 2.0, -1)
    own_rows, null_rows = np.arange(70), np.arange(70, 105)
    own = changes(own_rows, rng.normal(1, 1, 70), rng)
    null = changes(np.repeat(null_rows, 2), rng.normal(0.3, 1, 70), rng)
    result = response("with", own, null, scale, n_bootstrap=20)
    parts = []
    for k, share in ((0, 30 / 70), (1, 40 / 70)):
        mine = (own.after - own.before)[labels[own.rows] == k].mean()
        theirs = (null.after - null.before)[labels[null.rows] == k].mean()
        parts.append(share * (mine - theirs))
    assert result.excess == pytest.approx(-sum(parts) / 2)
    assert result.excess == pytest.approx(result.effect - result.null)
    assert (result.n, result.n_null) == (70, 35)


def test_images_of_one_patient_make_it_less_sure():
    rng = np.random.default_rng(0)
    labels = np.zeros(80, int)
    moved = np.repeat(rng.normal(1, 1, 10), 4)
    own, null = changes(np.arange(40), moved, rng), changes(np.arange(40, 80), np.zeros(40), rng)
    alone = response("with", own, null, Scale(labels, np.arange(80), 1, 1), n_bootstrap=200)
    together = response("with", own, null, Scale(labels, np.arange(80) // 4, 1, 1), n_bootstrap=200)
    assert together.z < 0.7 * alone.z
    assert together.n_groups == 10


def test_a_label_without_a_null_takes_no_part():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 0], [10, 10, 10])
    own = changes(np.arange(20), np.repeat([1.0, 9.0], 10), rng)
    null = changes(np.arange(20, 30), np.zeros(10), rng)
    result = response("with", own, null, Scale(labels, np.arange(30), 1, 1), n_bootstrap=20)
    assert result.excess == pytest.approx(1)
    assert result.by_class["1"]["null"] is None


def answered(excess, z, direction="without", doubt=""):
    ends = (excess - 0.1, excess + 0.1)
    return Response(
        direction, excess, ends, 0, ends, excess, ends, z, 0.3, (0.2, 0.4), 0.1, 50, 40, 50, doubt=doubt
    )


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ((0.5, 5), (0.4, 4), "confirmed"),
        ((0.5, 5), (LEAST - 0.01, 9), "supported"),
        ((0.5, 2.9), (0.4, 2.9), "not confirmed"),
        ((0.1, 9), (0.1, 9), "not confirmed"),
        ((-0.9, -9), (0.1, 1), "not confirmed"),
    ],
)
def test_both_directions_have_to_exceed(first, second, word):
    said, reason = decide([answered(*first), answered(*second, "with")], [])
    assert said == word
    assert ("away from" in reason) == (first[0] < 0)


def test_doubtful_directions_neither_confirm_nor_refute():
    doubtful = answered(0.9, 9, "with", doubt="they did not arrive")
    assert decide([answered(0.5, 5), doubtful], [])[0] == "confirmed"
    assert decide([answered(0.1, 1), doubtful], [])[0] == "not confirmed"
    assert decide([doubtful], [])[0] == "supported"
    assert decide([answered(0.1, 1, doubt="they did not arrive")], [])[0] == "could not be tested"
    assert decide([answered(0.5, 5), answered(0.5, 5, "with")], [], within_labels=False)[0] == "supported"
