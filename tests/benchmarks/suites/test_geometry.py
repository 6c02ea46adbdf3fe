"""The suite of signals and volumes."""

from pathlib import Path

import numpy as np
import pytest

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import geometry
from shortcutscope.benchmarks.suites.geometry import KINDS, cases, make_planted, overlaps, run_case, summarize


def settings(quick=False):
    return Settings(quick=quick, seed=5, data=None, cache=Path("unused"), jobs=1)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(geometry, "TRAINED", 80)
    monkeypatch.setattr(geometry, "AUDITED", 60)


def test_every_kind_is_run_with_every_seed():
    listed = cases(settings())
    assert len({tuple(case.values()) for case in listed}) == len(listed) == 3 * len(KINDS)
    assert {case["seed"] for case in listed} == {5, 6, 7}
    assert len(cases(settings(quick=True))) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_patients_are_apart_and_the_truth_is_where_carriers_changed(small, kind):
    made = make_planted(kind, 50, epochs=1)
    train, held_out = made.train.frame, made.held_out.frame
    assert not set(train["group"]) & set(held_out["group"])
    towards = train.groupby("label")[made.column].mean()
    assert towards[1] - towards[0] > 0.6
    carrier = made.carriers[0]
    other = next(row for row in range(len(held_out)) if row not in made.carriers)
    assert made.truth(made.held_out, carrier).any()
    assert not made.truth(made.held_out, other).any()


def test_overlaps_are_those_of_exact_masks():
    made = make_planted("defective_lead", 50, epochs=1)
    rows = made.carriers[:3]

    class Exact:
        def mask(self, name):
            row = int(np.flatnonzero(made.held_out.frame["sample_id"] == name)[0])
            return made.truth(made.held_out, row).numpy()

    assert overlaps(made, Exact(), rows) == [1.0, 1.0, 1.0]


@pytest.mark.slow
def test_a_defective_lead_is_found_placed_and_drawn(monkeypatch):
    monkeypatch.setattr(geometry, "DRAWN", 12)
    found = run_case(cases(settings())[0], settings())
    assert (found["called"], found["verdict"]) == ("shortcut", "localized")
    assert found["iou"] > 0.9
    assert summarize([{**cases(settings())[0], **found}])["defective_lead"]["right"] == 1


def test_the_summary_counts_verdicts():
    case = {"called": "shortcut", "cpu_seconds": 2.0}
    finished = [
        {**case, "kind": "morphology", "verdict": "localized", "iou": 0.4},
        {**case, "kind": "morphology", "verdict": "undetermined", "iou": 0.6},
        {**case, "kind": "intensity", "verdict": "localized", "called": "encoded, not used"},
    ]
    summary = summarize(finished)
    assert set(summary) == {"morphology", "intensity"}
    morphology = summary["morphology"]
    assert (morphology["right"], morphology["undetermined"], morphology["wrong"]) == (1, 1, 0)
    assert morphology["iou"] == pytest.approx(0.5)
    assert (summary["intensity"]["wrong"], summary["intensity"]["called_shortcut"]) == (1, 0)
