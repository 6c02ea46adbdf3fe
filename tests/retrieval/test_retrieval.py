import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.probes.concept import Concept
from shortcutscope.retrieval import retrieval as retrieving
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.retrieval import Retrieval
from shortcutscope.retrieval.saved import open_classifier, score_images
from shortcutscope.retrieval.search import FileSearch, Searched
from shortcutscope.stats.metrics import auroc


@pytest.fixture
def retrieval(planted):
    return Retrieval.from_marks(
        planted.scanned,
        planted.rare[:10],
        images=planted.table,
        name="noise",
        running=Running(progress=False),
    )


def test_ten_marks_find_the_others_with_and_without_images(planted, retrieval):
    bare = Retrieval.from_marks(planted.scanned, planted.rare[:10])
    assert "input" in retrieval.views
    assert "input" not in bare.views
    unmarked = np.isnan(retrieval.values)
    for found in (retrieval, bare):
        assert auroc(planted.carries[unmarked].astype(float), found.scores[unmarked]) > 0.95


def test_queries_are_unmarked_and_of_the_class_learnt_in(planted, retrieval):
    asked = retrieval.next_queries(12)
    labels = dict(zip(planted.ids, planted.table.frame["label"], strict=True))
    assert len(set(asked)) == 12
    assert not set(asked) & set(planted.rare[:10])
    assert {labels[name] for name in asked} == {0}
    ranked = retrieval.next_queries(5, by="rank")
    own = [i for i in retrieval.to_frame()["sample_id"] if labels[i] == 0 and i not in planted.rare[:10]]
    assert ranked == own[:5]
    doubtful = retrieval.next_queries(5, by="uncertainty")
    score = dict(zip(planted.ids, retrieval.scores, strict=True))
    assert max(abs(score[i]) for i in doubtful) <= min(abs(score[i]) for i in own if i not in doubtful)
    within = retrieval.next_queries(500, by="random", within=30)
    assert set(within) <= set(retrieval.to_frame()["sample_id"][:30])


@pytest.mark.parametrize(("n", "by"), [(0, "rank"), (3, "guess")])
def test_impossible_queries(retrieval, n, by):
    with pytest.raises(InputError, match="next_queries"):
        retrieval.next_queries(n, by=by)


def test_answers_are_taken_kept_and_told(planted, tmp_path):
    path = tmp_path / "marks.csv"
    found = Retrieval.from_marks(planted.scanned, planted.rare[:8], path=path)
    answers = {name: planted.truth[name] for name in found.next_queries(9)}
    assert found.mark(answers, who="AB", when="Monday") is found
    assert found.drift.round == 1
    assert found.advice.text.startswith(("Go on", "Stop"))
    kept = Marks.open(path)
    assert (
        kept.aligned_to(planted.ids)[~np.isnan(found.values)].tolist()
        == found.values[~np.isnan(found.values)].tolist()
    )
    last = kept.answers[kept.answers["round"] == 1]
    assert set(last["who"]) == {"AB"}
    assert set(last["when"]) == {"Monday"}
    assert set(last["query"]) == {"rank", "uncertainty"}


def test_a_mark_can_be_taken_back_and_a_wrong_id_changes_nothing(planted, retrieval):
    name = retrieval.next_queries(1)[0]
    n, scores = len(retrieval.marks), retrieval.scores
    retrieval.mark({name: False})
    assert len(retrieval.marks) == n + 1
    retrieval.mark({name: None})
    assert len(retrieval.marks) == n
    assert (retrieval.scores == scores).all()
    with pytest.raises(InputError, match="not among the 240"):
        retrieval.mark({"nobody": True})
    assert len(retrieval.marks) == n


def test_new_images_are_scored_as_the_scanned_ones_by_what_was_saved(planted, retrieval, tmp_path):
    folder = retrieval.save(tmp_path / "noise")
    assert not [p for p in folder.rglob("*") if p.suffix in (".pkl", ".pickle", ".pt")]
    vector, views = open_classifier(folder)
    again = score_images(
        vector, views, planted.model, planted.table.take(np.arange(40)), running=Running(progress=False)
    )
    expected = vector.score(retrieval._learning.views.features)[:40]
    # The store keeps half precision.
    assert np.allclose(again.to_numpy(), expected, atol=0.02 * expected.std())
    assert list(again.index) == list(planted.ids[:40])


