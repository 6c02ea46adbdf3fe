"""From finding a shortcut to unlearning it: identify, retrieve, localize, mitigate (Pahde et al. 2025).

A controlled artifact is planted in a share of one class, and networks of the paper's architectures are
trained on it. For each, clusters of relevances and outlying neurons are held against the artifact's carriers,
concept vectors rank them, masks are drawn, and the artifact is unlearnt by RRR, RR-ClArC, P-ClArC and
reactive P-ClArC, with strengths and layers chosen on validation samples. Judged on the test samples without
the artifact (clean) and with it on all of them (attacked), and by the share of the relevance that lies on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shortcutscope.benchmarks.figures.dots import Dot, Panel, dots
from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.papers.pahde.data import ARTIFACTS, check, datasets
from shortcutscope.benchmarks.papers.pahde.networks import OF_IMAGES, OF_SIGNALS
from shortcutscope.benchmarks.papers.pahde.steps import MITIGATIONS, STEPS, run_case
from shortcutscope.benchmarks.papers.protocol import NOT_FOUND, Claim, Protocol
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.types import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARCHITECTURES = (*OF_IMAGES, OF_SIGNALS)
QUICK = (("resnet50", "dark_circle"), (OF_SIGNALS, "defective_lead"))
#: Mitigations of each architecture that have to help.
ENOUGH = 3
#: What a figure of the paper's would have to be, to say that steps before the mitigation work.
RETRIEVED, COVERED = 0.9, 0.5
#: Where the paper's tables could not be had.
ABSTRACT = f"mitigated in VGG16, ResNet50 and ViT (abstract); figures: {NOT_FOUND}"
SECTION = f"AUROC and AP in section 6.3; figures: {NOT_FOUND}"


def cases(settings: Settings) -> list[Case]:
    """Every step of every architecture with its artifacts; one seed, three where full.

    Step by step rather than network by network, so that two processes do not train the same network.
    """
    n_seeds = 3 if settings.full else 1
    return [
        {"architecture": architecture, "artifact": artifact, "seed": seed, "step": step}
        for step in STEPS
        for seed in range(settings.seed, settings.seed + n_seeds)
        for architecture, artifact in pairs(settings)
    ]


def pairs(settings: Settings) -> list[tuple[str, str]]:
    """Architectures with the artifacts of their kind of data; with data, those whose data set is there."""
    names = ARTIFACTS if settings.data is None else [one.name for one in datasets(settings.data)]
    all_pairs = [
        (architecture, name)
        for architecture in ARCHITECTURES
        for name in names
        if ARTIFACTS[name].of_signals == (architecture == OF_SIGNALS)
    ]
    return [pair for pair in all_pairs if pair in QUICK] or all_pairs[:1] if settings.quick else all_pairs


def summarize(finished: list[Case]) -> Record:
    """Means over seeds of every architecture, artifact and step; and which mitigations help, how often."""
    keys = ("architecture", "artifact", "step")
    metrics = ("auroc", "ap", "marks_auroc", "iou", "iou_clarc", "clean", "attacked", "relevance")
    rows = []
    for setting in dict.fromkeys(tuple(case[key] for key in keys) for case in finished):
        members = [case for case in finished if tuple(case[key] for key in keys) == setting]
        row: Record = {**dict(zip(keys, setting, strict=True)), "cases": len(members)}
        values = {name: [case.get(name) for case in members] for name in metrics}
        rows.append(
            row | {k: mean_with_interval(v) for k, v in values.items() if any(x is not None for x in v)}
        )
    return {"steps": rows, "gains": gains(finished)}


def gains(finished: Sequence[Case]) -> list[Case]:
    """Each mitigation against the training without a penalty, paired by artifact and seed."""
    keys = ("architecture", "artifact", "seed")
    vanilla = {tuple(c[k] for k in keys): c for c in finished if c["step"] == "vanilla"}
    rows: list[Case] = []
    for architecture in ARCHITECTURES:
        for step in MITIGATIONS:
            pairs_of = [
                (case, vanilla[key])
                for case in finished
                if case["architecture"] == architecture
                and case["step"] == step
                and "undefined" not in case
                and (key := tuple(case[k] for k in keys)) in vanilla
            ]
            if not pairs_of:
                continue
            row: Case = {"architecture": architecture, "step": step, "cases": len(pairs_of)}
            for name in ("attacked", "clean", "relevance"):
                both = [(a[name], b[name]) for a, b in pairs_of if name in a and name in b]
                row[name] = mean_with_interval([a for a, _ in both])
                row[f"{name}_gain"] = mean_with_interval([a - b for a, b in both])
            rises = (row["attacked_gain"]["mean"] or 0) > 0
            falls = row["relevance_gain"]["mean"] is not None and row["relevance_gain"]["mean"] < 0
            rows.append(row | {"helps": rises and falls})
    return rows


def claims(finished: Sequence[Case]) -> list[Claim]:
    """The paper's claims, step by step, beside what was measured."""
    return [
        _learnt(finished),
        _mean_claim(
            finished, "identify", "auroc", "the artifact is found without being named", 0.8,
            f"shown in embeddings and figures; figures: {NOT_FOUND}",
        ),
        _mean_claim(finished, "retrieve", "auroc", "concept vectors rank the carriers", RETRIEVED, SECTION),
        _mean_claim(
            finished, "localize", "iou", "masks cover the artifact", COVERED,
            f"relevance and IoU with known masks; figures: {NOT_FOUND}",
        ),
        *(_helped(finished, architecture) for architecture in ARCHITECTURES),
        _retained(finished),
    ]  # fmt: skip


