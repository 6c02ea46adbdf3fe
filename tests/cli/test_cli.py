"""The command line as a user or a pipeline meets it: exit codes, messages, inputs of every kind."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import run

from shortcutscope.audit.audited_data import AuditedData
from shortcutscope.audit.measured import measured_data
from shortcutscope.benchmarks.runner import Suite
from shortcutscope.cli import main
from shortcutscope.cli.inputs import open_table, open_training_columns, with_roles
from shortcutscope.cli.options import DataOptions
from shortcutscope.data.table import ImageTable, Normalize
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.planting.study import MODEL, Study, write_study
from shortcutscope.planting.thin import thin_resnet18

QUICK = ["--permutations", "60", "--bootstrap", "20"]


class Brightness(torch.nn.Module):
    """Scores nothing but how bright the image is: what it uses is known without training."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.Sequential(
            torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Conv2d(1, 4, 1)), torch.nn.Identity()
        )
        self.fc = torch.nn.Linear(4, 2)
        with torch.no_grad():
            self.blocks[0][1].weight.fill_(1.0)
            self.blocks[0][1].bias.zero_()
            self.fc.weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
            self.fc.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.blocks(x).mean((2, 3)))


def brightness_model(num_classes: int = 2) -> Brightness:
    return Brightness()


@pytest.fixture(scope="module")
def tables() -> dict[str, ImageTable]:
    """Phantoms with a tint that goes with the class in training and not in the held-out samples."""
    table = radiographs(360, size=32, seed=3, patients=False)
    tint = get_artifact("white_tint", strength=2.0)
    train, test = table.take(np.arange(120)), table.take(np.arange(120, 360))
    return {
        "train": plant(train, tint, correlation=0.95, column="tint"),
        "test": plant(test, tint, prevalence={0: 0.5, 1: 0.5}, column="tint", seed=1),
    }


@pytest.fixture(scope="module")
def study(tables: dict[str, ImageTable], tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("study"), brightness_model(), tables, progress=False)


@pytest.fixture
def brightness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """MODEL argument that makes :class:`Brightness`, from a module that a user wrote."""
    source = Path(__file__).read_text()
    body = source[source.index("class Brightness") : source.index("@pytest.fixture")]
    (tmp_path / "users_model.py").write_text("import torch\n\n\n" + body)
    monkeypatch.syspath_prepend(tmp_path)
    return "users_model:brightness_model"


def test_audit_finds_the_shortcut_and_exits_with_2(
    capsys: pytest.CaptureFixture[str], study: Study, brightness: str, tmp_path: Path
) -> None:
    code, out, err = run(
        capsys,
        *("audit", brightness, study.manifest, "--out", tmp_path / "run", "--weights", study.weights),
        *("--mean", "0.45", "--std", "0.25", "--concepts", "tint,sex", "--present", "sex=M", *QUICK),
    )
    assert code == 2, err
    findings = {f["name"]: f for f in json.loads((tmp_path / "run" / "findings.json").read_text())}
    assert findings["tint"]["verdict"] == "shortcut"
    assert len(findings) == 2
    assert re.search(r"tint\b.*shortcut", out)
    assert "1 shortcut found among 2 concepts" in out
    assert str(tmp_path / "run" / "report.html") in out.replace("\n", "")
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    command = shlex.split(json.loads((tmp_path / "run" / "run.json").read_text())["command"])
    assert command[:4] == ["shortcutscope", "audit", brightness, study.manifest.name]

    code, out, _ = run(capsys, "report", tmp_path / "run", "--out", tmp_path / "again.html")
    assert code == 0
    assert (tmp_path / "again.html").exists()


def test_audit_without_a_finding_exits_with_0(
    capsys: pytest.CaptureFixture[str], study: Study, brightness: str, tmp_path: Path
) -> None:
    code, out, err = run(
        capsys,
        *("audit", brightness, study.manifest, "--out", tmp_path / "run"),
        *("--mean", "0.45", "--std", "0.25", "--concepts", "sex", "--present", "sex=M", *QUICK),
    )
    assert code == 0, err
    assert "no shortcut found" in out


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["audit", "dry run"])
def test_a_damaged_comparison_of_the_run_is_refused_before_the_audit(
    capsys: pytest.CaptureFixture[str], study: Study, tmp_path: Path, more: tuple[str, ...]
) -> None:
    (tmp_path / "comparison.json").write_text("")
    code, _, err = run(capsys, "audit", MODEL, study.manifest, "--out", tmp_path, *more)
    assert code == 1
    assert "comparison.json is damaged" in err
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.json"]


def test_dry_run_tells_the_cost_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], study: Study, tmp_path: Path
) -> None:
    arguments = ("audit", MODEL, study.manifest, "--out", tmp_path / "run", "--dry-run")
    code, out, err = run(capsys, *arguments)
    assert code == 0, err
    assert re.search(r"about \d+ s, [\d.]+ [KM]iB", out)
    assert "relevance: gradient x activation" in out
    assert not (tmp_path / "run").exists()


