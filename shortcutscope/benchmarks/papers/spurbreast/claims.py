"""What the protocol `spurbreast` holds against the paper, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from shortcutscope.benchmarks.figures.intervals import mean_with_interval
from shortcutscope.benchmarks.papers.protocol import NOT_FOUND, Claim
from shortcutscope.benchmarks.papers.spurbreast.measures import EPSILONS
from shortcutscope.benchmarks.runner import Case

__all__ = ["claims"]

#: Accuracy that a network with a perfect shortcut has at least in validation, and at most in test.
KNOWN, CHANCE = 0.97, 0.60
#: Largest difference of the accuracies in validation and test of a network without a shortcut.
SAME = 0.10
#: How much worse the calibration of a network with a shortcut has to be in test, and how much more of the
#: slices with the feature than of those without it has to be called positive there.
MISCALIBRATED, FOLLOWS = 0.2, 0.5
#: Entropy in bits that would be a warning: a tenth of what a network has that cannot decide.
WARNING = 0.1
#: Share of false discoveries at which columns are called.
LEVEL = 0.05

NAMES = {"field_strength": "field strength", "orientation": "orientation"}
_POSTER = "the authors' poster"
_REPEAT = "independent repetition, ResNet-50"
#: Accuracy in training, validation and test, with where it stands.
PUBLISHED = {
    ("field_strength", "ResNet-50"): "train .99, validation .99, test .52 (table 2)",
    ("field_strength", "ViT"): f"train .98, validation .99, test .55 ({_POSTER})",
    ("orientation", "ViT"): (
        f"train .98, test .52 ({_POSTER}, whose table has 0 for the validation and whose text about 1.00)"
    ),
    ("none", "ViT"): f"train .81, validation .79, test .83 ({_POSTER})",
}
SPLITS = {"train": "train", "val": "validation", "test": "test"}


def claims(cases: Sequence[Case]) -> list[Claim]:
    """The paper's claims, and what it leaves to be asked of the data set: uncertainty, attacks."""
    networks = _part(cases, "network")
    full = [case for case in networks if case["correlation"] in (0.5, 1.0)]
    without = [case for case in full if case["feature"] == "none"]
    with_ = [case for case in full if case["feature"] != "none"]
    return [
        *_screened(_part(cases, "metadata")),
        *_collapses(with_),
        *_baselines(without),
        _follows(with_),
        *_audited(_part(cases, "audit")),
        _calibration(with_, without),
        _entropy(with_),
        _ensemble(with_),
        *_attacked(with_, without),
    ]


def _screened(screens: Sequence[Case]) -> list[Claim]:
    with_feature = [case for case in screens if case["feature"] != "none"]
    first = [case["rank"] == 1 for case in with_feature]
    false = [name for case in screens for name in case["false"]]
    n_columns = sum(case["found"] for case in screens)
    columns = min((case["screened"] for case in screens), default=0)
    proxies = sum(case["proxies"] for case in with_feature)
    alone = [
        mean_with_interval([case["metadata_accuracy"] for case in part])
        for part in (with_feature, [case for case in screens if case["feature"] == "none"])
    ]
    return [
        Claim(
            "among over 100 columns the planted feature goes with the label most",
            f"field strength and orientation are the two dominant ones (abstract); figures {NOT_FOUND}",
            f"first in {sum(first)} of {len(first)} screens of {columns} columns or more" if first else "",
            all(first) if first else None,
        ),
        Claim(
            "the screen finds nothing that is not there",
            NOT_FOUND,
            f"{len(false)} false of {n_columns} columns found"
            + (f", {proxies} of them go with the field strength" if proxies else "")
            if screens
            else "",
            len(false) <= LEVEL * n_columns if screens else None,
        ),
        Claim(
            "who sees the metadata alone knows the label where a feature is planted",
            NOT_FOUND,
            f"accuracy within training {_text(alone[0])}, without a feature {_text(alone[1])}",
            _both(alone, lambda with_, without: with_ >= KNOWN and without <= CHANCE),
        ),
    ]


def _collapses(cases: Sequence[Case]) -> list[Claim]:
    return [
        Claim(
            f"{architecture} knows the label by the {NAMES[feature]} in validation (>= {KNOWN}), and not in "
            f"test (<= {CHANCE:.2f})",
            PUBLISHED.get((feature, _kind(architecture)), NOT_FOUND),
            _splits(members),
            _both(
                [_figure(members, f"{split}_accuracy") for split in ("val", "test")],
                lambda val, test: val >= KNOWN and test <= CHANCE,
            ),
        )
        for (feature, architecture), members in _grouped(cases, "feature", "architecture")
    ]


def _baselines(cases: Sequence[Case]) -> list[Claim]:
    return [
        Claim(
            f"without a shortcut, {architecture} is as good in test as in validation (within {SAME:.2f})",
            PUBLISHED.get(("none", _kind(architecture)), NOT_FOUND),
            _splits(members),
            _both(
                [_figure(members, f"{split}_accuracy") for split in ("val", "test")],
                lambda val, test: test >= val - SAME and test > CHANCE,
            ),
        )
        for (architecture,), members in _grouped(cases, "architecture")
    ]


def _follows(cases: Sequence[Case]) -> Claim:
    names = ("positive_with", "positive_without")
    members = [case for case in cases if all(case.get(name) is not None for name in names)]
    figures = [_figure(members, name) for name in names]
    return Claim(
        f"in test, the predictions go by the feature (difference >= {FOLLOWS})",
        f"positive: .87 of the slices at 1.5 T, .02 at 3 T ({_REPEAT})",
        f"positive: {_text(figures[0])} of the slices with it, {_text(figures[1])} without"
        if members
        else "",
        _both(figures, lambda with_, without: with_ - without >= FOLLOWS),
    )


