"""Do extents and masks hold for artifacts that are not in the catalogue, on other tasks and networks?

A kind of its own is planted in 95 % of one class and 5 % of the other of MedNIST's radiographs (mirrored or
not), CTs (abdomen or chest, 10 % of the labels wrong) or hands; a thin ResNet, a ResNet-18 of full width or
a shallow ViT is trained on it and audited on 400 held-out images, half of which carry it. Without MedNIST
phantoms take its place. Kinds on which masks were developed are told apart from those that only judge.

- ``extent``: what the audit says, beside ``truth``.
- ``iou``, ``missed``, ``false_mask_rate``, ``spearman``: as in the suite ``masks``; truth is exactly the
  pixels that were visibly changed.
- ``wrong``, ``wrong_flagged``: share of the masks drawn on carriers with an intersection over union below
  .5, and share of these that a person is asked to look at; ``right_flagged`` of the others.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.figures.intervals import mean_over
from shortcutscope.benchmarks.models import Case as Trained
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.benchmarks.suites.masks import drawn, figures, known
from shortcutscope.benchmarks.unseen_kinds import LOOKED_AT, UNSEEN
from shortcutscope.benchmarks.unseen_networks import PHANTOMS, UnseenSpec, unseen_case
from shortcutscope.masks.learning import Drawing, fit_predictors
from shortcutscope.models.frozen import frozen
from shortcutscope.options import Running, Statistics
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Record

#: Of full width, on hands; every other kind of either.
WIDE = {"resnet18": 0, "vit_tiny": 1}
QUICK_KINDS = ("ring", "triangle", "gamma")
BARS = {"right": 0.9, "wrong": 0.03, "iou": 0.7, "spearman": 0.5}
_QUIET = Running(progress=False)


def cases(settings: Settings) -> list[Case]:
    """Every kind on radiographs and on CTs with a thin network, and on hands with one of full width."""
    if settings.quick:
        return [_case(PHANTOMS, kind, "thin", settings.seed) for kind in QUICK_KINDS]
    real = settings.data is not None and (settings.data / "mednist").is_dir()
    thin, wide = (("radiographs", "ct"), "hands") if real else ((PHANTOMS,), PHANTOMS)
    networks = list(WIDE)
    return [
        case
        for k, kind in enumerate(UNSEEN)
        for case in (
            *(_case(task, kind, "thin", settings.seed + k) for task in thin),
            _case(wide, kind, networks[k % len(networks)], settings.seed + k),
        )
    ]


def _case(task: str, kind: str, network: str, seed: int) -> Case:
    return {"task": task, "kind": kind, "network": network, "seed": seed, "truth": UNSEEN[kind].extent}


def run_case(case: Case, settings: Settings) -> Case:
    """Audit one network, and draw the masks of what is localized."""
    kind = case["kind"]
    study = unseen_case(UnseenSpec(case["task"], kind, case["network"], case["seed"]), settings)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        statistics = Statistics(seed=case["seed"])
        result = audit(
            study.model, study.held_out, run, concepts=[kind], running=_QUIET, statistics=statistics
        )
        finding = result.findings[0]
        measured: Case = {
            "extent": finding.extent,
            "reason": finding.extent_reason,
            "lit": finding.extent_statistic,
            "participation": finding.evidence["participation"],
            "places": finding.evidence["places"],
            "encoded": finding.encoded["auroc"],
            "called": finding.verdict,
        }
        if case["truth"] == "localized":
            measured |= _masks(study, kind, Scan.open(run / "scan"), case["seed"])
    return measured


def _masks(study: Trained, kind: str, scan: Scan, seed: int) -> Case:
    """How the masks of all held-out images agree with the truth."""
    with frozen(study.model):
        concept, drawing = known(study.held_out, kind), Drawing(seed=seed)
        predictors = fit_predictors(study.model, scan, study.held_out, concept, drawing, progress=False)
        return figures(study.held_out, kind, drawn(study.model, study.held_out, predictors))


def summarize(finished: list[Case]) -> Record:
    """Extents of all kinds; masks of kinds that they were developed on, and of the others."""
    said = [(c["extent"], c["truth"]) for c in finished]
    extents = {
        "cases": len(said),
        "right": _share([e == t for e, t in said]),
        "undetermined": _share([e == "undetermined" for e, _ in said]),
        "wrong": _share([e not in (t, "undetermined") for e, t in said]),
    }
    local = [c for c in finished if c["truth"] == "localized"]
    judging = [c for c in local if c["kind"] not in LOOKED_AT]
    summary: Record = {"extents": extents}
    for name, members in (("looked_at", [c for c in local if c not in judging]), ("judging", judging)):
        if members:
            keys = ("iou", "missed", "false_mask_rate", "spearman", "wrong", "wrong_flagged", "right_flagged")
            summary[name] = {"cases": len(members), **{key: mean_over(members, key) for key in keys}}
    judged = {**extents, **{k: v for k, v in summary.get("judging", {}).items() if k in ("iou", "spearman")}}
    met = {
        key: judged[key] <= bar if key == "wrong" else judged[key] >= bar
        for key, bar in BARS.items()
        if judged.get(key) is not None
    }
    return {**summary, "bars": BARS, "met": met}


def _share(flags: list[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


SUITE = Suite(
    name="unseen",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=(
        "task",
        "kind",
        "network",
        "extent",
        "iou",
        "missed",
        "false_mask_rate",
        "spearman",
        "wrong_flagged",
    ),
)
