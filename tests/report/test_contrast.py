"""The contrast sheet: names, pictures beside each other and means, on the page and as a figure."""

import json

import numpy as np
import pytest

import shortcutscope as ss
from shortcutscope.audit.appearance.contrast import ContrastSheet
from shortcutscope.errors import InputError
from shortcutscope.report import wording
from shortcutscope.report.charts.contrast import draw_contrast, draw_sheet
from shortcutscope.report.contrast import read_contrast, summarize_appearance
from shortcutscope.report.html import render
from shortcutscope.report.summary import summarize

NAME = {"word": "darker", "numbers": "mean grey 0.45 against 0.63", "property": "mean grey", "auroc": 0.03}
ROW = {"property": "mean grey", "auroc": 0.03, "effect": -2.0, "carriers": 0.45, "others": 0.63}
APPEARANCE = {
    "names": [NAME],
    "why": "",
    "p": 0.001,
    "carriers": 60,
    "others": 70,
    "properties": [ROW, {**ROW, "property": "file_jpeg_quality", "auroc": 0.8, "carriers": None}],
}


def sheet(kind="image", **other):
    rng = np.random.default_rng(0)
    shape = {"image": (20, 24), "volume": (20, 24, 3), "signal": (40, 480)}[kind]
    pictures = [rng.integers(0, 255, (3, *shape), np.uint8) for _ in range(2)]
    means = {"image": (16, 18), "volume": (16, 18, 3), "signal": (2, 60)}[kind]
    plain = {
        "carriers": pictures[0],
        "others": pictures[1],
        "carrier_ids": ("a", "b", "c<i>"),
        "other_ids": ("d", "", "f"),
        "labels": np.array([0, 1, 7]),
        "mean_carriers": rng.random(means),
        "mean_others": rng.random(means),
        "kind": kind,
    }
    return ContrastSheet(**{**plain, **other})


def written(path, contrast):
    np.savez(path, **contrast.arrays())
    return path


@pytest.mark.parametrize("kind", ["image", "volume", "signal"])
def test_a_sheet_is_pictures_in_pairs(tmp_path, kind):
    path = written(tmp_path / "x.npz", sheet(kind, carrier_patches=np.ones((3, 5, 5), np.uint8)))
    drawn = draw_sheet(path, ["healthy"], "x")
    assert [pair["label"] for pair in drawn["pairs"]] == ["healthy", "class 1", "class 7"]
    assert [pair["other"] is None for pair in drawn["pairs"]] == [False, True, False]
    assert (drawn["means"] is None) == (kind == "signal")
    assert "<svg" in drawn["bar"]
    assert len(read_contrast(path, [])["pairs"]) == 3


@pytest.mark.parametrize("kind", ["image", "volume", "signal"])
def test_it_is_a_figure_of_the_same(tmp_path, kind):
    patches = np.ones((3, 5, 5), np.uint8)
    one_side = {"mean_others": np.zeros((0, 0))} if kind == "volume" else {}
    part = {"carrier_patches": patches, "other_patches": patches} if kind == "image" else {}
    figure = draw_contrast(sheet(kind, **one_side, **part), title="$x$ & y", classes=["healthy"])
    figure.savefig(tmp_path / "x.png", dpi=30)
    axes = [ax for sub in figure.subfigs for ax in sub.axes]
    assert axes[0].get_title() == "healthy"


def test_one_side_alone_has_no_difference(tmp_path):
    drawn = draw_sheet(written(tmp_path / "x.npz", sheet(mean_others=np.zeros((0, 0)))), [], "x")
    assert drawn["means"] is None
    assert drawn["bar"] is None


def test_a_damaged_sheet_is_refused_with_the_mend(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="run the same audit again"):
        read_contrast(tmp_path / "x.npz", [])


def test_names_in_words_and_figures():
    assert wording.looks({"appearance": APPEARANCE}) == "darker: mean grey 0.45 against 0.63"
    assert wording.looks({}) == ""
    assert wording.title({"name": "x", "origin": "discovered", "appearance": APPEARANCE}) == "x (darker)"
    assert wording.title({"name": "x", "origin": "metadata", "appearance": APPEARANCE}) == "x"
    assert summarize_appearance({}) is None
    said = summarize_appearance({"appearance": APPEARANCE})
    assert said["names"][0]["auroc"] == "0.97"
    assert said["counts"] == "60 with it against 70 without it"
    assert said["properties"][1] == {
        "property": "jpeg quality",
        "word": "higher JPEG quality",
        "carriers": "–",
        "others": "1",
        "auroc": "0.80",
    }


def test_the_page_and_the_audit_say_it_and_older_runs_open(run_dir, change_json):
    assert {f["looks"] for f in summarize(run_dir)["findings"]} == {""}
    with pytest.raises(InputError, match="adds them"):
        ss.Audit.open(run_dir).findings[0].plot_contrast()

    def name_first(findings):
        findings[0] |= {"origin": "discovered", "appearance": APPEARANCE}
        findings[1]["appearance"] = {**APPEARANCE, "names": [], "why": "nothing <b>tells</b>"}

    change_json(run_dir / "findings.json", name_first)
    (run_dir / "contrast").mkdir()
    written(run_dir / "contrast" / "tag.npz", sheet())
    page = render(run_dir)
    assert "mean grey 0.45 against 0.63" in page
    assert "nothing &lt;b&gt;tells&lt;/b&gt;" in page
    assert page.count('data-test="contrast"') == 1
    assert "c&lt;i&gt;" in page
    audit = ss.Audit.open(run_dir)
    assert "tag (darker: mean grey 0.45 against 0.63): shortcut" in repr(audit)
    assert audit["tag"].looks == wording.looks(json.loads((run_dir / "findings.json").read_text())[0])
    assert audit.to_frame()["looks"].iloc[0] == audit["tag"].looks
    html = audit["tag"]._repr_html_()
    assert "darker: mean grey" in html
    assert "data:image/png" in html
    assert html != audit.findings[1]._repr_html_()
