"""Does ablating a circuit take a planted shortcut out of a network, and leave the rest of it alone?

Every localized and diffuse kind of the catalogue is planted in 95 % of one class and 5 % of the other, and a
thin network is trained on it. In held-out images the artifact is in half of either class, so that all four
groups (class, artifact) can be compared. The circuit is chosen on one half of the patients and judged on the
other, and the other way round. ``removed`` is the share of the effect (aligned minus robust AUROC) that is
gone, ``balanced_drop`` what balanced AUROC loses; an effect that turned around counts as one that is left.
A case is met with 60 % and less than 5 points. Where the network never took up the shortcut (``gap`` below
.05) shares of next to nothing are noise: the summary is given with and without these.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.discover.circuits import Judging, Searching, find_circuit
from shortcutscope.discover.circuits.ablation import Effect
from shortcutscope.options import Running
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import plant
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.scanner import scan
from shortcutscope.types import Record

QUICK_KINDS = ("tag", "tube", "noise", "brightness")
REMOVED, DROP = 0.6, 0.05
#: Share of cases that have to be met.
BAR = 0.8
#: Effect from which a network has taken up the shortcut.
TAKEN_UP = 0.05


def cases(settings: Settings) -> list[Case]:
    """Localized and diffuse kinds, alternating between the tasks; every second one with another seed."""
    kinds = [kind for kind, artifact in CATALOGUE.items() if artifact.extent != "borderline"]
    kinds = [kind for kind in kinds if kind in QUICK_KINDS] if settings.quick else kinds
    both = tasks(settings)
    result = [
        {"task": both[number % 2], "kind": kind, "seed": settings.seed} for number, kind in enumerate(kinds)
    ]
    if not settings.quick:
        # Pairs of kinds, so that the second seeds do not all belong to one task.
        result += [
            {"task": both[(number + 1) % 2], "kind": kind, "seed": settings.seed + 1}
            for number, kind in enumerate(kinds)
            if number % 4 in (0, 1)
        ]
    return result


def run_case(case: Case, settings: Settings) -> Case:
    """Find the circuit of one planted shortcut."""
    kind, seed = case["kind"], case["seed"]
    study = make_case(Recipe(case["task"], (kind,), seed), settings)
    table = plant(study.held_out, CATALOGUE[kind], prevalence={0: 0.5, 1: 0.5}, seed=seed + 1000)
    concept = Concept.from_column(table.frame, kind, origin="planted")[0]
    with tempfile.TemporaryDirectory() as folder:
        new_scan = scan(study.model, table, Path(folder) / "scan", running=Running(progress=False))
        circuit = find_circuit(
            study.model,
            new_scan,
            table,
            concept,
            searching=Searching(edges=False),
            judging=Judging(seed=seed),
            running=Running(progress=False),
        )
    ablation = circuit.ablation
    assert ablation is not None
    frame = ablation.to_frame()
    widths = {layer.name: layer.channels for layer in new_scan.layers}
    return {
        "layers": list(circuit.ablated),
        "size": ablation.circuit.size,
        "share": float(np.mean([len(c) / widths[name] for name, c in circuit.ablated.items()])),
        "gap": ablation.circuit.gap_before,
        "met": is_met(ablation.circuit),
        "beats_others": ablation.beats_others,
        **_figures(ablation.circuit, ""),
        **_figures(ablation.random_mean, "_random"),
        **_figures(ablation.magnitude, "_magnitude"),
        "removed_random_range": [frame.at["random", end] for end in ("removed_low", "removed_high")],
    }


def is_met(effect: Effect) -> bool:
    """Whether an ablation removes enough of the effect and little else."""
    return effect.removed is not None and effect.removed >= REMOVED and effect.balanced_drop < DROP


def _figures(effect: Effect, suffix: str) -> Case:
    return {
        f"removed{suffix}": effect.removed,
        f"balanced_drop{suffix}": effect.balanced_drop,
        f"worst{suffix}": effect.worst_after,
        f"met{suffix}": is_met(effect),
    }


def summarize(finished: list[Case]) -> Record:
    """Shares of cases that are met, by the circuit and by the other sets of its size."""
    taken_up = [c for c in finished if c["gap"] >= TAKEN_UP]
    summary: Record = {"bar": BAR}
    for name, members in (("all", finished), ("taken_up", taken_up)):
        summary[name] = _shares(members) if members else {"cases": 0}
    summary["reached"] = bool(finished) and summary["all"]["met"] >= BAR
    return summary


def _shares(members: list[Case]) -> Record:
    def share(key: str) -> float:
        return float(np.mean([bool(c[key]) for c in members]))

    def median(key: str) -> float | None:
        values = [c[key] for c in members if c[key] is not None]
        return float(np.median(values)) if values else None

    return {
        "cases": len(members),
        "met": share("met"),
        "met_random": share("met_random"),
        "met_magnitude": share("met_magnitude"),
        "beats_others": share("beats_others"),
        "removed": median("removed"),
        "removed_random": median("removed_random"),
        "removed_magnitude": median("removed_magnitude"),
        "largest_drop": max(c["balanced_drop"] for c in members),
        "median_share_of_layer": median("share"),
        "not_met": [f"{c['task']} {c['kind']} {c['seed']}" for c in members if not c["met"]],
    }


SUITE = Suite(
    name="circuits",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=(
        "task", "kind", "seed", "layers", "size", "gap", "removed", "balanced_drop",
        "removed_random", "removed_magnitude", "beats_others",
    ),
)  # fmt: skip