def test_lrp_is_asked_for_by_name(
    capsys: pytest.CaptureFixture[str], study: Study, brightness: str, tmp_path: Path
) -> None:
    arguments = [
        "audit",
        brightness,
        study.manifest,
        "--out",
        tmp_path / "run",
        "--concepts",
        "sex",
        "--present",
        "sex=M",
    ]
    arguments += ["--mean", "0.45", "--std", "0.25", "--attribution", "lrp", "--strict", *QUICK]
    code, out, err = run(capsys, *arguments, "--dry-run")
    assert code == 0, err
    assert "relevance: LRP (epsilon_gamma)" in out
    code, out, err = run(capsys, *arguments)
    assert code == 0, err
    assert "relevance: LRP (epsilon_gamma)" in out
    record = json.loads((tmp_path / "run" / "run.json").read_text())["attribution"]
    assert (record["requested"], record["used"]) == ("lrp", "lrp:epsilon_gamma")


BAD = {
    "no such data": (["nowhere.csv"], "no such file"),
    "no data at all": ([__file__], "is no DATA that can be read"),
    "missing column": (["{csv}", "--label", "diagnosis"], "no column 'diagnosis'"),
    "unknown attribution": (["{csv}", "--attribution", "deeplift"], "attribution is 'deeplift'"),
    "mean without std": (["{csv}", "--mean", "0.5"], "--mean and --std go together"),
    "mean that is no number": (["{csv}", "--mean", "a", "--std", "1"], "not a number"),
    "unknown concept": (["{csv}", "--concepts", "ruler"], "ruler"),
    "unknown training split": (["{csv}", "--train-split", "fold0"], "no split 'fold0'"),
    "unknown audited split": (["{csv}", "--audit-split", "fold1"], "no split 'fold1'"),
    "keywords that are no JSON": (["{csv}", "--model-kwargs", "width=3"], "is not JSON"),
    "keywords that are no object": (["{csv}", "--model-kwargs", "[3]"], "must be a JSON object"),
    "neither raise nor skip": (["{csv}", "--on-unreadable", "ignore"], "--on-unreadable ignore"),
    "no such weights": (["{csv}", "--weights", "nowhere.pt"], "nowhere.pt"),
    "unknown layer": (["{csv}", "--layers", "encoder"], "encoder"),
    "two roles of the training data": (["{csv}", "--train-data", "{csv}", "--trained-on-these"], "same"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message_on_stderr_and_exit_code_1(
    name: str, capsys: pytest.CaptureFixture[str], study: Study, tmp_path: Path
) -> None:
    arguments, message = BAD[name]
    filled = [str(a).replace("{csv}", str(study.manifest)) for a in arguments]
    code, out, err = run(capsys, "audit", MODEL, *filled, "--out", tmp_path / "run")
    assert code == 1
    assert message in err
    assert re.search(r"^error: ", err, re.MULTILINE)
    assert "Traceback" not in out + err
    assert not (tmp_path / "run" / "findings.json").exists()


@pytest.mark.parametrize(
    "arguments", [["audit"], ["audit", "--nonsense"], ["nonsense"], ["bench", "scan", "--jobs", "none"]]
)
def test_wrong_usage_exits_with_1_and_not_with_the_code_of_a_finding(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert "Usage" in err


def test_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("shortcutscope.cli.environment.describe", broken)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_layers_lists_what_would_be_scanned(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "layers", MODEL, "--shape", "1,64,64", "--model-kwargs", '{"width": 8}')
    assert code == 0, err
    assert "9 layers" in out
    assert "blocks.7" in out
    assert "8 x 32 x 32" in out
    code, _, err = run(capsys, "layers", MODEL, "--shape", "1,a")
    assert code == 1
    assert "for example 3,224,224" in err


def test_doctor_names_versions_and_extras(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert f"torch {torch.__version__.split('+')[0]}" in re.sub(r"[\s│]+", " ", out)
    assert "jupyter" in out


def test_bench_runs_a_suite_and_writes_its_result(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def summarize(cases: list[dict]) -> dict:
        return {"total": sum(case["value"] for case in cases)}

    suite = Suite(
        "extent", lambda s: [{"n": 1}, {"n": 2}], lambda c, s: {"value": c["n"] + s.seed}, summarize, ("n",)
    )
    monkeypatch.setitem(sys.modules, "shortcutscope.benchmarks.suites.extent", SimpleNamespace(SUITE=suite))
    result = tmp_path / "result.json"
    code, _, err = run(
        capsys,
        *("bench", "extent", "--quick", "--seed", "5", "--jobs", "1"),
        *("--cache", tmp_path / "cache", "--json", result),
    )
    assert code == 0, err
    assert json.loads(result.read_text())["summary"] == {"n_cases": 2, "n_failed": 0, "total": 13}
    code, _, err = run(capsys, "bench", "everything")
    assert code == 1
    assert "scan, audit, device, attribution, faithfulness, extent, nulls" in err
    code, _, err = run(capsys, "bench", "extent", "--data", tmp_path / "nowhere")
    assert code == 1
    assert "is no folder" in err
    code, _, err = run(capsys, "bench", "extent", "--pretrained")
    assert code == 1
    message = re.sub(r"[\s│]+", " ", err)
    assert "--pretrained belongs to the suites 'debias' and 'distillation', not to 'extent'" in message


# What DATA may be


def test_image_folder_and_npz_are_data(study: Study, tmp_path: Path) -> None:
    pixels = np.arange(4 * 32 * 32, dtype=np.uint8).reshape(4, 32, 32)
    arrays = {"train_images": pixels, "train_labels": np.array([[0], [1], [0], [1]])}
    np.savez(
        tmp_path / "small.npz",
        **{k.replace("train", s): v for s in ("train", "val", "test") for k, v in arrays.items()},
    )
    assert len(open_table(tmp_path / "small.npz", DataOptions(size=16))) == 12

    frame = pd.read_csv(study.manifest)
    for row in frame.groupby("label").head(2).itertuples():
        target = tmp_path / "folder" / str(row.label) / Path(row.image).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((study.manifest.parent / row.image).read_bytes())
    table = open_table(tmp_path / "folder", DataOptions(mean="0.45", std="0.25"))
    assert len(table) == 4
    assert table.transform == Normalize(0.45, 0.25)


def test_splits_get_their_roles(study: Study) -> None:
    table = open_table(study.manifest, DataOptions())
    three = table.with_columns(split=np.where(np.arange(len(table)) % 3 == 0, "fold0", table.frame["split"]))
    assert set(with_roles(three, None, "test").frame["split"]) == {"train", "test"}
    assert set(with_roles(three, "fold0", "test").frame["split"]) == {"train", "test"}
    assert (with_roles(three, "fold0", "test").frame["split"] == "train").sum() >= len(table) // 3
    assert set(with_roles(three, None, None).frame["split"]) == {"train", "test", "fold0"}
    with pytest.raises(InputError, match="trained-on-these"):
        with_roles(three, "test", "test")


def test_training_manifest_needs_no_images(study: Study, tmp_path: Path) -> None:
    frame = pd.read_csv(study.manifest)
    named = frame.assign(image="gone/" + frame["image"], label=np.where(frame["label"] == 1, "sick", "well"))
    named[named["split"] == "train"].to_csv(tmp_path / "train.csv", index=False)
    named[named["split"] == "test"].assign(image=frame["image"]).to_csv(tmp_path / "test.csv", index=False)
    options = DataOptions(root=study.manifest.parent)
    table = open_table(tmp_path / "test.csv", options)
    train = open_training_columns(tmp_path / "train.csv", options, table)
    assert table.classes == train.classes
    assert train.frame["tint"].sum() == frame[frame["split"] == "train"]["tint"].sum()
    truth = frame.set_index("sample_id").loc[train.frame["sample_id"], "label"].to_numpy()
    assert np.array_equal(train.frame["label"].to_numpy() == train.classes.index("sick"), truth == 1)


def test_images_of_a_training_manifest_are_read_as_the_audited_ones_where_they_are(
    study: Study, tmp_path: Path
) -> None:
    options = DataOptions(size=16, mode="L", root=study.manifest.parent)
    table = open_table(study.manifest, options)
    frame = pd.read_csv(study.manifest)
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame.assign(image="gone/" + frame["image"]).to_csv(tmp_path / "absent.csv", index=False)
    train, absent = (
        open_training_columns(tmp_path / name, options, table) for name in ("train.csv", "absent.csv")
    )
    assert torch.equal(train.image(3), table.image(3))
    assert train.value_range == table.value_range
    quiet = Running(progress=False)
    for reference, read in ((train, True), (absent, False)):
        data = AuditedData(table.take(range(8)), reference.take(range(30)), "held-out")
        both = measured_data(data, data.table.measured(quiet), seed=0, running=quiet)
        assert ("picture_noise" in both.reference.frame) == read
        assert bool(both.assumptions) != read


def test_study_reads_back_as_it_was_written(study: Study, tables: dict[str, ImageTable]) -> None:
    table = study.table()
    assert len(table) == sum(map(len, tables.values()))
    test = table.where(split="test")
    assert test.frame["tint"].tolist() == tables["test"].frame["tint"].tolist()
    assert torch.allclose(test.image(5), tables["test"].image(5), atol=0.5 / 255 + 1e-6)


def test_study_needs_one_normalization(tables: dict[str, ImageTable], tmp_path: Path) -> None:
    other = {**tables, "test": tables["test"].with_transform(None)}
    with pytest.raises(InputError, match="one Normalize"):
        write_study(tmp_path, thin_resnet18(), other, progress=False)
