"""Boland et al.'s protocol: which cases there are, what is claimed of them, and one small run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope.benchmarks import debias_heads
from shortcutscope.benchmarks.papers import boland
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.errors import InputError


def settings(cache: Path = Path("unused"), **changes) -> Settings:
    return Settings(**{"quick": False, "seed": 0, "data": None, "cache": cache, "jobs": 1, **changes})


def test_every_recipe_on_every_architecture_and_variants_on_one() -> None:
    listed = boland.cases(settings())
    assert len({repr(case) for case in listed}) == len(listed)
    assert {case["network"] for case in listed} == set(boland.ARCHITECTURES)
    assert {(case["network"], case["kind"]) for case in listed} >= {
        ("cnn3d", "morphology"),
        ("alexnet", "noise"),
    }
    varied = [case for case in listed if case["variant"]]
    assert {case["network"] for case in varied} == {"resnet18"}
    assert {case["variant"] for case in varied} == set(boland.VARIANTS)
    assert {case["clean_fraction"] for case in varied if case["variant"] == "2 % clean"} == {0.02}


def made_up(robust: dict[str, float], **changes) -> list[dict]:
    return [
        {
            "network": network,
            "recipe": recipe,
            "variant": "",
            "seed": 0,
            "kind": "tag",
            "robust_auroc": value,
            "elsewhere_auroc": value,
            **changes,
        }
        for network in boland.ARCHITECTURES
        for recipe, value in robust.items()
    ]


def holds(cases: list[dict]) -> dict[str, bool | None]:
    return {claim.what: claim.holds for claim in boland.claims(cases)}


def test_claims_hold_where_the_figures_say_so() -> None:
    robust = {"oracle": 0.95, "erm": 0.4, "mixup": 0.5, "group-dro": 0.8, "logit-distillation": 0.92}
    ours = {"intermediate-distillation": 0.93, "balanced-distillation": 0.7, "balanced-finetune": 0.6}
    told = holds(made_up({**robust, **ours}))
    assert told["distillation at intermediate layers beats ERM"] is True
    assert told["distillation at intermediate layers beats group-based rivals"] is True
    assert told["distillation with the groups' labels balanced beats all of these"] is False
    assert told["and beats the same without a teacher"] is True
    assert told["in many cases as good as without the bias, in distribution"] is True
    assert told["it also works with late layers"] is None


def test_two_of_four_architectures_are_not_enough() -> None:
    cases = made_up({"oracle": 0.95, "erm": 0.6, "intermediate-distillation": 0.7})
    for case in cases:
        if case["network"] in ("alexnet", "cnn3d") and case["recipe"] == "erm":
            case["robust_auroc"] = 0.8
    told = holds(cases)
    assert told["distillation at intermediate layers beats ERM"] is False
    assert told["in many cases as good as without the bias, in distribution"] is False


def test_a_case_that_is_not_defined_has_no_figure() -> None:
    cases = made_up({"erm": 0.6})
    cases[0] = {k: v for k, v in cases[0].items() if not k.endswith("auroc")} | {"undefined": "without masks"}
    rows = boland.summarize(cases)["recipes"]
    assert rows[0]["robust_auroc"]["mean"] is None
    assert rows[1]["robust_auroc"]["mean"] == pytest.approx(0.6)
    assert len(boland.draw(cases).axes) == len(boland.ARCHITECTURES) - 1


def test_a_folder_without_the_data_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the folders chexpert, isic2017"):
        boland.check(tmp_path)


def test_with_data_the_flat_architectures_take_its_images(tmp_path: Path) -> None:
    root = tmp_path / "isic2017"
    for part in ("Training", "Validation", "Test_v2"):
        images = root / f"ISIC-2017_{part}_Data"
        images.mkdir(parents=True)
        names = [f"ISIC_{part}_{i}" for i in range(3)]
        for name in names:
            Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(images / f"{name}.jpg")
        truth = pd.DataFrame({"image_id": names, "melanoma": [0, 1, 0], "seborrheic_keratosis": [0, 0, 1]})
        truth.to_csv(root / f"ISIC-2017_{part}_Part3_GroundTruth.csv", index=False)
        meta = pd.DataFrame({"image_id": names, "age_approximate": 50, "sex": "male"})
        meta.to_csv(images / f"ISIC-2017_{part}_Data_metadata.csv", index=False)
    boland.check(tmp_path)
    listed = boland.cases(settings(data=tmp_path))
    assert {case["task"] for case in listed if case["network"] == "alexnet"} == {"isic2017"}
    assert {case["task"] for case in listed if case["network"] == "cnn3d"} == {"heads"}
    assert "clean from elsewhere" not in {case["variant"] for case in listed}


def test_heads_are_the_same_in_every_part_but_for_the_bias(monkeypatch) -> None:
    monkeypatch.setattr(debias_heads, "N_TRAIN", 100)
    monkeypatch.setattr(debias_heads, "N_HELD_OUT", 60)
    cohort = debias_heads.head_cohort.__wrapped__("intensity", 3, 0.9, 0.1, other=False)
    shares = cohort.biased.frame.groupby("label")["intensity"].mean().to_list()
    assert shares == pytest.approx([0.1, 0.9], abs=0.03)
    assert cohort.unbiased.frame["sample_id"].tolist() == cohort.biased.frame["sample_id"].tolist()
    same = cohort.unbiased.frame["intensity"].to_numpy() == cohort.biased.frame["intensity"].to_numpy()
    row = int(np.flatnonzero(same)[0])
    assert (cohort.unbiased.image(row) == cohort.biased.image(row)).all()
    row = int(np.flatnonzero(~same)[0])
    assert not (cohort.unbiased.image(row) == cohort.biased.image(row)).all()
    ids = [set(t.frame["sample_id"]) for t in (cohort.biased, cohort.clean, cohort.audited, cohort.test)]
    assert sum(map(len, ids)) == len(set().union(*ids))
    carrier = int(np.flatnonzero(cohort.biased.frame["intensity"] == 1)[0])
    mask = cohort.masks(carrier)
    assert mask is not None
    assert mask.float().mean() > 0.1


@pytest.mark.slow
def test_the_quick_run(tmp_path: Path) -> None:
    chosen = settings(tmp_path, quick=True)
    cases = [c for c in boland.cases(chosen) if c["recipe"] in ("erm", "oracle", "intermediate-distillation")]
    ran = [{**case, **boland.run_case(case, chosen)} for case in cases]
    found = {case["recipe"]: case for case in ran}
    assert found["oracle"]["robust_auroc"] > found["erm"]["robust_auroc"] + 0.1
    assert found["intermediate-distillation"]["robust_auroc"] > found["erm"]["robust_auroc"]
    assert 0.3 < found["oracle"]["elsewhere_auroc"] <= 1
