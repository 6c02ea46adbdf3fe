"""What an audit as a whole concludes, and how the command line ends."""

import importlib
from dataclasses import replace
from types import SimpleNamespace

import pytest

from shortcutscope import cli
from shortcutscope.audit.conclusion import conclude_audit as conclude_records
from shortcutscope.facade import Finding

NO_SCREEN = {}


def conclude_audit(findings, run):
    return conclude_records([f.to_dict() for f in findings], run)


def finding(name, verdict="not encoded", source="training split", phi=0.0, shares=None, p=0.5, gap=None):
    return Finding(
        name=name,
        origin="metadata",
        description="",
        verdict=verdict,
        reason="because",
        association={
            "phi": phi,
            "p": p,
            "source": source,
            "positive": 1,
            "carriers_by_class": shares or {"0": 0.5, "1": 0.5},
        },
        effect={"auroc_gap": gap} if gap else {},
    )


def untested(name, negative, positive, p=1e-9):
    return finding(name, "not testable", "audited data", 0.9, {"0": negative, "1": positive}, p)


def test_u16_nothing_is_found_where_something_could_have_been():
    concluded = conclude_audit([finding("tag"), finding("sex", "encoded, not used")], NO_SCREEN)
    assert (concluded.outcome, concluded.exit_code, concluded.undecided) == ("nothing found", 0, ())
    assert "in the training samples" in concluded.assumption


def test_u16_a_used_concept_of_unknown_association_is_not_decided():
    used = "encoded and used, not associated"
    concluded = conclude_audit([finding("tag", used, "audited data")], NO_SCREEN)
    assert (concluded.outcome, concluded.exit_code) == ("not decided", 3)
    assert "depends on tag" in concluded.undecided[0]
    assert "Give the training samples" in concluded.undecided[0]
    assert "were not given" in concluded.assumption
    assert conclude_audit([finding("tag", used, "training split")], NO_SCREEN).outcome == "nothing found"
    grey = replace(finding("picture_mean_grey high", used, "audited data"), origin="picture")
    (of_columns, of_images) = conclude_audit(
        [grey, finding("tag", used, "audited data")], NO_SCREEN
    ).undecided
    assert "depends on tag" in of_columns
    assert of_images.endswith("Give the training samples with their images, of which it is measured")


def test_u16_what_tells_the_label_and_could_not_be_tested_comes_first():
    findings = [
        finding("sex"),
        finding("tag", "encoded and used, not associated", "audited data"),
        untested("width", 0.02, 1.0),
        untested("colour mode", 0.1, 0.8),
        untested("rare", 0.0, 0.03),
    ]
    concluded = conclude_audit(findings, NO_SCREEN)
    assert concluded.exit_code == 3
    first = concluded.undecided[0]
    assert first.startswith("the label is determined by width (0.98 of 1) and colour mode (0.70 of 1)")
    assert "nothing can be concluded" in first
    assert "rare" not in first


def test_u16_a_column_of_many_levels_counts_as_a_whole():
    sites = [untested(f"site={k}", 0.2 * (k < 5), 0.2 * (k >= 5), 1e-4) for k in range(10)]
    assert "determined by site (1.00 of 1)" in conclude_audit(sites, NO_SCREEN).undecided[0]
    chance = [untested(f"site={k}", 0.2 * (k < 5), 0.2 * (k >= 5), 0.3) for k in range(10)]
    assert "determined" not in conclude_audit(chance, NO_SCREEN).undecided[0]


def test_u16_a_column_that_is_no_concept_counts_if_it_tells_the_label():
    run = {"metadata": {"columns": [{"column": "uid prefix", "cramers_v": 0.95, "q": 0.001}]}}
    assert "uid prefix" in conclude_audit([finding("sex")], run).undecided[0]
    run["metadata"]["columns"][0] |= {"column": "sex"}
    assert conclude_audit([finding("sex")], run).outcome == "nothing found"


def test_u16_shortcuts_decide_and_what_is_open_is_said_beside_them():
    concluded = conclude_audit([finding("tag", "shortcut"), untested("width", 0.0, 1.0)], NO_SCREEN)
    assert (concluded.outcome, concluded.exit_code) == ("shortcuts found", 2)
    assert len(concluded.undecided) == 1


