"""Does an audit of fourteen labels name what was planted at the right output, and what does it cost?

*named*: networks of fourteen outputs; of every pair of concept and output it is known whether it was planted.
*cost*: CPU time of an audit of all outputs, and of one alone, with the same concepts.
*discovered*: such networks on samples in which artifacts go with their labels, without any concept named.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.record import AuditRecord
from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.label_networks import LabelPlan, label_case
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable
from shortcutscope.models.heads.head import Head
from shortcutscope.options import Running, Statistics
from shortcutscope.types import Record

NETWORKS = 12
SPREADS = ("one", "one", "two", "one", "one", "all")
#: Of the networks that are searched; what may be found, and the correlation from which it was.
SEARCHED = ("one", "two", "all", "two")
ARTIFACTS, SAME_CARRIERS = ("tag", "noise"), 0.8
CONCEPTS = ("tag", "noise", "written", "coin 0.5", "coin 0.2")
_QUIET = Running(progress=False)


def cases(settings: Settings) -> list[Case]:
    """Twelve networks, one in which the cost is measured, and four that are searched."""
    n = 2 if settings.quick else NETWORKS
    named: list[Case] = [
        {"group": "named", "seed": settings.seed + k, "spread": SPREADS[k % len(SPREADS)]} for k in range(n)
    ]
    searched: list[Case] = [
        {"group": "discovered", "seed": settings.seed + 20 + k, "spread": spread}
        for k, spread in enumerate(SEARCHED[: 1 if settings.quick else None])
    ]
    return [*named, {"group": "cost", "seed": settings.seed, "spread": "one"}, *searched]


def run_case(case: Case, settings: Settings) -> Case:
    """Audit one network."""
    plan = LabelPlan(case["seed"], case["spread"])
    searched = case["group"] == "discovered"
    network, train, held_out = label_case(plan, settings.cache, planted=searched)
    with tempfile.TemporaryDirectory() as folder:
        if case["group"] == "cost":
            return _cost(plan, network, train, held_out, Path(folder))
        if searched:
            return _discovered(plan, network, held_out, Path(folder) / "run")
        record = _audited(network, train, held_out, Path(folder) / "run", plan.seed)
        return _pairs(plan, record)


def _audited(
    network: nn.Module, train: ImageTable, held_out: ImageTable, out: Path, seed: int
) -> AuditRecord:
    return audit(
        network,
        held_out,
        out,
        concepts=list(CONCEPTS),
        train=train,
        running=_QUIET,
        statistics=Statistics(seed=seed),
    )


def _pairs(plan: LabelPlan, record: AuditRecord) -> Case:
    """What was said of the planted pairs one by one, and which of the innocent ones were accused."""
    verdicts = {(f.name, str(f.output)): f for f in record.findings}
    guilty, unclear = plan.guilty(), plan.unclear()
    innocent = [pair for pair in verdicts if pair not in guilty and pair not in unclear]
    return {
        "outputs": len(record.outputs),
        "pairs": len(verdicts),
        "planted": [
            {
                "concept": concept,
                "output": output,
                "what": what,
                "verdict": verdicts[concept, output].verdict,
                "effect": verdicts[concept, output].used.get("effect"),
                "phi": verdicts[concept, output].association.get("phi"),
            }
            for (concept, output), what in guilty.items()
        ],
        "innocent": len(innocent),
        "accused": [list(pair) for pair in innocent if verdicts[pair].verdict == "shortcut"],
        "called_used": [list(pair) for pair in innocent if verdicts[pair].used.get("value")],
        "unclear": [[*pair, verdicts[pair].verdict] for pair in sorted(unclear) if pair in verdicts],
        "auroc": {e["name"]: e["performance"].get("auroc") for e in record.run["outputs"]},
    }


def _discovered(plan: LabelPlan, network: nn.Module, held_out: ImageTable, out: Path) -> Case:
    """What was found of the artifacts at their outputs, and what else was called a shortcut."""
    start = time.process_time()
    record = audit(
        network,
        held_out,
        out,
        concepts=[],
        discover=True,
        running=_QUIET,
        statistics=Statistics(seed=plan.seed),
    )
    seconds = time.process_time() - start
    artifacts = held_out.frame.set_index("sample_id")[list(ARTIFACTS)].astype(float)
    found = [f for f in record.findings if f.origin == "discovered"]
    shown = {(_shown(f, artifacts), str(f.output)): f for f in found}
    guilty = {pair: what for pair, what in plan.guilty().items() if pair[0] in ARTIFACTS}
    others = {pair: f for pair, f in shown.items() if pair not in guilty and pair not in plan.unclear()}
    return {
        "proposals": record.run["discovery"]["proposals"],
        "planted": [
            {
                "concept": pair[0],
                "output": pair[1],
                "what": what,
                "verdict": shown[pair].verdict if pair in shown else "not proposed",
            }
            for pair, what in guilty.items()
        ],
        "innocent": len(others),
        "accused": [[f.name, *pair] for pair, f in others.items() if f.verdict == "shortcut"],
        "audit_s": seconds,
    }


def _shown(finding: FindingRecord, artifacts: pd.DataFrame) -> str:
    """The artifact that a discovered concept's carriers carry; its own name where that is none of them."""
    concept = finding.concept
    values, carriers = (
        concept.values[concept.known],
        artifacts.loc[concept.sample_ids[concept.known].tolist()],
    )
    for name in ARTIFACTS:
        truth = carriers[name].to_numpy()
        if abs(np.corrcoef(values, truth)[0, 1]) >= SAME_CARRIERS:
            return name
    return finding.name


