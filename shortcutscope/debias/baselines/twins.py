"""Images and their twins, which have properties of other images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from torch import Tensor

from shortcutscope.data.table import ImageTable
from shortcutscope.pixels.scaled_images import ScaledImages, rows_over
from shortcutscope.pixels.transfers import TRANSFERS, moved
from shortcutscope.pixels.transfers.side import has_dark_background, side_of
from shortcutscope.types import Floats, Ints


def in_order(transfers: Sequence[str]) -> tuple[str, ...]:
    """Several transfers as they are done one after another: grey levels last, of which others change some."""
    return tuple(sorted(transfers, key=lambda name: TRANSFERS[name].of_levels))


def twin_of(
    image: Floats, donors: Sequence[Floats], transfers: Sequence[str], rng: np.random.Generator, *, dark: bool
) -> Floats:
    """An image that has one property of each donor.

    Parameters
    ----------
    image
        (C, *spatial) from 0 to 1.
    donors
        As many as there are transfers.
    transfers
        In the order in which they are done.
    rng
        Of what a transfer draws.
    dark
        As of `shortcutscope.pixels.transfers.side.Side`.
    """
    for name, donor in zip(transfers, donors, strict=True):
        image = moved(name, image, side_of(image, dark=dark), side_of(donor, dark=dark), rng)
    return image


@dataclass(frozen=True, eq=False)
class TwinSource:
    """A table's images, and behind them their twins.

    Attributes
    ----------
    table
        The samples, N of them.
    transfers
        Names of what moves an image, one after another.
    donors
        (K, N * twins) for each of them the row of the image whose property a twin has; twin `i` is of row
        ``i % N``.
    seed
        Of what a transfer draws.
    """

    table: ImageTable
    transfers: tuple[str, ...]
    donors: Ints
    seed: int

    @cached_property
    def _images(self) -> ScaledImages:
        return ScaledImages.of(self.table)

    @cached_property
    def _dark(self) -> bool:
        return has_dark_background(self._images.viewed(rows_over(self.table)))

    def __len__(self) -> int:
        return len(self.table) + int(self.donors.shape[1])

    def read(self, i: int) -> Tensor:
        """Image `i` before the transform, (C, *spatial) in the table's value range."""
        n = len(self.table)
        if i < n:
            return self.table.image(i)
        donors = [self._images[int(row)] for row in self.donors[:, i - n]]
        rng = np.random.default_rng([self.seed, i])
        return self._images.original(
            twin_of(self._images[i % n], donors, self.transfers, rng, dark=self._dark)
        )

    def identity(self, i: int) -> str:
        """As the table's own images say, with the transfers and the donors."""
        n = len(self.table)
        identity = self._identity(i % n)
        if i < n:
            return identity
        given = zip(self.transfers, self.donors[:, i - n], strict=True)
        properties = "|".join(f"{name} of {self._identity(int(row))}" for name, row in given)
        return f"{identity}|{properties}|{self.seed}"

    def _identity(self, row: int) -> str:
        return self.table.source.identity(int(self.table.rows[row]))


def with_twins(table: ImageTable, transfers: Sequence[str], twins: int, seed: int) -> ImageTable:
    """The samples, and behind them so many twins of each, see `TwinSource`.

    Parameters
    ----------
    table
        N samples.
    transfers
        Names of what moves an image, each from a donor of its own, one after another.
    twins
        Of each.
    seed
        Of whose property they get.

    Returns
    -------
    ImageTable
        N * (1 + twins) samples with the roles; a twin is of its original's label and patient.
    """
    n = len(table)
    donors = np.stack([_donors(n, twins, seed, k) for k in range(len(transfers))])
    roles = ["sample_id", "label", "group", "split"]
    frame = table.frame[roles]
    ids = frame["sample_id"].astype(str)
    copies = [frame.assign(sample_id=ids + f" twin {k + 1}") for k in range(twins)]
    return ImageTable(
        pd.concat([frame.assign(sample_id=ids), *copies], ignore_index=True),
        TwinSource(table, tuple(transfers), donors, seed),
        value_range=table.value_range,
        transform=table.transform,
        classes=table.classes,
        has_groups=table.has_groups,
        workers=table.workers,
    )


def _donors(n: int, twins: int, seed: int, of: int = 0) -> Ints:
    """(n * twins,) rows, none its own: every image gives as often as it gets."""
    rng = np.random.default_rng([seed, 2, *[of] * bool(of)])
    shifts = rng.permutation(np.arange(1, n))[:twins] if n > twins else rng.integers(1, max(2, n), twins)
    order = rng.permutation(n)
    place = np.argsort(order)
    donors: Ints = np.concatenate([order[(place + shift) % n] for shift in shifts])
    return donors
