"""Whether training samples are read, labelled and transformed as the biased network knows them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from torch import nn

from shortcutscope.audit.run_directory import read_record
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.models.heads.head import Head
from shortcutscope.models.heads.targets import predicted_class, resolve_task
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.types import Floats, Ints

#: Samples of each class, or of its carriers, that the network is asked about.
ASKED = 64
#: Samples of a group whose recall is looked at, at least.
FEWEST = 10
#: By how much the audited network has to be better than chance for its errors to tell anything.
_CLEARLY = 0.1


def refuse_strange_samples(
    run: Path, model: nn.Module, train: ImageTable, carries: Floats | None = None
) -> None:
    """Refuse training samples on which the audited network is far from as good as in its audit.

    It was trained on them, or on such. Images that are inverted, or labels that are swapped, in a table of
    which the run knows no sample show by nothing else. Some samples of each class are asked about, evenly
    chosen; the upper end of the 95 % interval of the mean recall has to reach half of what the audit
    measured above chance. Where it is known which samples carry the shortcut, a class's recall is that of
    its carriers or of the others, whichever is larger: samples against the shortcut are no strange ones.

    Parameters
    ----------
    run
        Run directory of the audit.
    model
        The audited network.
    train
        Its training samples.
    carries
        ``(N,)`` which of them carry the shortcut, NaN where that is unknown; None where nothing is known.

    Raises
    ------
    InputError
        Says how good it is here and there.
    """
    record = read_record(run)
    audit_accuracy = record.get("performance", {}).get("balanced_accuracy")
    labels = train.frame["label"].to_numpy()
    classes = np.unique(labels)
    if audit_accuracy is None or len(classes) < 2 or audit_accuracy < 1 / len(classes) + _CLEARLY:
        return
    groups = _sampled_groups(labels, np.full(len(labels), np.nan) if carries is None else carries)
    if {int(labels[group[0]]) for group in groups} != set(classes.tolist()):
        return  # too few samples of a class to tell anything
    rows = np.concatenate(groups)
    head = Head.from_json(record.get("head"))
    logits = predict_logits(model, train.take(rows), output=head)
    task = resolve_task(logits, str(record["inputs"].get("task", "auto") if head.label is None else "binary"))
    if task == "multilabel":
        return
    right = np.split(
        predicted_class(logits, task).numpy() == labels[rows], np.cumsum([len(g) for g in groups])[:-1]
    )
    best: dict[int, tuple[float, int]] = {}
    for group, hits in zip(groups, right, strict=True):
        label, recall = int(labels[group[0]]), (float(hits.mean()), len(group))
        best[label] = max(best.get(label, recall), recall)
    accuracy, chance = float(np.mean([r for r, _ in best.values()])), 1 / len(classes)
    error = float(np.sqrt(sum(r * (1 - r) / n for r, n in best.values()))) / len(classes)
    if accuracy + 1.96 * error < (chance + audit_accuracy) / 2:
        raise InputError(
            f"the audited network has a mean recall of {accuracy:.2f} on {len(rows)} of the training "
            f"samples, and had {audit_accuracy:.2f} in {run}: they are not such as it was trained on. See "
            "whether images are read, labels numbered and inputs transformed as in the audit"
        )


def _sampled_groups(labels: Ints, values: Floats) -> list[Ints]:
    """Some rows of each class and value of the concept, evenly chosen; none of a group of few."""
    groups = []
    for label, value in itertools.product(np.unique(labels), (0.0, 1.0, np.nan)):
        of_value = np.isnan(values) if np.isnan(value) else values == value
        group = np.flatnonzero((labels == label) & of_value)
        if len(group) >= FEWEST:
            groups.append(group[np.linspace(0, len(group) - 1, min(len(group), ASKED)).astype(int)])
    return groups
