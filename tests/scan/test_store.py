import contextlib
import errno
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open

from shortcutscope import files
from shortcutscope.errors import InputError, StaleRunError
from shortcutscope.scan import shard as shard_module
from shortcutscope.scan.shard import Shard, decode_half, encode_half
from shortcutscope.scan.store import ShardReader, ShardWriter, require_free_space

INPUTS = {"model": "abc", "data": "def", "layers": [{"name": "a"}]}
N = 23


class Killed(BaseException):
    """Like a kill: no handler of the package sees it."""


def rows(start: int, stop: int) -> dict[str, np.ndarray]:
    """The rows that any run gives for these samples."""
    index = np.arange(start, stop)
    return {
        "logits": np.stack([index, -index], 1).astype(np.float32),
        "target": index % 2,
        "activation/a/mean": (index[:, None] * 0.5 + np.arange(3)).astype(np.float32),
        "relevance/a/sum": (index[:, None] * 1e-12).astype(np.float32),
    }


def samples() -> pd.DataFrame:
    return pd.DataFrame({"sample_id": [f"s{i}" for i in range(N)]})


def write(folder: Path, batch: int = 4, inputs=INPUTS, shard_rows: int = 8) -> None:
    with ShardWriter(folder, inputs, n_rows=N, shard_rows=shard_rows) as writer:
        for start in range(writer.rows_done, N, batch):
            writer.append(rows(start, min(start + batch, N)))
        writer.finish(samples())


def assert_whole(folder: Path) -> None:
    reader = ShardReader(folder)
    reader.verify()
    for key, expected in rows(0, N).items():
        np.testing.assert_allclose(reader.read(key), expected, rtol=1e-3, atol=1e-18)
    assert reader.samples().equals(samples())


# Half precision with a scale


@given(
    values=hnp.arrays(np.float64, (4, 3), elements=st.floats(-1, 1, allow_subnormal=False)),
    exponent=st.integers(-100, 100),
)
def test_scaled_halves_keep_eleven_bits_at_any_magnitude(values, exponent):
    values = np.ldexp(values, exponent).astype(np.float32)
    halves, scale = encode_half(values)
    assert halves.dtype == np.float16
    restored = decode_half(halves, scale)
    largest = np.abs(values).max()
    # Full precision down to 2^-28 of the largest value, an absolute error below that.
    np.testing.assert_allclose(restored, values, rtol=2.0**-11, atol=largest * 2.0**-39 + 1e-45)


def test_tiny_and_huge_values_that_plain_halves_would_lose():
    tiny, huge = np.full(3, 1e-20, np.float32), np.full(3, 1e20, np.float32)
    assert tiny.astype(np.float16).max() == 0
    for values in (tiny, huge, np.zeros(3, np.float32)):
        halves, exponent = encode_half(values)
        assert np.isfinite(halves).all()
        np.testing.assert_allclose(decode_half(halves, exponent), values, rtol=2.0**-11)


