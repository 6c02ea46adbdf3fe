"""Does distilling at intermediate layers beat distilling the logits, and when?

Each case is one student. What varies: the label term of the loss and how strongly the teacher's logits
weigh against it, the correlation, the clean samples, where teacher and student begin, the student's
architecture and width, and what is compared at intermediate layers. Every setting has two controls: the
logits alone (``logits``), and the logits alone at four times their weight (``logits x 4``): a term more is
also more weight against the biased labels. A student that begins as its teacher and has clean samples in its
steps has a third, ``no teacher``: the same labels and steps without any term of the teacher's.
``difference`` is the robust AUROC against ``logits`` in the same setting, paired by task, artifact and seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from shortcutscope.benchmarks.debias_networks import NetworkStore, store_of
from shortcutscope.benchmarks.figures.dots import Dot, Panel, dots
from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.models import tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.benchmarks.suites.debias import KINDS
from shortcutscope.debias.distillation.recipe import distil
from shortcutscope.debias.samples import CLEAN_SHARE
from shortcutscope.debias.teacher import Ensemble, Teacher
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.thin import ThinResNet
from shortcutscope.types import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What is compared at intermediate layers, and at which.
FORMS: dict[str, Record] = {
    "logits": {"form": None},
    "logits x 4": {"form": None, "logit_weight": 4.0},
    "probes, all": {"form": "probes", "layers": "uniform"},
    "features, all": {"form": "features", "layers": "uniform"},
    "features, audit": {"form": "features", "layers": "audit"},
    "features, last": {"form": "features", "layers": "last"},
    "attention, all": {"form": "attention", "layers": "uniform", "layer_weight": 20.0},
    "cka, all": {"form": "cka", "layers": "uniform"},
    "features, audit, heavy": {"form": "features", "layers": "audit", "layer_weight": 4.0},
    "features, audit, complement": {"form": "features", "layers": "audit", "along": 0.0},
    "features, audit, along": {"form": "features", "layers": "audit", "along": 10.0},
    "relevant, audit": {"form": "relevant", "layers": "audit"},
    "relevant, audit, complement": {"form": "relevant", "layers": "audit", "along": 0.0},
    "three teachers' logits": {"form": None},
    "no teacher": {"form": None, "logit_weight": 0.0},
}
MAIN = ("logits", "logits x 4", "probes, all", "features, all", "features, audit", "features, last")
SHORT = ("logits", "logits x 4", "features, audit")
LAST = ("logits", "logits x 4", "features, audit", "no teacher")
WIDE = ("logits", "logits x 4", "features, audit", "features, last")
BIASED_LABELS = ("plain", "plain, weak teacher")
#: The label terms: the biased labels' cross-entropy weighs 1.
LABELS: dict[str, Record] = {
    "none": {"labels": "none"},
    "plain": {"labels": "plain"},
    "plain, weak teacher": {"labels": "plain", "logit_weight": 0.1},
    "clean": {"labels": "clean"},
    "group-balanced": {"labels": "group-balanced"},
    "group-balanced, retrieved": {"labels": "group-balanced"},
}
ENSEMBLE = 3
BASE: Case = {
    "clean_fraction": 0.02,
    "correlation": 0.95,
    "network": "resnet18",
    "teacher": "model",
    "student": "fresh",
}
FULL_WIDTH = "resnet18, full width"


def cases(settings: Settings) -> list[Case]:
    """One factor at a time around a base setting, and label terms by correlation in full.

    Networks of full width, which cost more than all others together, are trained on one task and seed.
    """
    names: tuple[str, ...] = tasks(settings)[1:] if settings.quick else tasks(settings)
    result: dict[str, Case] = {}
    for seed in range(settings.seed, settings.seed + (1 if settings.quick else 2)):
        for setting in _settings(settings):
            wide = setting["network"] == FULL_WIDTH
            if wide and seed > settings.seed:
                continue
            for task in names[-1:] if wide else names:
                for kind in KINDS[:1] if settings.quick else KINDS:
                    case = {"task": task, "kind": kind, "group": get_artifact(kind).extent, "seed": seed}
                    result.setdefault(repr({**case, **setting}), {**case, **setting})
    return list(result.values())


def _settings(settings: Settings) -> Iterator[Case]:
    if settings.quick:
        yield from ({**BASE, "labels": "plain, weak teacher", "form": form} for form in SHORT)
        return
    for correlation in (0.95, 1.0):
        for labels in ("none", *BIASED_LABELS):
            for form in MAIN:
                yield {**BASE, "correlation": correlation, "labels": labels, "form": form}
    if not settings.full:
        return
    for changed in (
        {"teacher": "fresh"},
        {"clean_fraction": 0.01},
        {"clean_fraction": 0.1},
        {"student": "model"},
        {"student": "other"},
    ):
        for correlation in (0.95, 1.0):
            for labels in ("none", "plain"):
                for form in SHORT:
                    yield {**BASE, **changed, "correlation": correlation, "labels": labels, "form": form}
    for labels in ("none", "plain"):
        for form in FORMS:
            if (labels, form) != ("none", "no teacher"):  # nothing would be left to learn from
                yield {**BASE, "labels": labels, "form": form}
    for form in (*SHORT, "features, audit, complement", "features, audit, along"):
        yield {**BASE, "student": "model", "labels": "group-balanced", "form": form}
    for correlation in (0.95, 1.0):
        for labels in ("clean", "group-balanced"):
            for form in LAST:
                yield {
                    **BASE, "correlation": correlation, "student": "teacher", "labels": labels, "form": form
                }  # fmt: skip
    for form in LAST:
        yield {**BASE, "student": "teacher", "labels": "group-balanced, retrieved", "form": form}
    for labels in ("none", "plain"):
        for form in WIDE:
            yield {**BASE, "network": FULL_WIDTH, "labels": labels, "form": form}


def run_case(case: Case, settings: Settings) -> Case:
    """Train one student."""
    store = store_of(case, settings)
    options = {**LABELS[case["labels"]], **FORMS[case["form"]]}
    if "logit_weight" in FORMS[case["form"]]:
        weak = LABELS[case["labels"]].get("logit_weight", 1.0)
        options["logit_weight"] = weak * FORMS[case["form"]]["logit_weight"]
    problem = store.problem(store.retrieved() if case["labels"].endswith("retrieved") else None)
    if case["student"] == "teacher":
        options |= {"start": "teacher", "clean_share": CLEAN_SHARE}
    elif case["student"] == "model":
        problem = replace(problem, start="model")
    elif case["student"] == "other":
        problem = replace(problem, initial=other_network)
        if options.get("layers") == "audit":
            options["layers"] = _by_depth(problem.layers or {}, store, problem.network())
    teacher = store.teacher(case["teacher"])
    if case["form"].startswith("three"):
        more = [store.teacher(case["teacher"], number).model for number in range(1, ENSEMBLE)]
        teacher = Teacher(Ensemble([teacher.model, *more]).eval(), case["teacher"], judged=teacher.judged)
    outcome = distil(problem, teacher=teacher, on_shortcut="warn", **options)
    return {**store.judge(outcome.model), "notes": list(outcome.notes)}


def other_network(seed: int) -> nn.Module:
    """Of three stages of one wider block each."""
    with seeded(seed):
        return ThinResNet(width=24, blocks=(1, 1, 1))


def _by_depth(weights: dict[str, float] | Any, store: NetworkStore, student: nn.Module) -> dict[str, float]:
    """The audit's weights, each on the student's layer of nearest depth."""
    from shortcutscope.models.layers import find_layers

    example = torch.stack([store.cohort.biased[i][0] for i in range(2)])
    depth = {layer.name: layer.depth for layer in find_layers(store.biased(), example)}
    layers = find_layers(student, example)
    by_layer: dict[str, float] = {}
    for name, weight in weights.items():
        nearest = min(layers, key=lambda layer: abs(layer.depth - depth[name])).name
        by_layer[nearest] = by_layer.get(nearest, 0.0) + weight
    return by_layer


def summarize(finished: list[Case]) -> Record:
    """For every setting and form: mean metrics, and the paired difference to the logits with its interval."""
    keys = (*BASE, "labels")
    at = {_key(c): c for c in finished}
    rows = []
    for setting in dict.fromkeys(tuple(c[k] for k in keys) for c in finished):
        members = [c for c in finished if tuple(c[k] for k in keys) == setting]
        for form in dict.fromkeys(c["form"] for c in members):
            those = [c for c in members if c["form"] == form]
            pairs = [(c, at[other]) for c in those if (other := _key({**c, "form": "logits"})) in at]
            row: Record = {**dict(zip(keys, setting, strict=True)), "form": form, "cases": len(those)}
            for metric in ("robust_auroc", "worst_group"):
                row[metric] = float(np.mean([c[metric] for c in those]))
                row[f"{metric}_difference"] = mean_with_interval([a[metric] - b[metric] for a, b in pairs])
            rows.append(row)
    return {"settings": rows}


def _key(case: Case) -> tuple[Any, ...]:
    return tuple(case[k] for k in ("task", "kind", "seed", *BASE, "labels", "form"))


def draw(finished: Sequence[Case]) -> Figure:
    """Paired difference in robust AUROC against the logits alone, a panel a correlation."""
    panels = []
    rows = summarize(list(finished))["settings"]
    for correlation in sorted({row["correlation"] for row in rows}):
        panel_dots = [
            Dot(_label(row), row["form"], **row["robust_auroc_difference"])
            for row in rows
            if row["correlation"] == correlation and row["form"] != "logits"
        ]
        panels.append(Panel(f"{correlation:.0%} correlation", panel_dots))
    return dots(panels, "robust AUROC minus that of the logits alone", limits=(-0.4, 0.4), lines=(0,))


def _label(row: Case) -> str:
    """A setting in words: how it differs from the base, and its label term."""
    words = {
        "clean_fraction": f"{row['clean_fraction']:.0%} clean",
        "network": "full width",
        "teacher": "teacher from new weights",
        "student": {
            "model": "student from the biased model",
            "other": "student of another architecture",
            "teacher": "student from the teacher",
            "fresh": "",
        }[row["student"]],
    }
    changed = [words[name] for name in words if row[name] != BASE[name]]
    return ", ".join([*changed, f"labels: {row['labels']}"])


SUITE = Suite(
    name="distillation",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=(
        "task",
        "kind",
        "seed",
        "clean_fraction",
        "correlation",
        "network",
        "teacher",
        "student",
        "labels",
        "form",
        "robust_auroc",
        "worst_group",
    ),
    draw=draw,
)
