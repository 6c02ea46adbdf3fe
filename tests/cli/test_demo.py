"""The demo finds what it planted, leaves what a user needs to go on, and judges itself from the findings."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from shortcutscope.cli import main
from shortcutscope.cli.demonstration import CONTROLS, PLANTED, DemoSize, check, make_tables, run_demo
from shortcutscope.cli.demonstration_unlearning import Unlearned
from shortcutscope.facade import Audit
from shortcutscope.planting.artifacts import get_artifact

SMALL = DemoSize(images=700, epochs=5, permutations=60, bootstrap=30)


@pytest.fixture(scope="module")
def shown() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, shown: io.StringIO) -> tuple[Audit, Any, Unlearned]:
    out = tmp_path_factory.mktemp("demo")
    return run_demo(out, size=SMALL, console=Console(file=shown, width=160), progress=False)


@pytest.fixture(scope="module")
def demo(told: tuple[Audit, Any, Unlearned]) -> Audit:
    return told[0]


@pytest.mark.parametrize("name", PLANTED)
def test_planted_shortcut_is_called_one_with_its_extent(demo: Audit, name: str) -> None:
    assert demo[name].verdict == "shortcut"
    assert demo[name].extent == get_artifact(name).extent
    assert demo[name].association["source"] == "training split"


def test_controls_are_not_accused(demo: Audit) -> None:
    controls = [f for f in demo.findings if f.name not in PLANTED]
    assert {c for c in CONTROLS if any(f.name.startswith(c) for f in controls)} == set(CONTROLS)
    assert all(f.verdict != "shortcut" for f in controls)


def test_it_says_where_to_look_and_how_to_repeat(demo: Audit, shown: io.StringIO) -> None:
    text = shown.getvalue()
    assert text.count("│ as planted") == len(demo.findings)
    assert str(demo.path / "report.html") in text
    assert (demo.path / "report.html").exists()
    command = next(line for line in text.splitlines() if line.startswith("shortcutscope audit"))
    with pytest.raises(SystemExit) as leaving:
        main([*shlex.split(command)[1:], "--dry-run"])
    assert leaving.value.code == 0


def test_it_goes_on_to_masks_a_student_and_the_comparison(
    told: tuple[Audit, Any, Unlearned], shown: io.StringIO
) -> None:
    found, _, mended = told
    assert mended.masks is not None
    assert (found.path / "masks" / "tag" / "overlay.png").exists()
    assert mended.student.path is not None
    assert (mended.student.path / "metrics.json").exists()
    assert [n["name"] for n in mended.comparison.networks] == ["before", mended.student.recipe]
    rows = mended.comparison.frame
    robust = rows[rows["metric"].eq("robust_auroc")].set_index("network")["value"]
    assert robust[mended.student.recipe] > robust["before"]
    assert "Before and after" in (found.path / "report.html").read_text()
    typed = [line for line in shown.getvalue().splitlines() if line.startswith("shortcutscope ")]
    assert [line.split()[1] for line in typed] == ["audit", "annotate", "debias", "compare"]


def test_files_are_what_a_user_would_have(demo: Audit) -> None:
    data = demo.path.parent / "data"
    frame = pd.read_csv(data / "images.csv")
    assert {"image", "sample_id", "label", "split", "group", *PLANTED, *CONTROLS} <= set(frame.columns)
    assert all((data / name).exists() for name in frame["image"])
    assert (data / "model.safetensors").exists()


def test_disagreement_is_said_and_not_hidden() -> None:
    missed = SimpleNamespace(name="tag", verdict="encoded, not used", extent="localized")
    wrong = SimpleNamespace(name="noise", verdict="shortcut", extent="localized")
    accused = SimpleNamespace(name="sex=F", verdict="shortcut", extent="undetermined")
    checks = check(SimpleNamespace(findings=(missed, wrong, accused)))
    assert [c.agrees for c in checks] == [False, False, False]


def test_no_patient_is_in_both_tables_and_artifacts_are_independent_within_class() -> None:
    parts = make_tables(1400, seed=4)
    groups = [set(table.frame["group"]) for table in parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert len(parts["clean"]) == pytest.approx(0.1 * 800, rel=0.2)
    frame = parts["train"].frame
    for label, share in ((0, 0.05), (1, 0.95)):
        carriers = frame[frame["label"] == label][list(PLANTED)]
        assert carriers.mean().to_numpy() == pytest.approx(np.full(2, share), abs=0.01)
        both = carriers.all(axis=1).mean()
        assert both == pytest.approx(share**2, abs=0.04)
    for name in ("clean", "audited", "test"):
        shares = parts[name].frame.groupby("label")[list(PLANTED)].mean().to_numpy()
        assert shares == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_full_demo_agrees_with_what_was_planted(tmp_path: Path, seed: int) -> None:
    _, checks, _ = run_demo(tmp_path, seed=seed, console=Console(quiet=True), progress=False)
    assert all(c.agrees for c in checks), checks
