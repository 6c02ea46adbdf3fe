"""Are planted shortcuts proposed when no concept is given, and first?

Each kind of the catalogue is planted in 95 % of one class and 5 % of the other, in training and in held-out
samples alike, three seeds each; every kind once at 80 % and 20 %; two kinds at once; and unbiased models, in
which there is nothing to find. Each proposal is tested by an audit as any other concept is; the ones that it
calls shortcuts have survived. Proposals are judged by how well they tell carriers from non-carriers *within*
a class, averaged over the classes: over all samples, the label alone has an AUROC of .95 for a shortcut at
95 %. Beside it stands what the model's own logit reaches.

Of two kinds at once the network may rely on one alone, or on the second only where the first one is absent.
So each kind is taken out of and put into every image, the other kind left as it is, and the change of the
logit says in which samples it is relied on. What is relied on nowhere is no shortcut, and need not be found;
the other figures are of all samples.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable
from shortcutscope.discover.proposal import Proposal
from shortcutscope.discover.proposals import discover
from shortcutscope.models.heads.targets import margin
from shortcutscope.options import Running, Statistics
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import clean_twin, everywhere, plant
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.usage import within_class_spread
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.scan.scanner import scan
from shortcutscope.stats.metrics import within_class_auroc
from shortcutscope.types import Bools, Floats, Ints, Record

STRONG, WEAK = 0.95, 0.8
SEEDS = 3
UNBIASED_SEEDS = 10
PAIRS = (("tag", "noise"), ("random_tag", "blur"), ("ruler", "contrast"))
QUICK_KINDS = ("tag", "noise", "brightness", "tube")
#: AUROC from which carriers count as found.
FOUND = 0.9
#: How many proposals a person is expected to look at.
LOOKED_AT = 3
#: Change of the logit by a kind, in standard deviations within class, from which it is relied on: the audit's
#: threshold of use.
RELIED_ON = 0.2


def cases(settings: Settings) -> list[Case]:
    """All kinds x three seeds at 95 %, alternating between the tasks; at 80 %; two at once; unbiased."""
    kinds = QUICK_KINDS if settings.quick else tuple(CATALOGUE)
    both = tasks(settings)
    result: list[Case] = []

    def add(task: str, planted: Sequence[str], seed: int, correlation: float | None) -> None:
        result.append({"task": task, "kinds": list(planted), "seed": seed, "correlation": correlation})

    for number, kind in enumerate(kinds):
        for k in range(1 if settings.quick else SEEDS):
            add(both[(number + k) % 2], (kind,), settings.seed + k, STRONG)
    for number, kind in enumerate(kinds[:2] if settings.quick else kinds):
        add(both[number % 2], (kind,), settings.seed, WEAK)
    for task in both:
        for pair in PAIRS[:1] if settings.quick else PAIRS:
            add(task, pair, settings.seed, STRONG)
        for k in range(2 if settings.quick else UNBIASED_SEEDS):
            add(task, (), settings.seed + k, None)
    return result


def run_case(case: Case, settings: Settings) -> Case:
    """Propose shortcuts of one model, and compare them with what was planted."""
    kinds, correlation, seed = tuple(case["kinds"]), case["correlation"], case["seed"]
    study = make_case(Recipe(case["task"], kinds, seed, correlation or STRONG), settings)
    table = study.held_out
    for kind in kinds:
        table = plant(table, CATALOGUE[kind], correlation=correlation, seed=seed + 1000)
    with tempfile.TemporaryDirectory() as folder:
        new_scan = scan(study.model, table, Path(folder) / "scan", running=Running(progress=False))
        discovery = discover(new_scan, table, seed=seed, running=Running(progress=False))
        labels, before = new_scan.samples["label"].to_numpy(), new_scan.margin(1)
        proposed = [p.concept for p in discovery.proposals if p.concept is not None]
        shortcuts = _tested(study.model, table, proposed, Path(folder) / "run", seed)
    first = discovery.proposals[:LOOKED_AT]
    truth = {kind: table.frame[kind].to_numpy(float) for kind in kinds}
    each = {k: [_auroc(p, carriers, labels) for p in first] for k, carriers in truth.items()}
    best = {k: int(np.argmax(values)) if values else None for k, values in each.items()}
    aurocs = list(each.values())
    effects = {kind: _effects(study.model, table, kind, kinds, before) for kind in kinds}
    return {
        **_of_what_is_relied_on(first, truth, labels, effects),
        "effects": {kind: [e for e, _ in parts] for kind, parts in effects.items()},
        # Of two shortcuts at once, the first proposal can show one, and the first three must show both.
        "first_auroc": max((a[0] if a else 0.5 for a in aurocs), default=None),
        "best_of_three_auroc": min((max(a, default=0.5) for a in aurocs), default=None),
        "logit_auroc": min(
            (float(within_class_auroc(t, before, labels)) for t in truth.values()), default=None
        ),
        "found_apart": len(set(best.values())) == len(kinds) if len(kinds) > 1 else None,
        "survived": len(shortcuts),
        "survived_auroc": min(
            (
                max((_auroc(discovery.proposals[i], t, labels) for i in shortcuts), default=0.5)
                for t in truth.values()
            ),
            default=None,
        ),
        "proposed": len(discovery.proposals),
        "strengths": [p.strength for p in first],
        "views": [list(p.families) for p in first],
    }


def _tested(
    model: nn.Module, table: ImageTable, proposed: Sequence[Concept], out: Path, seed: int
) -> list[int]:
    """Which of the proposed concepts an audit calls shortcuts."""
    if not proposed:
        return []
    done = audit(
        model,
        table,
        out,
        concepts=proposed,
        statistics=Statistics(n_permutations=100, n_bootstrap=100, seed=seed),
        running=Running(progress=False),
    )
    names = [concept.name for concept in proposed]
    return [names.index(finding.name) for finding in done.shortcuts]


def _auroc(proposal: Proposal, carriers: Floats, labels: Ints, rows: Bools | None = None) -> float:
    """Within-class AUROC, of some samples; the carriers of a kind are planted in class 1."""
    scores = proposal.scores if proposal.label == 1 else -proposal.scores
    among = np.ones(len(labels), bool) if rows is None else rows
    return float(within_class_auroc(carriers[among], scores[among], labels[among]))


def _effects(
    model: nn.Module, table: ImageTable, kind: str, kinds: Sequence[str], before: Floats
) -> list[tuple[float, Bools]]:
    """What a kind does to the logit, in samples without the other kind and with it; and which those are."""
    twins = everywhere(table, kind), clean_twin(table, kind)
    added, removed = (margin(predict_logits(model, twin)).double().numpy() for twin in twins)
    change = (added - removed) / within_class_spread(before, table.frame["label"].to_numpy())
    others = [table.frame[name].to_numpy() for name in kinds if name != kind]
    codes = np.zeros(len(table)) if not others else np.clip(np.sum(others, axis=0), 0, 1)
    return [(float(change[codes == code].mean()), codes == code) for code in np.unique(codes)]


def _of_what_is_relied_on(
    first: Sequence[Proposal],
    truth: Mapping[str, Floats],
    labels: Ints,
    effects: Mapping[str, Sequence[tuple[float, Bools]]],
) -> Record:
    """Kinds that the network relies on, and how well the proposals tell them where it does."""
    places = {
        kind: np.any([rows for effect, rows in parts if effect >= RELIED_ON], axis=0)
        for kind, parts in effects.items()
        if any(effect >= RELIED_ON for effect, _ in parts)
    }
    each = {k: [_auroc(p, truth[k], labels, rows) for p in first] for k, rows in places.items()}
    best = {k: int(np.argmax(values)) for k, values in each.items() if values}
    return {
        "relied_on": list(places),
        "relied_auroc": min((max(values, default=0.5) for values in each.values()), default=None),
        "relied_apart": len(set(best.values())) == len(places),
    }


def summarize(finished: list[Case]) -> Record:
    """Shares of models whose carriers are found first, and within three, by correlation; false ones."""
    summary: Record = {}
    single = [c for c in finished if len(c["kinds"]) == 1]
    for correlation in (STRONG, WEAK):
        members = [c for c in single if c["correlation"] == correlation]
        if members:
            summary[f"{correlation:g}"] = {
                "models": len(members),
                "first": _share(c["first_auroc"] >= FOUND for c in members),
                "within_three": _share(c["best_of_three_auroc"] >= FOUND for c in members),
                "survived": _share(c["survived_auroc"] >= FOUND for c in members),
                "not_below_logit": _share(c["best_of_three_auroc"] >= c["logit_auroc"] for c in members),
                "kinds_never_found": sorted(
                    {c["kinds"][0] for c in members}
                    - {c["kinds"][0] for c in members if c["best_of_three_auroc"] >= FOUND}
                ),
            }
    pairs = [c for c in finished if len(c["kinds"]) > 1]
    if pairs:
        apart = (bool(c["found_apart"]) and c["best_of_three_auroc"] >= FOUND for c in pairs)
        relied = [
            c["relied_apart"] and (c["relied_auroc"] is None or c["relied_auroc"] >= FOUND) for c in pairs
        ]
        summary["two_at_once"] = {
            "models": len(pairs),
            "found_apart": _share(apart),
            "rely_on_both": sum(len(c["relied_on"]) == len(c["kinds"]) for c in pairs),
            "relied_on_found_apart": _share(relied),
        }
    unbiased = [c for c in finished if not c["kinds"]]
    if unbiased:
        summary["unbiased"] = {
            "models": len(unbiased),
            "any_proposed": _share(c["proposed"] > 0 for c in unbiased),
            "any_survived": _share(c["survived"] > 0 for c in unbiased),
            "largest_strength": max((s for c in unbiased for s in c["strengths"]), default=None),
        }
    return summary


def _share(values: Any) -> float | None:
    flags = [bool(v) for v in values]
    return sum(flags) / len(flags) if flags else None


SUITE = Suite(
    name="discovery",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=(
        "task", "kinds", "seed", "correlation",
        "first_auroc", "best_of_three_auroc", "logit_auroc", "survived",
    ),
)  # fmt: skip
