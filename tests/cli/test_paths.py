"""Runs, reports and lists hold no folders and no patients, unless asked."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import save_file

from shortcutscope.cli import main
from shortcutscope.planting.thin import thin_resnet18

SECRETS = ("mueller", "p-4711-x", "clinic")


def command(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


def leaks(folder, words=SECRETS):
    """Files below a folder that hold one of the words."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        text = path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":  # statistics need the patients
            text = pd.read_parquet(path).drop(columns="group", errors="ignore").to_csv()
        if path.suffix == ".npz":
            with np.load(path) as kept:
                text += " ".join(str(kept[name].tolist()) for name in kept if kept[name].dtype.kind == "U")
        found += [f"{path.name}: {word}" for word in words if word in text]
    return [
        one for one in found if not one.startswith(("origin.json", "audit.toml"))
    ]  # say where the data are


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """Images in a folder a patient, with a bright corner as tag."""
    folder = tmp_path_factory.mktemp("clinic")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(80):
        pixels = rng.normal(110, 30, (32, 32))
        tag = i // 2 % 2
        pixels[1:6, 24:31] += 130 * tag
        name = f"mueller_p-4711-x_{i // 2}/{i}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
        rows.append({"image": name, "label": i % 2, "tag": tag, "group": f"mueller_{i // 2}"})
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    save_file(thin_resnet18(width=4, seed=0).state_dict(), folder / "net.safetensors")
    return folder


def audit(clinic, out, *words):
    options = ("--model-kwargs", '{"width": 4}', "--num-classes", 2, "--permutations", 50, "--bootstrap", 20)
    return command(
        *("audit", "shortcutscope.planting.thin:thin_resnet18", clinic / "images.csv", "--out", out),
        *("--weights", clinic / "net.safetensors", "--concepts", "tag", "--size", 32, *options, *words),
    )


def test_r7_nothing_of_a_run_names_files_or_patients(clinic, tmp_path):
    run = tmp_path / "run"
    assert audit(clinic, run) in (0, 2, 3)
    assert leaks(run) == []
    told = json.loads((run / "run.json").read_text())["command"]
    assert "images.csv" in told
    assert str(tmp_path) not in told
    (tmp_path / "marks.csv").write_text(
        "image,mark\n" + "".join(f"mueller_p-4711-x_1/{i}.png,1\n" for i in (2, 3))
    )
    words = [
        "retrieve",
        run,
        "tag",
        "--csv",
        tmp_path / "out" / "hits.csv",
        "--marks",
        tmp_path / "marks.csv",
    ]
    assert command(*words) == 0
    hits = pd.read_csv(tmp_path / "out" / "hits.csv")
    assert {"group", "image"}.isdisjoint(hits.columns)
    assert leaks(tmp_path / "out") == []
    assert leaks(run) == []
    assert command(*words, "--keep-paths", "--no-images") == 1  # the run does not know them
    assert command(*words, "--keep-paths") == 0
    assert pd.read_csv(tmp_path / "out" / "hits.csv")["image"].str.startswith("mueller_p-4711-x").all()


@pytest.mark.slow
def test_r7_names_are_kept_where_asked(clinic, tmp_path):
    run = tmp_path / "run"
    assert audit(clinic, run, "--keep-paths") in (0, 2, 3)
    assert str(clinic) in json.loads((run / "run.json").read_text())["command"]
    assert command("retrieve", run, "tag", "--csv", tmp_path / "hits.csv", "--keep-paths") == 0
    hits = pd.read_csv(tmp_path / "hits.csv")
    assert hits["image"].str.startswith("mueller_p-4711-x").all()
    assert "group" in hits
