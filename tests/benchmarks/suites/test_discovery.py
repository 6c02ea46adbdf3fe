"""The discovery suite: what it lists, how it sums up, and one real case (slow)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import discovery
from shortcutscope.data.table import ImageTable
from shortcutscope.discover.candidates import ShortcutCandidate
from shortcutscope.discover.proposal import Proposal
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import plant


def settings(tmp_path: Path, quick: bool = False) -> Settings:
    return Settings(quick=quick, seed=0, data=None, cache=tmp_path, jobs=1)


def test_every_kind_has_three_seeds_and_there_are_twenty_unbiased_models(tmp_path):
    listed = discovery.cases(settings(tmp_path))
    strong = [c for c in listed if c["correlation"] == 0.95 and len(c["kinds"]) == 1]
    for kind in CATALOGUE:
        own = [c for c in strong if c["kinds"] == [kind]]
        assert len({c["seed"] for c in own}) == 3
        assert len({c["task"] for c in own}) == 2
    assert {c["kinds"][0] for c in listed if c["correlation"] == 0.8} == set(CATALOGUE)
    assert sum(not c["kinds"] for c in listed) >= 20
    assert any(len(c["kinds"]) == 2 for c in listed)
    assert len({str(c) for c in listed}) == len(listed)
    assert len(discovery.cases(settings(tmp_path, quick=True))) < 15


def test_the_summary_counts_every_case():
    base = {"task": "phantom", "seed": 0, "correlation": 0.95, "survived": 1, "found_apart": None}
    base |= {"survived_auroc": 0.95}
    base |= {"proposed": 2, "strengths": [0.5], "logit_auroc": 0.8}
    finished = [
        {**base, "kinds": ["tag"], "first_auroc": 0.95, "best_of_three_auroc": 0.95},
        {**base, "kinds": ["noise"], "first_auroc": 0.6, "best_of_three_auroc": 0.92},
        {**base, "kinds": ["tube"], "first_auroc": 0.5, "best_of_three_auroc": 0.7},
        {
            **base, "kinds": ["tag", "noise"], "first_auroc": 1.0, "best_of_three_auroc": 0.95,
            "found_apart": True, "relied_on": ["tag", "noise"], "relied_auroc": 0.95, "relied_apart": True,
        },
        {
            **base, "kinds": ["tag", "blur"], "first_auroc": 1.0, "best_of_three_auroc": 0.6,
            "found_apart": False, "relied_on": ["blur"], "relied_auroc": 1.0, "relied_apart": True,
        },
        {
            **base, "kinds": [], "correlation": None, "first_auroc": None, "best_of_three_auroc": None,
            "logit_auroc": None, "strengths": [0.02], "survived": 0,
        },
    ]  # fmt: skip
    summary = discovery.summarize(finished)
    assert summary["0.95"]["models"] == 3
    assert summary["0.95"]["first"] == pytest.approx(1 / 3)
    assert summary["0.95"]["within_three"] == pytest.approx(2 / 3)
    assert summary["0.95"]["not_below_logit"] == pytest.approx(2 / 3)
    assert summary["0.95"]["kinds_never_found"] == ["tube"]
    assert summary["two_at_once"] == {
        "models": 2, "found_apart": 0.5, "rely_on_both": 1, "relied_on_found_apart": 1,
    }  # fmt: skip
    assert summary["unbiased"]["largest_strength"] == 0.02
    assert summary["unbiased"]["any_survived"] == 0
    assert summary["0.95"]["survived"] == 1


class DarkOrBright(nn.Module):
    """Says class 1 where the image is bright, or else where its upper left corner is."""

    def forward(self, x):
        whole, corner = x.mean((1, 2, 3)), x[..., :16, :16].amax((1, 2, 3))
        score = torch.where(whole > 0.33, 5.0, 10 * (corner - 0.5))
        return torch.stack([-score, score], 1)


def test_what_a_network_relies_on_is_said_apart_for_samples_with_the_other_kind():
    generator = np.random.default_rng(0)
    images = generator.uniform(0.1, 0.4, (80, 64, 64)).astype(np.float32)
    labels = np.arange(80) % 2
    table = ImageTable.from_arrays(images, labels, value_range=(0, 1))
    for kind in ("tag", "brightness"):
        table = plant(table, kind, correlation=0.8, seed=1)
    model, truth = DarkOrBright(), {k: table.frame[k].to_numpy(float) for k in ("tag", "brightness")}
    before = generator.normal(size=80)
    effects = {k: discovery._effects(model, table, k, tuple(truth), before) for k in truth}
    # A bright image hides the tag from the network.
    (apart, rows), (beside, others) = effects["tag"]
    assert apart > discovery.RELIED_ON
    assert beside == 0
    np.testing.assert_array_equal(rows, truth["brightness"] == 0)
    np.testing.assert_array_equal(others, truth["brightness"] == 1)
    scores = np.where(rows, truth["tag"], generator.random(80))
    proposals = [proposal(truth["brightness"]), proposal(scores)]
    result = discovery._of_what_is_relied_on(proposals, truth, labels, effects)
    assert result == {"relied_on": ["tag", "brightness"], "relied_auroc": 1.0, "relied_apart": True}
    assert discovery._auroc(proposals[1], truth["tag"], labels) < 1
    nothing = {kind: [(0.0, np.ones(80, bool))] for kind in truth}
    assert discovery._of_what_is_relied_on(proposals, truth, labels, nothing) == {
        "relied_on": [], "relied_auroc": None, "relied_apart": True,
    }  # fmt: skip


def proposal(scores):
    carriers = scores > 0.5
    candidate = ShortcutCandidate("a: b", 1, scores, carriers, 5.0, 0.5, 1.0, 9.0, 0.6, {}, 0.5)
    return Proposal("a", candidate, ("a: b",))


@pytest.mark.slow
def test_a_planted_kind_is_proposed_first(tmp_path):
    case = {"task": "phantom", "kinds": ["noise"], "seed": 50, "correlation": 0.95}
    result = discovery.run_case(case, settings(tmp_path))
    assert result["first_auroc"] > 0.9
    assert result["survived"] == 1
    assert result["survived_auroc"] > 0.9
