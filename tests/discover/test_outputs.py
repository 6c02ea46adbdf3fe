"""Proposals of several outputs: what names the same samples is one, under one name at all of them."""

import dataclasses

import numpy as np
import pytest
from several_labels import LABELS, labelled, untrained

import shortcutscope as ss
from shortcutscope.data.manifests.labels import label_column
from shortcutscope.discover import outputs as search
from shortcutscope.discover.candidates import ShortcutCandidate
from shortcutscope.discover.outputs import discover_outputs
from shortcutscope.discover.proposal import Proposal
from shortcutscope.discover.proposals import Discovery, discover
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.scanner import scan

QUIET = ss.Running(progress=False)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    table = labelled(120, 0.9, 0, unknown=0.1)
    folder = tmp_path_factory.mktemp("outputs")
    whole = scan(untrained(), table, folder / "scan", scanning=ss.Scanning(relevance=False), running=QUIET)
    heads = {name: ss.Head(label=k, task="multilabel", outputs=3) for k, name in enumerate(LABELS)}
    views = {n: whole.output(folder / n, label_column(n), head) for n, head in heads.items()}
    return whole, table, views


def proposed(scan_, values, number, strength=1.0):
    ids = scan_.samples["sample_id"].to_numpy()
    candidate = ShortcutCandidate(
        "filters: x", 1, values, values > 0, 4, 0.8, 1, 9, 0.8, {0: 0.1, 1: 0.9}, 0.4 * strength
    )
    concept = Concept(f"discovered {number}", values, "discovered", ids, "found by filters: x")
    return Proposal(f"discovered {number}", candidate, ("filters: x",), concept)


@pytest.fixture
def found(scanned, monkeypatch):
    """Stands for searches: of the tag for two outputs, turned at one of them, and of a coin for one."""
    _, table, views = scanned
    frame = table.frame.set_index("sample_id")

    def of(view, column):
        return frame.loc[view.samples["sample_id"], column].to_numpy(float)

    by_output = {
        "Edema": [proposed(views["Edema"], of(views["Edema"], "tag"), 1, 2.0)],
        "Pleural Effusion": [],
        "Mass": [
            proposed(views["Mass"], of(views["Mass"], "coin"), 1, 1.5),
            proposed(views["Mass"], 1 - of(views["Mass"], "tag"), 2),
        ],
    }
    views_of_coin = ("filters: x, of samples without discovered 2",)
    by_output["Mass"][0] = dataclasses.replace(by_output["Mass"][0], views=views_of_coin)
    dropped = Proposal(
        "discovered 3", by_output["Edema"][0].candidate, ("filters: y",), None, "explained by discovered 2"
    )
    shapes = []

    def searched(view, own, *, early, **_):
        shapes.append((len(view), len(own), len(early.values)))
        (name,) = [n for n, one in views.items() if one is view]
        return Discovery(by_output[name], [dropped] if name == "Mass" else [], ("a note",), 50)

    monkeypatch.setattr(search, "discover", searched)
    return shapes


def test_proposals_of_the_same_samples_are_one_at_all_their_outputs(scanned, found):
    whole, table, views = scanned
    result = discover_outputs(whole, table, views, running=QUIET)
    assert result.looked_at == 150
    assert [(p.name, p.outputs) for p in result.proposals] == [
        ("discovered 1", ("Edema", "Mass")),
        ("discovered 2", ("Mass",)),
    ]
    tag = result.proposals[0].concept
    known = np.isfinite(table.label_values[:, 0]) | np.isfinite(table.label_values[:, 2])
    np.testing.assert_array_equal(tag.values[known], table.frame["tag"].to_numpy()[known])
    assert np.isnan(tag.values[~known]).all()
    assert tag.selected_from == 150
    assert "Edema, Mass" in tag.description
    # Each output is searched with its own samples, by features that were read once.
    assert found == [(len(view),) * 3 for view in views.values()]


def test_an_output_goes_by_the_names_that_all_share(scanned, found):
    whole, table, views = scanned
    mass = discover_outputs(whole, table, views, running=QUIET).by_output["Mass"]
    assert [p.name for p in mass.proposals] == ["discovered 2", "discovered 1"]
    assert mass.proposals[0].views == ("filters: x, of samples without discovered 1",)
    (dropped,) = mass.dropped
    assert dropped.name == "discovered 3"
    assert dropped.dropped == "explained by discovered 1"


def test_what_works_on_classes_refuses_a_scan_of_several_labels(scanned):
    whole, table, views = scanned
    ids = whole.samples["sample_id"].tolist()
    match = r"audit\['Edema'\]\.scan"
    with pytest.raises(ss.InputError, match=match):
        discover(whole, table, running=QUIET)
    with pytest.raises(ss.InputError, match=match):
        ss.Retrieval(whole, ss.Marks.of(ids[:8]))
    with pytest.raises(ss.InputError, match=match):
        ss.Concept.from_marks(whole, ids[:8])
    assert whole.labels == LABELS
    assert views["Mass"].labels == ()
    own = views["Mass"].samples
    assert ss.Retrieval(
        views["Mass"], ss.Marks.of(own["sample_id"][own["label"] == 0].tolist()[:8])
    ).scores.any()
