"""Several labels on the command line: the audit, and what goes on from the run of one output."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from command_line import run
from safetensors.torch import save_file
from several_labels import FACTORY, LABELS, labelled, trained, write_files

from shortcutscope.cli import main
from shortcutscope.cli.inputs import head_of, open_table
from shortcutscope.cli.options import DataOptions, HeadOptions
from shortcutscope.errors import InputError

COLUMNS = ("--label", ",".join(LABELS), "--group", "group", "--value-range", "0", "1")
FEW = ("--permutations", "50", "--bootstrap", "20")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images and manifests, a network that leans on the tag, and its audit."""
    folder = tmp_path_factory.mktemp("several")
    train = labelled(500, 0.95, 0)
    write_files(folder, labelled(120, 0.5, 1, unknown=0.03), "val")
    write_files(folder, train.take(range(100)), "train")
    network = trained(train, epochs=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, "weights.safetensors")
        with pytest.raises(SystemExit) as leaving:
            main(["audit", FACTORY, "val.csv", "--weights", "weights.safetensors", "--out", "run",
                  "--concepts", "tag", "--train-data", "train.csv", "--discover",
                  *COLUMNS, *FEW])  # fmt: skip
    assert leaving.value.code in (0, 2, 3)
    return folder


def test_the_audit_says_what_each_output_uses(folder):
    top = (folder / "run" / "report.html").read_text()
    for name in LABELS:
        page = folder / "run" / "outputs" / name.replace(" ", "-") / "report.html"
        assert page.exists()
        assert os.path.relpath(page, folder / "run") in top
    assert top.count('data-test="cell"') == 3 * 3
    search = json.loads((folder / "run" / "discovery.json").read_text())
    assert set(search["by_output"]) == set(LABELS)
    assert len([note for note in search["notes"] if "relevances" in note]) == 1
    assert 'data-test="search"' in top
    findings = json.loads((folder / "run" / "findings.json").read_text())
    assert {f["output"] for f in findings} == set(LABELS)


@pytest.mark.slow
def test_later_commands_go_on_from_the_run_of_one_output(folder, capsys, tmp_path):
    one = folder / "run" / "outputs" / "Edema"
    origin = json.loads((one / "origin.json").read_text())
    assert origin["reading"]["only_label"] == "Edema"
    code, _, err = run(capsys, "retrieve", one, "tag", "--csv", tmp_path / "h.csv")
    assert code == 0, err
    known = int(pd.read_csv(folder / "val.csv")["Edema"].notna().sum())
    assert len(pd.read_csv(tmp_path / "h.csv")) == known
    code, _, err = run(capsys, "annotate", one, "tag", "--out", tmp_path / "masks")
    assert code == 0, err
    code, _, err = run(capsys, "debias", one, "--finding", "tag", "--recipe", "erm", "--epochs", 1)
    assert code == 0, err
    code, _, err = run(capsys, "compare", one, "--finding", "tag")
    assert code in (0, 2, 3), err


def test_the_pages_of_the_outputs_are_progress(folder, capsys, tmp_path):
    page = tmp_path / "all.html"
    code, said, progress = run(capsys, "report", folder / "run", "--out", page)
    assert (code, said.split()) == (0, [str(page)])
    assert progress.startswith("report: 0 % of all done")


def test_of_all_outputs_one_has_to_be_chosen(folder, capsys, tmp_path):
    commands = {
        "retrieve": ("tag", "--csv", tmp_path / "h.csv"),
        "annotate": ("tag",),
        "debias": ("--recipe", "erm"),
    }
    for command in ((name, folder / "run", *rest) for name, rest in commands.items()):
        code, _, err = run(capsys, *command)
        assert code == 1
        assert "run/outputs/Edema" in err


def test_what_several_labels_cost_is_told_beforehand(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    code, out, err = run(
        capsys, "audit", FACTORY, "val.csv", "--weights", "weights.safetensors", "--out", tmp_path / "run",
        *COLUMNS, *FEW, "--dry-run",
    )  # fmt: skip
    assert code == 0, err
    assert "nothing was written" in out


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"uncertain": "positive"}, "--uncertain is for several labels"),
        ({"label": "Edema,Nonsense"}, "Nonsense"),
        ({"label": "Edema,Mass", "blank": "positive"}, "blank='positive'"),
        ({"label": "tag,group,coin"}, "label column 'group' holds"),
        ({"label": "tag", "labels_in_cells": "Mass"}, "no cell of 'tag'"),
        ({"label": "Edema,Mass", "only_label": "x"}, "no label 'x'"),
    ],
)
def test_impossible_labels_are_refused(folder: Path, options, match):
    with pytest.raises(InputError, match=match):
        open_table(folder / "val.csv", DataOptions(**options))


def test_outputs_are_tied_as_typed():
    head = head_of(HeadOptions(outputs="Edema=3, Mass=mass"))
    assert head.labels == {"Edema": 3, "Mass": "mass"}
    with pytest.raises(InputError, match="--outputs"):
        head_of(HeadOptions(outputs="Edema"))
