"""The check as a stage of an audit, in its record, its report and its estimate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import shortcutscope as ss
from shortcutscope.audit.audited_data import ConceptRequest
from shortcutscope.audit.preprocessing import check as checking
from shortcutscope.audit.stages import estimate_audit
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.report.preprocessing import draw_readings, summarize_preprocessing
from shortcutscope.report.summary import summarize

FEW = ss.Statistics(60, 40)


@pytest.fixture(scope="module")
def table() -> ss.ImageTable:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"label": np.arange(60) % 2, "tag": rng.integers(0, 2, 60)})
    return ss.ImageTable.from_arrays(rng.random((60, 1, 16, 16), dtype=np.float32), frame)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return thin_resnet18(width=2)


def test_an_auroc_that_is_not_met_is_said_by_the_audit(
    table: ss.ImageTable, model: torch.nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = ss.TrainingData(expected_auroc=1.0)
    options = {"concepts": ["tag"], "present": {"tag": "1"}, "train": train, "statistics": FEW}
    audit = ss.audit(model, table, tmp_path / "run", **options)
    kept = audit.run["preprocessing"]
    assert kept["expected_auroc"] == 1.0
    assert kept["n_images"] == 60
    assert len(kept["readings"]) > 8
    said = [text for text in audit.run["warnings"] if "an AUROC of 1.00 was expected" in text]
    assert len(said) == 1
    assert said[0] in caplog.text
    assert audit.run["stages"]["preprocessing"]["state"] == "done"
    report = summarize(audit.path)["preprocessing"]
    assert {row["reading"] for row in report["rows"]} >= {"as given", "values 0 to 255"}
    page = audit.report().read_text()
    assert 'data-test="preprocessing"' in page
    assert "values 0 to 255" in page
    figure = draw_readings(checking.PreprocessingCheck.from_json(kept))
    assert len(figure.axes[0].get_yticklabels()) == len(kept["readings"])


def test_small_audits_leave_it_out_and_say_so() -> None:
    why = {"preprocessing": {"not_made": "a twentieth of a scan allows too few"}}
    assert "was not tried: a twentieth of a scan" in summarize_preprocessing(why)["note"]
    assert summarize_preprocessing({}) == {"note": "", "rows": []}


def test_large_audits_pay_for_it(
    table: ss.ImageTable, model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "FEWEST_IMAGES", 30)
    monkeypatch.setattr(checking, "SHARE", 40.0)
    request = ConceptRequest(["tag"], {"tag": "1"})
    cost = estimate_audit(model, table, request=request, statistics=FEW)
    assert cost.stages["preprocessing"] > 0
    audit = ss.audit(model, table, tmp_path / "run", concepts=["tag"], present={"tag": "1"}, statistics=FEW)
    assert audit.run["preprocessing"]["n_images"] == 60
    again = ss.audit(model, table, tmp_path / "run", concepts=["tag"], present={"tag": "1"}, statistics=FEW)
    assert again.run["preprocessing"] == audit.run["preprocessing"]


def test_what_cannot_be_paid_is_left_out(table: ss.ImageTable, model: torch.nn.Module) -> None:
    from shortcutscope.models.frozen import frozen
    from shortcutscope.models.heads.head import Head

    with frozen(model) as lent:
        made = checking.compared_readings(lent, table, Head(link="identity", outputs=2), passes=60 * 4)
    assert len(made.readings) == 4
    assert set(made.not_tried.values()) == {"left out: the check may cost a twentieth of the scan"}


def test_an_auroc_that_none_can_have_is_refused() -> None:
    with pytest.raises(ss.InputError, match="expected_auroc=90; it must be a number"):
        ss.TrainingData(expected_auroc=90)
