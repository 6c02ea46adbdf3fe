"""Deep feature reweighting: the biased network's last layer, fitted again on the clean subset."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from shortcutscope.allowed import Count, Positive
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.groups import group_by
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.teacher import require_clean
from shortcutscope.errors import InputError
from shortcutscope.models.copying import copied
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.targets import find_logits, two_scores
from shortcutscope.models.seeding import seeded
from shortcutscope.probes.alive import alive, size_of
from shortcutscope.scan.batches import batches
from shortcutscope.types import Floats, Ints

#: Inverse penalties of the authors' code.
PENALTIES = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)


def dfr(
    problem: DebiasProblem, *, c: Positive | Sequence[Positive] = PENALTIES, n_subsets: Count = 20
) -> Outcome:
    """Deep feature reweighting (Kirichenko et al. 2023): the last layer fitted on clean samples.

    Sees the labels of the clean samples, and their concept where `clean_carries` has it. Logistic regression
    with an L1 penalty on standardised features, on random subsets with as many samples of every group, whose
    coefficients are averaged. Without concept labels, or where no clean sample carries the concept, the
    groups are the classes. The backbone stays the biased one; no step of gradient descent is taken.

    Parameters
    ----------
    problem
        With `clean`; the model's last layer must be an ``nn.Linear``.
    c
        Inverse penalty, or several, of which the one with the best worst-group accuracy is chosen by
        two-fold cross-validation on the clean samples.
    n_subsets
        Fits that are averaged.

    Raises
    ------
    InputError
        Without clean samples of every class; when the concept goes with the label in them, so that a group
        is empty; when the last layer is no ``nn.Linear``.
    """
    penalties = [float(value) for value in np.atleast_1d(np.asarray(c, dtype=float))]
    if not penalties:
        raise InputError("c is empty; give a penalty, or several")
    clean = require_clean(problem)
    labels = clean.frame["label"].to_numpy(dtype=np.int64)
    index, notes = clean_groups(labels, problem.clean_carries)
    name = last_linear(problem.model, problem.example())
    _require_labels(labels, problem.model.get_submodule(name))
    features = last_features(problem.model, clean, name, problem.training.batch_size)
    if len(penalties) > 1:
        penalty, why = _choose(features, labels, index, penalties, n_subsets, problem.seed)
        notes += why
    else:
        penalty = penalties[0]
    weight, bias, late = fit_last(features, labels, index, penalty, n_subsets, problem.seed)
    if late:
        notes += (f"{late} of {n_subsets} logistic regressions did not converge",)
    model = with_last(problem.model, name, weight, bias)
    return Outcome(model, notes=notes, details={"c": penalty, "features": features.shape[1]})


def fit_last(
    features: Floats, labels: Ints, index: Ints, c: float, n_subsets: int, seed: int
) -> tuple[Floats, Floats, int]:
    """Average logistic regression on balanced subsets, in the features' own units.

    Parameters
    ----------
    features
        (N, F); standardised by all samples before the fits.
    labels, index
        (N,) class and group of every sample; -1 takes no part.
    c
        Inverse penalty.
    n_subsets
        Fits, each on as many samples of every group as the smallest has.
    seed
        Of the subsets.

    Returns
    -------
    weight, bias
        (K, F) and (K,); one row for two classes.
    late
        How many fits did not converge.
    """
    scaler = StandardScaler().fit(features)
    # A channel that does not vary keeps its size: divided by its rounding it would get a weight to match.
    scaler.scale_[~alive(scaler.scale_, size_of(features))] = 1.0
    scaled = scaler.transform(features)
    rng = np.random.default_rng(seed)
    weights, biases, late = [], [], 0
    for _ in range(n_subsets):
        rows = _balanced_rows(index, rng)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            fit = _logistic(c, len(np.unique(labels)), seed).fit(scaled[rows], labels[rows])
        late += any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        weights.append(fit.coef_)
        biases.append(fit.intercept_)
    weight = np.mean(weights, axis=0) / scaler.scale_
    return weight, np.mean(biases, axis=0) - weight @ scaler.mean_, late


def _logistic(c: float, n_classes: int, seed: int) -> LogisticRegression:
    # liblinear knows two classes only, and exactly; its name for the L1 penalty changed in scikit-learn 1.8.
    lasso = {"l1_ratio": 1.0} if LogisticRegression().penalty == "deprecated" else {"penalty": "l1"}
    solver = "liblinear" if n_classes == 2 else "saga"
    return LogisticRegression(C=c, solver=solver, max_iter=1000, random_state=seed, **lasso)


def _balanced_rows(index: Ints, rng: np.random.Generator) -> Ints:
    groups = [np.flatnonzero(index == group) for group in np.unique(index[index >= 0])]
    least = min(len(rows) for rows in groups)
    return np.concatenate([rng.permutation(rows)[:least] for rows in groups])


def _choose(
    features: Floats, labels: Ints, index: Ints, penalties: Sequence[float], n_subsets: int, seed: int
) -> tuple[float, tuple[str, ...]]:
    """The penalty of the best worst-group accuracy; among equals the one of the least log loss."""
    in_groups = np.flatnonzero(index >= 0)
    if np.bincount(index[in_groups])[np.unique(index[in_groups])].min() < 2:
        middle = sorted(penalties)[len(penalties) // 2]
        return middle, (f"a group has a single clean sample, too few to choose a penalty: c={middle}",)
    folds = StratifiedKFold(2, shuffle=True, random_state=seed).split(in_groups, index[in_groups])
    scores = np.zeros((len(penalties), 2))
    for train, validation in ((in_groups[a], in_groups[b]) for a, b in folds):
        for row, c in enumerate(penalties):
            weight, bias, _ = fit_last(
                features[train], labels[train], index[train], c, min(n_subsets, 5), seed
            )
            logits = two_scores(torch.from_numpy(features[validation] @ weight.T + bias))
            right = logits.argmax(1).numpy() == labels[validation]
            worst = min(right[index[validation] == group].mean() for group in np.unique(index[validation]))
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels[validation]))
            scores[row] += worst, -float(loss)
    best = max(range(len(penalties)), key=lambda row: tuple(scores[row]))
    return penalties[best], ()


def clean_groups(labels: Ints, carries: Floats | None) -> tuple[Ints, tuple[str, ...]]:
    """Group of every clean sample, -1 where it takes no part, and what is to be said of that."""
    if carries is None:
        return labels, ("the concept of the clean samples is not given: subsets balance the classes",)
    groups = group_by(labels, carries)
    counts = groups.counts.reshape(-1, 2)
    if (counts.sum(0) == 0).any():
        which = "carries" if counts[:, 1].sum() == 0 else "lacks"
        return labels, (f"no clean sample {which} the concept: subsets balance the classes",)
    empty = [name for name, count in zip(groups.names, groups.counts, strict=True) if count == 0]
    if empty:
        raise InputError(
            f"dfr: the concept goes with the label in the clean samples, which have none of the group "
            f"{' or '.join(map(repr, empty))}; add some, or leave clean_carries out to balance the classes"
        )
    unknown = int((~groups.known).sum())
    left_out = (f"{unknown} clean samples of unknown concept are left out",) if unknown else ()
    return groups.index, left_out


def _require_labels(labels: Ints, last: nn.Module) -> None:
    n_classes = max(2, int(last.out_features))  # type: ignore[arg-type]
    missing = sorted(set(range(n_classes)) - set(labels.tolist()))
    if missing:
        raise InputError(
            f"dfr: the model has {n_classes} classes and the clean subset no sample of "
            f"{', '.join(map(str, missing))}; add some"
        )


def last_linear(model: nn.Module, example: Tensor) -> str:
    """Name of the ``nn.Linear`` whose output is the model's scores.

    Raises
    ------
    InputError
        When no such layer gives the scores.
    """
    outputs: dict[str, Tensor] = {}
    with frozen(model), torch.no_grad():
        hooks = [
            module.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
        ]
        try:
            logits = find_logits(model(example))
        finally:
            for hook in hooks:
                hook.remove()
    for name, output in reversed(outputs.items()):
        if output.numel() == logits.numel() and torch.equal(output.reshape(logits.shape), logits):
            return name
    raise InputError(
        f"the last layer is to be fitted again, which must be an nn.Linear that gives the scores; that of "
        f"{type(model).__name__} is not (linear layers: {', '.join(outputs) or 'none'}). Choose a recipe "
        "that trains the whole network, such as finetune"
    )


def last_features(model: nn.Module, table: ImageTable, name: str, batch_size: int) -> Floats:
    """Inputs of a linear layer, (N, F)."""
    device = next(model.parameters()).device
    with frozen(model), torch.no_grad(), _inputs(model.get_submodule(name)) as parts:
        for images, _, _ in batches(table, batch_size):
            model(images.to(device))
        return torch.cat([part.flatten(1).double().cpu() for part in parts]).numpy()


@contextmanager
def _inputs(module: nn.Module) -> Iterator[list[Tensor]]:
    values: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: values.append(inputs[0].detach()))
    try:
        yield values
    finally:
        hook.remove()


def with_last(model: nn.Module, name: str, weight: npt.ArrayLike, bias: npt.ArrayLike) -> nn.Module:
    """A copy of a model with other weights of its last layer, in evaluation mode.

    A single row of weights for a model of two scores is halved between them: their difference counts.
    """
    network = copied(model)
    old = network.get_submodule(name)
    n_scores, n_features = int(old.out_features), int(old.in_features)  # type: ignore[arg-type]
    weight, bias = np.asarray(weight), np.asarray(bias)
    if len(weight) == 1 and n_scores == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    like = next(old.parameters())
    with seeded(0):  # its own weights are replaced at once
        new = nn.Linear(n_features, n_scores, device=like.device, dtype=like.dtype)
    with torch.no_grad():
        new.weight.copy_(torch.as_tensor(weight))
        new.bias.copy_(torch.as_tensor(bias))
    if not name:
        return new.eval()
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, new)
    return network.eval()
