"""The report as data: complete, plain, and tolerant of everything that may be unknown."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from shortcutscope.report.html import render
from shortcutscope.report.summary import MAX_DRAWN, MAX_PROFILE_ROWS, summarize


@pytest.fixture(scope="module")
def report(finished_run):
    return summarize(finished_run)


def by_name(report, name):
    return next(f for f in report["findings"] if f["name"] == name)


def test_is_pure_data(report):
    assert json.loads(json.dumps(report, allow_nan=False))["title"] == "torchvision:resnet18"


def test_shortcuts_come_first_and_the_headline_names_them(report):
    assert [f["kind"] for f in report["findings"]] == [
        "shortcut", "shortcut", "encoded", "absent", "untestable",
    ]  # fmt: skip
    assert report["headline"] == (
        "2 of 4 tested concepts are shortcuts: tag and scanner noise. 1 more could not be tested."
    )


def test_cost_is_shown_for_shortcuts_only(report):
    assert by_name(report, "tag")["cost"]["text"] == "27"
    assert by_name(report, "sex")["cost"] is None


def test_the_three_questions_carry_their_evidence(report):
    encoded, used, associated = by_name(report, "sex")["checks"]
    assert (encoded["value"], used["value"], associated["value"]) == (True, False, False)
    assert "0.81" in encoded["text"]
    assert "layer4.1" in encoded["text"]
    assert "threshold 0.20" in used["text"]
    assert "audited data" in associated["text"]


def test_the_untestable_finding_says_why_and_claims_nothing(report):
    finding = by_name(report, "operator")
    assert "only 3 of 1200 samples" in finding["sentence"]
    assert finding["checks"] == []
    assert not finding["drawn"]


def test_carriers_are_named_by_class(report):
    classes = by_name(report, "tag")["association"]["classes"]
    assert [(c["label"], c["text"].replace("\xa0", " ")) for c in classes] == [
        ("normal", "6 %"),
        ("pneumonia", "94 %"),
    ]


def test_warnings_and_assumptions_are_sentences(run_dir, change_json):
    change_json(run_dir / "run.json", lambda run: run.update(warnings=["2 images were left out, as asked"]))
    assert summarize(run_dir)["warnings"] == ["2 images were left out, as asked."]


def test_a_gallery_that_was_not_finished_is_a_warning(run_dir, change_json):
    change_json(run_dir / "run.json", lambda run: run["stages"]["gallery"].update(state="interrupted"))
    assert any("gallery stage is interrupted" in text for text in summarize(run_dir)["warnings"])


def test_heatmaps_have_a_cell_for_every_layer(report):
    maps = report["heatmaps"]
    assert maps["concepts"] == ["tag", "scanner noise", "sex", "room"]
    assert len(maps["layers"]) == 9
    assert all(len(row) == 9 for key in ("auroc", "null_high", "use") for row in maps[key])
    assert maps["threshold"] == 0.2


def test_a_layer_without_a_measurement_is_an_empty_cell(run_dir):
    frame = pd.read_parquet(run_dir / "profile.parquet")
    frame = frame[~((frame["concept"] == "tag") & (frame["layer"] == "layer2.0"))]
    frame.to_parquet(run_dir / "profile.parquet")
    report = summarize(run_dir)
    position = report["heatmaps"]["layers"].index("layer2.0")
    assert report["heatmaps"]["auroc"][0][position] is None
    assert report["heatmaps"]["auroc"][1][position] is not None


def test_zones_come_from_the_settings_and_may_be_absent(run_dir, change_json):
    assert summarize(run_dir)["zones"] == {"lit_above": 0.6, "localized_below": 0.35, "diffuse_above": 0.65}
    change_json(run_dir / "run.json", lambda run: run["settings"].pop("extent"))
    assert summarize(run_dir)["zones"] is None


def test_profile_sorts_layers_by_depth_and_unknown_as_empty(run_dir):
    frame = pd.read_parquet(run_dir / "profile.parquet")
    frame.loc[0, "use"] = float("nan")
    frame.to_parquet(run_dir / "profile.parquet")
    profile = summarize(run_dir)["profile"]
    labels = [c["label"] for c in profile["columns"]]
    assert [row[1]["sort"] for row in profile["rows"][:9]] == list(range(9))
    assert profile["rows"][0][labels.index("use U")] == {"text": "–", "sort": ""}


def test_provenance_shortens_fingerprints_and_keeps_them_whole(report):
    provenance = report["provenance"]
    model = provenance["fingerprints"][0]
    assert model["full"] == "9f2c" * 16
    assert model["full"].startswith(model["short"])
    assert provenance["total"] == "1 min 13 s"
    assert provenance["skipped"] == [{"sample": "img-0812", "reason": "truncated PNG file"}]
    assert {"label": "extent.localized_below", "value": "0.35"} in provenance["settings"]


def nothing_known(value):
    """The same structure with every number and text but names and verdicts null."""
    if isinstance(value, dict):
        kept = ("name", "verdict", "state")
        return {k: v if k in kept else nothing_known(v) for k, v in value.items()}
    if isinstance(value, list):
        return [nothing_known(v) for v in value]
    return None


def test_everything_unknown_is_still_a_report(run_dir):
    for name in ("run.json", "findings.json"):
        content = nothing_known(json.loads((run_dir / name).read_text()))
        (run_dir / name).write_text(json.dumps(content))
    frame = pd.read_parquet(run_dir / "profile.parquet")
    numeric = frame.select_dtypes("number").columns
    frame[numeric] = float("nan")
    frame.to_parquet(run_dir / "profile.parquet")
    text = json.dumps(summarize(run_dir), allow_nan=False)
    assert not re.search(r"\b(None|nan)\b", text)
    assert "finding-4" in render(run_dir)


def test_keys_that_are_missing_are_still_a_report(run_dir):
    stages = json.loads((run_dir / "run.json").read_text())["stages"]
    (run_dir / "run.json").write_text(json.dumps({"stages": stages}))
    (run_dir / "findings.json").write_text(json.dumps([{"name": "x", "verdict": "shortcut"}]))
    pd.DataFrame({"concept": ["x"], "layer": ["l"]}).to_parquet(run_dir / "profile.parquet")
    report = summarize(run_dir)
    render(run_dir)
    assert report["title"] == "model"
    assert report["findings"][0]["effect"][0]["value"] is None


def test_many_concepts_are_capped_with_a_note(run_dir, change_json):
    def many(findings):
        template = next(f for f in findings if f["name"] == "room")
        findings += [{**template, "name": f"room {i}"} for i in range(40)]

    change_json(run_dir / "findings.json", many)
    frame = pd.read_parquet(run_dir / "profile.parquet")
    room = frame[frame["concept"] == "room"]
    more = [room.assign(concept=f"room {i}") for i in range(40)]
    pd.concat([frame, *more, *more]).to_parquet(run_dir / "profile.parquet")
    report = summarize(run_dir)
    assert len(report["heatmaps"]["concepts"]) == MAX_DRAWN
    assert report["heatmaps"]["note"].startswith("Showing the first 30 of 44 tested concepts")
    assert sum(f["drawn"] for f in report["findings"]) == MAX_DRAWN - 1  # one of them is not testable
    assert len(report["profile"]["rows"]) == MAX_PROFILE_ROWS
    assert len(report["cards"]) == 3
    assert [line["kind"] for line in report["lines"]] == ["absent", "untestable"]
    assert "room 39" in report["lines"][0]["text"]
    assert len(report["rest"]) == 42


def test_more_cards_than_fit_are_folded_shortcuts_never(run_dir, change_json):
    def many(findings):
        template = next(f for f in findings if f["name"] == "sex")
        findings += [{**template, "name": f"sex {i}"} for i in range(40)]

    change_json(run_dir / "findings.json", many)
    report = summarize(run_dir)
    assert report["folded_text"] == "31 more: 31 encoded, not used"
    assert len(report["cards"]) + len(report["folded"]) == 43
