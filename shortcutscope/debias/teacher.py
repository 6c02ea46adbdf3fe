"""The specialist teacher: a network trained on a small subset in which the shortcut tells nothing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor, nn

from shortcutscope.data.splits import holdout
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.distillation.matching import pooled
from shortcutscope.debias.gate import TeacherGate
from shortcutscope.debias.objective import CrossEntropy, forward_with_layers
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.training.fit import Training, fit
from shortcutscope.debias.training.settings import Start
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.layers import Layer
from shortcutscope.probes.alive import alive, size_of
from shortcutscope.scan.batches import batches
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.stats.metrics import auroc
from shortcutscope.types import Array

#: A teacher sees few images: at least so many steps, in small batches, at no higher rate than this.
MIN_STEPS, BATCH_SIZE, LR = 120, 16, 1e-3
#: Below this many clean samples the augmentation is strong.
FEW = 100
#: Inverse penalties among which a probe's is chosen, and folds for it.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
FOLDS = 4

Schedule = Literal["fine-tune", "probe-then-fine-tune"]


@dataclass(frozen=True)
class Teacher:
    """A trained specialist.

    Attributes
    ----------
    model
        In evaluation mode, without parameter gradients.
    start
        Where its training began: the biased network, or new (or given) weights.
    n_clean
        Samples it was trained on.
    notes
        Choices that were made on the way.
    judged
        What an audit says of the shortcut in it, see `shortcutscope.debias.gate.gate`; None before that.
    """

    model: nn.Module
    start: str = "given"
    n_clean: int = 0
    notes: tuple[str, ...] = ()
    judged: TeacherGate | None = None


class Ensemble(nn.Module):
    """Several teachers as one, whose log-probabilities are averaged; only its logits can be distilled."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        if not models:
            raise InputError("an ensemble of no teachers; give at least one")
        self.models = nn.ModuleList(models)

    def forward(self, x: Tensor) -> Tensor:
        """(N, K) averaged log-probabilities, or (N, 1) averaged logits of a binary task."""
        logits = [find_logits(model(x)) for model in self.models]
        if logits[0].shape[1] == 1:
            return torch.stack(logits).mean(0)
        return torch.stack([z.log_softmax(1) for z in logits]).mean(0)


def teacher_training(n_clean: int, base: Training, start: Start = "model") -> Training:
    """How a teacher is trained on so many samples, where nothing else is asked for.

    Its learning rate is never above the one of `base` for a training that begins so. Functions of the user's
    own (optimizer, augmentation, loss) are used as they are.
    """
    augmentation = base.augmentation
    if not callable(augmentation):
        augmentation = "strong" if n_clean < FEW else "shifts"
    return base.but(
        steps=max(MIN_STEPS, round(12 * n_clean / BATCH_SIZE)),
        batch_size=min(BATCH_SIZE, n_clean),
        lr=None if base.has_own_rate else min(LR, base.peak(start)),
        augmentation=augmentation,
        select="last",
        seed=base.seed + 1,
    )


def train_teacher(
    problem: DebiasProblem,
    *,
    start: Start = "model",
    schedule: Schedule = "fine-tune",
    training: Training | None = None,
) -> Teacher:
    """Train the specialist on the clean subset.

    Parameters
    ----------
    problem
        With clean samples of every class.
    start
        ``"model"`` fine-tunes the biased network, ``"fresh"`` starts as a student does.
    schedule
        ``"probe-then-fine-tune"`` fits the last layer first (Kumar et al. 2022), which keeps features from
        being spoilt by a random head.
    training
        None for `teacher_training`.

    Raises
    ------
    InputError
        Without clean samples, or with a class that has none.
    """
    clean = require_clean(problem)
    plan = training or teacher_training(len(clean), problem.schedule(start), start)
    model = problem.network(start)
    notes: list[str] = []
    if schedule == "probe-then-fine-tune":
        notes.append(f"the last layer was fitted first, in {max(1, plan.n_steps(len(clean)) // 2)} steps")
        model = _fit_head(model, clean, plan, problem)
    elif schedule != "fine-tune":
        raise InputError(f"schedule={schedule!r}; allowed are 'fine-tune' and 'probe-then-fine-tune'")
    fit_result = fit(model, clean, CrossEntropy(), plan, name="teacher", progress=problem.progress)
    for parameter in fit_result.model.parameters():
        parameter.requires_grad_(False)
    return Teacher(fit_result.model.eval(), start, len(clean), (*notes, *fit_result.notes))


def require_clean(problem: DebiasProblem) -> ImageTable:
    """The clean samples.

    Raises
    ------
    InputError
        When there are none, or a class of the training samples has fewer than two.
    """
    clean = problem.clean
    if clean is None or len(clean) == 0:
        raise InputError(
            "no clean samples: give clean=, a table of some samples in which the shortcut tells nothing of "
            "the label (30 or more of either class), or choose a recipe that needs none"
        )
    counts = clean.frame["label"].value_counts()
    for label in sorted(problem.train.frame["label"].unique()):
        if counts.get(label, 0) < 2:
            raise InputError(
                f"class {label} has {counts.get(label, 0)} clean samples; 2 or more of every class are needed"
            )
    return clean


