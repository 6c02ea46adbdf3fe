import errno
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.errors import InputError, StaleRunError
from shortcutscope.files import slug, to_json, write_atomically, write_json

INPUTS = {"model": "m", "data": "d"}


@given(st.text())
def test_slug_is_a_plain_file_name(name):
    assert slug(name).replace("-", "").isascii()
    assert "/" not in slug(name)
    assert slug(name)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda leaf: st.lists(leaf) | st.dictionaries(st.text(), leaf),
    )
)
def test_whatever_is_written_is_strict_json(value):
    json.loads(json.dumps(to_json(value), allow_nan=False))


def test_nan_and_arrays_become_json_values():
    assert to_json({"a": np.array([1.0, np.nan]), 2: np.float32(0.5)}) == {"a": [1.0, None], "2": 0.5}


def test_a_run_from_other_inputs_is_refused_and_names_what_differs(tmp_path):
    RunDirectory(tmp_path, INPUTS).update()
    RunDirectory(tmp_path, INPUTS)
    with pytest.raises(StaleRunError, match="model"):
        RunDirectory(tmp_path, {**INPUTS, "model": "other"})


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        RunDirectory(tmp_path, INPUTS)
    with pytest.raises(InputError, match="is a file"):
        RunDirectory(tmp_path / "thesis.tex", INPUTS)


def test_an_interrupted_stage_is_marked_and_keeps_its_pieces(tmp_path):
    run = RunDirectory(tmp_path, INPUTS)

    def work():
        with run.stage("probe"):
            run.cached("probe", "tag", {"seed": 0}, lambda: {"auroc": 0.9})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    again = RunDirectory(tmp_path, INPUTS)
    assert again.record["stages"]["probe"]["state"] == "interrupted"
    assert again.cached("probe", "tag", {"seed": 0}, lambda: pytest.fail("was kept")) == {"auroc": 0.9}
    assert again.cached("probe", "tag", {"seed": 1}, lambda: {"auroc": 0.1}) == {"auroc": 0.1}


def test_names_with_the_same_slug_are_kept_apart(tmp_path):
    run = RunDirectory(tmp_path, INPUTS)
    assert run.cached("probe", "site=A", {}, lambda: 1) == 1
    assert run.cached("probe", "site A", {}, lambda: 2) == 2
    assert run.cached("probe", "site=A", {}, lambda: 3) == 1


def test_a_full_disk_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "findings.json"
    write_json(path, [1])

    def full(file):
        file.write(b"half of i")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="disk is full"):
        write_atomically(path, full)
    assert json.loads(path.read_text()) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["findings.json"]


def test_arrays_are_written_without_pickle(tmp_path):
    run = RunDirectory(tmp_path, INPUTS)
    run.write_arrays("gallery/a.npz", images=np.zeros((2, 3), np.uint8), names=np.array(["x", "y"]))
    with np.load(tmp_path / "gallery" / "a.npz", allow_pickle=False) as kept:
        assert kept["names"].tolist() == ["x", "y"]


def test_r4_a_folder_in_the_place_of_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".", "..", str(tmp_path)):
        with pytest.raises(InputError, match="is a folder: give a file in it"):
            write_json(Path(name), {})


def test_c6_names_make_files_of_their_own():
    names = ["站点=甲", "站点=乙", "μέγεθος", "her2=+", "her2=-", "x" * 240 + "=a", "x" * 240 + "=b"]
    files = [slug(name) for name in names]
    assert len(set(files)) == len(names)
    assert all(len(file) <= 110 and file.isascii() for file in files)
    assert [slug(name) for name in ("tag", "site=A / 3T", "age high")] == ["tag", "site-A-3T", "age-high"]


def test_c6_a_result_of_a_long_name_is_kept(tmp_path):
    run = RunDirectory(tmp_path / "run", {})
    assert run.cached("usage", "x" * 300, {}, lambda: 1) == 1
    assert run.cached("usage", "x" * 300, {}, lambda: 2) == 1


def test_arrays_of_a_piece_lie_beside_it_and_are_made_again_with_it(tmp_path):
    made = []

    def compute():
        made.append(1)
        return {"a": float("nan")}, {"scores": np.arange(3) / 7}

    for _ in range(2):
        run = RunDirectory(tmp_path / "run", {"model": "m"})
        run.update()
        value, arrays = run.cached_with_arrays("probe", "layer1", {"seed": 0}, compute)
        assert value == {"a": None}
        np.testing.assert_array_equal(arrays["scores"], np.arange(3) / 7)
    assert len(made) == 1
    beside = next((tmp_path / "run" / "stages" / "probe").glob("*.npz"))
    beside.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="delete it"):
        run.cached_with_arrays("probe", "layer1", {"seed": 0}, compute)
    beside.unlink()
    run.cached_with_arrays("probe", "layer1", {"seed": 0}, compute)
    assert len(made) == 2


def test_the_log_says_what_was_done_and_how_it_ended(tmp_path):
    run = RunDirectory(tmp_path / "run", {"model": "a"})

    def interrupted():
        with run.logged():
            run.log("before there is a run")
            assert not (tmp_path / "run" / "log.txt").exists()
            run.update({})
            run.warn("two\nlines")
            with run.stage("scan"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    run = RunDirectory(tmp_path / "run", {"model": "a"})
    with run.logged():
        run.finish([])
        run.log("a finished run gets none")
    lines = (tmp_path / "run" / "log.txt").read_text().splitlines()
    words = [line.split(" ", 2)[2] for line in lines]
    assert words[0].startswith("begins, shortcutscope ")
    assert [word.split(",")[0] for word in words] == [
        "begins", "before there is a run", "warning: two lines", "scan: running", "scan: interrupted",
        "interrupted", "begins", "finished",
    ]  # fmt: skip
