import numpy as np
import pytest
import torch
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.proposals import discover
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan
from shortcutscope.stats.metrics import within_class_auroc


class Brightest(nn.Module):
    """Says class 1 where the brightest spot is bright, and a little where the whole image is."""

    def __init__(self, axes: int = 2):
        super().__init__()
        self.filters = nn.Sequential((nn.Conv1d, nn.Conv2d)[axes - 1](1, 4, 3, padding=1), nn.ReLU())
        self.last = (nn.Conv1d, nn.Conv2d)[axes - 1](4, 4, 1)
        torch.manual_seed(0)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, 0.0, 0.3)

    def forward(self, x):
        features = self.last(self.filters(x)).flatten(2)
        score = 20 * (features.amax(2).mean(1) - 0.6) + 5 * features.mean((1, 2))
        return torch.stack([-score, score], 1)


@pytest.fixture(scope="module")
def study(noise_images, tmp_path_factory):
    table = noise_images(n=240)
    scanned = scan(
        Brightest(), table, tmp_path_factory.mktemp("study") / "scan", running=Running(progress=False)
    )
    return scanned, table


@pytest.fixture(scope="module")
def found(study):
    return discover(*study, seed=3, running=Running(progress=False))


def test_a_planted_square_is_the_first_proposal_and_its_concept_is_right(study, found):
    _, table = study
    first = found.proposals[0]
    truth = table.frame["square"].to_numpy(float)
    assert within_class_auroc(truth, first.scores, table.frame["label"]) > 0.95
    assert first.label == 1
    assert (first.seeds == truth).mean() > 0.95
    values = first.concept.values
    known = ~np.isnan(values)
    assert (values[known] == truth[known]).mean() > 0.97
    assert first.concept.origin == "discovered"
    assert first.concept.sample_ids.tolist() == table.frame["sample_id"].tolist()
    assert "filters" in first.families
    assert "class 0" in repr(first)


def test_what_is_dropped_keeps_its_reason(found):
    assert found.dropped
    assert all(p.dropped for p in found.dropped)
    assert not any(p.dropped for p in found.proposals)
    assert any("same samples as" in p.dropped for p in found.dropped)
    assert found.notes == ()
    strengths = [p.strength for p in found.proposals]
    assert strengths == sorted(strengths, reverse=True)


def test_what_is_proposed_is_numbered_by_rank_and_what_is_dropped_goes_on(found):
    names = [p.name for p in (*found.proposals, *found.dropped) if p.name]
    assert names == [f"discovered {k}" for k in range(1, len(names) + 1)]
    assert [p.concept.name for p in found.proposals] == names[: len(found.proposals)]


def test_proposals_are_deterministic_and_no_more_than_asked_for(study, found):
    (again,) = discover(*study, seed=3, most=1, running=Running(progress=False)).proposals
    assert again.views == found.proposals[0].views
    np.testing.assert_array_equal(again.scores, found.proposals[0].scores)


def test_without_relevance_or_images_the_other_views_remain_and_the_notes_say_why(noise_images, tmp_path):
    table = noise_images(n=160)
    first = scan(
        Brightest(),
        table,
        tmp_path / "images",
        scanning=Scanning(relevance=False),
        running=Running(progress=False),
    )
    assert any("relevance" in note for note in discover(first, table, running=Running(progress=False)).notes)
    signals = np.stack([table.image(i).numpy()[:, :12].reshape(1, -1) for i in range(len(table))])
    flat = ImageTable.from_arrays(signals, table.frame, dims=1, channels_last=False)
    second = scan(Brightest(1), flat, tmp_path / "signals", running=Running(progress=False))
    found = discover(second, flat, running=Running(progress=False))
    assert any("filter bank reads images" in note for note in found.notes)
    assert found.proposals


def test_the_number_of_scores_that_proposals_were_chosen_from_is_kept(found):
    assert found.looked_at > 50
    assert {p.concept.selected_from for p in found.proposals} == {found.looked_at}
    assert found.proposals[0].to_dict()["dropped"] == ""


def test_networks_are_looked_into_by_clusters_prototypes_and_neurons(found):
    views = {view for p in (*found.proposals, *found.dropped) for view in p.views}
    for sort in ("filters: ", "activation: clusters", "relevance: clusters", "relevance: prototypes"):
        assert any(view.startswith(sort) for view in views), sort


def test_a_scan_of_other_samples_is_refused(study):
    scanned, table = study
    with pytest.raises(InputError, match="not of this table"):
        discover(scanned, table.take(np.arange(10)), running=Running(progress=False))


class BrightOrSpotted(nn.Module):
    """Says class 1 where the whole image is bright, and where a spot of it is."""

    def __init__(self):
        super().__init__()
        self.filters = nn.Sequential(nn.Conv2d(1, 2, 5, padding=2, bias=False), nn.ReLU())
        self.last = nn.Conv2d(2, 2, 1, bias=False)
        nn.init.constant_(self.filters[0].weight, 0.04)
        nn.init.constant_(self.last.weight, 0.5)

    def forward(self, x):
        local = self.last(self.filters(x)).mean(1)
        score = 8 * (local.mean((1, 2)) - 0.5) + 6 * local.amax((1, 2))
        return torch.stack([-score, score], 1)


def test_what_the_strongest_covers_is_proposed_for_the_samples_without_it(tmp_path):
    generator = np.random.default_rng(4)
    labels = np.arange(400) % 2
    shares = np.array([0.1, 0.9])[labels]
    bright, spotted = generator.random(400) < shares, generator.random(400) < shares
    images = generator.uniform(0.1, 0.4, (400, 24, 24)).astype(np.float32)
    images[spotted, 8:13, 8:13] = 0.8
    images[bright] = generator.uniform(0.85, 1.0, (int(bright.sum()), 24, 24))
    table = ImageTable.from_arrays(images, labels, value_range=(0, 1))
    scanned = scan(BrightOrSpotted(), table, tmp_path / "scan", running=Running(progress=False))
    discovery = discover(scanned, table, running=Running(progress=False))
    covering, covered = discovery.proposals
    assert (covering.name, covered.name) == ("discovered 1", "discovered 2")
    assert within_class_auroc(bright, covering.scores, labels) > 0.99
    free = ~bright
    assert within_class_auroc(spotted[free], covered.scores[free], labels[free]) > 0.99
    assert np.isnan(covered.concept.values[bright]).all()
    assert f"of samples without {covering.name}" in covered.concept.description
    assert all(len(p.scores) == 400 for p in discovery.dropped)
    assert covered.concept.selected_from == discovery.looked_at