@pytest.mark.parametrize(("interval", "code"), [((-0.01, 0.02), 0), ((-0.01, 0.3), 3)])
def test_s4_a_cost_that_may_be_large_is_open(interval, code):
    gap = {"value": 0.01, "interval": interval, "n": 20}
    listed = [finding("tag", "encoded and used, no cost measured", gap=gap)]
    assert conclude_audit(listed, NO_SCREEN).exit_code == code


def test_a_picture_property_is_not_decided_and_an_explained_concept_is():
    concluded = conclude_audit([finding("mean grey", "encoded and used, a picture property")], NO_SCREEN)
    assert (concluded.outcome, concluded.exit_code) == ("not decided", 3)
    assert "acquisition or disease" in concluded.undecided[0]
    assert conclude_audit([finding("room", "explained by another concept")], NO_SCREEN).exit_code == 0


def test_u16_nothing_tested_decides_nothing():
    assert conclude_audit([untested("tag", 0.5, 0.5, 1.0)], NO_SCREEN).exit_code == 3
    assert conclude_audit([], NO_SCREEN).exit_code == 0


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([finding("tag")], 0),
        ([finding("tag", "shortcut")], 2),
        ([untested("width", 0.0, 1.0)], 3),
    ],
)
def test_u16_the_command_ends_with_the_code_of_the_conclusion(findings, code, monkeypatch, capsys, tmp_path):
    concluded = conclude_audit(findings, NO_SCREEN)
    done = SimpleNamespace(
        findings=findings,
        conclusion=concluded,
        undecided=concluded.undecided,
        shortcuts=[f for f in findings if f.verdict == "shortcut"],
        outputs={},
        run={},
        attribution="gradient",
        path=tmp_path,
        report=lambda **_: tmp_path / "report.html",
    )
    auditing = importlib.import_module("shortcutscope.cli.auditing")
    monkeypatch.setattr(auditing, "open_table", lambda *_, **__: None)
    monkeypatch.setattr(auditing, "with_roles", lambda *_, **__: None)
    monkeypatch.setattr(auditing, "open_model", lambda *_, **__: None)
    monkeypatch.setattr("shortcutscope.facade.audit", lambda *_, **__: done)
    with pytest.raises(SystemExit) as left:
        cli.main(["audit", "timm:resnet18", "images.csv", "--out", str(tmp_path / "run")])
    assert (left.value.code or 0) == code
    said = capsys.readouterr().out
    assert "assumed: " in " ".join(said.split())
    if code == 3:
        assert said.startswith("not decided: the label is determined by width")


def test_s5_labels_to_check_first_are_no_shortcut_and_not_decided():
    suspect = replace(
        finding("discovered 1", "encoded and used, may be the label"), samples={"doubtful_label": ["a", "b"]}
    )
    concluded = conclude_audit([suspect], NO_SCREEN)
    assert (concluded.outcome, concluded.exit_code) == ("not decided", 3)
    assert concluded.undecided[0].startswith("check these labels first: discovered 1 may be")
    assert "the 2 samples" in concluded.undecided[0]
    assert "with right labels, or, if they are right, with a column" in concluded.undecided[0]
    assert conclude_audit([suspect, finding("tag", "shortcut")], NO_SCREEN).exit_code == 2


def test_what_was_seen_on_the_pixels_is_in_the_conclusion():
    seen = {"word": "confirmed", "directions": {"without": {"flips": 0.51}, "with": {"flips": 0.31}}}
    used = replace(finding("grey", "used on the pixels, a picture property"), pixels=seen)
    concluded = conclude_audit([used], NO_SCREEN)
    assert (concluded.outcome, concluded.exit_code) == ("not decided", 3)
    assert "the network uses grey (51% of the predictions flip)" in concluded.undecided[0]
    assert "remains to be judged" in concluded.undecided[0]
    assert conclude_audit([finding("frame", "used on the pixels")], NO_SCREEN).exit_code == 3
    open_ = replace(finding("tag", "shortcut"), pixels={"word": "not confirmed"})
    concluded = conclude_audit([open_], NO_SCREEN)
    assert concluded.exit_code == 2
    assert "not confirmed on the pixels" in concluded.undecided[0]
