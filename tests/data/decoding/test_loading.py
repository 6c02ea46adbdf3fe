"""How many processes read a table, and that what they give does not depend on it."""

from __future__ import annotations

import multiprocessing
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from shortcutscope.data.decoding import loading
from shortcutscope.data.decoding.loading import FEWEST, loaded, worker_count
from shortcutscope.data.table import ImageTable
from shortcutscope.options import Running
from shortcutscope.scan.batches import batches

N = FEWEST + 8


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for value in range(N):
        Image.fromarray(np.full((2, 2), value % 256, np.uint8)).save(folder / f"{value}.png")
    frame = pd.DataFrame({"image": [f"{k}.png" for k in range(N)], "label": np.arange(N) % 2})
    return ImageTable.from_frame(frame, root=folder)


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    monkeypatch.setattr(loading, "default_jobs", lambda: 3)


needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")


@needs_fork
def test_many_files_are_read_by_the_cores(files, monkeypatch):
    assert worker_count(files, None, batch_size=8) == 2
    monkeypatch.setattr(loading, "default_jobs", lambda: 64)
    assert worker_count(files, None, batch_size=8) == 4
    monkeypatch.setattr(loading, "default_jobs", lambda: 1)
    assert worker_count(files, None, batch_size=8) == 0


def test_few_files_one_batch_and_spawned_processes_are_not_worth_it(files, monkeypatch):
    assert worker_count(files.take(np.arange(FEWEST - 1)), None, batch_size=8) == 0
    assert worker_count(files, None, batch_size=8, start=9) == 0
    assert worker_count(files, 2, batch_size=N) == 0
    monkeypatch.setattr(loading.multiprocessing, "get_start_method", lambda allow_none: "spawn")
    assert worker_count(files, None, batch_size=8) == 0


def test_what_is_asked_for_counts(files):
    assert worker_count(files, 5, batch_size=8) == 5
    assert worker_count(files.take(np.arange(20)), 5, batch_size=8) == 5
    assert worker_count(files, 0, batch_size=8) == 0
    of_five = files.keeping(Running(workers=5))
    assert worker_count(of_five, None, batch_size=8) == 5
    assert worker_count(of_five.take(np.arange(20)), 1, batch_size=8) == 1


def test_no_worker_is_started_for_images_in_memory(files):
    arrays = ImageTable.from_arrays(np.zeros((N, 4, 4), np.uint8), np.arange(N) % 2)
    assert worker_count(arrays, 3, batch_size=8) == 0
    kept = files.keeping(Running(workers=3))
    for i in range(N - 1):
        kept.image(i)
    assert worker_count(kept, None, batch_size=8) == 3
    kept.image(N - 1)
    assert worker_count(kept, None, batch_size=8) == 0


def test_sources_of_the_users_own_are_read_by_this_process_unless_asked_for(files):
    class Own:
        def __len__(self):
            return N

        def read(self, i):
            return np.zeros((1, 2, 2), np.uint8)

        def identity(self, i):
            return str(i)

    assert worker_count(files.replaced(source=Own()), None, batch_size=8) == 0
    assert worker_count(files.replaced(source=Own()), 2, batch_size=8) == 2


class Standardized:
    """A mean over an image depends in its last bits on how many threads take it."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return (image - image.mean()) / image.std()


@pytest.mark.parametrize("method", sorted({"fork", "spawn"} & {*multiprocessing.get_all_start_methods()}))
def test_inputs_are_the_same_to_the_bit_by_any_process_and_number_of_threads(monkeypatch, method):
    monkeypatch.setattr(loading, "is_held", lambda source, i: False)
    images = np.random.default_rng(0).random((8, 512, 512), np.float32)
    table = ImageTable.from_arrays(images, [0, 1] * 4, transform=Standardized())
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        own = torch.cat([x for x, _, _ in batches(table, 4, workers=0)])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(loading, "DataLoader", partial(loading.DataLoader, multiprocessing_context=method))
    assert torch.equal(torch.cat([x for x, _, _ in batches(table, 4, workers=2)]), own)


class Squares(torch.utils.data.Dataset):
    def __getitem__(self, i):
        return i * i


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(workers):
    found = list(loaded(Squares(), range(3, 13), list, batch_size=4, workers=workers))
    assert found == [[9, 16, 25, 36], [49, 64, 81, 100], [121, 144]]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    list(loaded(Squares(), range(3), list, batch_size=2, workers=workers))
    assert torch.equal(torch.get_rng_state(), state)
