"""Intermediate-layer distillation from a specialist teacher, against its rivals (Boland et al. 2025).

A network is trained on samples in which a shortcut goes with the label (95 %). A teacher, the same network
fine-tuned on a small clean subset, is distilled into a student on the biased samples, from probes at all
blocks and the output. Rivals get the same samples and steps. Four architectures, a localized and a diffuse
shortcut each; held-out samples carry the shortcut in half of either class, and a second test is of another
population. What else the paper varies, on one architecture: which layers, how many clean samples, clean
samples of another population, and a narrower teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from shortcutscope.benchmarks.debias_data import Cohort
from shortcutscope.benchmarks.debias_networks import CaseSpec, NetworkStore, cohort_of, extent_of, store_of
from shortcutscope.benchmarks.figures.dots import Dot, Panel, dots
from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.papers.protocol import NOT_FOUND, Claim, Protocol
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.medical import open_dataset
from shortcutscope.debias.distillation.recipe import distil
from shortcutscope.debias.needs import lacking
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.debias.teacher import train_teacher
from shortcutscope.errors import InputError
from shortcutscope.models.layers import find_layers
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.stats.metrics import balanced_auroc
from shortcutscope.types import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = (
    "Boland, Tsaftaris and Dahdouh 2025, Preventing shortcut learning in medical image analysis through "
    "intermediate layer knowledge distillation from specialist teachers, MELBA 2025:020"
)
#: Architectures with the task that each is trained on, and its localized and diffuse shortcut.
ARCHITECTURES: dict[str, tuple[str, tuple[str, str]]] = {
    "resnet18": ("phantom", ("tag", "noise")),
    "alexnet": ("phantom", ("tag", "noise")),
    "densenet121": ("phantom", ("tag", "noise")),
    "cnn3d": ("heads", ("morphology", "intensity")),
}
#: Data sets of the paper that shortcuts can be planted in, by folder: what flat images the data root holds.
PLANTABLE = ("chexpert", "isic2017")
#: The population of the second test, and of clean samples from elsewhere.
ELSEWHERE = {"phantom": "phantom-faint", "heads": "heads-other"}
REFERENCES = ("oracle", "erm", "teacher")
AUGMENTATION, GROUPS = ("mixup", "artifact-augmentation"), ("group-dro", "reweighing")
DISTILLATIONS = ("logit-distillation", "intermediate-distillation", "balanced-distillation")
OURS, BALANCED = "intermediate-distillation", "balanced-distillation"
#: What the balanced one is without its teacher.
CONTROL = "balanced-finetune"
#: What is varied on the first architecture.
VARIANTS = (
    "early layers",
    "middle layers",
    "late layers",
    "2 % clean",
    "clean from elsewhere",
    "half teacher",
)
METRICS = ("robust_auroc", "worst_group", "delta_tpr", "elsewhere_auroc")
CORRELATION, CLEAN = 0.95, 0.1


def cases(settings: Settings) -> list[Case]:
    """Recipes on every architecture and shortcut; variants of one of them; one seed, three where full.

    With data, the flat architectures are trained on its images instead of the phantoms.
    """
    networks = ["resnet18"] if settings.quick else list(ARCHITECTURES)
    result: list[Case] = []
    for seed in range(settings.seed, settings.seed + (3 if settings.full else 1)):
        for network, task, kinds in _cohorts(settings, networks):
            for kind in kinds[:1] if settings.quick else kinds:
                base = {
                    "network": network,
                    "task": task,
                    "kind": kind,
                    "group": extent_of(kind),
                    "seed": seed,
                }
                base |= {"correlation": CORRELATION, "clean_fraction": CLEAN}
                recipes = (*REFERENCES, *AUGMENTATION, *GROUPS, *DISTILLATIONS, CONTROL)
                result += [{**base, "recipe": name, "variant": ""} for name in recipes]
                if network == networks[0] and not settings.quick:
                    varied = [name for name in VARIANTS if task in ELSEWHERE or "elsewhere" not in name]
                    result += [{**_varied(base, name), "recipe": OURS, "variant": name} for name in varied]
    return result


def _cohorts(settings: Settings, networks: Sequence[str]) -> Iterator[tuple[str, str, tuple[str, str]]]:
    for network in networks:
        task, kinds = ARCHITECTURES[network]
        if settings.data is None or task == "heads":
            yield network, task, kinds
        else:
            yield from ((network, name, kinds) for name in _held(settings.data))


def _held(root: Path) -> list[str]:
    return [name for name in PLANTABLE if (root / name).is_dir()]


def _varied(base: Case, variant: str) -> Case:
    return {**base, "clean_fraction": 0.02} if variant == "2 % clean" else base


def run_case(case: Case, settings: Settings) -> Case:
    """Train, or take, one network and judge it on both tests."""
    store = store_of(case, settings)
    other = ELSEWHERE.get(case["task"])
    elsewhere = cohort_of(other, case["kind"], case["seed"], CORRELATION, CLEAN, settings) if other else None
    name = case["recipe"]
    if name in REFERENCES:
        return _metrics(store, _reference(store, name), elsewhere)
    problem = store.problem(audited=False)
    missing = lacking(RECIPES[name], problem)
    if missing:
        return {"undefined": f"without {', '.join(missing)}"}
    options: Record = {}
    if RECIPES[name].run is distil:
        problem, options = _distillation(case, store, problem, elsewhere, settings)
    outcome = RECIPES[name](problem, **options)
    return {**_metrics(store, outcome.model, elsewhere), "notes": list(outcome.notes)}


def _reference(store: NetworkStore, name: str) -> nn.Module:
    if name == "teacher":
        return store.teacher().model
    return store.oracle() if name == "oracle" else store.biased()


def _distillation(
    case: Case, store: NetworkStore, problem: DebiasProblem, elsewhere: Cohort | None, settings: Settings
) -> tuple[DebiasProblem, Record]:
    """The problem and options of a distillation, as its variant wants them."""
    variant = case["variant"]
    options: Record = {"teacher": None, "on_shortcut": "warn"}
    if variant == "clean from elsewhere":
        assert elsewhere is not None
        carries = elsewhere.clean.frame[case["kind"]].to_numpy(float)
        problem = replace(problem, clean=elsewhere.clean, clean_carries=carries)
        options["teacher"] = train_teacher(problem)
    elif variant == "half teacher":
        half = NetworkStore(replace(_spec(case), network="resnet18, half"), settings)
        options["teacher"] = half.teacher()
    else:
        options["teacher"] = store.teacher()
    if variant.endswith("layers"):
        options["layers"] = layer_names(problem, variant.split()[0])
    return problem, options


def _spec(case: Case) -> CaseSpec:
    names = ("task", "kind", "seed", "correlation", "clean_fraction", "network")
    return CaseSpec(**{name: case[name] for name in names})


def layer_names(problem: DebiasProblem, part: str) -> list[str]:
    """The blocks in the early, middle or late third of a network's depth."""
    blocks = [layer.name for layer in find_layers(problem.model, problem.example())]
    thirds = np.array_split(np.array(blocks), 3)
    names: list[str] = thirds[("early", "middle", "late").index(part)].tolist()
    return names


