"""Does distilling at intermediate layers beat distilling the logits where teacher and student are pretrained?

The networks are those of `shortcutscope.benchmarks.suites.debias_pretrained`. The student begins as the
biased network. The teacher never saw a biased sample: the pretrained network fine-tuned on the small clean
subset (``clean``, the specialist of Boland et al. 2025), or on the biased samples' images without the
correlation (``unbiased``, the best teacher that there could be). Compared are the forms of
`shortcutscope.benchmarks.suites.distillation` that a pretrained network was said to need: intermediate
probes, and the directions that the teacher's relevance uses. The controls are the logits alone, those at four
times their weight, and the same labels and steps without a teacher.

``against``: paired difference to the logits, and to the logits at four times their weight, of the same
network and setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from shortcutscope.benchmarks.figures.dots import Dot, Panel, dots
from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.pretrained_networks import Unbiased, networks_to_mend, store_of
from shortcutscope.benchmarks.pretraining import ARCHITECTURES
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.benchmarks.suites.distillation import FORMS
from shortcutscope.debias.distillation.recipe import distil
from shortcutscope.debias.samples import CLEAN_SHARE
from shortcutscope.types import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLEAN_FRACTION = 0.1
#: Passes of a student over the biased samples: half of what `debias --pretrained` gives its recipes, since
#: there are many forms, and each of them has what the others have.
EPOCHS = 2
TEACHERS: tuple[Unbiased, ...] = ("clean", "unbiased")
#: The recommended labels, with clean samples in the steps; and those of the paper, the biased ones alone.
LABELS: dict[str, Record] = {
    "group-balanced": {"labels": "group-balanced", "clean_share": CLEAN_SHARE},
    "plain": {"labels": "plain"},
}
CONTROLS = ("logits", "logits x 4")
COMPARED = (*CONTROLS, "probes, all", "features, audit", "relevant, audit")
QUICK = (*CONTROLS, "relevant, audit")
WITHOUT = "no teacher"
#: What is listed beside the students: the network that is mended, and the teachers themselves.
BIASED, TEACHER = "biased network", "teacher"
METRICS = ("robust_auroc", "worst_group", "balanced_auroc")


def cases(settings: Settings) -> list[Case]:
    """Two architectures x three artifacts x two seeds, in four settings of labels and teacher.

    Quick: one network and setting; full: three architectures and seeds, and relevant directions without the
    shortcut's own.
    """
    names = list(ARCHITECTURES)
    networks = networks_to_mend(settings, names if settings.full else names[:2])
    return [
        {**network, "clean_fraction": CLEAN_FRACTION, "labels": labels, "teacher": teacher, "form": form}
        for name in dict.fromkeys(network["network"] for network in networks)
        for network in networks
        if network["network"] == name
        for labels, teacher, form in _rows(settings)
    ]


def _rows(settings: Settings) -> list[tuple[str | None, str | None, str]]:
    """Labels, teacher and form of a network's cases."""
    teachers, labels = (TEACHERS[:1], list(LABELS)[:1]) if settings.quick else (TEACHERS, list(LABELS))
    forms = QUICK if settings.quick else COMPARED
    if settings.full:
        forms = (*forms, "relevant, audit, complement")
    rows: list[tuple[str | None, str | None, str]] = [(None, None, BIASED)]
    rows += [(None, teacher, TEACHER) for teacher in teachers]
    for label in labels:
        rows.append((label, None, WITHOUT))
        rows += [(label, teacher, form) for teacher in teachers for form in forms]
    return rows


