"""Class artifact compensation: along a concept's vector the latent space is straightened, or unlearnt.

P-ClArC moves every sample to where samples without the concept lie (Anders et al. 2022); reactive P-ClArC
only those in which a classifier finds the concept (Bareeva et al. 2024); both without training. RR-ClArC
trains the network until its output does not react to the concept's vector (Dreyer et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from shortcutscope.allowed import Positive
from shortcutscope.attribution.hooks import visiting
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.budget import fit_student
from shortcutscope.debias.clarc.activations import (
    ConceptSamples,
    concept_samples,
    parts_of,
    pooled_activations,
    select_layers,
)
from shortcutscope.debias.clarc.correction import fitted_in_turn
from shortcutscope.debias.clarc.gradient_scale import GradientScale
from shortcutscope.debias.clarc.projection import Edit, Shift, evaluating
from shortcutscope.debias.clarc.second_gradient import twice_differentiable
from shortcutscope.debias.objective import Batch, Objective, cross_entropy
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.training.settings import Start, Training
from shortcutscope.errors import InputError
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.layers import Layer
from shortcutscope.probes.alive import alive, size_of
from shortcutscope.probes.cav import logistic_cav, pattern_cav
from shortcutscope.scan.pooling import positions
from shortcutscope.types import Array, Floats, Record

Classifier = Literal["logistic", "svm"]
Refit = Literal["never", "epoch"]
Trained = Literal["all", "above"]


def p_clarc(problem: DebiasProblem, *, layers: str | Sequence[str] | None = None) -> Outcome:
    """Move every sample along the concept's vector to where samples without the concept lie.

    ``a' = a + (z - v . pool(a)) v`` at every position, v the class-stratified pattern vector of length 1 and
    z the mean score of the samples without the concept, each class by its size.

    Parameters
    ----------
    problem
        With `carries`.
    layers
        Where; by default those of `problem`, else the last that tells positions apart.

    Raises
    ------
    InputError
        The concept is not known, or no class holds it and its absence; no such layer.
    """
    return _projected(problem, "p-clarc", layers, None, 1.0)


def reactive_p_clarc(
    problem: DebiasProblem,
    *,
    layers: str | Sequence[str] | None = None,
    classifier: Classifier = "logistic",
    C: Positive = 0.01,
) -> Outcome:
    """As `p_clarc`, but only samples in which a linear classifier finds the concept are moved.

    Parameters
    ----------
    problem, layers
        As in `p_clarc`.
    classifier
        On standardised pooled activations, all (class, concept) groups weighing the same; its intercept is
        part of the decision.
    C
        Inverse penalty of the classifier.

    Raises
    ------
    InputError
        As `p_clarc`.
    """
    return _projected(problem, "reactive p-clarc", layers, classifier, C)


def _projected(
    problem: DebiasProblem,
    name: str,
    layers: str | Sequence[str] | None,
    classifier: Classifier | None,
    C: float,
) -> Outcome:
    samples = concept_samples(problem, name)
    edit_layers = select_layers(problem, layers)
    details: Record = {"layers": {}}

    def edits(model: nn.Module, layer: Layer) -> list[Edit]:
        size = problem.training.batch_size
        pooled = pooled_activations(
            model, problem.train, samples.rows, layer, batch_size=size, progress=problem.progress
        )
        shifts = [_shift(part, samples, classifier, C) for part in pooled]
        values = torch.as_tensor(pooled[0], dtype=torch.float32)[..., None]
        details["layers"][layer.name.removeprefix("model.")] = {
            "target": float(shifts[0].target),
            "moved": float(shifts[0].gate(values).double().mean()),
        }
        return list(shifts)

    wrapper = fitted_in_turn(problem.model, edit_layers, edits)
    notes = [
        *samples.notes,
        f"edited at {', '.join(layer.name for layer in edit_layers)}, without training; the model's weights "
        "are untouched",
    ]
    if classifier is not None:
        notes.append(f"edited only where the {classifier} classifier, with its intercept, finds the concept")
    return Outcome(wrapper.eval(), notes=tuple(notes), details=details)


def _shift(pooled: Floats, samples: ConceptSamples, classifier: Classifier | None, C: float) -> Shift:
    vector = pattern_cav(pooled, samples.concept, samples.labels).signal
    length = float(np.linalg.norm(vector))
    if not length > 0:
        raise InputError("the layer's activations do not differ with the concept; choose another layer")
    scores = pooled @ (vector / length)
    without = samples.concept == 0
    classes = np.unique(samples.labels[without])
    sizes = np.array([(samples.labels == c).sum() for c in classes])
    means = np.array([scores[without & (samples.labels == c)].mean() for c in classes])
    target = float(np.average(means, weights=sizes))
    if classifier is None:
        return Shift(torch.from_numpy(vector), torch.tensor(target))
    weights, intercept = linear_classifier(pooled, samples.concept, samples.labels, classifier, C)
    return Shift(
        torch.from_numpy(vector), torch.tensor(target), torch.from_numpy(weights), torch.tensor(intercept)
    )


def linear_classifier(
    features: Floats,
    concept: Floats,
    labels: Array,
    kind: Classifier = "logistic",
    C: float = 0.01,
) -> tuple[Floats, float]:
    """Weights (D,) of the features as they are, and the intercept; the concept is found where it is > 0.

    All (class, concept) groups weigh the same, so that the class does not stand in for the concept.
    """
    if kind == "logistic":
        cav = logistic_cav(features, concept, labels, C=C)
        return cav.filter, float(cav.intercept - cav.mean @ cav.filter)
    features = np.asarray(features, np.float64)  # in which rounding is told from what varies
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(alive(scale, size_of(features)), scale, np.inf)
    groups = 2 * np.unique(labels, return_inverse=True)[1] + concept.astype(int)
    counts = np.bincount(groups)
    weights = len(groups) / (np.count_nonzero(counts) * counts[groups])
    # The intercept is penalised along with the weights here; scaling its constant makes that immaterial.
    svm = LinearSVC(C=C, dual=True, intercept_scaling=10.0, max_iter=20_000, random_state=0)
    svm.fit((features - mean) / scale, concept, sample_weight=weights)
    direction = np.asarray(svm.coef_[0] / scale, np.float64)
    return direction, float(svm.intercept_[0] - mean @ direction)


class LatentRightReasons(Objective):
    """Cross-entropy, and the squared slope of the output along the concept's vectors (RR-ClArC).

    ``mean_samples (mean_positions d(sum_k +-y_k)/da . v)^2``, the signs drawn anew for every sample and
    step, so that no class can make up for another; over several layers, and the class tokens of a layer
    besides its positions, the mean.

    Parameters
    ----------
    table, samples, layers
        Samples and layers on which the vectors are fitted.
    scale
        Of the penalty.
    refit
        ``"epoch"`` fits the vectors anew in the network as it has become, whenever an epoch begins.
    epochs
        Number of epochs in the training.
    batch_size
        Samples at a time while vectors are fitted.

    Attributes
    ----------
    vectors
        Buffers ``vector0`` ..., one (parts, C) a layer, of length 1.
    """

    epoch: Tensor

    def __init__(
        self,
        table: ImageTable,
        samples: ConceptSamples,
        layers: Sequence[Layer],
        scale: GradientScale,
        *,
        refit: Refit = "never",
        epochs: int = 1,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        self.scale = scale
        self._table, self._known, self._layers = table, samples, tuple(layers)
        self._refit, self._epochs, self._batch_size = refit, epochs, batch_size
        for i, layer in enumerate(self._layers):
            self.register_buffer(f"vector{i}", torch.zeros(len(parts_of(layer)), layer.channels))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    @property
    def vectors(self) -> list[Tensor]:  # noqa: D102
        return [getattr(self, f"vector{i}") for i in range(len(self._layers))]

    def fit_vectors(self, model: nn.Module) -> None:
        """Fit the class-stratified pattern vectors in a network's own latent space."""
        for vectors, layer in zip(self.vectors, self._layers, strict=True):
            with torch.autocast(vectors.device.type, enabled=False):
                parts = pooled_activations(
                    model, self._table, self._known.rows, layer, batch_size=self._batch_size, progress=False
                )
            for vector, pooled in zip(vectors, parts, strict=True):
                signal = pattern_cav(pooled, self._known.concept, self._known.labels).signal
                length = float(np.linalg.norm(signal))
                vector.copy_(torch.from_numpy(signal / length if length > 0 else signal))

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        epoch = int(batch.progress * self._epochs)
        if self._refit == "epoch" and epoch > int(self.epoch):
            self.epoch.fill_(epoch)
            self.fit_vectors(model)
        logits, outputs = _forward_with_outputs(model, batch.images, self._layers)
        task = cross_entropy(logits, batch.labels)
        signs = torch.randint(0, 2, logits.shape, generator=batch.generator).to(logits) * 2 - 1
        slopes = torch.autograd.grad((signs * logits).sum(), outputs, create_graph=True)
        penalty = torch.stack(
            [
                _squared_slopes(layer, slope, vectors)
                for layer, slope, vectors in zip(self._layers, slopes, self.vectors, strict=True)
            ]
        ).mean()
        return {"ce": task, "rr-clarc": self.scale(task, penalty, model.parameters())}


