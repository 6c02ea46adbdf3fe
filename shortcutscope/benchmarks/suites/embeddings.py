"""Audits of embeddings: false alarms and detection on synthetic features, and agreement with whole audits.

*grid*: the parametric features of ShortKit-ML (1,000 samples, 128 to 512 features, of which five are moved by
plus and minus the effect with the group, in three layouts). There the group is the label over again, so that
no audit could tell one from the other, and this one says so (*itself*); here the label agrees with the group
in four of five samples. *core*: the same beside a feature of the task. *idle*: the same with a given head
that reads the task's feature alone. *agreement*: the last layer of networks with planted artifacts and its
own linear head, against the audit of the whole network.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.benchmarks.suites.nulls import with_null_columns
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines.last_layer import last_features, last_linear
from shortcutscope.embeddings.heads import fit_heads
from shortcutscope.embeddings.result import EmbeddingsAuditRecord
from shortcutscope.embeddings.stages import HEAD_FOLDS, Correcting, audit_embeddings
from shortcutscope.options import Running, Statistics
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import plant
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.probes.usage import EFFECT_THRESHOLD, class_contrast, within_class_spread
from shortcutscope.types import Array, Floats, Record

WIDTHS = (128, 256, 512)
EFFECTS = (0.2, 0.5, 0.8, 1.2, 2.0)
LAYOUTS = ("independent", "correlated", "distributed")
N, MOVED, BLOCK_CORRELATION = 1000, 5, 0.7
#: Share of the samples whose label is that of the group, and shift of the task's feature between classes.
AGREEMENT, CORE = 0.8, 1.5
NULL_SEEDS, SEEDS = 20, 4
KINDS = ("tag", "ruler", "noise", "contrast")
CORRELATIONS = (0.95, None)


def cases(settings: Settings) -> list[Case]:
    """Nulls and effects of each width and layout, and networks."""
    widths = WIDTHS[::2] if settings.quick else WIDTHS
    effects = (0.2, 0.8) if settings.quick else EFFECTS
    layouts = LAYOUTS[::2] if settings.quick else LAYOUTS
    nulls, seeds = (5, 1) if settings.quick else (NULL_SEEDS, SEEDS)
    result: list[Case] = []
    for part in ("grid", "core"):
        for width in widths:
            result += [_synthetic(part, width, "none", 0.0, settings.seed + s) for s in range(nulls)]
            result += [
                _synthetic(part, width, layout, effect, settings.seed + s)
                for layout in layouts
                for effect in effects
                for s in range(seeds)
            ]
    result += [
        _synthetic("idle", width, LAYOUTS[0], 0.8, settings.seed + s)
        for width in widths
        for s in range(nulls)
    ]
    result.append(_synthetic("itself", widths[0], LAYOUTS[0], 0.8, settings.seed))
    names = tasks(settings)[1:] if settings.quick else tasks(settings)
    result += [
        {
            "part": "agreement",
            "width": None,
            "layout": f"{task}-{kind}",
            "effect": correlation,
            "seed": settings.seed,
        }
        for task in names
        for kind in (KINDS[:1] if settings.quick else KINDS)
        for correlation in (CORRELATIONS[:1] if settings.quick else CORRELATIONS)
    ]
    return result


def _synthetic(part: str, width: int, layout: str, effect: float, seed: int) -> Case:
    return {"part": part, "width": width, "layout": layout, "effect": effect, "seed": seed}


def run_case(case: Case, settings: Settings) -> Case:
    """Audit one set of features, or a network and its last layer."""
    return _agreement(case, settings) if case["part"] == "agreement" else _found(case)


def _found(case: Case) -> Case:
    features, frame = synthetic(case["part"], case["width"], case["layout"], case["effect"], case["seed"])
    result = audit_embeddings(
        features,
        frame,
        concepts=["group of it"],
        head=(np.eye(case["width"])[-1:], [-CORE / 2]) if case["part"] == "idle" else None,
        statistics=Statistics(seed=case["seed"]),
        correcting=Correcting(methods=()),
    )
    finding = result.findings[0]
    return {
        "verdict": finding.verdict,
        "encoded": bool(finding.encoded.get("value")),
        "used": bool(finding.used.get("value")),
        "shortcut": finding.verdict == "shortcut",
        "auroc": finding.encoded.get("auroc"),
        "p": finding.encoded.get("p"),
        "use": finding.used.get("effect"),
        "use_true": 0.0 if case["part"] == "idle" else true_use(features, frame, case),
        "head_auroc": result.encoders[0].performance["auroc"],
    }


def synthetic(part: str, width: int, layout: str, effect: float, seed: int) -> tuple[Floats, pd.DataFrame]:
    """Features (N, width) and a table with label and the column ``group of it``.

    Parameters
    ----------
    part
        ``"grid"``, ``"core"`` and ``"idle"`` (with a feature of the task), or ``"itself"`` (the group is the
        label).
    width
        Number of features.
    layout
        ``"independent"``: five features moved by the effect, plus for the group and minus for the others;
        ``"correlated"``: these five are correlated among each other; ``"distributed"``: all are moved, by as
        much in sum of squares; ``"none"``.
    effect
        In standard deviations of a feature.
    seed
        Of all.
    """
    rng = np.random.default_rng([seed, width, LAYOUTS.index(layout) if layout in LAYOUTS else 9])
    group = rng.integers(0, 2, N)
    label = np.where(rng.random(N) < AGREEMENT, group, 1 - group) if part != "itself" else group
    features = rng.normal(size=(N, width))
    if layout == "correlated":
        shared = rng.normal(size=(N, 1))
        own = np.sqrt(1 - BLOCK_CORRELATION) * features[:, :MOVED]
        features[:, :MOVED] = own + np.sqrt(BLOCK_CORRELATION) * shared
    features += np.outer(2 * group - 1, _shift(width, layout, effect))
    if part in ("core", "idle"):
        features[:, -1] += CORE * label
    return features, pd.DataFrame({"label": label, "group of it": group})


def _shift(width: int, layout: str, effect: float) -> Floats:
    """By how much the features (width,) of the group are moved, and those of the others the other way."""
    moved = width if layout == "distributed" else MOVED
    return np.where(np.arange(width) < moved, effect * np.sqrt(MOVED / moved), 0.0)


def true_use(features: Floats, frame: pd.DataFrame, case: Case) -> float:
    """Effect on the same head when exactly what was planted is taken out: what "used" is an estimate of."""
    labels, group = frame["label"].to_numpy(), frame["group of it"].to_numpy().astype(float)
    heads = fit_heads(features, labels, make_folds(labels, np.arange(N), None, HEAD_FOLDS, case["seed"]))
    planted = np.outer(2 * group - 1, _shift(case["width"], case["layout"], case["effect"]))
    margins = heads.logits(features)[:, 0]
    change = margins - heads.logits(features - planted)[:, 0]
    contrast = class_contrast(change, group, labels, np.ones((1, N)))[0]
    return float(contrast / within_class_spread(margins, labels))


def _agreement(case: Case, settings: Settings) -> Case:
    task, _, kind = str(case["layout"]).rpartition("-")
    study = make_case(Recipe(task, (kind,), case["seed"], case["effect"]), settings)
    table = plant(study.held_out, CATALOGUE[kind], prevalence={0: 0.35, 1: 0.65}, seed=case["seed"] + 1000)
    table, nulls = with_null_columns(table, case["seed"])
    concepts = [kind, *nulls[::5]]
    statistics = Statistics(seed=case["seed"])
    with tempfile.TemporaryDirectory() as folder:
        whole = audit(
            study.model,
            table,
            Path(folder) / "run",
            concepts=concepts,
            train=study.train,
            running=Running(progress=False),
            statistics=statistics,
        )
    alone = last_layer_audit(study.model, table, study.train, concepts, statistics)
    by_name = {f.name: f for f in alone.findings}
    pairs = {f.name: [f.verdict, by_name[f.name].verdict] for f in whole.findings}
    return {
        "verdict": pairs[kind][1],
        "pairs": pairs,
        "same": float(np.mean([a == b for a, b in pairs.values()])),
        "same_shortcut": float(np.mean([(a == "shortcut") == (b == "shortcut") for a, b in pairs.values()])),
        "use": by_name[kind].used.get("effect"),
        "use_whole": whole[kind].used.get("effect"),
    }


def last_layer_audit(
    model: nn.Module, table: ImageTable, train: ImageTable, concepts: list[str], statistics: Statistics
) -> EmbeddingsAuditRecord:
    """Audit what a network's last linear layer is given, with that layer as the head."""
    name = last_linear(model, torch.stack([table[0][0], table[1][0]]))
    last = model.get_submodule(name)
    features = last_features(model, table, name, 64)
    return audit_embeddings(
        features,
        _columns(table),
        concepts=concepts,
        train=_columns(train),
        head=last,
        statistics=statistics,
        correcting=Correcting(methods=()),
    )


