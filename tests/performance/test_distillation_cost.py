"""A step of distillation beside a step of plain training, in CPU time within one process."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shortcutscope.benchmarks.suites.scan import cpu_times, ratio
from shortcutscope.debias.distillation.loss import Distill, teacher_outputs
from shortcutscope.debias.distillation.matching import pair_layers
from shortcutscope.debias.distillation.options import Distillation
from shortcutscope.debias.objective import Batch, CrossEntropy, Objective
from shortcutscope.debias.teacher import fit_probes
from shortcutscope.models.layers import find_layers
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.thin import thin_resnet18

#: Of a narrow network, whose convolutions are cheap beside all else: the worst case. Run live, and kept.
LIMITS = {None: (1.5, 1.15), "probes": (1.7, 1.3), "features": (1.7, 1.35)}


def step(objective: Objective, model: nn.Module, batch: Batch) -> None:
    model.zero_grad()
    torch.stack(list(objective.terms(model, batch).values())).sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize("form", [None, "probes", "features"])
def test_a_step_costs_little_more_than_one_of_plain_training(form: str | None) -> None:
    table = radiographs(64, size=64, seed=50, patients=False)
    student, teacher = thin_resnet18(seed=0).train(), thin_resnet18(seed=1).eval()
    images = torch.stack([table[i][0] for i in range(64)])
    batch = Batch(images, torch.tensor(table.frame["label"].to_numpy()), torch.arange(64))
    layers = find_layers(teacher, images[:2])
    weights = dict.fromkeys((layer.name for layer in layers), 1 / len(layers))
    pairs = pair_layers(layers, layers, weights) if form else []
    options = Distillation(form=form, layers="uniform")  # type: ignore[arg-type]
    given = {"probes": fit_probes(teacher, table, layers) if form == "probes" else None, "example": images}
    cached = teacher_outputs(teacher, table, pairs, options, given["probes"], progress=False)
    objectives = {
        "plain": CrossEntropy(),
        "live": Distill(teacher, pairs, options, **given),
        "cached": Distill(teacher, pairs, options, **given, cached=cached),
    }
    runs = {name: lambda o=objective: step(o, student, batch) for name, objective in objectives.items()}
    times = cpu_times(runs, rounds=7)
    costs = {name: ratio(times[name], times["plain"]) for name in ("live", "cached")}
    assert costs["live"] <= LIMITS[form][0]
    assert costs["cached"] <= LIMITS[form][1]