def _squared_slopes(layer: Layer, slope: Tensor, vectors: Tensor) -> Tensor:
    view, dim = positions(layer, slope.float() if slope.dtype != torch.float64 else slope)
    flat = view if dim == 2 else view.transpose(1, 2)
    pairs = zip(parts_of(layer), vectors, strict=True)
    along = [flat[..., part].mean(2) @ vector.to(flat) for part, vector in pairs]
    return torch.stack(along).square().mean()


def _forward_with_outputs(
    model: nn.Module, images: Tensor, layers: Sequence[Layer]
) -> tuple[Tensor, list[Tensor]]:
    """Logits, and every layer's output as it lies on the way to them, so that they have a slope along it."""
    outputs: dict[str, Tensor] = {}

    def keep(layer: Layer, values: Tensor) -> Tensor:
        # Behind weights that are held nothing asks for a gradient yet.
        values = values if values.requires_grad else values.detach().requires_grad_()
        outputs[layer.name] = values
        # What works in place behind it writes into a copy, so that the slope is that of the output itself.
        return values.clone()

    with visiting(model, layers, keep), twice_differentiable():
        logits = find_logits(model(images))
    return logits, [outputs[layer.name] for layer in layers]


def hold_below(model: nn.Module, images: Tensor, layers: Sequence[Layer]) -> bool:
    """Take the gradient from all parameters that a layer's output depends on; whether any are left."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with evaluating(model):
        _, outputs = _forward_with_outputs(model, images, layers)
        total = torch.stack([output.float().sum() for output in outputs]).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.requires_grad_(False)
    return any(gradient is None for gradient in gradients)


def _check_options(refit: Refit, trained: Trained | None, start: Start) -> None:
    if start == "fresh" and trained == "above":
        raise InputError("start='fresh' has to train the whole network; use trained='all'")
    if start == "fresh" and refit == "never":
        raise InputError(
            "start='fresh' draws a new network, in whose space the vectors of its first weights mean "
            "nothing; use refit='epoch', or start='model'"
        )


def _n_epochs(training: Training, n: int) -> int:
    return max(1, round(training.n_steps(n) * training.batch_size / max(1, n)))


def _hold(student: nn.Module, problem: DebiasProblem, layers: Sequence[Layer], *, required: bool) -> bool:
    """Hold what lies below the layers, unless nothing is left to train and it was not required."""
    if hold_below(student, problem.example(), layers) or required:
        return True
    student.requires_grad_(True)
    return False


def _ways(layers: Sequence[Layer], refit: Refit, start: Start, below_fixed: bool) -> list[str]:
    """What was pulled, and what was trained."""
    return [
        f"the slope along the concept's vector was pulled to 0 at {', '.join(x.name for x in layers)}; the "
        + ("vectors are those of the network at the start" if refit == "never" else "vectors were refitted"),
        f"started from {'the biased network' if start == 'model' else 'new weights'}",
        "trained only behind the last of the layers" if below_fixed else "the whole network was trained",
    ]


def rr_clarc(
    problem: DebiasProblem,
    *,
    layers: str | Sequence[str] | None = None,
    strength: float = 100.0,
    refit: Refit = "never",
    trained: Trained | None = None,
    start: Start = "model",
    scale_batches: int = 8,
    scale_momentum: float | None = None,
) -> Outcome:
    """Train on until the output does not react to the concept's vector.

    Parameters
    ----------
    problem
        With `carries`.
    layers
        Where; by default those of `problem`, else the last that tells positions apart.
    strength
        Weight of the penalty relative to the task loss, see `GradientScale`.
    refit
        Whether the vectors stay those of the network that the training starts from, or are fitted anew in
        every epoch, since the space moves.
    trained
        ``"above"`` leaves everything that leads to the last of the layers as it is, as the authors' code
        does: the concept keeps its direction, and what must change is how the output reads it. ``"all"``
        trains the whole network, which may also turn the concept away from the vector. None is "above" in
        the biased network, where something lies behind the layer and vectors are not refitted, else "all".
    start
        The biased network by default; from a fresh one the vectors must be refitted.
    scale_batches, scale_momentum
        See `GradientScale`.

    Raises
    ------
    InputError
        The concept is not known, or no class holds it and its absence; no such layer; an option out of
        range.
    """
    _check_options(refit, trained, start)
    scale = GradientScale(strength, batches=scale_batches, momentum=scale_momentum)
    samples, penalty_layers = concept_samples(problem, "rr-clarc"), select_layers(problem, layers)
    training, student = problem.schedule(start), problem.network(start)
    objective = LatentRightReasons(
        problem.train,
        samples,
        penalty_layers,
        scale,
        refit=refit,
        epochs=_n_epochs(training, len(problem.train)),
        batch_size=training.batch_size,
    )
    objective.to(problem.device)
    objective.fit_vectors(student)
    part = trained or ("above" if start == "model" and refit == "never" else "all")
    below_fixed = part == "above" and _hold(student, problem, penalty_layers, required=trained is not None)
    fit_result = fit_student(problem, student, objective, training, "rr-clarc")
    notes = (*fit_result.notes, *samples.notes, scale.note, *_ways(penalty_layers, refit, start, below_fixed))
    fit_result.model.requires_grad_(True)
    return Outcome(fit_result.model, fit_result.steps, fit_result.history, notes, {"scale": scale.weight})
