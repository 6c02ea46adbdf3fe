"""With 8 % wrong labels, is the disease itself called a shortcut?

Networks on two classes of MedNIST, of which 8 % of the labels are turned, in the training images and in the
held-out ones alike; with a tag or noise in 95 % of one class and 5 % of the other, or with nothing. Concepts
are discovered, none is named. *Acquitted* asks the same of networks with right labels, in which a planted
shortcut must keep its word.
"""

from __future__ import annotations

import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.record import AuditRecord
from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable, Normalize
from shortcutscope.debias.training.classifier import train_classifier
from shortcutscope.errors import InputError
from shortcutscope.options import Running, Statistics
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import plant
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.types import Ints, Record

WRONG, STRONG = 0.08, 0.95
N_TRAIN, N_HELD_OUT, EPOCHS = 1000, 800, 5
CLASSES = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
#: What is planted, of one network after the other, and the label that it goes with.
PLANTED = (
    ("tag", "recorded"), ("noise", "recorded"), (None, None), ("tag", "right"), ("noise", "right"),
    (None, None), ("tag", "recorded"), ("noise", "recorded"), (None, None), ("tag", "right"),
)  # fmt: skip
#: Correlation from which a proposal shows the disease, or what was planted.
SHOWN = 0.6
LABEL_WORD = "encoded and used, may be the label"
_QUIET = Running(progress=False)


def cases(settings: Settings) -> list[Case]:
    """Ten networks with wrong labels, and one of every kind of the catalogue with right ones."""
    of_labels: list[Case] = [
        {"group": "wrong", "seed": settings.seed + k, "planted": kind, "goes_with": label}
        for k, (kind, label) in enumerate(PLANTED[: 2 if settings.quick else None])
    ]
    kinds = tuple(CATALOGUE)[: 2 if settings.quick else None]
    both = tasks(settings)
    return of_labels + [
        {"group": "right", "seed": settings.seed + 20 + k, "planted": kind, "task": both[k % 2]}
        for k, kind in enumerate(kinds)
    ]


def run_case(case: Case, settings: Settings) -> Case:
    """Discover and audit one network."""
    with tempfile.TemporaryDirectory() as folder:
        if case["group"] == "right":
            return _right(case, settings, Path(folder) / "run")
        return _wrong(case, settings, Path(folder) / "run")


def _wrong(case: Case, settings: Settings, out: Path) -> Case:
    """What was said of what shows the disease, and of what shows the planted artifact."""
    seed, kind = case["seed"], case["planted"]
    pairs = tuple(combinations(CLASSES, 2))
    pair = pairs[int(np.random.default_rng([seed, 31]).integers(len(pairs)))]
    everything = _two_classes(settings, pair, seed)
    tables = []
    for number, rows in enumerate((range(N_TRAIN), range(N_TRAIN, N_TRAIN + N_HELD_OUT))):
        table = everything.take(rows)
        if kind is not None and case["goes_with"] == "right":
            table = plant(table, CATALOGUE[kind], correlation=STRONG, seed=seed + 1000 * number)
        table = _relabelled(table, np.random.default_rng([seed, 37, number]))
        if kind is not None and case["goes_with"] == "recorded":
            table = plant(table, CATALOGUE[kind], correlation=STRONG, seed=seed + 1000 * number)
        tables.append(table)
    train, held_out = tables
    network = thin_resnet18(seed=seed)
    train_classifier(network, train, epochs=EPOCHS, seed=seed, progress=False)
    found = [f for f in _audited(network, held_out, out, seed).findings if f.origin == "discovered"]
    columns = ["disease"] if kind is None else ["disease", kind]
    shown = {what: [f for f in found if _shown(f, held_out, columns) == what] for what in (*columns, None)}
    return {
        "classes": list(pair),
        "disease": [f.verdict for f in shown["disease"]],
        "artifact": [f.verdict for f in shown[kind]] if kind is not None else [],
        "others": [f.verdict for f in shown[None]],
        "kind_of_image": [f.evidence.get("kind_of_image") for f in shown["disease"]],
    }


