"""Is a concept accused because it occurs with the true shortcut, and is the true one kept?

A cause is planted in the training images, where it goes with the label. In the audited images it occurs with
a bystander, which the network never saw in training: a column of which nothing is in the picture, or another
artifact. Some audits have eight further columns that hang together with these, and some networks have two
causes at once. What an artifact does is measured by planting it in all images and in none: at least .20
standard deviations of the logit in its direction make it guilty, less than .10 innocent, as a column always
is; what lies between counts as neither. Each concept is listed with what the audit would say of it alone.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models import resnet18

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.kept import kept_network
from shortcutscope.benchmarks.models import Case as Study
from shortcutscope.benchmarks.models import Recipe, make_case, sample_pool, split_pool, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.training.classifier import train_classifier
from shortcutscope.models.seeding import seeded
from shortcutscope.options import Running, Statistics
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import PlantedSource, Planting, clean_twin, everywhere, plant
from shortcutscope.probes.association import recorded
from shortcutscope.probes.together.held_fixed import phi_within
from shortcutscope.probes.usage import within_class_spread
from shortcutscope.probes.verdict import reach_verdict
from shortcutscope.scan.batches import batches
from shortcutscope.scan.plan import Scanning
from shortcutscope.types import Array, Floats, Ints, Record

CAUSES = ("tag", "noise", "ruler", "blur")
BYSTANDERS = ("dark_circle", "patch", "grid", "bias_field", "random_tag", "brightness", "white_tint")
TWO_CAUSES = (("tag", "noise"), ("ruler", "blur"), ("tube", "contrast"))
PHI = (0.3, 0.5, 0.7)
#: Seeds of their own, that no rule was made on.
FIRST_SEED = 700
AUDITED, FEW = 800, 300
#: Share of the class 0 and 1 that carries the cause, where it is audited.
PREVALENCE: Mapping[int, float] = {0: 0.3, 1: 0.7}
#: Samples that have to differ for a case to count, and true effects that make guilty and innocent.
ENOUGH, GUILTY, INNOCENT = 40, 0.20, 0.10
#: Images in which a true effect is measured.
MEASURED = 200
#: Layers that are scanned, of the thin networks and of the wide ones.
THIN = tuple(f"blocks.{k}" for k in (1, 3, 5, 7))
WIDE = tuple(f"layer{k}.1" for k in (1, 2, 3, 4))


def cases(settings: Settings) -> list[Case]:
    """Eight thin networks of one cause, audited twice; two on few samples; six of two causes; two wide."""
    result: list[Case] = []

    def add(group: str, task: str, kinds: tuple[str, ...], k: int, phi: float, bystander: str) -> None:
        kept = {"group": group, "task": task, "kinds": list(kinds), "seed": settings.seed + FIRST_SEED + k}
        result.append({**kept, "phi": phi, "bystander": bystander})

    for k, cause in enumerate(CAUSES[:1] if settings.quick else CAUSES):
        for t, task in enumerate(tasks(settings)):
            other = BYSTANDERS[(k + 3 * t) % len(BYSTANDERS)]
            add("pair", task, (cause,), k, PHI[(k + t) % 3], other if k % 2 else "column")
            if settings.quick:
                continue
            add("many", task, (cause,), k, PHI[(k + t + 1) % 3], "column" if k % 2 else other)
            if k == 1:
                add("few", task, (cause,), k, 0.9, "column")
            if k < len(TWO_CAUSES):
                add("two", task, TWO_CAUSES[k], 20 + k, PHI[(k + t) % 3], "column")
            if k == 3:
                add("wide", task, (CAUSES[t],), 40, PHI[1 + t], "column" if t else BYSTANDERS[2])
    return result


def run_case(case: Case, settings: Settings) -> Case:
    """Audit one network with its causes, the bystander and further columns, and list every concept."""
    study = _study(case, settings)
    table, truth = _audited(case, study.held_out)
    effects = {name: _true_effect(study.model, table, name) for name, drawn in truth.items() if drawn}
    concepts = [*truth, *(_further(table, case) if case["group"] in ("many", "wide") else {})]
    if case["group"] in ("many", "wide"):
        table = table.with_columns(**_further(table, case))
    with tempfile.TemporaryDirectory() as folder:
        done = audit(
            study.model,
            table,
            Path(folder) / "run",
            concepts=concepts,
            scanning=Scanning(layers=WIDE if case["group"] == "wide" else THIN),
            statistics=Statistics(n_permutations=100, n_bootstrap=200, seed=case["seed"]),
            running=Running(progress=False),
        )
    listed = [_listed(finding, effects, table, case["kinds"][0]) for finding in done.findings]
    seconds = {name: stage["seconds"] for name, stage in done.run["stages"].items()}
    return {"concepts": listed, "seconds_by_stage": seconds, "accuracy": done.run["performance"]["accuracy"]}


def _study(case: Case, settings: Settings) -> Study:
    recipe = Recipe(case["task"], tuple(case["kinds"]), case["seed"], 0.9 if case["group"] == "two" else 0.95)
    if case["group"] != "wide":
        return make_case(recipe, settings, n_held_out=AUDITED)
    train, held_out = split_pool(sample_pool(recipe.task, settings), recipe.seed, recipe.n_train, AUDITED)
    (kind,) = recipe.kinds
    train = plant(train, CATALOGUE[kind], correlation=recipe.correlation or 0.5, seed=recipe.seed)
    key = hashlib.sha256(f"{recipe} {train.fingerprint()}".encode()).hexdigest()[:24]
    model = _resnet18(recipe.seed)

    def make() -> nn.Module:
        train_classifier(model, train, epochs=recipe.epochs, seed=recipe.seed, progress=False)
        return model

    path = settings.cache / "models" / f"{recipe.task}-wide-{kind}-{key}.safetensors"
    return Study(kept_network(path, model, make), train, held_out)


def _resnet18(seed: int) -> nn.Module:
    """ResNet-18 of full width, for one channel."""
    with seeded(seed):
        model: nn.Module = resnet18(num_classes=2)
        model.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return model


def _audited(case: Case, table: ImageTable) -> tuple[ImageTable, dict[str, bool]]:
    """The audited samples, and their concepts: whether each is in the picture."""
    if case["group"] == "few":
        labels = table.frame["label"].to_numpy()
        table = table.take(np.sort(np.concatenate([np.flatnonzero(labels == c)[: FEW // 2] for c in (0, 1)])))
    generator = np.random.default_rng([case["seed"], 17])
    cause, *rest = case["kinds"]
    table = plant(table, CATALOGUE[cause], prevalence=PREVALENCE, seed=case["seed"])
    truth = {cause: True}
    first = table.frame[cause].to_numpy()
    for kind in rest:
        table, truth[kind] = _with(table, kind, _tied(first, case["phi"], generator), case["seed"]), True
    bystander = case["bystander"]
    if bystander != "column":
        table = _with(table, bystander, _tied(first, case["phi"], generator), case["seed"])
        return table, {**truth, bystander: True}
    # With two causes it follows now one, now the other.
    follows = first if not rest else np.where(generator.random(len(first)) < 0.5, first, table.frame[rest[0]])
    tied = _tied(follows, 0.9 if rest else case["phi"], generator)
    return table.with_columns(bystander=tied), {**truth, "bystander": False}


def _tied(values: Array, phi: float, generator: np.random.Generator) -> Ints:
    """A column that agrees with another one in the share that makes this correlation."""
    agree = generator.random(len(values)) < (1 + phi) / 2
    return np.where(agree, values, 1 - values).astype(np.int64)


def _with(table: ImageTable, kind: str, carries: Ints, seed: int) -> ImageTable:
    """The table with an artifact on given samples."""
    ids = table.frame["sample_id"].to_numpy()
    carriers = {int(table.rows[i]): str(ids[i]) for i in np.flatnonzero(carries)}
    planting = Planting(kind, CATALOGUE[kind], seed, carriers)
    source = table.source
    assert isinstance(source, PlantedSource)
    source = replace(source, plantings=(*source.plantings, planting))
    return table.replaced(source=source).with_columns(**{kind: carries})


def _further(table: ImageTable, case: Case) -> dict[str, Ints]:
    """Eight columns of nothing in the picture: tied to the others, to each other, and to none."""
    generator = np.random.default_rng([case["seed"], 19])
    cause = table.frame[case["kinds"][0]].to_numpy()
    other = table.frame["bystander" if case["bystander"] == "column" else case["bystander"]].to_numpy()
    columns = {
        "with the cause": _tied(cause, 0.5, generator),
        "a little with the cause": _tied(cause, 0.3, generator),
        "with the bystander": _tied(other, 0.6, generator),
        "with either": _tied(np.where(generator.random(len(cause)) < 0.5, cause, other), 0.9, generator),
    }
    columns["like it"] = _tied(columns["with the cause"], 0.95, generator)
    columns["either of two"] = columns["with the cause"] | columns["with the bystander"]
    return {**columns, "coin": generator.integers(0, 2, len(cause)), "rare": _rare(len(cause), generator)}


def _rare(n: int, generator: np.random.Generator) -> Ints:
    return (generator.random(n) < 0.15).astype(np.int64)


def _true_effect(model: nn.Module, table: ImageTable, name: str) -> float:
    """Change of the logit by an artifact, everything else as it is, in standard deviations within class."""
    labels = table.frame["label"].to_numpy()
    part = table.take(np.arange(min(MEASURED, len(table))))
    change = _margins(model, everywhere(part, name)) - _margins(model, clean_twin(part, name))
    return float(change.mean() / within_class_spread(_margins(model, table), labels))


def _margins(model: nn.Module, table: ImageTable) -> Floats:
    with torch.inference_mode():
        logits = torch.cat([model(x) for x, _, _ in batches(table, 128, workers=0)])
    return (logits[:, 1] - logits[:, 0]).double().numpy()


def _listed(finding: FindingRecord, effects: Mapping[str, float], table: ImageTable, cause: str) -> Record:
    """What the audit says of a concept, what it would say of it alone, and the truth."""
    values, labels = (table.frame[name].to_numpy(float) for name in (finding.name, "label"))
    first, true = table.frame[cause].to_numpy(float), effects.get(finding.name, 0.0)
    phi, beside = phi_within(values, first, labels.astype(int)), finding.beside
    sign = np.sign(finding.association.get("phi") or 1.0)
    return {
        "name": finding.name,
        "true_effect": true,
        "guilty": True if sign * true >= GUILTY else False if sign * true < INNOCENT else None,
        "phi_with_cause": phi,
        "differ": None if finding.name == cause else int(((values != first) == (phi >= 0)).sum()),
        "alone": _verdict_alone(finding),
        "use_alone": finding.used.get("effect"),
        "verdict": finding.verdict,
        "statement": beside.get("statement"),
        "with": beside.get("with"),
        "use": beside.get("effect"),
        "interval": beside.get("interval"),
        "n_differ": beside.get("n_differ"),
        "needed": beside.get("needed"),
    }


def _verdict_alone(finding: FindingRecord) -> str:
    """The verdict without looking at other concepts."""
    association = recorded(finding.association)
    if finding.verdict == "not testable" or association is None:
        return finding.verdict
    return reach_verdict(
        encoded=finding.encoded["value"],
        used=finding.used["value"],
        effect=finding.used["effect"],
        association=association,
        associated=finding.association["value"],
        cost=finding.effect["auroc_gap"],
    )[0]


def summarize(finished: list[Case]) -> Record:
    """Of the concepts that are called shortcuts alone: how many innocent and guilty ones still are."""
    summary: Record = {"all": _counted(finished)}
    for group in dict.fromkeys(c["group"] for c in finished):
        summary[group] = _counted([c for c in finished if c["group"] == group])
    return summary


def _counted(finished: list[Case]) -> Record:
    """Counts of innocent concepts, and of guilty ones, among those that are called shortcuts alone."""
    result: Record = {}
    for word, guilty in (("innocent", False), ("guilty", True)):
        rows = [
            row
            for case in finished
            for row in case["concepts"]
            if row["guilty"] is guilty and row["alone"] == "shortcut"
        ]
        for part, members in (
            (word, [r for r in rows if _fewest(r) >= ENOUGH]),
            (f"{word}, fewer than {ENOUGH} differ", [r for r in rows if _fewest(r) < ENOUGH]),
        ):
            open_ = [r for r in members if r["statement"] == "cannot be told apart from"]
            stay = [r for r in members if r["verdict"] == "shortcut" and r not in open_]
            result[part] = {"alone": len(members), "accused": len(stay), "cannot be told": len(open_)}
    return result


def _fewest(row: Record) -> float:
    """Samples that tell a concept from the cause, or a cause from whom it was compared with."""
    values = [row["differ"], row["n_differ"] if row["differ"] is None else None]
    return min((v for v in values if v is not None), default=float("inf"))


SUITE = Suite(
    name="bystanders",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("group", "task", "kinds", "seed", "phi", "bystander", "accuracy"),
)
