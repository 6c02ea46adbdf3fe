import json

import numpy as np
import pandas as pd
import pytest

from shortcutscope.audit.identity import keep_identity
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.cli import main
from shortcutscope.errors import InputError
from shortcutscope.facade import Audit, Finding
from shortcutscope.options import Running
from shortcutscope.retrieval.findings import retrieval_of
from shortcutscope.retrieval.marks import Marks, marks_path
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan


@pytest.fixture
def run(planted, tmp_path):
    """A run with one finding of a column and one that was discovered, whose values are partly wrong."""
    path = tmp_path / "run"
    path.mkdir(exist_ok=True)
    (path / "run.json").write_text("{}")
    scan(
        planted.model,
        planted.table,
        path / "scan",
        scanning=Scanning(relevance=False),
        running=Running(progress=False),
    )
    wrong = planted.carries.astype(float)
    wrong[::7] = 1 - wrong[::7]
    known = planted.carries.astype(float)
    known[::3] = np.nan
    frame = pd.DataFrame({"sample_id": planted.ids, "noise": known, "cluster 1": wrong})
    frame.to_parquet(path / "concepts.parquet")
    findings = [
        Finding(name, origin, "", "shortcut", "").to_dict()
        for name, origin in (("noise", "planted"), ("cluster 1", "discovered"))
    ]
    keep_identity(RunDirectory(path, {}), planted.table, None)
    (path / "findings.json").write_text(json.dumps(findings))
    pd.DataFrame({"concept": []}).to_parquet(path / "profile.parquet")
    return path


def test_a_finding_retrieves_its_carriers(planted, run):
    audit = Audit.open(run)
    hits = audit["noise"].retrieve(k=60)
    assert len(hits) == 60
    assert np.mean([planted.truth[name] for name in hits.ids]) > 0.9
    assert "run" not in audit["noise"].to_dict()
    with pytest.raises(InputError, match="belongs to no run"):
        Finding("x", "planted", "", "shortcut", "").retrieve()


def test_inferred_values_are_no_marks_and_marks_are_kept_in_the_run(planted, run):
    begun = retrieval_of(run, "cluster 1")
    hits = begun.hits(5)
    assert any("inferred" in note for note in hits.notes)
    # What was supposed is no mark, and is asked for.
    assert hits.frame["mark"].isna().all()
    assert "0 marked as carriers" in repr(hits)
    assert len(begun.next_queries(4)) == 4
    assert begun.precision_at(5).n_marked == 0
    marked = retrieval_of(run, "cluster 1", marks=Marks.of(planted.rare[:6]))
    assert np.nansum(marked.known) == 6
    # Marks are kept in the run: the next session goes on with them.
    assert len(Marks.open(marks_path(run, "cluster 1"))) == 6
    again = retrieval_of(run, "cluster 1")
    assert (again.scores == marked.scores).all()
    again.mark({again.next_queries(1)[0]: False}, who="AB")
    assert len(Marks.open(marks_path(run, "cluster 1"))) == 7


def test_a_mark_outweighs_a_known_value(planted, run):
    name = planted.rare[0]
    found = retrieval_of(run, "noise", marks=Marks.of([], [name]))
    assert found.values[list(planted.ids).index(name)] == 0


def test_unknown_findings_and_marks_leave_the_run_as_it_was(planted, run):
    with pytest.raises(InputError, match=r"no finding 'tag'.*noise, cluster 1"):
        retrieval_of(run, "tag")
    with pytest.raises(InputError, match="not among the 240"):
        retrieval_of(run, "noise", marks=Marks.of(["nobody"]))
    assert not (run / "marks").exists()


def test_the_command_takes_marks_and_writes_the_list(planted, run, tmp_path, capsys):
    marks, csv = tmp_path / "marks.csv", tmp_path / "hits.csv"
    pd.DataFrame({"sample_id": planted.rare[:6], "mark": "yes"}).to_csv(marks, index=False)
    command = ["retrieve", str(run), "cluster 1", "--csv", str(csv), "--k", "25", "--marks", str(marks)]
    with pytest.raises(SystemExit) as left:
        main([*command, "--who", "AB", "--queries", "3"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert "precision at 25" in told
    assert "look at next" in told
    written = pd.read_csv(csv)
    assert list(written["rank"]) == list(range(1, 26))
    assert set(Marks.open(marks_path(run, "cluster 1")).current["who"]) == {"AB"}
    with pytest.raises(SystemExit):
        main(["retrieve", str(run), "cluster 1", "--csv", str(csv)])
    assert set(pd.read_csv(csv)["sample_id"]) == set(planted.ids)
    assert "precision at 200" in capsys.readouterr().out


def test_the_command_refuses(run, tmp_path, capsys):
    for words, message in (
        (["noise", "--csv", "x.txt"], "must end in .csv"),
        (["tag", "--csv", str(tmp_path / "x.csv")], "no finding 'tag'"),
        (["noise", "--csv", str(tmp_path / "x.csv"), "--marks", "none.csv"], "there is no file"),
        (["noise", "--csv", str(tmp_path / "x.csv"), "--crops", str(tmp_path)], "--crops shows pictures"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["retrieve", str(run), *words])
        assert left.value.code == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()


def test_marks_of_something_new_need_no_finding(planted, run):
    found = retrieval_of(run, "something new", marks=Marks.of(planted.rare[:10]))
    assert np.nansum(found.known) == 10
    # Its marks are kept in the run.
    assert (retrieval_of(run, "something new").scores == found.scores).all()
    with pytest.raises(InputError, match="Something else is looked for by marks: give them"):
        retrieval_of(run, "something else")


def test_boxes_without_images_are_refused(planted, run):
    names = planted.rare[:6]
    marks = Marks.of(names, boxes={name: [(0, 0, 4, 4)] for name in names})
    with pytest.raises(InputError, match="marks with boxes need the images"):
        retrieval_of(run, "new", marks=marks)
    assert len(retrieval_of(run, "new", marks=marks, view="layers").marks.places) == 6
    outside = Marks.of(names, boxes={name: [(0, 0, 40, 4)] for name in names})
    with pytest.raises(InputError, match="of 32 x 32 pixels"):
        retrieval_of(run, "new", marks=outside, images=planted.table)
