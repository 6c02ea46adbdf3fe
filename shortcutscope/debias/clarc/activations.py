"""The biased network's latent space: which layers, which samples, and what their activations are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import device_of, frozen
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.progress import progress_bar
from shortcutscope.scan.capture import forward_edited
from shortcutscope.types import Floats, Ints


@dataclass(frozen=True, eq=False)
class ConceptSamples:
    """Training samples whose concept is known.

    Attributes
    ----------
    rows
        (M,) rows of the training table.
    concept
        (M,) 0 or 1.
    labels
        (M,) classes.
    notes
        What was left out.
    """

    rows: Ints
    concept: Floats
    labels: Ints
    notes: tuple[str, ...]


def concept_samples(problem: DebiasProblem, recipe: str, *, within_classes: bool = True) -> ConceptSamples:
    """The samples on which a recipe can learn the concept.

    Parameters
    ----------
    problem
        Of the recipe.
    recipe
        Its name, for errors.
    within_classes
        Whether carriers are compared with samples of their own class.

    Raises
    ------
    InputError
        Nobody knows who carries the concept, all or none of the known samples do, or no class holds both
        (a correlation of 100 %).
    """
    if problem.carries is None:
        raise InputError(
            f"{recipe} learns the concept from samples with and without it, and carries is None; say for "
            "some of the training samples whether they carry it (1 or 0, NaN where it is not known)"
        )
    carries = np.asarray(problem.carries, np.float64)
    if carries.shape != (len(problem.train),):
        raise InputError(f"carries has shape {carries.shape} for {len(problem.train)} training samples")
    rows = np.flatnonzero(~np.isnan(carries))
    concept = carries[rows]
    labels = problem.train.frame["label"].to_numpy()[rows].astype(np.intp)
    counts = {
        (int(label), value): int(((labels == label) & (concept == value)).sum())
        for label in np.unique(labels)
        for value in (0, 1)
    }
    if len(np.unique(concept)) < 2:
        raise InputError(
            f"{recipe} needs known samples with and without the concept; of {len(rows)} known ones "
            f"{int(concept.sum())} carry it. Label some of the other kind"
        )
    classes = np.unique(labels)
    empty = [group for group, count in counts.items() if not count]
    cells = ", ".join(f"label {label} {'with' if value else 'without'} the concept" for label, value in empty)
    if within_classes and all((int(c), 0) in empty or (int(c), 1) in empty for c in classes):
        raise InputError(
            f"{recipe} compares carriers with samples of their own class, and no class holds both: there is "
            f"no sample of {cells}. At a correlation of 100 % it is not defined; add such samples, or use a "
            "recipe that needs none"
        )
    notes = [f"the concept was learnt from {len(rows)} of {len(carries)} training samples"]
    if len(rows) < len(carries):
        notes[0] += f"; {len(carries) - len(rows)} with an unknown concept were left out of it"
    if within_classes and empty:
        notes.append(f"there is no sample of {cells}; that class told nothing of the concept")
    return ConceptSamples(rows, concept, labels, tuple(notes))


def select_layers(problem: DebiasProblem, layers: str | Sequence[str] | None = None) -> tuple[Layer, ...]:
    """The layers that a recipe works at: the given ones, else the audit's, else the last with positions.

    Raises
    ------
    InputError
        A layer that the model does not have.
    """
    names = layers
    if names is None and problem.layers is not None:
        names = [name for name, weight in problem.layers.items() if weight > 0] or None
    example = problem.example(min(2, len(problem.train)))
    if names is not None:
        return find_layers(problem.model, example, names)
    all_layers = find_layers(problem.model, example)
    spatial = [layer for layer in all_layers if layer.spatial]
    return ((spatial or list(all_layers))[-1],)


def parts_of(layer: Layer) -> list[slice]:
    """Positions that are treated alike: those with a place in the image, then the class tokens if any."""
    prefix = layer.prefix_tokens if layer.layout == "tokens" else 0
    return [slice(prefix, None), slice(0, prefix)] if prefix else [slice(None)]


def over_activations(
    model: nn.Module,
    table: ImageTable,
    rows: Ints,
    layer: Layer,
    visit: Callable[[slice, Tensor], None],
    *,
    batch_size: int = 64,
    progress: bool = True,
) -> None:
    """Show a layer's output (n, C, P), batch after batch of some rows, with the model in evaluation mode.

    Parameters
    ----------
    model
        Given back as it was.
    table, rows
        Samples, in this order.
    layer
        All its positions are shown, also class tokens; a vector has one.
    visit
        Takes the batch's place in `rows`, and its activations in at least float32.
    batch_size, progress
        Samples at a time, and whether a bar is shown.
    """
    with frozen(model) as network:
        for batch, images in _batches(table, rows, batch_size, layer.name, progress):

            def see(values: Tensor, batch: slice = batch) -> Tensor:
                visit(batch, values if values.dtype == torch.float64 else values.float())
                return values

            forward_edited(network, images.to(device_of(model)), layer, see)


def pooled_activations(
    model: nn.Module,
    table: ImageTable,
    rows: Ints,
    layer: Layer,
    *,
    batch_size: int = 64,
    progress: bool = True,
) -> list[Floats]:
    """Mean activation (M, C) of every sample over each of the `parts_of` a layer."""
    parts = parts_of(layer)
    pooled: list[Floats] = [np.zeros((len(rows), layer.channels)) for _ in parts]

    def pool(batch: slice, values: Tensor) -> None:
        for rows_of_part, part in zip(pooled, parts, strict=True):
            rows_of_part[batch] = values[..., part].double().mean(2).cpu().numpy()

    over_activations(model, table, rows, layer, pool, batch_size=batch_size, progress=progress)
    return pooled


def _batches(
    table: ImageTable, rows: Ints, size: int, name: str, progress: bool
) -> Iterator[tuple[slice, Tensor]]:
    starts = range(0, len(rows), size)
    for start in progress_bar(starts, desc=f"activations of {name}", unit="batch", progress=progress):
        batch = slice(start, min(start + size, len(rows)))
        yield batch, torch.stack([table[int(row)][0] for row in rows[batch]])
