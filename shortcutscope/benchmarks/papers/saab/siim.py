"""The protocol `saab` on radiographs: SIIM-ACR Pneumothorax, and the chest tubes that somebody labelled."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from shortcutscope.benchmarks.papers.saab.data import Cohort, in_memory, planted
from shortcutscope.data.medical.siim import LAYOUT, siim
from shortcutscope.data.splits import holdout
from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform import Normalize
from shortcutscope.types import Bools

#: Side that radiographs are resampled to, and the mean and deviation of their pixels (the paper's code).
SIDE, PIXELS = 96, Normalize(0.489, 0.246)
#: Labels of chest tubes, which are not part of the challenge: a table (ImageId, tube) beside its own.
TUBES = "tubes.csv"
#: Negatives in training, as a share of all (the paper's code), and the share of patients that are tested on
#: where nobody labelled tubes.
KEPT_NEGATIVES, TESTED = 0.33, 0.25


def check(root: Path) -> None:
    """Refuse a folder that does not hold the data.

    Raises
    ------
    InputError
        Says which files are expected.
    """
    siim(root)
    _tubes(root)


@lru_cache(maxsize=1)
def radiographs(root: Path, kind: str, seed: int, most: int | None) -> Cohort:
    """Radiographs with and without pneumothorax, and a spurious feature.

    Parameters
    ----------
    root
        Folder of the challenge.
    kind
        ``chest_tube``: as they are. The images whose tubes are labelled in ``tubes.csv`` are the test, all
        others (of other patients) the training samples. Else an artifact to plant.
    seed
        Of the parts, of the carriers, and of which samples are left out.
    most
        Number of training samples at most; None: all.

    Raises
    ------
    InputError
        A folder without the data, or ``chest_tube`` without ``tubes.csv``.
    """
    table = siim(root, headers=True, size=SIDE, mode="L", transform=PIXELS)
    labels, groups = table.frame["label"].to_numpy(), table.frame["group"].to_numpy()
    if kind != "chest_tube":
        tested = holdout(groups, labels, TESTED, seed)
        return planted(kind, _training(table, ~tested, seed, most), table.take(np.flatnonzero(tested)), seed)
    tubes = _tubes(root)
    if tubes is None:
        raise LAYOUT.error(root, f"kind 'chest_tube' needs {TUBES} (ImageId, tube)")
    has_tube = table.frame["sample_id"].map(tubes)
    tested = has_tube.notna().to_numpy()
    elsewhere = ~np.isin(groups, groups[tested])
    test = in_memory(table.take(np.flatnonzero(tested)))
    test = test.with_columns(**{kind: has_tube[tested].to_numpy().astype(int)})
    return Cohort(kind, in_memory(_training(table, elsewhere, seed, most)), test, None)


def kinds(root: Path) -> tuple[str, ...]:
    """The chest tubes where they are labelled; else one that is planted."""
    return ("tube",) if _tubes(root) is None else ("chest_tube",)


def _training(table: ImageTable, allowed: Bools, seed: int, most: int | None) -> ImageTable:
    """All positives and a share of the negatives; both fewer where there are too many."""
    generator = np.random.default_rng([seed, 19])
    labels = table.frame["label"].to_numpy()
    positive, negative = (np.flatnonzero(allowed & (labels == value)) for value in (1, 0))
    negative = generator.permutation(negative)[: round(KEPT_NEGATIVES * len(negative))]
    rows = generator.permutation(np.concatenate([positive, negative]))[:most]
    return table.take(np.sort(rows))


def _tubes(root: Path) -> pd.Series | None:
    """Image to 0 or 1; None where there is no table."""
    path = Path(root) / TUBES
    if not path.is_file():
        return None
    table = LAYOUT.table(root, path, ["ImageId", "tube"], text=["ImageId"])
    values = pd.Series(table["tube"].to_numpy(), index=table["ImageId"].str.strip())
    if not values.isin([0, 1]).all() or values.index.has_duplicates:
        raise LAYOUT.error(root, f"{TUBES} has values of 'tube' other than 0 and 1, or names an image twice")
    return values
