"""Cases, claims, cohorts and measures of the protocol of SimBA (Stanley et al. 2024, 2025)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from shortcutscope.benchmarks.papers import simba
from shortcutscope.benchmarks.papers.simba import PROTOCOL, cases
from shortcutscope.benchmarks.papers.simba import data as simba_data
from shortcutscope.benchmarks.papers.simba import measures as simba_measures
from shortcutscope.benchmarks.papers.simba import networks as simba_networks
from shortcutscope.benchmarks.papers.simba.claims import claims, draw
from shortcutscope.benchmarks.papers.simba.data import NO_BIAS, generated, phantoms
from shortcutscope.benchmarks.papers.simba.measures import groups_apart, judge, layers_of
from shortcutscope.benchmarks.papers.simba.networks import METHODS, Networks, Trained
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.errors import InputError
from shortcutscope.stats.metrics import delta_tpr


def settings(tmp_path, data=None, **options):
    return Settings(**{"quick": False, "seed": 0, "data": data, "cache": tmp_path, "jobs": 1} | options)


GAPS = {
    "no bias": 0.02,
    "erm": 0.15,
    "reweighing": 0.03,
    "unlearning": 0.1,
    "group models": 0.2,
    "reversal": 0.04,
}


def made_up(gaps, *, at_layer=0.9, used=False, intensity=0.2, quick=False):
    """Finished cases with these gaps, without training anything."""
    found = []
    for case in cases(Settings(quick, 0, None, Path(), 1)):
        gap = gaps[case["method"]] + 0.002 * case["seed"]
        case |= {"accuracy": 0.8, "delta_tpr": gap, "delta_fpr": gap, "gap": gap, "flips": gap}
        if case["bias"] == "both":
            case |= {"gap_intensity": intensity + 0.001 * case["seed"], "gap": 0.1}
        if case["method"] != "group models":
            case |= {
                "layers": ["first", "last"],
                "availability": [at_layer, 0.95],
                "chance": [0.6, 0.6],
                "use": [0.0, 0.5],
                "encoded": True,
                "used": used if case["method"] == "reweighing" else True,
            }
        found.append(case)
    return found


def test_cases_are_distinct_and_complete(tmp_path):
    for options in ({}, {"quick": True}, {"full": True}):
        listed = cases(settings(tmp_path, **options))
        assert len({tuple(case.items()) for case in listed}) == len(listed)
    listed = cases(settings(tmp_path, seed=3))
    for seed in (3, 4, 5):
        for bias in ("morphology", "intensity"):
            own = [c["method"] for c in listed if (c["bias"], c["dims"], c["seed"]) == (bias, 2, seed)]
            assert own == list(METHODS)
        assert sum((c["bias"], c["seed"]) == ("both", seed) for c in listed) == 1
    assert {c["seed"] for c in listed if c["dims"] == 3} == {3}
    full = cases(settings(tmp_path, full=True))
    assert {c["seed"] for c in full if c["dims"] == 3} == set(range(5))


def test_claims_as_published():
    told = claims(made_up(GAPS))
    assert [claim.holds for claim in told] == [True] * 7
    assert "gap 0.15" in told[0].here
    assert "beyond the baseline's rates 0.010" in told[2].here
    assert "group models 0.20" in told[3].here
    assert "8 of 8" in told[4].here
    assert "8 of 8" in told[5].here


def test_claims_the_other_way_round():
    other = {**GAPS, "no bias": 0.2, "reweighing": 0.25}
    told = claims(made_up(other, at_layer=0.55, used=True, intensity=0.05))
    assert [claim.holds for claim in told] == [False] * 7


def test_what_was_not_run_is_not_claimed():
    told = claims(made_up(GAPS, quick=True))
    assert [claim.holds for claim in told] == [True] * 6 + [None]
    only = [case for case in made_up(GAPS, quick=True) if case["method"] == "group models"]
    assert [claim.holds for claim in claims(only)] == [None] * 7


def test_figure_has_the_methods_and_the_layers():
    drawn = draw(made_up(GAPS))
    gap, flips, encoded, used = drawn.axes
    assert [text.get_text() for text in gap.get_yticklabels()] == list(METHODS)
    assert [text.get_text() for text in encoded.get_xticklabels()] == ["first", "last"]
    assert len(encoded.lines) == len(METHODS)  # without the group models, with the line of chance
    assert "morphology 2-D" in used.get_title(loc="left")
    assert flips.get_xlim()[0] == 0


def test_groups_apart_are_the_rates_counted_by_hand():
    labels = np.array([1] * 6 + [0] * 6)
    carries = np.array([1, 1, 1, 1, 0, 0] * 2)
    predicted = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0])
    told = groups_apart(labels, carries, predicted)
    assert (told["tpr_biased"], told["tpr_unbiased"]) == (0.75, 0.5)
    assert (told["fpr_biased"], told["fpr_unbiased"]) == (0.0, 0.5)
    assert told["delta_tpr"] == pytest.approx(delta_tpr(labels, carries, predicted))
    assert (told["gap"], told["largest_gap"]) == (0.375, 0.5)


@pytest.mark.parametrize("scenario", ["morphology", "intensity"])
def test_worlds_differ_from_their_twins_in_nothing_but_the_bias(scenario):
    cohort = phantoms(scenario, 2, 50, 40, 40)
    assert not set(cohort.train.frame["sample_id"]) & set(cohort.test.frame["sample_id"])
    assert cohort.test_without.frame["sample_id"].tolist() == cohort.test.frame["sample_id"].tolist()
    carries = cohort.carries("test")
    assert 0 < carries.mean() < 1
    without, with_ = cohort.twins["bias"]
    for i, has in enumerate(carries):
        same = with_ if has else without
        assert torch.equal(cohort.test.image(i), same.image(i))
        assert not torch.equal(without.image(i), with_.image(i))


def test_two_biases_are_independent_within_a_class():
    cohort = phantoms("both", 2, 50, 400, 60)
    assert cohort.biases == ("bias", "intensity")
    frame = cohort.train.frame
    for label, share in ((0, 0.3), (1, 0.7)):
        own = frame[frame["label"] == label]
        for bias in cohort.biases:
            assert own[bias].mean() == pytest.approx(share, abs=0.05)
        assert abs(np.corrcoef(own["bias"], own["intensity"])[0, 1]) < 0.15
    i = int(np.flatnonzero(cohort.carries("test") * cohort.carries("test", "intensity"))[0])
    plain = cohort.test_without.image(i)
    assert all(not torch.equal(plain, twin.image(i)) for twins in cohort.twins.values() for twin in twins)


class Answers(torch.nn.Module):
    """Says one class to all."""

    def __init__(self, answer):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.eye(2)[answer])

    def forward(self, x):
        return self.scores.expand(len(x), 2)


def test_group_models_answer_for_their_group():
    cohort = phantoms("morphology", 2, 50, 40, 40)
    told = judge(Trained((Answers(0), Answers(1))), cohort)
    assert (told["tpr_biased"], told["tpr_unbiased"], told["gap"], told["flips"]) == (1, 0, 1, 1)
    assert judge(Trained((Answers(1),)), cohort)["flips"] == 0


@pytest.mark.slow
def test_every_method_is_run_and_what_others_start_from_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(simba, "QUICK", (64, 80))
    monkeypatch.setattr(simba_measures, "N_PERMUTATIONS", 50)
    monkeypatch.setattr(simba_measures, "N_BOOTSTRAP", 20)
    monkeypatch.setattr(simba_networks, "TRAINING", simba_networks.TRAINING.but(epochs=1, batch_size=16))
    chosen = settings(tmp_path, quick=True, seed=50)
    simba._cohort.cache_clear()
    for case in cases(chosen):
        told = PROTOCOL.suite.run_case(case, chosen)
        assert 0 <= told["gap"] <= told["largest_gap"] <= 1
        assert 0 <= told["flips"] <= 1
        assert ("layers" in told) == (case["method"] != "group models")
    assert len(told.keys() & {"accuracy", "delta_tpr", "delta_fpr"}) == 3
    kept = list((tmp_path / "reproduce" / "simba").glob("*.safetensors"))
    assert len(kept) == 4  # without bias, without remedy, reweighed, unlearned
    simba._cohort.cache_clear()


def test_group_models_start_from_one_network_that_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(simba_networks, "TRAINING", simba_networks.TRAINING.but(steps=1))
    cohort = phantoms("morphology", 2, 50, 64, 40)
    networks = Networks(cohort, 50, tmp_path)
    plain = networks.train("erm").models[0].state_dict()
    again = Networks(cohort, 50, tmp_path).train("erm").models[0].state_dict()
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    models = networks.train("group models").models
    assert len(models) == 2
    assert layers_of(networks.train("group models"), cohort, 50) == {}
    assert not torch.equal(models[0].fc.weight, models[1].fc.weight)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_unknown_method_and_no_heads_without_the_bias(tmp_path):
    cohort = phantoms("morphology", 2, 50, 40, 40)
    with pytest.raises(InputError, match="allowed are"):
        Networks(cohort, 0, tmp_path).train("prayer")
    bare = simba_data.Cohort(cohort.train, cohort.test, ("bias",), None, None, {})
    with pytest.raises(InputError, match="without the bias"):
        Networks(bare, 0, tmp_path).train("no bias")
    assert judge(Trained((Answers(1),)), bare)["flips"] is None


@pytest.fixture
def experiment(tmp_path):
    """Ten volumes a group and split, as the generator lays them out, and the same without the bias."""
    nibabel = pytest.importorskip("nibabel")
    generator = np.random.default_rng(0)
    root = tmp_path / "experiment"
    for split in ("train", "val", "test"):
        rows = {root: [], root / NO_BIAS: []}
        for folder in rows:
            (folder / split).mkdir(parents=True)
        for k in range(40):
            label, bias, disease = k % 2, k // 2 % 2, k % 2 - 0.5
            volume = generator.uniform(0, 900, (12, 12, 12)).astype(np.float32)
            volume[:4] += 300 * label
            for folder in rows:
                shown = bias if folder == root else 0
                name = f"{k:05d}_0.25_S_{disease}_D" + ("_2.1_B" if shown else "") + ".nii.gz"
                image = volume.copy()
                image[8:] += 400 * shown
                nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / split / name)
                rows[folder].append({"class_label": label, "bias_label": bias, "filename": name})
        for folder, listed in rows.items():
            order = slice(None) if folder == root else slice(None, None, -1)
            pd.DataFrame(listed[order]).to_csv(folder / f"{split}.csv")
    return root


def test_an_experiment_of_the_generator_is_paired_and_run(tmp_path, experiment, monkeypatch):
    monkeypatch.setattr(simba_data, "SIDE", 32)
    monkeypatch.setattr(simba_networks, "TRAINING_3D", simba_networks.TRAINING_3D.but(steps=1))
    monkeypatch.setattr(simba, "layers_of", lambda *_: {})
    PROTOCOL.check(experiment)
    cohort = generated(experiment)
    assert cohort.train.image(0).shape == (1, 32, 32, 32)
    volume = cohort.train[0][0]
    assert (float(volume.min()), float(volume.max())) == (-0.5, 0.5)
    names, without = (list(t.files.values()) for t in (cohort.test, cohort.test_without))
    assert [name.replace("_2.1_B", "") for name in names] == without
    assert len(cohort.twins["bias_label"][0]) == 20
    chosen = settings(tmp_path / "cache", data=experiment)
    listed = cases(chosen)
    assert [case["method"] for case in listed] == list(METHODS)
    simba._cohort.cache_clear()
    told = PROTOCOL.suite.run_case(listed[1], chosen)
    simba._cohort.cache_clear()
    assert told["flips"] is not None
    assert 0 <= told["gap"] <= 1


def test_full_volumes_get_the_published_network(tmp_path, experiment, monkeypatch):
    monkeypatch.setattr(simba_data, "SIDE", 32)
    networks = Networks(generated(experiment), 0, tmp_path, full_size=True)
    assert (networks.training.lr, networks.training.batch_size) == (1e-4, 4)
    assert networks.initial(0)[0][0].out_channels == 32
    assert any(isinstance(module, torch.nn.Sigmoid) for module in networks.initial(0).modules())
    assert generated(experiment, full_size=True).test.image(0).shape == (1, 12, 12, 12)


def test_an_experiment_without_twins_lists_no_baseline(tmp_path, experiment):
    import shutil

    shutil.rmtree(experiment / NO_BIAS / "test")
    with pytest.raises(InputError):
        PROTOCOL.check(experiment)
    shutil.rmtree(experiment / NO_BIAS)
    PROTOCOL.check(experiment)
    assert "no bias" not in {c["method"] for c in cases(settings(tmp_path, data=experiment))}


def test_other_folders_are_refused(tmp_path, experiment):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="SimBA"):
        PROTOCOL.check(empty)
    path = experiment / "train.csv"
    frame = pd.read_csv(path, index_col=0)
    frame.assign(bias_label=frame["class_label"]).to_csv(path)
    with pytest.raises(InputError, match="train lacks one of the four groups"):
        PROTOCOL.check(experiment)


def test_other_subjects_without_the_bias_are_refused(experiment):
    path = experiment / NO_BIAS / "test.csv"
    pd.read_csv(path, index_col=0).iloc[1:].to_csv(path)
    with pytest.raises(InputError, match="lacks 1 of the 40 subjects"):
        generated(experiment)
