"""The robustness index against its definition, written out."""

from __future__ import annotations

import numpy as np
import pytest

from shortcutscope.embeddings.robustness import robustness_index
from shortcutscope.errors import InputError

RNG = np.random.default_rng(0)
LABELS, SITE = np.repeat([0, 1], 60), np.tile([0.0, 1.0], 60)


def slowly(x: np.ndarray, groups: np.ndarray, k: int) -> float:
    same = other = 0
    for i in range(len(x)):
        cosine = [
            float(x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])) if groups[i] != groups[j] else -9
            for j in range(len(x))
        ]
        for j in np.argsort(cosine)[::-1][:k]:
            same += LABELS[i] == LABELS[j] and SITE[i] != SITE[j]
            other += LABELS[i] != LABELS[j] and SITE[i] == SITE[j]
    return same / (same + other)


@pytest.mark.parametrize("k", [1, 7])
def test_it_is_its_definition(k: int) -> None:
    x = RNG.normal(size=(120, 5)) + np.outer(LABELS, [2, 0, 0, 0, 0]) + np.outer(SITE, [0, 1, 0, 0, 0])
    groups = np.arange(120) // 3
    found = robustness_index(x, LABELS, SITE, groups, k=k)
    assert found.value == pytest.approx(slowly(x, groups, k))
    assert found.n == 30
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_it_is_one_by_class_zero_by_confounder_and_half_by_chance() -> None:
    x = RNG.normal(size=(120, 5))
    apart = 30 * np.eye(5)
    by_class = robustness_index(x + np.outer(LABELS, apart[0]) + apart[1], LABELS, SITE)
    by_site = robustness_index(x + np.outer(SITE, apart[0]) + apart[1], LABELS, SITE)
    by_chance = robustness_index(x, LABELS, SITE)
    assert by_class.value == 1
    assert by_site.value == 0
    assert by_chance.value == pytest.approx(0.5, abs=0.1)


def test_frequent_groups_are_no_nearer_for_being_frequent() -> None:
    labels = RNG.integers(0, 2, 2000)
    site = np.where(RNG.random(2000) < 0.9, labels, 1 - labels).astype(float)
    found = robustness_index(RNG.normal(size=(2000, 4)), labels, site)
    assert found.value == pytest.approx(0.5, abs=0.06)


def test_unknown_values_are_left_out() -> None:
    x = RNG.normal(size=(150, 5))
    labels, site = np.r_[LABELS, [0] * 30], np.r_[SITE, [np.nan] * 30]
    assert robustness_index(x, labels, site).value == robustness_index(x[:120], LABELS, SITE).value


def test_what_is_too_few_is_said() -> None:
    found = robustness_index(RNG.normal(size=(120, 3)), LABELS, np.where(np.arange(120) < 3, 1.0, 0.0))
    assert found.value is None
    assert "has 0 samples; 10 are needed" in found.why
    with pytest.raises(InputError, match="k=0"):
        robustness_index(RNG.normal(size=(120, 3)), LABELS, SITE, k=0)