def _columns(table: ImageTable) -> pd.DataFrame:
    return table.frame.drop(columns="split")


def summarize(finished: list[Case]) -> Record:
    """False alarms, detection by effect, and shares of equal verdicts."""
    summary: Record = {}
    for part in ("grid", "core", "idle"):
        members = [c for c in finished if c["part"] == part]
        by_effect = {
            f"{effect:g}": _shares([c for c in members if c["effect"] == effect])
            for effect in sorted({c["effect"] for c in members})
        }
        if by_effect:
            summary[part] = by_effect
    synthetic_cases = [c for c in finished if c["part"] in ("grid", "core", "idle")]
    limit = EFFECT_THRESHOLD["held-out"]
    for name, side in (("used_in_truth", True), ("not_used_in_truth", False)):
        members = [c for c in synthetic_cases if (c["use_true"] > limit) == side]
        if members:
            summary[name] = _shares(members)
    itself = [c["verdict"] for c in finished if c["part"] == "itself"]
    if itself:
        summary["itself"] = itself
    networks = [c for c in finished if c["part"] == "agreement"]
    if networks:
        pairs: Array = np.array([pair for c in networks for pair in c["pairs"].values()])
        planted = [c["pairs"][str(c["layout"]).rpartition("-")[2]] for c in networks]
        summary["agreement"] = {
            "networks": len(networks),
            "concepts": len(pairs),
            "same_verdict": float((pairs[:, 0] == pairs[:, 1]).mean()),
            "same_shortcut": float(((pairs == "shortcut")[:, 0] == (pairs == "shortcut")[:, 1]).mean()),
            "same_verdict_planted": float(np.mean([a == b for a, b in planted])),
        }
    return summary


def _shares(members: list[Case]) -> Record:
    return {"cases": len(members)} | {
        key: float(np.mean([c[key] for c in members])) for key in ("encoded", "used", "shortcut")
    }


SUITE = Suite(
    name="embeddings",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("part", "width", "layout", "effect", "seed", "verdict", "auroc", "use"),
)