def _metrics(store: NetworkStore, model: nn.Module, elsewhere: Cohort | None) -> Case:
    if elsewhere is None:
        return store.judge(model)
    logits = predict_logits(model, elsewhere.test).numpy()
    frame, kind = elsewhere.test.frame, store.spec.kind
    auroc = balanced_auroc(frame["label"].to_numpy(), frame[kind].to_numpy(), logits[:, 1] - logits[:, 0])
    return {**store.judge(model), "elsewhere_auroc": float(auroc)}


def summarize(finished: list[Case]) -> Record:
    """Means and 95 % intervals over shortcuts and seeds, by architecture and recipe."""
    rows = []
    for network, recipe, variant in dict.fromkeys(_key(c) for c in finished):
        members = [c for c in finished if _key(c) == (network, recipe, variant) and "undefined" not in c]
        row: Record = {
            "network": network,
            "recipe": recipe,
            "variant": variant,
            "cases": len(members),
        }
        rows.append(row | {name: mean_with_interval([c.get(name) for c in members]) for name in METRICS})
    return {"recipes": rows}


def _key(case: Case) -> tuple[str, str, str]:
    return case["network"], case["recipe"], case["variant"]


def means(finished: Sequence[Case], metric: str = "robust_auroc") -> dict[tuple[str, str, str], float]:
    """Mean of a metric by (network, recipe, variant), over the shortcuts and seeds that every recipe has."""
    rows = summarize(list(finished))["recipes"]
    return {
        (row["network"], row["recipe"], row["variant"]): row[metric]["mean"]
        for row in rows
        if row[metric]["mean"] is not None
    }


