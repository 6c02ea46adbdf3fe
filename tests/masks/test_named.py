"""Masks by name: what is refused, and which way marks take; nothing is drawn here."""

import json

import numpy as np
import pandas as pd
import pytest
from stamped import stamped

import shortcutscope as ss
from shortcutscope.audit.identity import keep_identity
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.cli import main
from shortcutscope.errors import InputError
from shortcutscope.facade import Finding
from shortcutscope.masks import named
from shortcutscope.masks.learning import Drawing
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.retrieval.marks import Marks, marks_path
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan

QUIET = Running(progress=False)
MODEL = thin_resnet18(width=4, seed=1).eval()


@pytest.fixture(scope="module")
def made():
    return stamped(n=40, seed=2)


@pytest.fixture(scope="module")
def run(made, tmp_path_factory):
    """A run with one finding of a column."""
    path = tmp_path_factory.mktemp("named") / "run"
    path.mkdir()
    (path / "run.json").write_text("{}")
    scan(MODEL, made.table, path / "scan", scanning=Scanning(relevance=False), running=QUIET)
    ids = made.table.frame["sample_id"]
    pd.DataFrame({"sample_id": ids, "stamp": made.carries.astype(float)}).to_parquet(
        path / "concepts.parquet"
    )
    keep_identity(RunDirectory(path, {}), made.table, None)
    (path / "findings.json").write_text(
        json.dumps([Finding("stamp", "planted", "", "shortcut", "").to_dict()])
    )
    pd.DataFrame({"concept": []}).to_parquet(path / "profile.parquet")
    return path


@pytest.fixture
def drawn(monkeypatch):
    """What would be drawn, in place of drawing it."""
    calls = {}
    monkeypatch.setattr(named, "refuse_other_model", lambda *given: None)
    monkeypatch.setattr(named, "annotate_boxed", lambda *given: calls.update(boxed=given))
    monkeypatch.setattr(named, "annotate", lambda *given, **options: calls.update(concept=given[3]))
    return calls


def marks(made, boxed=True):
    ids = made.table.frame["sample_id"].tolist()
    boxes = {ids[k]: [tuple(made.boxes[k])] for k in range(6)} if boxed else None
    return Marks.of(ids[:6], ids[-6:], boxes)


def test_a_name_without_finding_and_marks_is_refused_with_what_there_is(made, run, capsys):
    with pytest.raises(InputError, match=r"no finding 'wires' in .*there are stamp.*about ten images"):
        ss.annotate(run, "wires", MODEL, made.table)
    with pytest.raises(SystemExit) as left:
        main(["annotate", str(run), "wires"])
    assert left.value.code == 1
    assert "no finding 'wires'" in " ".join(capsys.readouterr().err.split())


def test_boxes_are_kept_in_the_run_and_draw_what_is_no_finding(made, run, drawn):
    ss.annotate(run, "wires", MODEL, made.table, ["s3"], marks=marks(made))
    asked = drawn["boxed"][3]
    assert asked.name == "wires"
    assert asked.rows == [3]
    assert asked.rival is None
    assert len(Marks.open(marks_path(run, "wires")).places) == 6
    ss.annotate(run, "wires", MODEL, made.table)  # with the marks that were kept
    assert list(drawn["boxed"][3].rows) == list(range(40))


def test_a_finding_brings_its_values_and_its_evidence(made, run, drawn):
    ss.annotate(run, "stamp", MODEL, made.table, marks=marks(made))
    asked = drawn["boxed"][3]
    assert np.array_equal(asked.known, made.carries.astype(float))
    asked.rival.draw(["s3"], run / "elsewhere")
    assert drawn["concept"].name == "stamp"


def test_boxes_outside_their_image_are_refused_by_name_and_not_kept(made, run, drawn):
    ids = made.table.frame["sample_id"].tolist()
    outside = Marks.of(ids[:6], [], {name: [(90, 90, 99, 99)] for name in ids[:6]})
    with pytest.raises(InputError, match="'s0' lies outside its image of 96 x 96"):
        ss.annotate(run, "letters", MODEL, made.table, marks=outside)
    assert not marks_path(run, "letters").exists()
    assert not drawn


def test_options_that_boxes_do_not_take_are_refused(made, run, drawn):
    with pytest.raises(InputError, match="clarc"):
        ss.annotate(run, "wires", MODEL, made.table, marks=marks(made), drawing=Drawing("clarc"))
    with pytest.raises(InputError, match="not scanned"):
        ss.annotate(run, "wires", MODEL, made.table, ["nobody"], marks=marks(made))


def test_marks_without_boxes_say_which_samples_carry_it(made, run, drawn, monkeypatch):
    class Ranked:
        def to_concept(self):
            return "ranked"

    monkeypatch.setattr(named, "retrieval_of", lambda *given, **options: Ranked())
    ss.annotate(run, "frames", MODEL, made.table, marks=marks(made, boxed=False))
    assert drawn["concept"] == "ranked"
