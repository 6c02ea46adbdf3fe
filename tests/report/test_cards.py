"""The first page in words: one entry a column, what is not encoded in a line, and what to do next."""

from __future__ import annotations

import shlex

import pytest
from typer.main import get_command

from shortcutscope.cli import COMMANDS, _app
from shortcutscope.masks.manifest import MANIFEST
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.report.cards import advice, arrange, next_steps, place_of
from shortcutscope.report.html import render
from shortcutscope.report.masks import summarize_masks


def finding(name, kind="absent", column="", verdict=None):
    verdict = verdict or {"absent": "not encoded", "shortcut": "shortcut"}.get(kind, kind)
    return {"id": name, "name": name, "kind": kind, "label": kind, "column": column, "verdict": verdict}


def test_levels_of_a_column_share_an_entry():
    rooms = [finding(f"room={level}", column="room") for level in "ABC"]
    sites = [finding(f"site={level}", "shortcut", "site") for level in "XY"]
    arranged = arrange([*sites, finding("age high", column="age"), *rooms])
    assert [(card["name"], card["also"]) for card in arranged["cards"]] == [("site=X", ["Y"])]
    assert [line["text"] for line in arranged["lines"]] == ["age high and room (A, B, C)."]
    assert len(arranged["rest"]) == 4


def test_only_what_is_localized_has_a_place():
    cells = [[0.9, 0.5, 0.5, 0.5], *[[0.5] * 4] * 3]
    found = {"evidence": {"cell_map": cells}, "extent": "localized"}
    assert place_of(found) == {"top": "0.0%", "left": "0.0%", "height": "25.0%", "width": "25.0%"}
    assert place_of({**found, "extent": "diffuse"}) is None


def test_steps_name_what_the_run_has_not_done_yet():
    effect = {"robust_auroc": {"value": 0.2, "n": 31}, "aligned_auroc": {"value": 0.9}}
    tag = {"name": "a tag", "verdict": "shortcut", "extent": "localized", "effect": effect}
    commands = [step["command"] for step in next_steps([tag], ())]
    assert commands[:3] == [
        "shortcutscope retrieve RUN 'a tag' --csv hits.csv --page hits.html",
        "shortcutscope annotate RUN 'a tag'",
        "shortcutscope pixels RUN 'a tag'",
    ]
    seen = {"word": "confirmed", "way": "transfer", "how": "low frequencies"}
    by_pixels = [step["command"] for step in next_steps([{**tag, "pixels": seen}], ())]
    assert by_pixels[2] == "shortcutscope debias RUN --finding 'a tag' --data TRAIN.csv"
    first, *_ = next_steps([], ["more images"])
    assert first == {"text": "More images", "command": ""}
    done = next_steps([{**tag, "pixels": {"word": "confirmed"}}], (), ["a tag"], ["a tag"])
    assert len(done) == 1
    assert "in 20\xa0% of pairs; where it agrees, in 90\xa0% (31 images" in advice([tag], ())[0]
    assert "no general clearance" in advice([{**tag, "verdict": "not encoded"}], ())[0]
    assert "cannot be said" in advice([], ("more images",))[0]


def test_masks_are_on_the_page_and_a_damaged_set_says_so(run_dir):
    assert summarize_masks(run_dir) == []
    mask = [[0, 1, 1], [0, 0, 0]]
    with MaskWriter(run_dir / "masks" / "tag", "tag") as writer:
        writer.append("img-0001", mask)
    shown = summarize_masks(run_dir)[0]
    assert {"label": "masks", "value": "1"} in shown["facts"]
    assert [picture["caption"] for picture in shown["pictures"]] == ["where they lie", "img-0001"]
    assert 'data-test="panel-masks"' in render(run_dir)
    assert len(MaskSet.open(run_dir / "masks" / "tag").silhouettes()) == 2
    (run_dir / "masks" / "tag" / MANIFEST).write_text("{")
    assert summarize_masks(run_dir)[0]["text"]


@pytest.mark.parametrize("pixels", [{}, {"word": "confirmed", "way": "transfer", "how": "one gamma"}])
def test_steps_can_be_run_as_they_stand(pixels):
    app = get_command(_app(list(COMMANDS)))
    tag = {"name": "a tag", "verdict": "shortcut", "extent": "localized", "pixels": pixels}
    for step in [*next_steps([tag], ()), *next_steps([], ())]:
        _, name, *words = shlex.split(step["command"])
        command = app.commands[name]
        command.make_context(name, [w.removeprefix("RUN") or "." for w in words], resilient_parsing=False)