def _fit_head(model: nn.Module, clean: ImageTable, training: Training, problem: DebiasProblem) -> nn.Module:
    """Train the last parametrised module alone, for half the steps."""
    last = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))][-1]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in last.parameters(recurse=False):
        parameter.requires_grad_(True)
    half = training.but(steps=max(1, training.n_steps(len(clean)) // 2))
    fit(model, clean, CrossEntropy(), half, name="teacher's head", progress=problem.progress)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def fit_probes(teacher: nn.Module, clean: ImageTable, layers: Sequence[Layer]) -> dict[str, nn.Module]:
    """Linear probes of a frozen teacher's layers for the label, fitted on the clean subset.

    Multinomial logistic regression on the standardised mean and maximum over positions; the penalty is
    chosen by cross-validated log loss with patients kept together.

    Returns
    -------
    probes
        Layer name -> module from pooled features (N, 2C) to logits (N, K), or (N, 2) of a binary task.
    """
    labels = clean.frame["label"].to_numpy()
    features = pooled_features(teacher, clean, layers)
    folds = _probe_folds(labels, clean.frame["group"].to_numpy())
    device = next(teacher.parameters()).device
    return {name: _probe(values, labels, folds).to(device) for name, values in features.items()}


def _probe_folds(labels: Array, groups: Array) -> list[tuple[Array, Array]]:
    n_folds = min(FOLDS, *(len(np.unique(groups[labels == value])) for value in np.unique(labels)))
    if n_folds < 2:
        raise InputError(
            "the clean samples of a class are all of one patient; at least 2 patients are needed"
        )
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    folds = list(splitter.split(labels, labels, groups))
    whole = len(np.unique(labels))
    return [
        fold for fold in folds if len(np.unique(labels[fold[0]])) == whole == len(np.unique(labels[fold[1]]))
    ]


def _probe(values: Array, labels: Array, folds: list[tuple[Array, Array]]) -> nn.Module:
    mean, spread = values.mean(0), values.std(0)
    spread = np.where(alive(spread, size_of(values)), spread, np.inf)
    search = LogisticRegressionCV(
        Cs=list(PENALTIES), cv=folds or 2, scoring="neg_log_loss", max_iter=500, l1_ratios=(0,),
        use_legacy_attributes=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit((values - mean) / spread, labels)
    weight, bias = search.coef_ / spread, search.intercept_ - (search.coef_ / spread) @ mean
    if len(weight) == 1:
        weight, bias = np.vstack([0 * weight, weight]), np.append(0 * bias, bias)
    probe = nn.Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        probe.weight.copy_(torch.as_tensor(weight))
        probe.bias.copy_(torch.as_tensor(bias))
    return probe.requires_grad_(False)


def pooled_features(
    model: nn.Module, table: ImageTable, layers: Sequence[Layer], batch_size: int = 128
) -> dict[str, Array]:
    """Mean and maximum over positions of some layers, (N, 2C) by layer name."""
    device = next(model.parameters()).device
    parts: dict[str, list[Array]] = {layer.name: [] for layer in layers}
    with frozen(model), torch.no_grad():
        for images, _, _ in batches(table, batch_size):
            for name, values in forward_with_layers(model, images.to(device), layers)[1].items():
                parts[name].append(pooled(values).double().cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def learning_curve(
    problem: DebiasProblem,
    *,
    start: Start = "model",
    sizes: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    repeats: int = 3,
    validation_share: float = 0.3,
    training: Training | None = None,
) -> pd.DataFrame:
    """How good a teacher gets with how many clean samples, to tell whether more of them would help.

    Teachers are trained on growing parts of the clean samples and judged on a share of them that is set
    aside, whole patients at a time; several draws of that share. `start` and `training` are those of
    `train_teacher`.

    Returns
    -------
    frame
        One row per size and repeat: n_clean, repeat, auroc (mean over classes against the rest).

    Raises
    ------
    InputError
        As `train_teacher`, and when a part would lack a class.
    """
    clean = require_clean(problem)
    labels, groups = clean.frame["label"].to_numpy(), clean.frame["group"].to_numpy()
    rows = []
    for repeat in range(repeats):
        validation_rows = holdout(groups, labels, validation_share, problem.seed + repeat)
        rest, validation = np.flatnonzero(~validation_rows), clean.take(np.flatnonzero(validation_rows))
        order = np.random.default_rng([problem.seed, repeat]).permutation(rest)
        for size in sizes:
            part = order[: max(2, round(size * len(order)))]
            if set(labels[part]) != set(labels) or np.bincount(labels[part]).min() < 2:
                continue
            inputs = replace(problem, clean=clean.take(part), seed=problem.seed + repeat, progress=False)
            teacher = train_teacher(inputs, start=start, training=training)
            scores = comparable_scores(predict_logits(teacher.model, validation))
            area = float(mean_auroc(validation.frame["label"].to_numpy(), scores))
            rows.append({"n_clean": len(part), "repeat": repeat, "auroc": area})
    if not rows:
        raise InputError(f"{len(clean)} clean samples are too few for a learning curve")
    return pd.DataFrame(rows)


def comparable_scores(logits: Tensor) -> Array:
    """(N, 1) margins of two classes, or (N, K) log-probabilities, which compare across networks."""
    if logits.shape[1] <= 2:
        return (logits[:, -1:] - (logits[:, :1] if logits.shape[1] == 2 else 0)).double().numpy()
    return torch.log_softmax(logits.double(), 1).numpy()


def mean_auroc(labels: Array, scores: Array, weights: Array | None = None) -> Any:
    """Of class 1, or the mean over the classes against the rest; (B,) of weights (B, N)."""
    if scores.shape[1] == 1:
        return auroc(labels, scores[:, 0], weights)
    each = [auroc(labels == k, scores[:, k], weights) for k in np.unique(labels)]
    return np.mean(each, axis=0)