def _learnt(finished: Sequence[Case]) -> Claim:
    vanilla = [case for case in finished if case["step"] == "vanilla"]
    drops = mean_with_interval([case["clean_before"] - case["attacked_before"] for case in vanilla])
    return Claim(
        "the artifact on all test samples costs the trained networks accuracy",
        f"attacked below clean; figures: {NOT_FOUND}",
        f"{_with_interval(drops)} less (mean of {len(vanilla)} networks)" if vanilla else "",
        None if drops["mean"] is None else drops["mean"] > 0,
    )


def _mean_claim(
    finished: Sequence[Case], step: str, name: str, what: str, least: float, published: str
) -> Claim:
    values = [case[name] for case in finished if case["step"] == step and name in case]
    interval = mean_with_interval(values)
    reached = sum(value >= least for value in values)
    label = "IoU" if name == "iou" else name.upper()
    text = f"{label} {_with_interval(interval)}, {reached} of {len(values)} from {least:g}"
    return Claim(
        what,
        published,
        text if values else "",
        None if interval["mean"] is None else interval["mean"] >= least,
    )


def _helped(finished: Sequence[Case], architecture: str) -> Claim:
    rows = [row for row in gains(finished) if row["architecture"] == architecture]
    text = "; ".join(
        f"{row['step']} {row['attacked_gain']['mean']:+.2f}, {_signed(row['relevance_gain']['mean'])}"
        for row in rows
    )
    helped = sum(row["helps"] for row in rows)
    return Claim(
        f"{architecture}: mitigation raises the attacked accuracy and lowers the relevance of the artifact "
        f"({ENOUGH} of {len(MITIGATIONS)} or more)",
        ABSTRACT if architecture != OF_SIGNALS else f"figures: {NOT_FOUND}",
        f"{helped} of {len(rows)}: {text} (attacked accuracy, relevance, against vanilla)" if rows else "",
        helped >= ENOUGH if rows else None,
    )


def _retained(finished: Sequence[Case]) -> Claim:
    rows = [row["clean_gain"]["mean"] for row in gains(finished)]
    worst = min(rows, default=None)
    return Claim(
        "mitigation keeps the clean accuracy (within .05)",
        f"figures: {NOT_FOUND}",
        "" if worst is None else f"worst mean change {worst:+.3f}",
        None if worst is None else worst >= -0.05,
    )


def _with_interval(interval: dict[str, float | None]) -> str:
    if interval["low"] is None:
        return f"{interval['mean']:.2f}" if interval["mean"] is not None else ""
    return f"{interval['mean']:.2f} ({interval['low']:.2f} to {interval['high']:.2f})"


def _signed(value: float | None) -> str:
    return "no mask" if value is None else f"{value:+.2f}"


def draw(finished: Sequence[Case]) -> Figure:
    """Accuracy on the attacked test samples by mitigation and artifact, a panel an architecture."""
    panels = []
    for architecture in ARCHITECTURES:
        panel_dots = []
        for step in ("vanilla", *MITIGATIONS):
            for artifact in ARTIFACTS:
                values = [
                    case.get("attacked")
                    for case in finished
                    if (case["architecture"], case["step"], case["artifact"])
                    == (architecture, step, artifact)
                ]
                summed = mean_with_interval(values)
                if summed["mean"] is not None:
                    low, high = summed["low"], summed["high"]
                    panel_dots.append(Dot(step, ARTIFACTS[artifact].published, summed["mean"], low, high))
        if panel_dots:
            panels.append(Panel(architecture, panel_dots))
    return dots(panels, "accuracy, artifact on all test samples", limits=(0.4, 1.0), lines=(0.5,))


PROTOCOL = Protocol(
    suite=Suite(
        name="pahde",
        cases=cases,
        run_case=run_case,
        summarize=summarize,
        columns=(
            "architecture",
            "artifact",
            "seed",
            "step",
            "auroc",
            "iou",
            "clean",
            "attacked",
            "relevance",
        ),
        command="reproduce",
        draw=draw,
    ),
    paper=(
        "Pahde, Wiegand, Lapuschkin, Samek 2025, Ensuring medical AI safety: interpretability-driven "
        "detection and mitigation of spurious model behavior and associated data, arXiv 2501.13818"
    ),
    data=(
        "Without data: phantom radiographs and ECGs, thin networks. --data: a folder with isic2019/, "
        "hyperkvasir/, chexpert/ and ptbxl/, of which those that are there are run, with torchvision's "
        "VGG-16, ResNet-50 and ViT-B/16 (weights of ImageNet where torch's cache has them)."
    ),
    claims=claims,
    check=check,
)