def _cost(plan: LabelPlan, network: nn.Module, train: ImageTable, held_out: ImageTable, folder: Path) -> Case:
    """CPU seconds of an audit of one output and of all, one after the other, with the same concepts."""
    torch.set_num_threads(1)
    one, others = plan.tagged, [name for name in held_out.labels if name != plan.tagged]
    head = Head(label=one, names=held_out.labels, task="multilabel")
    single, reference = held_out.for_label(one), train.for_label(one)
    # What is imported on first use belongs to neither.
    audit(
        network, single.take(range(100)), folder / "first", concepts=["coin 0.5"], head=head, running=_QUIET
    )
    start = time.process_time()
    audit(
        network,
        single,
        folder / "one",
        concepts=[*CONCEPTS, *others],
        train=reference,
        head=head,
        running=_QUIET,
        statistics=Statistics(seed=plan.seed),
    )
    middle = time.process_time()
    record = _audited(network, train, held_out, folder / "all", plan.seed)
    end = time.process_time()
    return {
        "outputs": len(record.outputs),
        "one_output_s": middle - start,
        "all_outputs_s": end - middle,
        "ratio": (end - middle) / (middle - start),
    }


def summarize(finished: list[Case]) -> Record:
    """Share of the planted pairs that were named, by what was planted, and of the innocent ones accused."""
    named = [c for c in finished if c["group"] == "named"]
    summary: Record = {"networks": len(named)}
    planted = [pair for case in named for pair in case["planted"]]
    for what in dict.fromkeys(pair["what"] for pair in planted):
        of = [pair for pair in planted if pair["what"] == what]
        summary[what] = {"pairs": len(of), "named": _share(pair["verdict"] == "shortcut" for pair in of)}
    innocent = sum(case["innocent"] for case in named)
    if innocent:
        accused = sum(len(case["accused"]) for case in named)
        summary["innocent"] = {"pairs": innocent, "accused": accused, "share": accused / innocent}
        summary["networks_with_one_accused"] = _share(bool(case["accused"]) for case in named)
    searched = [c for c in finished if c["group"] == "discovered"]
    if searched:
        found = [pair["verdict"] == "shortcut" for case in searched for pair in case["planted"]]
        summary["discovered"] = {
            "networks": len(searched),
            "pairs": len(found),
            "named": _share(found),
            "accused": sum(len(case["accused"]) for case in searched),
        }
    ratios = [case["ratio"] for case in finished if case["group"] == "cost"]
    return {**summary, **({"cost_ratio": float(np.median(ratios))} if ratios else {})}


def _share(of: Iterable[bool]) -> float:
    return float(np.mean(list(of)))


def _is_timed(case: Mapping[str, object]) -> bool:
    return case["group"] == "cost"


SUITE = Suite(
    name="labels",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("group", "seed", "spread", "outputs", "pairs", "innocent", "accused", "ratio"),
    serial=_is_timed,
)