def test_a_concept_from_marks_gives_its_marks_and_nothing_that_was_inferred(planted):
    marks = np.full(len(planted.ids), np.nan)
    marks[np.isin(planted.ids, planted.rare[:10])] = 1
    concept = Concept("noise", planted.carries.astype(float), "marked", planted.ids, marks=marks)
    found = Retrieval.from_concept(planted.scanned, concept)
    assert np.nansum(found.values) == 10
    known = Retrieval.from_concept(planted.scanned, Concept("noise", planted.carries, "planted", planted.ids))
    assert known.precision_at(50).low == known.precision_at(50).high


def test_auto_chooses_among_sets_of_views(planted):
    found = Retrieval.from_marks(
        planted.scanned,
        planted.rare[:10],
        layers="auto",
        images=planted.table,
        running=Running(progress=False),
    )
    assert found.views
    assert found.recovery > 0.8


def test_the_filter_bank_is_read_once(planted, tmp_path):
    first = Retrieval.from_marks(
        planted.scanned,
        planted.rare[:10],
        images=planted.table,
        cache=tmp_path,
        running=Running(progress=False),
    )
    second = Retrieval.from_marks(planted.scanned, planted.rare[:10], cache=tmp_path)
    assert (first.scores == second.scores).all()


def test_images_that_lack_samples_and_unknown_layers(planted):
    with pytest.raises(InputError, match="lack 200 of 240"):
        Retrieval.from_marks(planted.scanned, planted.rare[:10], images=planted.table.take(np.arange(40)))
    with pytest.raises(InputError, match="'late'"):
        Retrieval.from_marks(planted.scanned, planted.rare[:10], layers="late")
    with pytest.raises(InputError, match="was not scanned"):
        Retrieval.from_marks(planted.scanned, planted.rare[:10], layers=["head"])


def test_crops_are_of_images(planted, tmp_path):
    found = Retrieval.from_marks(planted.scanned, planted.rare[:10])
    with pytest.raises(InputError, match="crops are searched for in the images"):
        found.take_crops(tmp_path)
    for choose in (found.keep, found.drop):
        with pytest.raises(InputError, match="there are none: box a few"):
            choose([0])


def test_crops_that_were_kept_are_searched_for_at_once(planted, tmp_path, monkeypatch):
    kinds, searches = [[(0, (1.0, 1.0, 9.0, 9.0))]], []

    def searched(search, marks, layers):
        searches.append(search.kept)
        return Searched()

    monkeypatch.setattr(retrieving, "read_kept", lambda folder, ids: kinds)
    monkeypatch.setattr(FileSearch, "__call__", searched)
    options = {"images": planted.table, "running": Running(progress=False), "crops": tmp_path}
    Retrieval.from_marks(planted.scanned, planted.rare[:10], **options)
    assert searches == [kinds]
    with pytest.raises(InputError, match="crops are searched for in the images"):
        Retrieval.from_marks(planted.scanned, planted.rare[:10], crops=tmp_path)


def test_inferred_values_stay_only_if_marks_that_were_held_out_are_recovered_no_worse(planted):
    marks = Marks.of(planted.rare[:10])
    right = Retrieval(planted.scanned, marks, inferred=planted.carries.astype(float))
    assert right.rests_on_inference
    assert any("recovered no worse" in note for note in right.hits(3).notes)
    nonsense = np.random.default_rng(0).permutation(planted.carries).astype(float)
    wrong = Retrieval(planted.scanned, marks, inferred=nonsense)
    assert not wrong.rests_on_inference
    alone = Retrieval(planted.scanned, marks)
    assert (wrong.scores == alone.scores).all()
    assert not any("inferred" in note for note in wrong.hits(3).notes)
