"""Debiasing from pretrained networks: the cases, the bars, and one run with thin networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shortcutscope.benchmarks import pretrained_networks, pretraining
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import debias_pretrained as suite


def settings(cache: Path = Path("unused"), **changes) -> Settings:
    return Settings(**{"quick": False, "seed": 0, "data": None, "cache": cache, "jobs": 1, **changes})


def test_a_seed_is_whole_before_the_next_begins() -> None:
    listed = suite.cases(settings())
    assert [c["seed"] for c in listed] == sorted(c["seed"] for c in listed)
    one = [c for c in listed if c["seed"] == 0]
    assert {(c["network"], c["kind"]) for c in one} == {
        (network, kind) for network in pretraining.ARCHITECTURES for kind in pretrained_networks.KINDS
    }
    assert len({repr(c) for c in listed}) == len(listed) == 2 * 9 * 5
    full = suite.cases(settings(full=True))
    assert len({c["seed"] for c in full}) == 3
    assert ("fresh", 0.02) in {(c["start"], c["clean_fraction"]) for c in full}


def case(start: str | None, robust: float, gap: float, **changes) -> dict:
    made = {"network": "resnet18", "kind": "tag", "seed": 0, "method": "recommended", "clean_fraction": 0.1}
    metrics = {"robust_auroc": robust, "worst_group": robust, "gap_robust": gap, "gap_worst_group": gap}
    return {**made, "start": start, **metrics, "balanced_auroc": robust, "balanced_change": 0.0, **changes}


def test_bars_are_means_over_all_networks_but_no_case_may_lose_what_the_biased_one_could() -> None:
    cases = [
        case("model", 0.9, 0.9),
        case("model", 0.9, 0.8, kind="noise", balanced_change=-0.02),
        case("fresh", 0.95, 1.0),
        case("model", 0.8, 0.6, clean_fraction=0.02),
    ]
    assert suite.summarize(cases)["met"] == {
        "gap_robust, 10% clean": True,
        "gap_worst_group, 10% clean": True,
        "balanced AUROC kept, 10% clean": False,
        "gap_robust, 2% clean": False,
        "balanced AUROC kept, 2% clean": True,
        "from the model at least as good as new weights, resnet18, robust_auroc": False,
        "from the model at least as good as new weights, resnet18, worst_group": False,
    }


def test_a_bar_is_missed_where_no_case_has_a_gap_to_close() -> None:
    without = case("model", 0.9, 0.9)
    del without["gap_robust"], without["gap_worst_group"]
    met = suite.summarize([without])["met"]
    assert not met["gap_robust, 10% clean"]
    assert suite.summarize([without])["means"][0]["gap_robust"]["mean"] is None


def test_pretrained_weights_are_made_once_and_only_the_head_is_drawn(
    thin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(tmp_path, quick=True)
    first = pretraining.pretrained("resnet18", 32, 0, chosen).state_dict()
    monkeypatch.setattr(pretraining, "fit", None)  # a second training would fail
    second = pretraining.pretrained("resnet18", 32, 1, chosen).state_dict()
    fresh = pretraining.ARCHITECTURES["resnet18"](32, 8, 0).state_dict()
    drawn = {name for name in first if not torch.equal(first[name], second[name])}
    assert {name.rpartition(".")[0] for name in drawn} == {"fc"}
    assert all(not torch.equal(first[k], fresh[k]) for k in first if k.endswith("conv1.weight"))
    assert len(first["fc.weight"]) == 2


def test_what_is_pretrained_on_is_class_and_turn() -> None:
    images = pretraining.pretraining_images(32, None, True)
    labels = images.frame["label"].to_numpy()
    assert set(labels) == set(range(2 * pretraining.TURNS))
    assert images[0][0].shape == (3, 32, 32)
    # A breast's back is black before it is turned: one side of the picture is darker, and which, is the turn.
    sides = {"top": [], "left": []}
    for row in range(len(images)):
        image = images.image(row)[0]
        sides["top"].append(float(image[:8].mean() - image[-8:].mean()))
        sides["left"].append(float(image[:, :8].mean() - image[:, -8:].mean()))
    by_turn = {turn: torch.tensor(sides["top"])[labels % 4 == turn].mean() for turn in range(4)}
    assert by_turn[0] * by_turn[2] < 0


def test_a_case_says_what_was_pretrained_on(tmp_path: Path) -> None:
    def source() -> set[str]:
        return {c["pretrained_on"] for c in suite.cases(settings(data=tmp_path))}

    assert source() == {pretraining.PHANTOMS}
    (tmp_path / "mednist" / "CXR").mkdir(parents=True)
    assert source() == {"MedNIST"}
    (tmp_path / "nih_cxr").mkdir()
    (tmp_path / "nih_cxr" / "images.csv").touch()
    assert source() == {pretraining.WITH_FILMS}


@pytest.mark.slow
def test_students_are_held_against_the_biased_network_and_the_reference(thin: None, tmp_path: Path) -> None:
    chosen = settings(tmp_path, quick=True)
    listed = suite.cases(chosen)
    ran = {(c["method"], c["start"], c["clean_fraction"]): {**c, **suite.run_case(c, chosen)} for c in listed}
    biased, reference = ran["biased", None, 0.1], ran["reference", None, 0.1]
    assert biased["balanced_change"] == 0
    for case_ in ran.values():
        way = reference["robust_auroc"] - biased["robust_auroc"]
        if way < suite.SHORTEST:
            assert "gap_robust" not in case_
        else:
            share = (case_["robust_auroc"] - biased["robust_auroc"]) / way
            assert case_["gap_robust"] == pytest.approx(share)
    model, fresh = ran["recommended", "model", 0.1], ran["recommended", "fresh", 0.1]
    assert model["recipe"] == fresh["recipe"] == "balanced-finetune"
    assert model["lr"] < fresh["lr"]
    assert model["n_clean"] == 20
    assert model["robust_auroc"] != fresh["robust_auroc"]
    assert suite.summarize(list(ran.values()))["means"]
