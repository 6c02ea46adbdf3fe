"""Every recipe trains its student where the biased network is, and to the CPU's weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from pretend_device import DEVICE, generators
from tagged_images import OPTIONS, network, small_problem

from shortcutscope.debias import teacher
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.models.frozen import device_of


@pytest.fixture(autouse=True)
def short_teachers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(teacher, "MIN_STEPS", 1)
    with generators():
        yield


@pytest.fixture(scope="module")
def problem() -> DebiasProblem:
    return small_problem(32, 16, 16)


@pytest.mark.parametrize("name", RECIPES)
def test_a_student_scores_as_the_cpus_does(name: str, problem: DebiasProblem) -> None:
    there = replace(problem, model=network(7).eval().to(DEVICE))
    students = [RECIPES[name](one, **OPTIONS.get(name, {})).model for one in (problem, there)]
    assert [device_of(student).type for student in students] == ["cpu", DEVICE.type]
    x = torch.stack([problem.train[k][0] for k in range(8)])
    with torch.no_grad():
        here, moved = students[0](x), students[1](x.to(DEVICE)).cpu()
    torch.testing.assert_close(moved, here, rtol=1e-3, atol=1e-3)