@pytest.mark.parametrize("exponent", [-160, -126, -20, 0, 60, 110, 126])
def test_halves_are_decoded_to_the_bit(exponent):
    halves = np.array([0.0, -0.0, 6e-8, 1.5, -1024.0], np.float16)  # a subnormal one among them
    halves = halves[np.abs(halves.astype(np.float64)) * 2.0**exponent < 3e38]
    expected = np.ldexp(halves.astype(np.float32), exponent)
    np.testing.assert_array_equal(decode_half(halves, exponent), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_values_are_not_stored(value):
    with pytest.raises(InputError, match="cannot be stored"):
        encode_half(np.array([1, value], np.float32))


# Writing and reading


@pytest.mark.parametrize("batch", [1, 4, 8, 23])
def test_rows_come_back_whatever_the_batch(tmp_path, batch):
    write(tmp_path / "scan", batch)
    assert_whole(tmp_path / "scan")
    manifest = json.loads((tmp_path / "scan" / "manifest.json").read_text())
    assert [(s["file"], s["start"], s["stop"]) for s in manifest["shards"]] == [
        ("shard-000-00000.safetensors", 0, 8),
        ("shard-000-00001.safetensors", 8, 16),
        ("shard-000-00002.safetensors", 16, 23),
    ]


def test_logits_and_targets_are_exact(tmp_path):
    write(tmp_path)
    reader = ShardReader(tmp_path)
    assert reader.read("logits").dtype == np.float32
    assert np.array_equal(reader.read("logits"), rows(0, N)["logits"])
    assert np.array_equal(reader.read("target"), rows(0, N)["target"])


def test_reading_one_array_leaves_the_others_alone(tmp_path, monkeypatch):
    write(tmp_path)
    asked = []

    class Watched:
        def __init__(self, path, framework):
            self.file = safe_open(path, framework=framework)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def keys(self):
            return self.file.keys()

        def get_tensor(self, key):
            asked.append(key)
            return self.file.get_tensor(key)

    reader = ShardReader(tmp_path)
    monkeypatch.setattr(shard_module, "safe_open", Watched)
    reader.read("activation/a/mean")
    assert asked == ["activation/a/mean"] * 3


def test_unknown_array(tmp_path):
    write(tmp_path)
    with pytest.raises(InputError, match="holds no 'activation/b/mean'"):
        ShardReader(tmp_path).read("activation/b/mean")


def test_nothing_but_numbers_is_written(tmp_path):
    write(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "manifest.json",
        "samples.parquet",
        *(f"shard-000-0000{k}.safetensors" for k in range(3)),
    ]
    assert "NaN" not in (tmp_path / "manifest.json").read_text()


def test_rows_that_do_not_fit(tmp_path):
    writer = ShardWriter(tmp_path, INPUTS, n_rows=3, shard_rows=8)
    with pytest.raises(InputError, match="differ in their number of rows"):
        writer.append({"logits": np.zeros((2, 1)), "target": np.zeros(1)})
    with pytest.raises(InputError, match="more rows than the 3"):
        writer.append(rows(0, 4))
    writer.append(rows(0, 2))
    with pytest.raises(InputError, match="has 2 rows"):
        writer.finish(samples()[:3])


# Interruption


def test_unfinished_store_is_not_read(tmp_path):
    writer = ShardWriter(tmp_path, INPUTS, n_rows=N, shard_rows=8)
    for start in (0, 4, 8):
        writer.append(rows(start, start + 4))
    with pytest.raises(InputError, match="8 of 23 samples; run the same scan"):
        ShardReader(tmp_path)
    assert ShardWriter(tmp_path, INPUTS, n_rows=N, shard_rows=8).rows_done == 8


def test_keyboard_interrupt_keeps_the_rows_at_hand(tmp_path):
    with (
        contextlib.suppress(KeyboardInterrupt),
        ShardWriter(tmp_path, INPUTS, n_rows=N, shard_rows=8) as writer,
    ):
        for start in (0, 4, 8):
            writer.append(rows(start, start + 4))
        raise KeyboardInterrupt
    assert ShardWriter(tmp_path, INPUTS, n_rows=N, shard_rows=8).rows_done == 12
    write(tmp_path)
    assert_whole(tmp_path)


STEPS = {"fsync": (os, "fsync"), "replace": (Path, "replace"), "open": (Path, "open")}


def count_down(monkeypatch, steps: int, error: type[BaseException]) -> dict[str, int]:
    """Raise `error` at the n-th step that writing takes, before or after it."""
    state = {"left": steps}

    def wrap(function):
        def wrapped(*args, **kwargs):
            if state["left"] == 0:
                raise error
            state["left"] -= 1
            result = function(*args, **kwargs)
            if state["left"] == 0:
                raise error
            state["left"] -= 1
            return result

        return wrapped

    for owner, name in STEPS.values():
        monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))
    return state


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kills=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    error=st.sampled_from([Killed, KeyboardInterrupt]),
    batches=st.lists(st.sampled_from([2, 4, 8]), min_size=5, max_size=5),
)
def test_killed_at_any_step_it_goes_on_to_the_same_store(kills, error, batches):
    """Every system call of a write may be the last one; and so may it be of the next attempt."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "scan"
        for steps, batch in zip(kills, batches, strict=False):
            with pytest.MonkeyPatch.context() as patch:
                count_down(patch, steps, error)
                with contextlib.suppress(error):
                    write(folder, batch)
        write(folder, batches[-1])
        assert_whole(folder)
        assert not list(folder.glob(".*"))


def test_interrupted_commit_does_not_put_later_rows_in_its_place(tmp_path, monkeypatch):
    with (
        contextlib.suppress(KeyboardInterrupt),
        ShardWriter(tmp_path, INPUTS, n_rows=N, shard_rows=8) as writer,
    ):
        writer.append(rows(0, 7))
        with monkeypatch.context() as patch:
            count_down(patch, 1, KeyboardInterrupt)
            writer.append(rows(7, 14))
    assert ShardWriter(tmp_path, INPUTS, n_rows=N, shard_rows=8).rows_done == 0
    write(tmp_path)
    assert_whole(tmp_path)


# Several processes


def fill(writer: ShardWriter, batch: int = 4) -> None:
    """Append what a process is to append."""
    for run in writer.runs:
        for start in range(run.start, run.stop, batch):
            writer.append(rows(start, min(start + batch, run.stop)))


def test_shards_of_several_processes_make_the_store_of_one(tmp_path):
    write(tmp_path / "one")
    folder = tmp_path / "scan"
    first = ShardWriter(folder, INPUTS, n_rows=N, shard_rows=8)
    others = [ShardWriter(folder, INPUTS, n_rows=N, shard_rows=8, rank=rank) for rank in (1, 2)]
    assert first.missing == [0, 8, 16]
    for writer, start in zip([*others, first], (16, 0, 8), strict=True):
        writer.take([start])
        assert writer.runs == [range(start, min(start + 8, N))]
        fill(writer)
    with pytest.raises(InputError, match="run the same scan again"):
        ShardReader(folder)
    first.take_parts()
    first.finish(samples())
    assert_whole(folder)
    alone = ShardReader(tmp_path / "one")
    for key in ("logits", "target", "activation/a/mean", "relevance/a/sum"):
        np.testing.assert_array_equal(ShardReader(folder).read(key), alone.read(key))
    names = sorted(path.name for path in folder.glob("*.*") if path.name != "samples.parquet")
    assert names == ["manifest.json"] + [
        f"shard-{k:03d}-0000{i}.safetensors" for k, i in ((0, 1), (1, 2), (2, 0))
    ]


@pytest.mark.parametrize("interrupted", [False, True])
def test_one_process_fills_the_gaps_that_several_left(tmp_path, interrupted):
    first = ShardWriter(tmp_path, INPUTS, n_rows=N, shard_rows=4)
    second = ShardWriter(tmp_path, INPUTS, n_rows=N, shard_rows=4, rank=1)
    first.take([0, 4])
    second.take([8, 12, 16, 20])
    with contextlib.suppress(KeyboardInterrupt), first:
        first.append(rows(0, 4))
        first.append(rows(4, 6))
        if interrupted:
            raise KeyboardInterrupt
    second.append(rows(8, 12))
    writer = ShardWriter(tmp_path, INPUTS, n_rows=N, shard_rows=4)
    assert writer.missing == [4, 12, 16, 20]
    # The first process's rows at hand are kept.
    assert writer.runs == [range(6 if interrupted else 4, 8), range(12, N)]
    assert not list(tmp_path.glob("part-*"))
    with pytest.raises(InputError, match="more rows"):
        writer.append(rows(writer.rows_done, writer.rows_done + 5))  # beyond the gap
    fill(writer, batch=2)
    writer.finish(samples())
    assert_whole(tmp_path)


# Damage


@pytest.fixture
def damaged(tmp_path):
    write(tmp_path)
    return tmp_path, tmp_path / "shard-000-00001.safetensors"


def test_truncated_shard_is_found_on_opening(damaged):
    folder, shard = damaged
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"shard-000-00001.safetensors is damaged: \d+ bytes instead of"):
        ShardReader(folder)


def test_missing_shard_is_found_on_opening(damaged):
    folder, shard = damaged
    shard.unlink()
    with pytest.raises(InputError, match="is missing"):
        ShardReader(folder)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def test_flipped_bit_is_found_by_the_checksum(damaged):
    folder, shard = damaged
    flip_a_bit(shard)
    with pytest.raises(InputError, match="checksum"):
        ShardReader(folder).verify()


@pytest.mark.parametrize("damage", [flip_a_bit, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_shard_is_made_again(damaged, damage):
    folder, shard = damaged
    damage(shard)
    with pytest.warns(UserWarning, match="goes on from row 8"):
        writer = ShardWriter(folder, INPUTS, n_rows=N, shard_rows=8)
    assert writer.rows_done == 8
    assert not writer.complete
    write(folder)
    assert_whole(folder)


# Other inputs, other folders, full disks


def test_other_inputs_are_refused_by_name(tmp_path):
    write(tmp_path)
    with pytest.raises(StaleRunError, match='data: "def" there, "xyz" now') as error:
        ShardWriter(tmp_path, {**INPUTS, "data": "xyz"}, n_rows=N, shard_rows=8)
    assert "model" not in str(error.value)
    assert_whole(tmp_path)


def test_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("keep me")
    with pytest.raises(InputError, match="not empty and holds no scan"):
        ShardWriter(tmp_path, INPUTS, n_rows=N, shard_rows=8)
    with pytest.raises(InputError, match="is a file"):
        ShardWriter(tmp_path / "thesis.tex", INPUTS, n_rows=N, shard_rows=8)
    with pytest.raises(InputError, match="not empty"):
        ShardReader(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "keep me"


@pytest.mark.parametrize("content", ["[]", '{"format": 99}', "{"])
def test_manifest_of_something_else(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        ShardReader(tmp_path)


def test_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = ShardWriter(tmp_path, INPUTS, n_rows=N, shard_rows=8)
    writer.append(rows(0, 8))
    before = sorted(path.name for path in tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(InputError, match="the disk is full"):
            writer.append(rows(8, 16))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    write(tmp_path)
    assert_whole(tmp_path)


def test_space_is_looked_at_beforehand(tmp_path, monkeypatch):
    require_free_space(tmp_path / "not" / "there" / "yet", 1000)
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"needs about 3\.0 MiB and .* has 1\.0 MiB free"):
        require_free_space(tmp_path / "scan", 3 * 2**20)


def test_r6_shards_outside_of_the_store_are_not_read(tmp_path):
    (tmp_path / "store").mkdir()
    shard = Shard.write(tmp_path / "a.safetensors", 0, [{"x": np.zeros((2, 3), np.float32)}], frozenset())
    outside = replace(shard, file="../a.safetensors")
    for read in (outside.damage, outside.keys):
        with pytest.raises(InputError, match="which lies outside of it"):
            read(tmp_path / "store")