def claims(finished: Sequence[Case]) -> list[Claim]:
    """What the paper's abstract says, beside what was measured."""
    aurocs = means(finished)
    networks = list(dict.fromkeys(case["network"] for case in finished))
    stated = "stated in the abstract; figures " + NOT_FOUND
    result = [
        _beats(aurocs, networks, OURS, rivals, f"distillation at intermediate layers beats {name}", stated)
        for name, rivals in (
            ("ERM", ("erm",)),
            ("augmentation-based rivals", AUGMENTATION[:1]),
            ("group-based rivals", GROUPS),
        )
    ]
    everyone = ("erm", *AUGMENTATION[:1], *GROUPS)
    what = "distillation with the groups' labels balanced beats all of these"
    result.append(_beats(aurocs, networks, BALANCED, everyone, what, "not in the paper"))
    what = "and beats the same without a teacher"
    result.append(_beats(aurocs, networks, BALANCED, (CONTROL,), what, "not in the paper"))
    what = "distillation at intermediate layers beats that of the logits alone"
    result.append(_beats(aurocs, networks, OURS, ("logit-distillation",), what, NOT_FOUND))
    for metric, where in (("robust_auroc", "in distribution"), ("elsewhere_auroc", "in another population")):
        result.append(_near_oracle(means(finished, metric), networks, where, stated))
    result += [_variant(aurocs, networks[0], variant) for variant in VARIANTS]
    return result


def _beats(
    aurocs: Mapping[tuple[str, str, str], float],
    networks: Sequence[str],
    name: str,
    rivals: Sequence[str],
    what: str,
    published: str,
) -> Claim:
    """Whether a recipe's robust AUROC is above all of some rivals', on at least three of four networks."""
    wins, parts = [], []
    for network in networks:
        others = [aurocs[network, rival, ""] for rival in rivals if (network, rival, "") in aurocs]
        if (network, name, "") not in aurocs or not others:
            continue
        value = aurocs[network, name, ""]
        wins.append(value > max(others))
        parts.append(f"{network} {value:.3f} against {max(others):.3f}")
    holds = sum(wins) >= np.ceil(0.75 * len(networks)) if wins else None
    return Claim(what, published, "; ".join(parts), None if holds is None else bool(holds))


def _near_oracle(
    aurocs: Mapping[tuple[str, str, str], float], networks: Sequence[str], where: str, published: str
) -> Claim:
    """Whether at least .9 of the way from ERM to the unbiased network is gone, on half of the networks."""
    shares = {}
    for network in networks:
        keys = [(network, name, "") for name in (OURS, "erm", "oracle")]
        if all(key in aurocs for key in keys):
            value, erm, oracle = (aurocs[key] for key in keys)
            if oracle - erm > 0.01:
                shares[network] = (value - erm) / (oracle - erm)
    text = "; ".join(f"{network} {share:.0%} of the gap closed" for network, share in shares.items())
    holds = bool(np.mean([share >= 0.9 for share in shares.values()]) >= 0.5) if shares else None
    return Claim(f"in many cases as good as without the bias, {where}", published, text, holds)


def _variant(aurocs: Mapping[tuple[str, str, str], float], network: str, variant: str) -> Claim:
    """Whether a variant still beats ERM."""
    key, erm, whole = (network, OURS, variant), (network, "erm", ""), (network, OURS, "")
    published = "stated in the paper's summaries; figures " + NOT_FOUND
    if key not in aurocs or erm not in aurocs:
        return Claim(f"it also works with {variant}", published, "", None)
    measured_text = (
        f"{aurocs[key]:.3f} (ERM {aurocs[erm]:.3f}, all layers and 10 % clean {aurocs[whole]:.3f})"
    )
    return Claim(f"it also works with {variant}", published, measured_text, aurocs[key] > aurocs[erm])


def draw(finished: Sequence[Case]) -> Figure:
    """Robust AUROC of every recipe, a panel an architecture."""
    rows = [row for row in summarize(list(finished))["recipes"] if row["robust_auroc"]["mean"] is not None]
    panels = [
        Panel(
            network,
            [
                Dot(
                    ", ".join(filter(None, (row["recipe"], row["variant"]))),
                    "",
                    **row["robust_auroc"],
                )
                for row in rows
                if row["network"] == network
            ],
        )
        for network in dict.fromkeys(row["network"] for row in rows)
    ]
    return dots(panels, "robust AUROC", limits=(0.0, 1.0))


def check(root: Path) -> None:
    """Refuse a folder without any of the data sets, and one that is laid out otherwise."""
    present = _held(root)
    if not present:
        raise InputError(
            f"{str(root)!r} has none of the folders {', '.join(PLANTABLE)}; put the data sets there under "
            "these names, or leave --data out to run on phantoms"
        )
    for name in present:
        open_dataset(name, root / name)


PROTOCOL = Protocol(
    suite=Suite(
        name="boland",
        cases=cases,
        run_case=run_case,
        summarize=summarize,
        columns=("network", "kind", "seed", "recipe", "variant", *METRICS),
        command="reproduce",
        draw=draw,
    ),
    paper=PAPER,
    data=(
        "phantoms: radiographs with a tag or noise, head volumes with a bias of morphology or intensity; "
        "with --data, the folders chexpert and isic2017 in it instead of the radiographs"
    ),
    claims=claims,
    check=check,
)
