import numpy as np
import pandas as pd
import pytest

from shortcutscope.audit import discovery as stage
from shortcutscope.audit.audited_data import ConceptRequest, TrainingData, audited_data, resolve_concepts
from shortcutscope.audit.discovery import (
    MOST_COLUMNS,
    discovered_concepts,
    screened_columns,
    twin,
    twin_under_test,
)
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.data.table import ImageTable
from shortcutscope.discover.candidates import ShortcutCandidate
from shortcutscope.discover.proposal import Proposal
from shortcutscope.discover.proposals import Discovery
from shortcutscope.files import read_json
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.scanner import scan

READING = Running(batch_size=32, progress=False)


@pytest.fixture(scope="module")
def scanned(noise_images, tmp_path_factory):
    table = noise_images(n=80)
    folder = tmp_path_factory.mktemp("stage") / "scan"
    return scan(thin_resnet18(width=4, seed=0), table, folder, running=Running(progress=False)), table


def proposed(table, name, values):
    ids = table.frame["sample_id"].to_numpy()
    scores = np.nan_to_num(values)
    candidate = ShortcutCandidate(
        "filters: x", 1, scores, scores > 0, 4, 0.8, 1, 9, 0.8, {0: 0.1, 1: 0.9}, 0.4
    )
    concept = Concept(name, values, "discovered", ids, "found by filters: x", selected_from=99)
    return Proposal(name, candidate, ("filters: x",), concept)


@pytest.fixture
def found(scanned, monkeypatch):
    """Stands for a discovery of the square and of a coin; counts how often it was looked."""
    _, table = scanned
    coin = np.random.default_rng(0).integers(0, 2, len(table)).astype(float)
    coin[3] = np.nan
    square = table.frame["square"].to_numpy(float)
    weak = Proposal("discovered 3", proposed(table, "x", coin).candidate, ("filters: y",), None, "one group")
    calls = []

    def discover(*_, **__):
        calls.append(1)
        both = [proposed(table, "discovered 1", square), proposed(table, "discovered 2", coin)]
        return Discovery(both, [weak], ("a note",), 99)

    monkeypatch.setattr(stage, "discover", discover)
    return calls


def test_what_was_found_is_kept_and_taken_up_again(scanned, found, tmp_path):
    run = RunDirectory(tmp_path / "run", {})
    first = discovered_concepts(run, *scanned, [], seed=0, running=READING)
    again = discovered_concepts(run, *scanned, [], seed=0, running=READING)
    assert len(found) == 1
    for a, b in zip(first, again, strict=True):
        assert a.fingerprint() == b.fingerprint()
        assert (
            (a.selected_from, a.description)
            == (b.selected_from, b.description)
            == (99, "found by filters: x")
        )
    assert np.isnan(first[1].values[3])
    discovered_concepts(run, *scanned, [], seed=1, running=READING)
    assert len(found) == 2
    record = read_json(run.path / "run.json")["discovery"]
    assert [p["name"] for p in record["proposals"]] == ["discovered 1", "discovered 2"]
    assert record["dropped"][0]["dropped"] == "one group"
    assert record["notes"] == ["a note"]


def test_a_proposal_that_is_tested_anyway_is_left_out_with_the_reason(scanned, found, tmp_path):
    _, table = scanned
    run = RunDirectory(tmp_path / "run", {})
    given = Concept.from_column(table.frame, "square")
    concepts = discovered_concepts(run, *scanned, given, seed=0, running=READING)
    assert [c.name for c in concepts] == ["discovered 2"]
    assert "same samples as square" in run.record["discovery"]["same"]["discovered 1"]


def test_a_proposal_that_can_be_tested_is_not_left_to_a_concept_that_cannot():
    labels, groups = np.repeat([0, 1], 200), np.arange(400)

    def with_exceptions(name, count):
        values = labels.astype(float)
        values[:count], values[200 : 200 + count] = 1, 0
        return Concept(name, values, "metadata", [f"s{i}" for i in range(400)])

    proposal, few, many = (with_exceptions(n, c) for n, c in (("proposal", 8), ("few", 4), ("many", 8)))
    assert twin(proposal, [few], labels) is few
    assert twin_under_test(proposal, [few], labels, groups) is None
    assert twin_under_test(proposal, [few, many], labels, groups) is many
    # Where the proposal cannot be tested either, it says nothing beside the concept.
    assert twin_under_test(with_exceptions("proposal", 4), [few], labels, groups) is few


def wide(n_columns):
    generator = np.random.default_rng(1)
    labels = np.arange(60) % 2
    frame = pd.DataFrame({f"c{k:02d}": generator.integers(0, 3, 60) for k in range(n_columns)})
    frame["planted"] = np.where(generator.random(60) < 0.9, labels, 1 - labels)
    frame.insert(0, "label", labels)
    frame.insert(0, "sample_id", [f"s{i}" for i in range(60)])
    return audited_data(ImageTable.from_arrays(np.zeros((60, 8, 8), np.float32), frame), TrainingData())


def test_few_columns_are_all_tested_and_of_many_those_that_go_with_the_label_most():
    columns, refused, screen = screened_columns(wide(5), seed=0)
    assert len(columns) == 6
    assert refused == {}
    assert screen.columns["column"][0] == "planted"
    columns, refused, _ = screened_columns(wide(30), seed=0)
    assert len(columns) == MOST_COLUMNS
    assert "planted" in columns
    assert len(refused) == 31 - MOST_COLUMNS
    assert all("name it to test it" in why for why in refused.values())


def test_without_metadata_there_is_no_screen():
    table = ImageTable.from_arrays(np.zeros((10, 8, 8), np.float32), np.arange(10) % 2)
    assert screened_columns(audited_data(table, TrainingData()), seed=0) == ([], {}, None)


def test_c6_a_column_of_lists_is_left_out_with_the_reason():
    data = wide(3)
    frame = data.table.frame.assign(tags=[["a", "b"][: k % 3] for k in range(60)])
    audited = audited_data(ImageTable.from_arrays(np.zeros((60, 8, 8), np.float32), frame), TrainingData())
    columns, _, screen = screened_columns(audited, seed=0)
    assert "several values in an entry" in screen.skipped["tags"]
    concepts, refused = resolve_concepts(audited, ConceptRequest(), columns=columns)
    assert "Make a column of 0 and 1 for each value" in refused["tags"]
    assert concepts


def test_the_label_over_again_is_not_screened():
    data = wide(3)
    table = data.table.with_columns(label_name=np.array(["no", "yes"])[data.table.frame["label"]])
    columns, refused, screen = screened_columns(audited_data(table, TrainingData()), seed=0)
    assert "it is the label itself" in refused["label_name"]
    assert "label_name" not in columns
    assert "label_name" not in set(screen.columns["column"])
