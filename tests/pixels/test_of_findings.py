"""A finding of a run is tested in the run: what is kept, what is refused, what the report says."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_study
from command_line import run

import shortcutscope as ss
from shortcutscope.audit.pixel_results import with_pixels
from shortcutscope.errors import InputError
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.pixels import intervening

AUDIT = ("--concepts", "tag", "--no-measure", "--permutations", "50", "--bootstrap", "20")
QUIET = {"running": ss.Running(progress=False), "statistics": ss.Statistics(n_bootstrap=40)}


def draw(folder, ids):
    corner = np.zeros((small_study.SIDE,) * 2, bool)
    corner[1:7, 1:7] = True
    with MaskWriter(folder, "tag") as writer:
        for name in ids:
            writer.append(name, corner)
    return folder


def audited(folder: Path) -> None:
    from shortcutscope.cli import main

    before = Path.cwd()
    os.chdir(folder)
    try:
        with pytest.raises(SystemExit) as leaving:
            main(["audit", small_study.FACTORY, "images.csv", "--out", "run", *AUDIT])
    finally:
        os.chdir(before)
    assert leaving.value.code in (0, 2, 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels")
    small_study.write_files(folder, 120)
    audited(folder)
    frame = pd.read_csv(folder / "images.csv")
    draw(folder / "masks", frame["sample_id"][frame["tag"] == 1])
    return folder


@pytest.fixture
def study(made, tmp_path):
    shutil.copytree(made, tmp_path / "study")
    return tmp_path / "study"


def opened(folder):
    return ss.Audit.open(folder / "run")["tag"], ss.ImageTable.from_csv(folder / "images.csv")


def test_a_finding_is_tested_in_its_run(study, capsys):
    code, out, err = run(
        capsys, "pixels", study / "run", "tag", "--masks", study / "masks", "--bootstrap", 40
    )
    assert code == 0, err
    assert "confirmed, erase by convolution" in out
    finding, _ = opened(study)
    assert finding.pixels["word"] == "confirmed"
    assert finding.pixel_test.responses[0].excess == finding.pixels["directions"]["without"]["excess"]
    assert "confirmed on the pixels" in repr(ss.Audit.open(study / "run"))
    page = (study / "run" / "report.html").read_text()
    for part in ("card-pixels", "pixels-table", "pixel-pairs", "Confirmed on the pixels"):
        assert part in page
    assert str(study) not in (study / "run" / "pixels" / "tag.json").read_text()


def test_the_same_audit_again_keeps_what_was_tested(study, capsys):
    finding, data = opened(study)
    finding.intervene(small_study.tag_reader(), data, masks=study / "masks", **QUIET)
    before = (study / "run" / "findings.json").read_text()
    audited(study)
    assert (study / "run" / "findings.json").read_text() == before
    path = study / "run" / "pixels" / "tag.json"
    other = json.loads(path.read_text())
    path.write_text(json.dumps({**other, "counts": {"known": 3, "carriers": 1}}))
    findings = [{k: v for k, v in one.items() if k != "pixels"} for one in json.loads(before)]
    assert with_pixels(study / "run", findings) == findings


def test_an_interrupted_test_goes_on(study, monkeypatch):
    finding, data = opened(study)
    calls = []
    real = intervening.Margins.__call__

    def counted(self, edited):
        images = list(edited)
        calls.append(len(images))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, images)

    monkeypatch.setattr(intervening.Margins, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        finding.intervene(small_study.tag_reader(), data, masks=study / "masks", **QUIET)
    assert not (study / "run" / "pixels").exists()
    first = finding.intervene(small_study.tag_reader(), data, masks=study / "masks", **QUIET)
    done = len(calls)
    again = finding.intervene(small_study.tag_reader(), data, masks=study / "masks", **QUIET)
    assert len(calls) == done
    assert again.to_dict() == first.to_dict()


def test_other_models_other_data_and_missing_masks_are_refused(made):
    finding, data = opened(made)
    model = small_study.tag_reader()
    with pytest.raises(InputError, match="holds no masks"):
        finding.intervene(model, data, masks=made / "nowhere", **QUIET)
    with pytest.raises(InputError, match="draw them"):
        finding.intervene(model, data, intervening=ss.Intervening(way="erase"), **QUIET)
    with pytest.raises(InputError, match="those that were audited"):
        finding.intervene(model, data.with_transform(ss.Normalize(0.1, 2)), masks=made / "masks", **QUIET)
    with pytest.raises(InputError, match="leave it out"):
        finding.intervene(model, data, masks=made / "masks", statistics=ss.Statistics(positive=0))
    model.fc.weight.data += 1
    with pytest.raises(InputError, match="not the model"):
        finding.intervene(model, data, masks=made / "masks", **QUIET)


def test_what_is_given_elsewhere_leaves_the_run_alone(study):
    finding, data = opened(study)
    before = (study / "run" / "findings.json").read_text()
    finding.intervene(small_study.tag_reader(), data, masks=study / "masks", out=study / "out", **QUIET)
    assert ss.PixelTest.open(study / "out" / "tag.json").confirmed
    assert (study / "run" / "findings.json").read_text() == before
    assert opened(study)[0].pixel_test is None
