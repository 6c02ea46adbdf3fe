"""Whether training samples are read, labelled and transformed as the biased network knows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.models.targets import predicted_class, resolve_task
from shortcutscope.rundir import read_record
from shortcutscope.scan.predictions import predict_logits

#: Samples of each class that the network is asked about.
ASKED = 64
#: By how much the audited network has to be better than chance for its errors to tell anything.
_CLEARLY = 0.1


def refuse_strange_samples(run: Path, model: nn.Module, train: ImageTable) -> None:
    """Refuse training samples on which the audited network is far from as good as in its audit.

    It was trained on them, or on such. Images that are inverted, or labels that are swapped, in a table of
    which the run knows no sample show by nothing else. Some samples of each class are asked about, evenly
    chosen; the upper end of the 95 % interval of the mean recall has to reach half of what the audit
    measured above chance.

    Parameters
    ----------
    run
        Run directory of the audit.
    model
        The audited network.
    train
        Its training samples.

    Raises
    ------
    InputError
        Says how good it is here and there.
    """
    record = read_record(run)
    audited = record.get("performance", {}).get("balanced_accuracy")
    labels = train.frame["label"].to_numpy()
    classes, counts = np.unique(labels, return_counts=True)
    if audited is None or len(classes) < 2 or audited < 1 / len(classes) + _CLEARLY:
        return
    rows = np.concatenate(
        [
            np.flatnonzero(labels == c)[np.linspace(0, n - 1, min(n, ASKED)).astype(int)]
            for c, n in zip(classes, counts, strict=True)
        ]
    )
    logits = predict_logits(model, train.take(rows))
    task = resolve_task(logits, str(record["inputs"].get("task", "auto")))
    if task == "multilabel":
        return
    right = predicted_class(logits, task).numpy() == labels[rows]
    recalls = np.array([right[labels[rows] == c].mean() for c in classes])
    numbers = np.array([(labels[rows] == c).sum() for c in classes])
    error = float(np.sqrt((recalls * (1 - recalls) / numbers).sum())) / len(classes)
    here, chance = float(recalls.mean()), 1 / len(classes)
    if here + 1.96 * error < (chance + audited) / 2:
        raise InputError(
            f"the audited network has a mean recall of {here:.2f} on {len(rows)} of the training samples, "
            f"and had {audited:.2f} in {run}: they are not such as it was trained on. See whether images are "
            "read, labels numbered and inputs transformed as in the audit"
        )