def _audited(audits: Sequence[Case]) -> list[Claim]:
    with_ = [case for case in audits if case["feature"] != "none"]
    without = [case for case in audits if case["feature"] == "none"]
    called = [case["verdict"] == "shortcut" for case in with_]
    wrongly = [case["verdict"] == "shortcut" for case in without]
    extents = {
        NAMES[name]: ", ".join(sorted({case["extent"] for case in members}))
        for (name,), members in _grouped(with_, "feature")
    }
    text = "; ".join(f"{name}: {extent}" for name, extent in extents.items())
    return [
        Claim(
            "an audit of the network calls the feature a shortcut",
            NOT_FOUND,
            f"{sum(called)} of {len(called)}, AUROC of the feature "
            f"{_text(_figure(with_, 'encoded_auroc'))}, use {_text(_figure(with_, 'use'))}; {text}"
            if with_
            else "",
            all(called) if called else None,
        ),
        Claim(
            "and not in a network that was trained without it",
            NOT_FOUND,
            f"{sum(wrongly)} of {len(wrongly)}, AUROC of the field strength "
            f"{_text(_figure(without, 'encoded_auroc'))}, use {_text(_figure(without, 'use'))}"
            if without
            else "",
            not any(wrongly) if wrongly else None,
        ),
    ]


def _calibration(with_: Sequence[Case], without: Sequence[Case]) -> Claim:
    val, test = (_figure(with_, f"{split}_ece") for split in ("val", "test"))
    other = _figure(without, "test_ece")
    return Claim(
        f"with the shortcut, probabilities are far off in test (calibration error + {MISCALIBRATED} or more)",
        f"calibration error .46 in test ({_REPEAT}, 10 bins)",
        f"validation {_text(val)}, test {_text(test)}; test without the shortcut {_text(other)}",
        _both([val, test], lambda low, high: high >= low + MISCALIBRATED),
    )


def _entropy(cases: Sequence[Case]) -> Claim:
    val, test = (_figure(cases, f"{split}_entropy") for split in ("val", "test"))
    errors = _figure(cases, "test_error_auroc")
    return Claim(
        f"the entropy of the predictions gives no warning (less than {WARNING} bits more in test)",
        NOT_FOUND,
        f"validation {_text(val)}, test {_text(test)} bits; AUROC for what is wrong in test {_text(errors)}",
        _both([val, test], lambda low, high: high < low + WARNING),
    )


def _ensemble(cases: Sequence[Case]) -> Claim:
    accuracy, entropy, disagreement = (
        _figure(cases, f"test_{name}") for name in ("ensemble_accuracy", "ensemble_entropy", "disagreement")
    )
    mean = accuracy["mean"]
    return Claim(
        f"an ensemble falls in test, too (<= {CHANCE:.2f})",
        NOT_FOUND,
        f"accuracy {_text(accuracy)}, entropy {_text(entropy)} bits, members differ on {_text(disagreement)}",
        None if mean is None else mean <= CHANCE,
    )


def _attacked(with_: Sequence[Case], without: Sequence[Case]) -> list[Claim]:
    rows = []
    for (feature,), members in _grouped(with_, "feature"):
        shares = [[_retained(case, EPSILONS[0]) for case in part] for part in (members, without)]
        figures = [mean_with_interval(values) for values in shares]
        least = _figure(members, f"val_pgd_{EPSILONS[-1]}")
        rows.append(
            Claim(
                f"nor does robustness: who goes by the {NAMES[feature]} is no easier to attack in validation",
                NOT_FOUND,
                f"of what was right in validation, {_text(figures[0])} stays right under PGD of 1/255, "
                f"without a shortcut {_text(figures[1])}; accuracy under {EPSILONS[-1]}/255 {_text(least)}",
                _both(figures, lambda mine, other: mine >= other),
            )
        )
    return rows


def _retained(case: Case, number: int) -> float | None:
    """Share of what was right that still is under an attack."""
    return case[f"val_pgd_{number}"] / case["val_clean"] if case["val_clean"] else None


def _part(cases: Iterable[Case], part: str) -> list[Case]:
    return [case for case in cases if case["part"] == part]


def _grouped(cases: Sequence[Case], *keys: str) -> list[tuple[tuple[Any, ...], list[Case]]]:
    groups = dict.fromkeys(tuple(case[key] for key in keys) for case in cases)
    return [(one, [case for case in cases if tuple(case[key] for key in keys) == one]) for one in groups]


def _kind(architecture: str) -> str:
    return "ViT" if "ViT" in architecture else "ResNet-50"


def _figure(cases: Sequence[Case], name: str) -> dict[str, float | None]:
    return mean_with_interval([case.get(name) for case in cases])


def _splits(cases: Sequence[Case]) -> str:
    return ", ".join(f"{name} {_text(_figure(cases, f'{split}_accuracy'))}" for split, name in SPLITS.items())


def _text(figure: dict[str, float | None]) -> str:
    mean, low, high = figure["mean"], figure["low"], figure["high"]
    if mean is None:
        return "not measured"
    return f"{mean:.2f}" if low is None or high is None else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _both(figures: Sequence[dict[str, float | None]], rule: Any) -> bool | None:
    """Whether two means keep a rule; None where one is not known."""
    one, other = (figure["mean"] for figure in figures)
    return None if one is None or other is None else bool(rule(one, other))
