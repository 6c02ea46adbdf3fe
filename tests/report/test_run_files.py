"""A report is refused, with the stage to run, when its run cannot carry it."""

from __future__ import annotations

import pandas as pd
import pytest

from shortcutscope.errors import InputError
from shortcutscope.report.run_files import STAGES, interval, mapping, number, read_run


def test_reads_a_finished_run(finished_run):
    files = read_run(finished_run)
    assert [f["name"] for f in files.findings] == ["tag", "scanner noise", "sex", "room", "operator"]
    assert set(files.profile["concept"]) == {"tag", "scanner noise", "sex", "room"}
    assert files.gallery("scanner noise").name == "scanner-noise.npz"
    assert files.gallery("room") is None


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        read_run(tmp_path / "nowhere")


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match=r"holds no run\.json.*shortcutscope audit"):
        read_run(tmp_path)


@pytest.mark.parametrize("stage", STAGES)
def test_an_unfinished_stage_is_named(run_dir, change_json, stage):
    change_json(run_dir / "run.json", lambda run: run["stages"][stage].update(state="interrupted"))
    with pytest.raises(InputError, match=rf"'{stage}' is interrupted.*goes on at '{stage}'"):
        read_run(run_dir)


def test_the_first_stage_that_was_never_started_is_named(run_dir, change_json):
    change_json(run_dir / "run.json", lambda run: [run["stages"].pop(s) for s in ("usage", "extent")])
    with pytest.raises(InputError, match="'usage' is not started"):
        read_run(run_dir)


@pytest.mark.parametrize("name", ["findings.json", "profile.parquet"])
def test_a_missing_file_is_named(run_dir, name):
    (run_dir / name).unlink()
    with pytest.raises(InputError, match=name):
        read_run(run_dir)


def test_broken_files_are_named(run_dir):
    (run_dir / "profile.parquet").write_bytes(b"PAR1 is how it starts, no more")
    with pytest.raises(InputError, match=r"profile\.parquet is damaged, or not a table"):
        read_run(run_dir)
    (run_dir / "findings.json").write_text("[{", encoding="utf-8")
    with pytest.raises(InputError, match=r"findings\.json is damaged, or not JSON"):
        read_run(run_dir)


def test_a_table_that_is_no_profile(run_dir):
    pd.DataFrame({"a": [1]}).to_parquet(run_dir / "profile.parquet")
    with pytest.raises(InputError, match=r"lacks the columns \['concept', 'layer'\]"):
        read_run(run_dir)


def test_nulls_are_unknown_and_zero_is_known():
    assert number(0) == 0.0
    assert number(True) is None
    assert number(float("inf")) is None
    assert interval([0, 1]) == (0.0, 1.0)
    assert interval([None, 1]) is interval(None) is interval([1]) is None
    assert mapping(None) == {}
