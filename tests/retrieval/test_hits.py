import numpy as np
import pandas as pd
import pytest

from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.retrieval.hits import Hits, refuse_other_csv
from shortcutscope.retrieval.imports import read_marks
from shortcutscope.retrieval.retrieval import Retrieval


@pytest.fixture(scope="module")
def hits(planted):
    found = Retrieval.from_marks(
        planted.scanned,
        planted.rare[:10],
        images=planted.table,
        name="<noise>",
        running=Running(progress=False),
    )
    return found.hits(30)


def test_best_first_with_pictures_and_what_to_know(planted, hits):
    assert len(hits) == 30
    assert list(hits.frame["rank"]) == list(range(1, 31))
    assert (np.diff(hits.scores) <= 0).all()
    assert np.mean([planted.truth[name] for name in hits.ids]) > 0.9
    assert hits.pictures[hits.ids[0]].dtype == np.uint8
    assert any("precision at 30" in note for note in hits.notes)
    assert any(note.startswith(("Go on", "Stop")) for note in hits.notes)


def test_saved_and_opened(hits, tmp_path):
    again = Hits.open(hits.save(tmp_path / "hits"))
    assert again.to_frame().equals(hits.to_frame())
    assert again.notes == hits.notes
    assert all((again.pictures[name] == picture).all() for name, picture in hits.pictures.items())
    with pytest.raises(InputError, match="missing"):
        Hits.open(tmp_path)


def test_in_a_notebook_names_are_escaped(hits):
    page = hits._repr_html_()
    assert page.count("<img") == 30
    assert "&lt;noise&gt;" in page
    assert "<noise>" not in page


def test_a_csv_marked_elsewhere_comes_back(planted, hits, tmp_path):
    path = hits.to_csv(tmp_path / "hits.csv")
    frame = hits.to_frame()
    frame.loc[3, "mark"] = 0.0
    frame.to_csv(path, index=False)
    current = read_marks(path, list(planted.ids)).current
    assert set(current.loc[current["value"] == 0, "sample_id"]) == {frame.loc[3, "sample_id"]}


def test_a_page_shows_the_pictures_outside_of_a_notebook(tmp_path):
    frame = pd.DataFrame({"rank": [1], "sample_id": ["<s0>"], "score": [0.5], "mark": [np.nan]})
    page = Hits("ruler", frame, pictures={"<s0>": np.zeros((8, 8), np.uint8)}).to_html(tmp_path / "hits.html")
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert text.count("<img ") == 1
    assert "&lt;s0&gt;" in text


def test_a_list_of_hits_replaces_nothing_but_itself(tmp_path):
    manifest = tmp_path / "images.csv"
    manifest.write_text("image,label\na.png,1\n")
    with pytest.raises(InputError, match="is no list of hits: it lacks the columns rank, sample_id"):
        refuse_other_csv(manifest)
    refuse_other_csv(tmp_path / "new.csv")
    frame = pd.DataFrame({"rank": [1], "sample_id": ["a"], "score": [0.5], "mark": [np.nan]})
    refuse_other_csv(Hits("x", frame).to_csv(tmp_path / "hits.csv"))
