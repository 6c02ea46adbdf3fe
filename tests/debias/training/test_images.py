"""Images of a training are decoded in every epoch, unless the table keeps them."""

from collections import Counter

import pytest
import small_study
import torch
from counting import counting, decoded

import shortcutscope as ss
from shortcutscope.debias.training import images
from shortcutscope.debias.training.images import Images

N = 12


@pytest.fixture
def table(tmp_path):
    small_study.write_files(tmp_path, N)
    return counting(ss.ImageTable.from_csv(tmp_path / "images.csv"), tmp_path / "decoded.log")


def epoch(table, workers):
    """The images of an epoch that do not fit in memory, one after the other."""
    sets = torch.arange(N).split(5)
    return torch.cat(list(Images(table).batches(sets, workers)))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_decodes_nothing_that_is_kept(table, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(images, "PRELOAD_BYTES", 0)
    log = tmp_path / "decoded.log"
    expected = epoch(table, workers)
    assert decoded(log) >= Counter(range(N))
    kept = table.keeping(ss.Running(cache=tmp_path / "cache"))
    for _ in range(2):
        torch.testing.assert_close(epoch(kept, workers), expected, rtol=0, atol=0)
    assert decoded(log) == Counter(range(N))
    torch.testing.assert_close(epoch(table.keeping(ss.Running(cache=tmp_path / "cache")), workers), expected)
    assert not decoded(log)
