"""Bystanders: what is listed, how it is counted, and one real case (slow)."""

from pathlib import Path

import numpy as np
import pytest

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import bystanders
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import artifact_mask
from shortcutscope.probes.together.held_fixed import phi_within


def settings(tmp_path: Path, quick: bool = False) -> Settings:
    return Settings(quick=quick, seed=0, data=None, cache=tmp_path, jobs=1)


def test_enough_networks_are_listed(tmp_path):
    listed = bystanders.cases(settings(tmp_path))
    networks = {(c["task"], tuple(c["kinds"]), c["seed"]) for c in listed}
    assert len(networks) == 16
    assert len({str(c) for c in listed}) == len(listed) == 26
    assert {c["phi"] for c in listed if c["group"] == "many"} == set(bystanders.PHI)
    drawn = {kind for c in listed for kind in (*c["kinds"], c["bystander"])} - {"column"}
    assert drawn <= set(CATALOGUE)
    assert not any(c["bystander"] in c["kinds"] for c in listed)
    assert len(bystanders.cases(settings(tmp_path, quick=True))) == 2


@pytest.mark.parametrize(("group", "bystander"), [("many", "column"), ("pair", "ruler")])
def test_a_bystander_occurs_with_the_cause_as_often_as_is_asked(group, bystander):
    table = radiographs(800, size=32, seed=1)
    case = {"group": group, "kinds": ["tag"], "seed": 3, "phi": 0.5, "bystander": bystander}
    audited, truth = bystanders._audited(case, table)
    other = "bystander" if bystander == "column" else bystander
    assert truth == {"tag": True, other: bystander != "column"}
    labels = audited.frame["label"].to_numpy()
    values = [audited.frame[name].to_numpy(float) for name in ("tag", other)]
    assert phi_within(*values, labels) == pytest.approx(0.5, abs=0.1)
    assert values[0][labels == 1].mean() == pytest.approx(0.7, abs=0.01)
    if bystander != "column":
        row = int(np.flatnonzero(values[1] == 1)[0])
        assert artifact_mask(audited, row, bystander).any()
    else:
        assert len(bystanders._further(audited, case)) == 8


def concept(guilty, alone, verdict, differ, statement=None):
    row = {"guilty": guilty, "alone": alone, "verdict": verdict, "differ": differ, "n_differ": 100}
    return {**row, "statement": statement}


def test_every_concept_that_is_a_shortcut_alone_is_counted():
    called = "shortcut"
    rows = [
        concept(True, called, called, None, "beyond"),
        concept(True, called, called, 90, "cannot be told apart from"),
        concept(False, called, "explained by another concept", 90, "explained by"),
        concept(False, called, called, 90),
        concept(False, called, called, 12, "cannot be told apart from"),
        concept(False, "encoded, not used", "encoded, not used", 90),
        concept(None, called, called, 90),
    ]
    summary = bystanders.summarize([{"group": "pair", "concepts": rows}])["pair"]
    assert summary["guilty"] == {"alone": 2, "accused": 1, "cannot be told": 1}
    assert summary["innocent"] == {"alone": 2, "accused": 1, "cannot be told": 0}
    assert summary["innocent, fewer than 40 differ"] == {"alone": 1, "accused": 0, "cannot be told": 1}


@pytest.mark.slow
def test_a_quick_case_runs(tmp_path):
    chosen = settings(tmp_path, quick=True)
    result = bystanders.run_case(bystanders.cases(chosen)[0], chosen)
    said = {row["name"]: row for row in result["concepts"]}
    assert said["tag"]["guilty"]
    assert said["bystander"]["guilty"] is False
