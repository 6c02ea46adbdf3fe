"""Later commands take model and data from the run, and refuse what was not audited."""

import json
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import small_study
from command_line import run
from PIL import Image, ImageOps

from shortcutscope.cli import main
from shortcutscope.cli.options import DataOptions, ModelOptions
from shortcutscope.cli.origin import FILE, origin_of

AUDIT = ("--concepts", "tag", "--permutations", "50", "--bootstrap", "20", "--mean", "0.3", "--std", "0.25")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Files, and an audit of them made by the command line from their own folder."""
    folder = tmp_path_factory.mktemp("origin")
    small_study.write_files(folder, 120, n_train=60)
    before = Path.cwd()
    os.chdir(folder)
    try:
        with pytest.raises(SystemExit) as leaving:
            main(["audit", small_study.FACTORY, "images.csv", "--out", "run", *AUDIT])
    finally:
        os.chdir(before)
    assert leaving.value.code in (0, 2, 3)
    return folder


@pytest.fixture
def study(made, tmp_path):
    """A copy that a test may change; the run still names the folder of the first."""
    shutil.copytree(made, tmp_path / "study")
    return tmp_path / "study"


def test_what_a_run_was_made_from_lies_apart_from_what_is_shown(made):
    origin = json.loads((made / "run" / FILE).read_text())
    assert origin["data"] == str(made / "images.csv")
    assert origin["reading"]["mean"] == "0.3"
    for name in ("findings.json", "report.html"):
        assert str(made) not in (made / "run" / name).read_text()


def test_commands_ask_for_nothing_that_the_run_knows(made, capsys, tmp_path):
    drawing = ("--out", tmp_path / "masks", "--picture", tmp_path / "masks.png")
    code, out, _ = run(capsys, "annotate", made / "run", "tag", *drawing)
    assert code == 0
    assert f"picture: {tmp_path / 'masks.png'}" in out
    with Image.open(tmp_path / "masks.png") as picture:
        assert min(picture.size) > 300
    hits = ("--csv", tmp_path / "h.csv", "--page", tmp_path / "h.html")
    code, out, _ = run(capsys, "retrieve", made / "run", "tag", *hits)
    assert code == 0
    assert "hits" in out
    assert len(pd.read_csv(tmp_path / "h.csv")) == 120
    code, _, err = run(capsys, "debias", made / "run", "--finding", "tag", "--recipe", "erm", "--epochs", 1)
    assert code == 0, err
    code, _, err = run(capsys, "compare", made / "run", "--finding", "tag")
    assert code in (0, 2, 3), err


def test_later_commands_decode_nothing_that_a_cache_knows(study, capsys, tmp_path, monkeypatch):
    cache, hits = ("--cache", tmp_path / "cache"), ("--csv", tmp_path / "hits.csv")
    assert run(capsys, "annotate", study / "run", "tag", "--out", tmp_path / "masks", *cache)[0] == 0
    monkeypatch.setattr("shortcutscope.data.sources.read_image", pytest.fail)
    assert run(capsys, "retrieve", study / "run", "tag", *hits, *cache)[0] == 0
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    code, _, err = run(capsys, "retrieve", study / "run", "tag", *hits, "--cache", tmp_path / "notes")
    assert (code, "no folder of decoded images" in err) == (1, True)


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        (("--mean", "0.5"), "transform: Normalize"),
        (("--std", "0.5"), "transform: Normalize"),
        (("--size", "12"), "images"),
        (("--mode", "RGB"), "images"),
        (("--value-range", "0", "255"), "images: their range is 0 to 255 now, 0 to 1 in the run"),
    ],
)
def test_r3_another_way_of_reading_is_refused_by_every_command(made, capsys, tmp_path, typed, named):
    for command in (
        ("annotate", made / "run", "tag", "--out", tmp_path / "masks"),
        ("retrieve", made / "run", "tag", "--csv", tmp_path / "hits.csv"),
        ("debias", made / "run", "--finding", "tag", "--recipe", "erm", "--epochs", "1"),
    ):
        code, _, err = run(capsys, *command, *typed)
        assert code == 1, command[0]
        assert f"- {named}" in err.replace("\n", " ").replace("  ", " ") or f"- {named}" in err, command[0]
    assert not (tmp_path / "masks").exists()
    assert not (tmp_path / "hits.csv").exists()


def invert(study):
    for path in (study / "images").iterdir():
        ImageOps.invert(Image.open(path)).save(path)


def swap(study):
    frame = pd.read_csv(study / "images.csv")
    frame.assign(label=1 - frame["label"]).to_csv(study / "images.csv", index=False)


@pytest.mark.parametrize(("change", "named"), [(invert, "images: "), (swap, "labels: ")])
def test_r3_other_images_and_labels_are_refused_by_every_command(study, capsys, tmp_path, change, named):
    change(study)
    for command in (
        ("annotate", study / "run", "tag", "--out", tmp_path / "masks"),
        ("retrieve", study / "run", "tag", "--csv", tmp_path / "hits.csv"),
        ("debias", study / "run", "--finding", "tag", "--recipe", "erm", "--epochs", "1"),
    ):
        code, _, err = run(capsys, *command, "--data", study / "images.csv")
        assert code == 1, command[0]
        assert f"- {named}" in err, command[0]


def test_data_that_are_gone_are_asked_for(study, capsys, tmp_path):
    origin = json.loads((study / "run" / FILE).read_text())
    (study / "run" / FILE).write_text(json.dumps(origin | {"data": str(tmp_path / "gone" / "images.csv")}))
    hits = ("--csv", tmp_path / "hits.csv")
    code, _, err = run(capsys, "retrieve", study / "run", "tag", *hits)
    assert code == 1
    assert "is not there any more: give --data" in err
    assert run(capsys, "retrieve", study / "run", "tag", *hits, "--no-images")[0] == 0
    assert run(capsys, "retrieve", study / "run", "tag", *hits, "--data", study / "images.csv")[0] == 0


def test_a_run_from_python_says_what_it_needs(study, capsys):
    (study / "run" / FILE).unlink()
    code, _, err = run(capsys, "annotate", study / "run", "tag")
    assert (code, "give --model" in err) == (1, True)
    code, _, err = run(capsys, "annotate", study / "run", "tag", "--model", small_study.FACTORY)
    assert (code, "give --data" in err) == (1, True)


def test_debias_without_known_training_samples_asks_for_them(study, capsys):
    frame = pd.read_csv(study / "images.csv")
    frame[frame["split"] == "test"].drop(columns="split").to_csv(study / "images.csv", index=False)
    origin = json.loads((study / "run" / FILE).read_text())
    (study / "run" / FILE).write_text(json.dumps(origin | {"data": str(study / "images.csv")}))
    code, _, err = run(capsys, "debias", study / "run", "--finding", "tag", "--recipe", "erm")
    assert code == 1
    assert "no training samples: give --data" in err


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("debias", "--recipe", ""), "--recipe is empty"),
        (("debias", "--recipe", ","), "--recipe is empty"),
        (("debias", "--recipe", "erm,nope"), "one or several, comma-separated, of recommended, all, erm"),
        (("debias", "--start", "modle"), "--start modle; allowed are model, fresh"),
        (("debias", "--lr", "nan"), "--lr nan; it must be a number above 0"),
        (("debias", "--epochs", "0"), "--epochs 0"),
        (("debias", "--seed", "-1"), "--seed -1; it must be a whole number from 0"),
        (("annotate", "tag", "--threshold", "7"), "--threshold '7' is not allowed"),
        (("annotate", "tag", "--threshold", "nan"), "--threshold 'nan' is not allowed"),
        (("annotate", "tag", "--workers", "-1"), "--workers -1; it must be a whole number"),
        (("annotate", "tag", "--method", "magic"), "--method magic; allowed are fusion, clarc"),
        (("annotate", "tag", "--picture", "masks.jpg"), "--picture 'masks.jpg' must end in .png"),
    ],
)
def test_r11_options_of_later_commands_are_looked_at_first(capsys, tmp_path, typed, told):
    command, *rest = typed
    code, _, err = run(capsys, command, tmp_path / "no run", *rest)
    assert code == 1
    assert told in err


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("--bootstrap", "0"), "--bootstrap 0; it must be a whole number of at least 20"),
        (("--permutations", "10"), "--permutations 10; it must be a whole number of at least 50"),
        (("--seed", "-1"), "--seed -1"),
        (("--batch-size", "0"), "--batch-size 0; it must be a whole number of at least 1"),
        (("--workers", "-1"), "--workers -1"),
        (("--cache-gb", "0"), "--cache-gb 0.0; it must be a number above 0"),
        (("--task", "regression"), "--task regression; allowed are auto"),
        (("--precision", "fp8"), "--precision fp8"),
        (("--positive", "9"), "positive=9: no audited sample has that label; there are 0, 1"),
        (("--concepts", ""), "--concepts is empty"),
        (("--size", "0"), "--size 0"),
        (("--dims", "4"), "--dims 4"),
        (("--mean", "nan", "--std", "1"), "mean must be finite"),
    ],
)
def test_r11_audit_options_are_looked_at_before_a_folder_is_made(made, capsys, tmp_path, typed, told):
    code, _, err = run(
        capsys, "audit", small_study.FACTORY, made / "images.csv", "--out", tmp_path / "run", *typed
    )
    assert code == 1
    assert told in err.replace("\n", " ")
    assert not (tmp_path / "run").exists()


def test_r11_a_folder_that_cannot_be_made_is_refused_first(made, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    data = (small_study.FACTORY, made / "images.csv")
    inside, long = tmp_path / "file" / "run", tmp_path / ("x" * 300)
    for out, told in ((inside, "is a file, not a folder"), (long, "too long")):
        code, shown, err = run(capsys, "audit", *data, "--out", out, *AUDIT)
        assert code == 1
        assert told in err.replace("\n", " ")
        assert "scan" not in shown + err
    if os.geteuid() and sys.platform != "win32":
        (tmp_path / "locked").mkdir(mode=0o500)
        code, _, err = run(capsys, "audit", *data, "--out", tmp_path / "locked" / "run")
        assert (code, "access" in err) == (1, True)


def test_another_manifest_is_read_below_the_root_of_the_run(study, tmp_path):
    path = study / "run" / FILE
    kept = json.loads(path.read_text())
    kept["reading"]["root"] = str(study)
    path.write_text(json.dumps(kept))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    manifest = elsewhere / "train.csv"
    shutil.copy(study / "images.csv", manifest)

    def root():
        return origin_of(study / "run", None, ModelOptions(), manifest, DataOptions()).reading.root

    assert root() == study
    first = elsewhere / pd.read_csv(manifest)["image"][0]
    first.parent.mkdir(exist_ok=True)
    shutil.copy(study / pd.read_csv(manifest)["image"][0], first)
    assert root() is None  # beside the manifest, they are meant