def run_case(case: Case, settings: Settings) -> Case:
    """Train one student, or take what it is held against."""
    store = store_of(case, settings)
    if case["form"] == BIASED:
        return store.judged("biased", store.biased, store.cohort.biased.fingerprint())
    teacher = store.specialist(case["teacher"] or TEACHERS[0])
    if case["form"] == TEACHER:
        gate = teacher.judged
        assert gate is not None
        return {**store.judge(teacher.model), "verdict": gate.verdict, "use": gate.use}
    options = {**LABELS[case["labels"]], **FORMS[case["form"]]}
    problem = store.problem_from("model", audited=True)
    if not settings.quick:
        problem = replace(problem, training=problem.training.but(epochs=EPOCHS))
    outcome = distil(problem, teacher=teacher, on_shortcut="warn", **options)
    compared = list(outcome.details["layers"])
    return {**store.judge(outcome.model), "layers": compared, "notes": list(outcome.notes)}


def summarize(finished: list[Case]) -> Record:
    """For every architecture, setting and form: means, and paired differences to both controls."""
    at = {_key(c): c for c in finished}
    rows = []
    for network in dict.fromkeys(c["network"] for c in finished):
        members = [c for c in finished if c["network"] == network]
        for labels, teacher in _settings(members):
            for form in dict.fromkeys(c["form"] for c in members):
                those = [c for c in members if _belongs(c, labels, teacher) and c["form"] == form]
                if those:
                    row: Record = {"network": network, "labels": labels, "teacher": teacher, "form": form}
                    rows.append({**row, **_means(those), "against": _against(those, at, teacher)})
    return {"settings": rows, "beside": _beside([c for c in finished if c["labels"] is None])}


def _settings(cases: Sequence[Case]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((c["labels"], c["teacher"]) for c in cases if c["labels"] and c["teacher"]))


def _belongs(case: Case, labels: str, teacher: str) -> bool:
    """Whether a student is of a setting; one without a teacher is of both teachers'."""
    return case["labels"] == labels and case["teacher"] in (teacher, None)


def _means(those: Sequence[Case]) -> Record:
    return {"cases": len(those), **{m: mean_with_interval([c[m] for c in those]) for m in METRICS}}


def _against(those: Sequence[Case], at: dict[tuple[object, ...], Case], teacher: str) -> Record:
    """By control: mean difference of every metric."""
    by_control: Record = {}
    for control in CONTROLS:
        keys = [_key({**c, "teacher": teacher, "form": control}) for c in those]
        pairs = [(c, at[key]) for c, key in zip(those, keys, strict=True) if key in at]
        by_control[control] = {m: mean_with_interval([a[m] - b[m] for a, b in pairs]) for m in METRICS}
    return by_control


def _key(case: Case) -> tuple[object, ...]:
    return tuple(case[k] for k in ("task", "network", "kind", "seed", "labels", "teacher", "form"))


def _beside(others: Sequence[Case]) -> list[Record]:
    """Means of the biased networks and of the teachers."""
    keys = ("network", "form", "teacher")
    by_key: dict[tuple[object, ...], list[Case]] = {}
    for case in others:
        by_key.setdefault(tuple(case[k] for k in keys), []).append(case)
    return [{**dict(zip(keys, key, strict=True)), **_means(those)} for key, those in by_key.items()]


def draw(finished: Sequence[Case]) -> Figure:
    """Paired difference in robust AUROC to the logits alone, a panel a teacher."""
    rows = [row for row in summarize(list(finished))["settings"] if row["form"] != "logits"]
    panels = []
    for teacher in dict.fromkeys(row["teacher"] for row in rows):
        panel_dots = [
            Dot(f"{r['network']}, labels: {r['labels']}", r["form"], **r["against"]["logits"]["robust_auroc"])
            for r in rows
            if r["teacher"] == teacher and r["against"]["logits"]["robust_auroc"]["mean"] is not None
        ]
        panels.append(Panel(f"teacher: {teacher}", panel_dots))
    return dots(panels, "robust AUROC minus that of the logits alone", limits=(-0.2, 0.2), lines=(0,))


SUITE = Suite(
    name="distillation-pretrained",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("network", "kind", "seed", "labels", "teacher", "form", *METRICS),
    draw=draw,
)
