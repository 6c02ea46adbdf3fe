"""What the protocol `spurbreast` measures: the screen of the metadata, the audit, uncertainty and attacks."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from captum.robust import FGSM, PGD
from torch import Tensor, nn

from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.papers.spurbreast.data import Cohort
from shortcutscope.benchmarks.papers.spurbreast.networks import NetworkStore
from shortcutscope.benchmarks.runner import Case
from shortcutscope.data.table import ImageTable
from shortcutscope.discover.metadata import screen_metadata
from shortcutscope.models.frozen import device_of, frozen
from shortcutscope.options import Running, Statistics
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.stats.metrics import auroc, expected_calibration_error
from shortcutscope.stats.testing import MIN_FOR_TAIL
from shortcutscope.types import Bools, Floats, Ints

__all__ = ["EPSILONS", "N_ATTACKED", "attack", "judge", "screen", "uncertainty", "verdict"]

#: Largest change of a pixel, in 255ths of the value range.
EPSILONS = (1, 2, 4)
PGD_STEPS = 7
#: Slices of a split that are attacked, half of either class.
N_ATTACKED = 100


def screen(cohort: Cohort, train: ImageTable, *, quick: bool) -> Case:
    """Which metadata columns go with the label in training, and what they give away without an image."""
    result = screen_metadata(
        train.frame, columns=train.metadata, n_permutations=200 if quick else 1000, seed=cohort.seed
    )
    ranked = list(dict.fromkeys(result.columns["column"]))
    columns = result.found()
    feature_columns = [] if cohort.feature == "none" else [cohort.column]
    proxies = cohort.proxies(columns)
    alone = result.classifier.set_index("split")["accuracy"].to_dict()
    return {
        "screened": len(ranked),
        "rank": ranked.index(cohort.column) + 1 if feature_columns and cohort.column in ranked else None,
        "found": len(columns),
        "proxies": len(proxies),
        "false": [name for name in columns if name not in (*feature_columns, *proxies)],
        "metadata_accuracy": alone.get("all"),
    }


def judge(network: nn.Module, cohort: Cohort, tables: dict[str, ImageTable]) -> Case:
    """Accuracy and predictive values by split, and how often test slices of either kind are positive."""
    result: Case = {}
    for split, table in tables.items():
        predicted = predict_logits(network, table).argmax(1).numpy()
        truth = table.frame["label"].to_numpy()
        result[f"{split}_accuracy"] = float((predicted == truth).mean())
        result[f"{split}_ppv"] = _share(truth[predicted == 1] == 1)
        result[f"{split}_npv"] = _share(truth[predicted == 0] == 0)
        carries = cohort.carries(table) if split == "test" else None
        if carries is not None:
            result["positive_with"] = _share(predicted[carries == 1] == 1)
            result["positive_without"] = _share(predicted[carries == 0] == 1)
    return result


def uncertainty(probabilities: Floats, truth: Ints) -> Case:
    """Calibration and entropy of a network, and of the ensemble of several.

    Parameters
    ----------
    probabilities
        (members, N, 2) of each network.
    truth
        (N,) labels.

    Returns
    -------
    dict
        Of the first network, and with the prefix ``ensemble_`` of the mean of all: accuracy, ece (expected
        calibration error), entropy (mean, in bits), error_auroc (of the entropy for what is wrong). And
        disagreement: the share of the samples that the members do not all put into one class.
    """
    result: Case = {}
    for prefix, p in (("", probabilities[0]), ("ensemble_", probabilities.mean(0))):
        entropy = -(p * np.log2(np.maximum(p, 1e-12))).sum(1)
        wrong = p.argmax(1) != truth
        mixed = wrong.any() and not wrong.all()
        result[f"{prefix}accuracy"] = float(1 - wrong.mean())
        result[f"{prefix}ece"] = float(expected_calibration_error(truth, p))
        result[f"{prefix}entropy"] = float(entropy.mean())
        result[f"{prefix}error_auroc"] = float(auroc(wrong.astype(float), entropy)) if mixed else None
    answers = probabilities.argmax(2)
    result["disagreement"] = float((answers != answers[0]).any(0).mean())
    return result


def attack(network: nn.Module, table: ImageTable, seed: int, n: int = N_ATTACKED) -> Case:
    """Accuracy on `n` slices as they are, and after pixels were changed by FGSM and PGD.

    Both change every pixel by no more than epsilon (Goodfellow et al. 2015, Madry et al. 2018), so that the
    loss of the true class rises; PGD takes seven steps and begins at the image itself.
    """
    rows = _balanced(table, n, seed)
    images = torch.stack([table.image(int(row)) for row in rows])
    truth = torch.from_numpy(table.frame["label"].to_numpy(np.int64)[rows])
    low, high = table.value_range
    loss = nn.CrossEntropyLoss(reduction="none")
    with frozen(network) as frozen_network, warnings.catch_warnings():
        # Captum says at every step that it asks for the gradient of its input.
        warnings.filterwarnings("ignore", message=".*did not already require gradients")
        place = device_of(frozen_network)
        images, truth = images.to(place), truth.to(place)

        def forward(x: Tensor) -> Tensor:
            scores: Tensor = frozen_network(_transformed(table, x))
            return scores

        fgsm, pgd = (method(forward, loss, low, high) for method in (FGSM, PGD))
        result = {"clean": _right(forward, images, truth)}
        for number in EPSILONS:
            epsilon = number * (high - low) / 255
            attacked = {
                "fgsm": fgsm.perturb(images, epsilon, truth),
                "pgd": pgd.perturb(images, epsilon, epsilon / 3, PGD_STEPS, truth),
            }
            result |= {f"{name}_{number}": _right(forward, x, truth) for name, x in attacked.items()}
    return result


def verdict(store: NetworkStore) -> Case:
    """What an audit of the network on the test slices says of the feature's column."""
    cohort, test = store.cohort, store.split("test")
    with tempfile.TemporaryDirectory() as folder:
        record = audit(
            store.member(0),
            test,
            Path(folder) / "run",
            concepts=[cohort.column],
            train=store.split("train"),
            discover=False,
            statistics=Statistics(n_permutations=MIN_FOR_TAIL, n_bootstrap=100, seed=cohort.seed),
            running=Running(progress=False),
        )
    finding = record.findings[0]
    use = finding.used.get("effect")
    return {
        "verdict": finding.verdict,
        "encoded": bool(finding.encoded.get("value")),
        "encoded_auroc": finding.encoded.get("auroc"),
        "used": bool(finding.used.get("value")),
        # Which value of the column counts as having it is arbitrary, and with it the sign.
        "use": None if use is None else abs(use),
        "extent": finding.extent,
    }


def _share(hits: Bools) -> float | None:
    return float(hits.mean()) if len(hits) else None


def _balanced(table: ImageTable, n: int, seed: int) -> Ints:
    """Rows of up to `n` samples, as many of either class where there are enough."""
    generator = np.random.default_rng([seed, 31])
    labels = table.frame["label"].to_numpy()
    parts = [generator.permutation(np.flatnonzero(labels == value))[: n // 2] for value in (0, 1)]
    return np.sort(np.concatenate(parts))


def _transformed(table: ImageTable, images: Tensor) -> Tensor:
    if table.transform is None:
        return images
    return torch.stack([table.transform(image) for image in images])


def _right(forward: Callable[[Tensor], Tensor], images: Tensor, truth: Tensor) -> float:
    with torch.no_grad():
        scores = forward(images)
    return float((scores.argmax(1) == truth).float().mean())