def _right(case: Case, settings: Settings, out: Path) -> Case:
    """What was said of a planted shortcut, where no label is wrong."""
    seed, kind = case["seed"], case["planted"]
    made = make_case(Recipe(case["task"], (kind,), seed), settings, n_held_out=N_HELD_OUT)
    held_out = plant(made.held_out, CATALOGUE[kind], correlation=STRONG, seed=seed + 1000)
    found = [f for f in _audited(made.model, held_out, out, seed).findings if f.origin == "discovered"]
    shown = [f for f in found if _shown(f, held_out, [kind])]
    return {
        "artifact": [f.verdict for f in shown],
        "kind_of_image": [f.evidence.get("kind_of_image") for f in shown],
    }


def _audited(network: nn.Module, table: ImageTable, out: Path, seed: int) -> AuditRecord:
    statistics = Statistics(n_permutations=100, n_bootstrap=100, seed=seed)
    return audit(network, table, out, concepts=[], discover=True, statistics=statistics, running=_QUIET)


def _shown(finding: FindingRecord, table: ImageTable, columns: list[str]) -> str | None:
    """The column whose carriers a discovered concept's are, or all but those: the nearest one, or none."""
    concept = finding.concept
    rows = table.frame.set_index("sample_id").loc[concept.sample_ids[concept.known].tolist()]
    values = concept.values[concept.known]
    near = {c: abs(float(np.corrcoef(values, rows[c].to_numpy(float))[0, 1])) for c in columns}
    best = max(near, key=near.__getitem__)
    return best if near[best] >= SHOWN else None


def _relabelled(table: ImageTable, generator: np.random.Generator) -> ImageTable:
    """The table with 8 % of its labels turned, and the right ones as a column."""
    right: Ints = table.frame["label"].to_numpy()
    turned = np.zeros(len(table), bool)
    turned[generator.permutation(len(table))[: round(WRONG * len(table))]] = True
    return table.with_columns(disease=right, label=np.where(turned, 1 - right, right))


def _two_classes(settings: Settings, pair: tuple[str, ...], seed: int) -> ImageTable:
    """Images of two classes of MedNIST in equal numbers and in random order."""
    if settings.data is None or not (settings.data / "mednist").is_dir():
        raise InputError(
            "wrong labels need real classes; give --data, the folder that holds mednist and its class folders"
        )
    generator = np.random.default_rng([seed, 41])
    half = (N_TRAIN + N_HELD_OUT) // 2
    images, labels = [], []
    for label, name in enumerate(pair):
        files = sorted((settings.data / "mednist" / name).glob("*.jpeg"))
        if len(files) < half:
            raise InputError(
                f"{settings.data / 'mednist' / name} holds {len(files)} images; {half} are needed"
            )
        for k in generator.permutation(len(files))[:half]:
            with Image.open(files[k]) as image:
                images.append(np.asarray(image.convert("L"), np.float32)[None] / np.float32(255))
            labels.append(label)
    order = generator.permutation(len(images))
    frame = pd.DataFrame({"sample_id": [f"image-{i:04d}" for i in range(len(order))]})
    frame["label"] = np.asarray(labels)[order]
    return ImageTable.from_arrays(np.stack(images)[order], frame, transform=Normalize(0.45, 0.25))


def summarize(finished: list[Case]) -> Record:
    """Networks in which the disease is called a shortcut; and planted ones that keep or lose their word."""
    wrong, right = ([c for c in finished if c["group"] == group] for group in ("wrong", "right"))
    summary: Record = {}
    if wrong:
        artifacts = [verdict for c in wrong for verdict in c["artifact"]]
        summary["wrong"] = {
            "networks": len(wrong),
            "disease_proposed": sum(bool(c["disease"]) for c in wrong),
            "disease_called_shortcut": sum("shortcut" in c["disease"] for c in wrong),
            "check_labels_first": sum(LABEL_WORD in c["disease"] for c in wrong),
            "artifacts_proposed": len(artifacts),
            "artifacts_called_shortcut": artifacts.count("shortcut"),
        }
    if right:
        summary["right"] = {
            "networks": len(right),
            "proposed": sum(bool(c["artifact"]) for c in right),
            "called_shortcut": sum("shortcut" in c["artifact"] for c in right),
            "lost_its_word": sorted(c["planted"] for c in right if LABEL_WORD in c["artifact"]),
        }
    return summary


SUITE = Suite(
    name="wrong_labels",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("group", "seed", "planted", "goes_with", "classes", "disease", "artifact"),
)
