"""``shortcutscope embeddings``: exit codes, names of encoders and heads, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shortcutscope.cli import main

FEW = ["--permutations", "60", "--bootstrap", "20", "--label", "diagnosis"]
QUICK = [*FEW, "--corrections", "none"]
N, D = 240, 6


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code, and what was printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main(["embeddings", *map(str, arguments)])
    shown = capsys.readouterr()
    return int(leaving.value.code or 0), " ".join((shown.out + shown.err).split())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embeddings")
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, N)
    site = np.where(rng.random(N) < 0.8, label, 1 - label)
    features = rng.normal(size=(N, D))
    features[:, 0] += 1.5 * label
    features[:, 1] += 3 * site
    ids = np.array([f"s{k}" for k in range(N)])
    order = rng.permutation(N)
    np.savez(folder / "uni.npz", features=features[order], sample_id=ids[order])
    frame = pd.DataFrame({"sample_id": ids, "diagnosis": label, "site": site, "ward": label})
    frame.to_csv(folder / "table.csv", index=False)
    for name, weights in (("leans", [1, 1, 0, 0, 0, 0]), ("stands", [1, 0, 0, 0, 0, 0])):
        np.savez(folder / f"{name}.npz", weight=np.array([weights], float), bias=[-1.0])
    return folder


@pytest.mark.parametrize(
    ("head", "column", "code"), [("leans", "site", 2), ("stands", "site", 0), ("stands", "ward", 3)]
)
def test_exit_codes_are_those_of_an_audit(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], head: str, column: str, code: int
) -> None:
    given = [files / "uni.npz", files / "table.csv", "--concepts", column, "--head", files / f"{head}.npz"]
    left, shown = run(capsys, *given, "--out", tmp_path / "run", *QUICK)
    assert left == code
    assert "rows were matched by sample_id" in shown
    stored = json.loads((tmp_path / "run" / "embeddings.json").read_text())
    assert [e["name"] for e in stored["encoders"]] == ["uni"]
    assert "<h1" in (tmp_path / "run" / "report.html").read_text()


def test_several_encoders_have_names_and_heads_of_their_own(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = files / "uni.npz", tmp_path / "run"
    given = [f"a={file}", files / "table.csv", "--beside", f"b={file}", "--concepts", "site"]
    heads = ["--head", f"a={files / 'leans.npz'}", "--head", f"b={files / 'stands.npz'}"]
    code, shown = run(capsys, *given, *heads, "--out", out, *QUICK)
    assert code == 2
    assert "a: verdicts" in shown
    verdicts = {
        e["name"]: e["findings"][0]["verdict"]
        for e in json.loads((out / "embeddings.json").read_text())["encoders"]
    }
    assert verdicts == {"a": "shortcut", "b": "encoded, not used"}


def test_what_cannot_be_used_is_refused_before_anything_is_written(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, table = files / "uni.npz", files / "table.csv"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    for arguments, text in (
        ([file, table, "--out", tmp_path / "full", *QUICK], "is not empty and holds no embeddings.json"),
        ([file, table, "--beside", file, "--out", tmp_path / "run", *QUICK], "two encoders are called 'uni'"),
        (
            [file, table, "--out", tmp_path / "run", *FEW, "--corrections", "combat"],
            "no correction 'combat'",
        ),
        ([file, table, "--head", file, "--out", tmp_path / "run", *QUICK], "no weights among"),
        ([file, "--out", tmp_path / "run", *QUICK], "no labels are given"),
    ):
        code, shown = run(capsys, *arguments)
        assert code == 1
        assert text in shown
    assert not (tmp_path / "run").exists()
