"""Two tables as one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shortcutscope.data.joining import joined
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.planting.phantoms import radiographs


@pytest.fixture(scope="module")
def tables() -> tuple[ImageTable, ImageTable]:
    table = radiographs(16, size=32, seed=3)
    return table.take(np.arange(5, 10)), table.take(np.array([3, 1]))


def test_the_rows_of_both_in_their_order(tables) -> None:
    first, second = tables
    both = joined(first, second)
    assert both.frame["sample_id"].tolist() == [*first.frame["sample_id"], *second.frame["sample_id"]]
    expected = [image for table in (first, second) for image, _, _ in table]
    assert all(torch.equal(image, other) for (image, _, _), other in zip(both, expected, strict=True))
    assert both.frame["label"].tolist()[5:] == second.frame["label"].tolist()
    assert len(both.fingerprint()) == 64


def test_refuses_tables_that_overlap_or_are_read_otherwise(tables) -> None:
    first, second = tables
    with pytest.raises(InputError, match="5 samples are in both tables"):
        joined(first, first)
    with pytest.raises(InputError, match="different transforms"):
        joined(first, second.with_transform(torch.neg))
