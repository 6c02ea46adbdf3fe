"""Batches of transformed images, and the order in which training sees the samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from shortcutscope.data.decoding.loading import loaded_sets
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.training.randomness import ORDER, generator_of
from shortcutscope.debias.training.settings import Training
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.targets import find_logits

__all__ = [
    "PRELOAD_BYTES",
    "Images",
    "Order",
    "full_batches",
    "labels_of",
    "require_logits_for",
    "require_samples",
]

# Up to this size all images are decoded once and kept; above it they are read again in every epoch.
PRELOAD_BYTES = 2 * 2**30


class Images:
    """Transformed images of a table, decoded once if all of them fit into `PRELOAD_BYTES`.

    Attributes
    ----------
    shape
        Of one image, (C, *spatial).
    example
        The first image as a batch.
    """

    def __init__(self, table: ImageTable) -> None:
        first = table[0][0]
        self.shape = tuple(first.shape)
        self.example = first[None]
        self._items = _Items(table)
        self._fit = first.numel() * first.element_size() * len(table) <= PRELOAD_BYTES

    def batch(self, rows: Tensor) -> Tensor:
        """Images of these rows, (len(rows), *shape)."""
        return self._stack[rows] if self._fit else _stacked(self._items, rows.tolist())

    def batches(self, rows: Iterable[Tensor], workers: int = 0) -> Iterator[Tensor]:
        """The images of each set of rows; read ahead by `workers` processes where they are not kept."""
        if self._fit or not workers:
            yield from map(self.batch, rows)
            return
        sets = (part.tolist() for part in rows)
        yield from loaded_sets(self._items, sets, _stack_of, workers=workers)

    @cached_property
    def _stack(self) -> Tensor:
        return _stacked(self._items, range(len(self._items)))


def _stack_of(images: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(images))


class _Items(Dataset[Tensor]):
    """A table's images without their labels."""

    def __init__(self, table: ImageTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, row: int) -> Tensor:
        image: Tensor = self._table[row][0]
        return image


class Order:
    """Which rows each step takes: every epoch newly drawn, and known from the number of the step alone.

    Parameters
    ----------
    n
        Rows of the table.
    batch_size
        Rows of a step.
    draws
        (N,) relative frequency of each row, drawn with replacement; None takes every row once per epoch.
    seed
        Of the order.
    """

    def __init__(self, n: int, batch_size: int, draws: Tensor | None, seed: int) -> None:
        self._n, self._size, self._seed = n, min(batch_size, n), seed
        self._draws = None if draws is None else _checked(draws, n)
        self.steps_per_epoch = n // self._size
        # More than one, since an epoch is still asked for while the next is read ahead.
        self._batches = lru_cache(maxsize=4)(self._draw_epoch)

    def rows(self, step: int) -> Tensor:
        """Rows of the step of this number, counted from 0; (batch_size,) int64 on the CPU."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._batches(epoch)[position]

    def _draw_epoch(self, epoch: int) -> tuple[Tensor, ...]:
        generator = generator_of(self._seed, ORDER, epoch)
        if self._draws is None:
            order = torch.randperm(self._n, generator=generator)
        else:
            order = torch.multinomial(self._draws, self._n, replacement=True, generator=generator)
        return full_batches(order, self._size)


def full_batches(order: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """An epoch's order in batches: only full ones, since batch norm is noisy on few, or the one there is."""
    return torch.split(order, batch_size)[: max(1, len(order) // batch_size)]


def labels_of(table: ImageTable) -> Tensor:
    """Labels (N,), int64."""
    return torch.as_tensor(table.frame["label"].to_numpy(copy=True), dtype=torch.long)


def require_logits_for(model: nn.Module, example: Tensor, labels: Tensor) -> None:
    """Compare all labels with the number of logits, on one batch `example`.

    Raises
    ------
    InputError
        When a label has no logit.
    """
    with frozen(model), torch.no_grad():
        outputs = find_logits(model(example)).shape[1]
    classes = max(2, outputs)
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise InputError(
            f"label {int(outside[0])} lies outside the model's {classes} classes (0 to {classes - 1}); build "
            "the model with as many outputs as the table has classes"
        )


def require_samples(table: ImageTable, training: Training, validation: ImageTable | None) -> None:
    """Refuse tables too small to train on, and a rule of selection without samples to select on.

    Raises
    ------
    InputError
        Also when the validation table is empty.
    """
    if len(table) < 2:
        raise InputError(f"the training table has {len(table)} samples; batch norm needs at least 2")
    needs = [f"select={training.select!r}"] if training.select != "last" else []
    needs += [f"validate_every={training.validate_every}"] if training.validate_every is not None else []
    if needs and (validation is None or not len(validation)):
        raise InputError(
            f"{' and '.join(needs)} needs validation samples: give validation=, a table of samples that are "
            "not trained on"
        )
    if validation is not None and not len(validation):
        raise InputError("the validation table is empty; give samples, or None")


def _stacked(items: _Items, rows: Iterable[int]) -> Tensor:
    return torch.stack([items[row] for row in rows])


def _checked(draws: Tensor, n: int) -> Tensor:
    draws = draws.detach().double().cpu()
    if draws.shape != (n,):
        raise InputError(f"the objective draws from weights {tuple(draws.shape)}; the table has {n} rows")
    if not bool(torch.isfinite(draws).all()) or bool((draws < 0).any()) or float(draws.sum()) <= 0:
        raise InputError(
            "the objective's sampling weights must be finite and not negative, with one above 0; they go "
            f"from {float(draws.min())} to {float(draws.max())}"
        )
    return draws
