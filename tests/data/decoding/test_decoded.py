"""Images that are decoded once: by any table of them, in any process, in memory and on disk."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections import Counter
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from counting import counting, decoded

from shortcutscope.data.decoding import loading
from shortcutscope.data.decoding.decoded import DecodedImages, KeptSource, is_held
from shortcutscope.data.decoding.decoded_files import MARKER, DecodedFiles
from shortcutscope.data.joining import joined
from shortcutscope.data.sources import DatasetSource, ImageReading
from shortcutscope.data.stored_frame import file_source
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.files import read_json, write_json
from shortcutscope.options import Running
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.planting import artifact_mask, clean_twin, everywhere, plant
from shortcutscope.scan.batches import batches

N = 12
ONCE = Counter(range(N))


@pytest.fixture
def log(tmp_path):
    return tmp_path / "decoded.log"


@pytest.fixture
def table(manifest, log):
    return counting(ImageTable.from_csv(manifest, label="diagnosis", group="patient", split="fold"), log)


def everything(table: ImageTable) -> torch.Tensor:
    return torch.stack([table[i][0] for i in range(len(table))])


def test_all_tables_of_the_same_images_decode_each_once(table, log):
    expected = everything(table)
    assert decoded(log) == ONCE
    kept = table.keeping()
    assert torch.equal(everything(kept), expected)
    for derived in (
        kept,
        kept.take([3, 1]),
        kept.where(split="test"),
        kept.with_columns(other=np.arange(N)),
        kept.with_transform(lambda image: 1 - image),
        kept.verify(progress=False),
        kept.keeping(Running(workers=2)),
    ):
        everything(derived)
    assert decoded(log) == ONCE
    assert torch.equal(everything(kept.take([3, 1])), expected[[3, 1]])


def test_what_a_kept_table_is_stays(table, log):
    fingerprint = table.fingerprint()
    kept = table.keeping()
    assert kept.fingerprint() == fingerprint
    assert ImageTable.fingerprint(kept.replaced()) == fingerprint
    assert kept.files == table.files
    assert file_source(kept.source) is table.source
    assert repr(kept.geometry(0)) == repr(table.geometry(0))
    assert kept.keeping().source is kept.source
    assert (kept.workers, kept.keeping(Running(workers=3)).take([0]).workers) == (None, 3)


def test_planted_and_joined_tables_share_the_images_below(manifest, log):
    large = ImageTable.from_csv(manifest, label="diagnosis", group="patient", size=32)
    table = counting(large, log)
    planted = plant(table, get_artifact("brightness"), prevalence={0: 0.5, 1: 0.5}, column="p").keeping()
    decoded(log)
    expected = [
        everything(make(planted)) for make in (lambda t: clean_twin(t, "p"), lambda t: everywhere(t, "p"))
    ]
    assert not torch.equal(*expected)
    artifact_mask(planted, 0, "p")
    assert decoded(log) == ONCE
    halves = [planted.take(np.arange(k, k + 6)) for k in (0, 6)]
    assert torch.equal(everything(joined(*halves)), everything(planted))
    assert not decoded(log)


def test_kept_images_cannot_be_written_to_and_the_users_own_stay_as_they_are():
    class Own:
        images = (np.zeros((1, 4, 4), np.float32), np.ones((1, 4, 4), np.float32))

        def __len__(self):
            return 2

        def read(self, i):
            return self.images[i]

        def identity(self, i):
            return str(i)

    table = ImageTable(pd.DataFrame({"sample_id": ["a", "b"], "label": [0, 1]}), Own()).keeping()
    with pytest.raises(ValueError, match="read-only"):
        table.source.read(0)[:] = 3
    Own.images[0][:] = 0.5
    table.image(1)[:] = 7
    assert table.image(1).max() == 1


def test_what_does_not_fit_is_decoded_again(table, log):
    room = 5 * table.source.read(0).nbytes
    expected = everything(table)
    decoded(log)
    kept = table.keeping(images=DecodedImages(memory=room + 1))
    for _ in range(3):
        assert torch.equal(everything(kept), expected)
    assert decoded(log) == Counter({i: 1 if i < 5 else 3 for i in range(N)})
    assert [is_held(kept.source, i) for i in range(N)] == [i < 5 for i in range(N)]


def test_kept_images_go_with_the_last_table_and_leave_what_others_need(table, monkeypatch):
    images = DecodedImages(memory=2000)
    kept = table.keeping(images=images)
    source = weakref.ref(kept.source)
    everything(kept)
    gc.disable()
    try:
        del kept
        assert source() is None
    finally:
        gc.enable()
    monkeypatch.setattr("shortcutscope.data.decoding.decoded.available_memory", lambda: 5000)
    assert DecodedImages().room == 1250
    for needed, left in ((0, 1040), (4500, 500), (6000, 0)):
        images.spare(needed)
        assert images.room == left


def test_images_in_memory_are_not_kept_twice(pixels):
    table = ImageTable.from_arrays(pixels, [0, 1] * 6)
    assert table.keeping().source is table.source
    resized = ImageTable.from_arrays(pixels, [0, 1] * 6, size=5).keeping()
    assert isinstance(resized.source, KeptSource)
    assert torch.equal(everything(resized), everything(ImageTable.from_arrays(pixels, [0, 1] * 6, size=5)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cached", [False, True])
def test_what_workers_decode_comes_back(table, log, tmp_path, workers, cached):
    expected = everything(table)
    decoded(log)
    kept = table.keeping(Running(workers=workers, cache=tmp_path / "cache" if cached else None))
    verified = kept.verify(progress=False)
    assert decoded(log) == ONCE
    read = torch.cat([x for x, _, _ in batches(verified, 4)])
    assert torch.equal(read, expected)
    assert not decoded(log)
    again = table.keeping(
        Running(workers=workers, cache=tmp_path / "cache"), DecodedImages(tmp_path / "cache")
    )
    assert torch.equal(torch.cat([x for x, _, _ in batches(again, 4)]), expected)
    assert decoded(log) == (Counter() if cached else ONCE)


def test_what_spawned_workers_decode_comes_back_too(table, log, monkeypatch):
    monkeypatch.setattr(loading, "DataLoader", partial(loading.DataLoader, multiprocessing_context="spawn"))
    kept = table.keeping(Running(workers=1))
    first = torch.cat([x for x, _, _ in batches(kept, 6)])
    assert decoded(log) == ONCE
    monkeypatch.undo()
    assert torch.equal(everything(kept), first)
    assert not decoded(log)


def test_workers_that_have_no_room_decode_what_they_are_asked_for(table, log):
    kept = table.keeping(Running(workers=2), DecodedImages(memory=0))
    expected = everything(table)
    decoded(log)
    for _ in range(2):
        assert torch.equal(torch.cat([x for x, _, _ in batches(kept, 4)]), expected)
    assert decoded(log) == Counter(dict.fromkeys(range(N), 2))


def test_a_copy_in_another_process_reads_the_same_and_takes_nothing_along(table):
    kept = table.keeping()
    expected = everything(kept)
    payload = pickle.dumps(kept)
    assert len(payload) < 2 * len(pickle.dumps(table)) + 1000
    assert torch.equal(everything(pickle.loads(payload)), expected)


def test_a_source_that_is_random_is_found_out_all_the_same():
    rng = np.random.default_rng(0)

    class Noise(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return rng.random((1, 8, 8))

    table = ImageTable.from_dataset(Noise(), pd.DataFrame({"label": [0, 1, 0, 1]})).keeping()
    with pytest.raises(InputError, match="is random"):
        table.verify(progress=False)


# On disk


def test_a_cache_serves_other_tables_of_the_same_images(table, log, tmp_path):
    running = Running(cache=tmp_path / "cache")
    expected = everything(table.keeping(running))
    decoded(log)
    other = table.take([7, 2]).with_columns(label=[1, 0]).keeping(running)
    assert torch.equal(everything(other), expected[[7, 2]])
    assert not decoded(log)


def test_a_cache_is_of_what_is_in_the_files_and_of_how_they_are_read(manifest, table, log, tmp_path):
    running = Running(cache=tmp_path / "cache")
    everything(table.keeping(running))
    decoded(log)
    options = {"label": "diagnosis", "group": "patient", "split": "fold"}
    small = counting(ImageTable.from_csv(manifest, size=4, **options), log).keeping(running)
    assert small.image(0).shape == (1, 4, 4)
    assert decoded(log) == Counter([0])
    path = table.source.path(3)
    table.source.path(4).replace(path)
    assert torch.equal(table.keeping(running).image(3), table.image(3))
    assert decoded(log) == Counter({3: 2})


def test_nothing_in_a_cache_names_a_file_or_a_patient(table, tmp_path):
    everything(table.keeping(Running(cache=tmp_path / "cache")))
    names = {name for path in table.source.names for name in (path, path.removeprefix("images/"))}
    for path in (tmp_path / "cache").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(name in str(path) or name.encode() in content for name in names)
        assert str(tmp_path).encode() not in content


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
        lambda path: path.write_bytes(b"\xff" * 500),
    ],
    ids=["shortened", "emptied", "one bit", "overwritten"],
)
def test_a_damaged_entry_is_decoded_anew_and_mended(table, log, tmp_path, damage):
    running = Running(cache=tmp_path / "cache")
    expected = everything(table.keeping(running))
    decoded(log)
    damage(min((tmp_path / "cache").rglob("*.safetensors")))
    assert torch.equal(everything(table.keeping(running)), expected)
    assert sum(decoded(log).values()) == 1
    everything(table.keeping(running))
    assert not decoded(log)


def test_an_entry_under_another_key_is_not_taken(tmp_path):
    files = DecodedFiles(tmp_path / "cache", 1)
    first, second = "a" * 64, "ab" * 32
    files.write(first, np.zeros((1, 2, 2), np.uint16))
    files.write(second, np.ones((1, 2, 2), np.uint16))
    paths = {key: next((tmp_path / "cache").rglob(f"{key}.*")) for key in (first, second)}
    paths[first].replace(paths[second])
    assert files.read(second) is None
    assert files.read(first) is None


@pytest.mark.parametrize("kind", ["bool", "uint8", "int16", "uint16", ">i4", "float16", "float32", "float64"])
def test_every_type_comes_back_as_it_was(tmp_path, kind):
    files = DecodedFiles(tmp_path / "cache", 1)
    image = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(kind)
    files.write("a" * 64, image.transpose(0, 2, 1))
    stored = files.read("a" * 64)
    assert stored is not None
    assert stored.dtype == np.dtype(kind).newbyteorder("=")
    np.testing.assert_array_equal(stored, image.transpose(0, 2, 1))


def test_a_folder_of_something_else_or_of_another_version_is_refused(table, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"no folder of decoded images: it holds 'thesis.tex'"):
        table.keeping(Running(cache=tmp_path / "other"))
    with pytest.raises(InputError, match="is a file, not a folder"):
        table.keeping(Running(cache=tmp_path / "other" / "thesis.tex"))
    everything(table.keeping(Running(cache=tmp_path / "cache")))
    facts = read_json(tmp_path / "cache" / MARKER)
    write_json(tmp_path / "cache" / MARKER, {**facts, "version": 99})
    with pytest.raises(InputError, match="of version 99"):
        table.keeping(Running(cache=tmp_path / "cache"))


def test_a_full_cache_says_so_once_and_the_rest_is_decoded_again(table, log, tmp_path):
    room = 4.5 * len(pickle.dumps(table.source.read(0))) / 1e9
    images = DecodedImages(tmp_path / "cache", room, memory=0)
    kept = table.keeping(images=images)
    decoded(log)
    with pytest.warns(UserWarning, match=r"it is full \(cache_gb=.*give it more") as warned:
        first = everything(kept)
    assert len(warned) == 1
    assert torch.equal(everything(kept), first)
    counts = decoded(log)
    assert set(counts.values()) == {1, 2}
    held = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.*"))
    assert held <= room * 1e9
    # What is there counts in the next process, too.
    with pytest.warns(UserWarning, match="it is full"):
        everything(table.keeping(images=DecodedImages(tmp_path / "cache", room, memory=0)))


def test_what_a_killed_process_left_is_cleared_away(table, log, tmp_path):
    running = Running(cache=tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    left = tmp_path / "cache" / f".{MARKER}.999999999.tmp"
    left.write_text("{")
    everything(table.keeping(running))
    assert not left.exists()


def test_items_that_do_not_tell_whether_they_changed_are_not_kept_on_disk(tmp_path):
    source = DatasetSource([np.zeros((4, 4))] * 4, ImageReading())
    table = ImageTable(pd.DataFrame({"sample_id": list("abcd"), "label": [0, 1, 0, 1]}), source)
    with pytest.raises(InputError, match="Leave cache= out"):
        table.keeping(Running(cache=tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_the_items_of_a_dataset_are_read_once_and_the_first_twice():
    counts: Counter[int] = Counter()

    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, i):
            counts[i] += 1
            return np.full((4, 4), i / 8, np.float32)

    table = ImageTable.from_dataset(Items(), pd.DataFrame({"label": [0, 1] * 3}))
    expected = table.fingerprint()
    counts.clear()
    kept = table.replaced().keeping()
    assert kept.fingerprint() == expected
    everything(kept.verify(progress=False))
    # Whether a source is random, only a second reading tells.
    assert counts == Counter({0: 2, **dict.fromkeys(range(1, 6), 1)})
