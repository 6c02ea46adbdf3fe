"""Faithfulness: perfect maps score as such, removal does what it says, and every method is listed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shortcutscope.benchmarks.attributions.perturbation import DIAGONAL, DIRECT, NOISE, drops, flip, impute
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import faithfulness
from shortcutscope.planting.artifacts import CATALOGUE


def settings(tmp_path: Path, quick: bool = False) -> Settings:
    return Settings(quick=quick, seed=0, data=None, cache=tmp_path, jobs=1)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_at_least_ten_models_with_localized_artifacts_on_both_tasks(tmp_path):
    listed = faithfulness.cases(settings(tmp_path))
    assert len({tuple(case.items()) for case in listed}) == len(listed) >= 10
    assert {case["task"] for case in listed} == {"phantom", "phantom-faint"}
    assert all(CATALOGUE[case["kind"]].extent == "localized" for case in listed)
    assert len(faithfulness.cases(settings(tmp_path, quick=True))) == 1


def images_and_masks() -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose score is the sum over their masks."""
    masks = torch.zeros(2, 12, 12)
    masks[0, 2:5, 2:5] = 1
    masks[1, 7:10, 6:9] = 1
    return torch.full((2, 1, 12, 12), 0.1) + masks.unsqueeze(1), masks


def measured(maps: torch.Tensor) -> dict[str, float]:
    images, masks = images_and_masks()
    return faithfulness._measured(maps, masks, images, lambda x: (x[:, 0] * masks).sum((1, 2)))


def test_the_mask_itself_is_the_best_map_and_its_complement_the_worst():
    _, masks = images_and_masks()
    best, worst = measured(masks), measured(1 - masks)
    assert best["inside"] == best["pointing"] == 1
    assert worst["inside"] == worst["pointing"] == 0
    assert best["flipping"] > 4
    assert best["road"] > 4
    assert worst["flipping"] < 0.5
    assert worst["road"] < 0.5


def test_negative_relevance_is_left_out_and_noise_has_the_mask_s_area():
    _, masks = images_and_masks()
    assert measured(masks - 5 * (1 - masks))["inside"] == 1
    assert measured(-masks)["inside"] == 0
    noise = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0))
    assert measured(noise)["inside"] == pytest.approx(float(masks.mean()), abs=0.03)


def test_drops_remove_the_most_relevant_pixels_first():
    images = torch.arange(100.0).view(1, 1, 10, 10)
    fallen = drops(
        lambda x: (x.flatten(1) > 90).sum(1).float(), images, images[:, 0], flip, steps=(0.02, 0.05)
    )
    assert fallen.tolist() == [(2 + 5) / 2]


def test_flipping_puts_the_image_s_mean():
    image = np.stack([np.eye(4, dtype=np.float32), 3 * np.ones((4, 4), np.float32)])
    gone = np.zeros((4, 4), bool)
    gone[0, 0] = True
    flipped = flip(image, gone, generator())
    assert flipped[:, 0, 0].tolist() == [0.25, 3.0]
    assert (flipped[:, ~gone] == image[:, ~gone]).all()


def test_imputation_solves_the_neighbours_equations():
    """Against the equations written out pixel by pixel."""
    image = generator().normal(size=(2, 7, 6)).astype(np.float32)
    gone = generator().random((7, 6)) < 0.5
    gone[0, :2] = True  # also at the border
    filled = impute(image, gone, generator())
    assert (filled[:, ~gone] == image[:, ~gone]).all()
    noise = NOISE * generator().standard_normal((gone.sum(), 2)).T
    solved = filled.astype(float)
    solved[:, gone] -= noise
    for y, x in np.argwhere(gone):
        total, weights = np.zeros(2), 0.0
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if (dy or dx) and 0 <= y + dy < 7 and 0 <= x + dx < 6:
                    weight = DIAGONAL if dy and dx else DIRECT
                    total += weight * solved[:, y + dy, x + dx]
                    weights += weight
        np.testing.assert_allclose(solved[:, y, x], total / weights, atol=1e-5)


def finished(lrp: float, captum: float) -> dict[str, object]:
    def of(value: float) -> dict[str, float]:
        return dict.fromkeys(faithfulness.MEASURES, value)

    methods = {name: of(0.1) for name in (*faithfulness.CAPTUM, *faithfulness.LRP, "random")}
    methods |= {"lrp": of(lrp), "deep_lift": of(captum)}
    methods["zennit:epsilon_plus"] = {**dict.fromkeys(faithfulness.MEASURES), "reason": "no"}
    return {"area": 0.02, "methods": methods}


def test_summary_holds_lrp_against_the_best_of_captum():
    summary = faithfulness.summarize([finished(0.6, 0.5), finished(0.4, 0.6)])
    assert summary["models"] == 2
    assert summary["methods"]["lrp"]["inside"] == 0.5
    assert summary["captum_best"]["inside"] == "deep_lift"
    assert not summary["at_least_as_good"]["lrp"]["inside"]
    assert "zennit:epsilon_plus" not in summary["methods"]
    better = faithfulness.summarize([finished(0.6, 0.5)])
    assert better["at_least_as_good"]["lrp"]["inside"]
    assert not better["at_least_as_good"]["lrp:epsilon_gamma"]["inside"]


@pytest.mark.slow
def test_every_method_is_listed_for_a_real_model(tmp_path):
    chosen = settings(tmp_path, quick=True)
    found = faithfulness.run_case(faithfulness.cases(chosen)[0], chosen)
    assert set(found["methods"]) == {*faithfulness.CAPTUM, *faithfulness.LRP, "random"}
    assert found["methods"]["random"]["inside"] == pytest.approx(found["area"], rel=0.2)
    assert found["moved_by_artifact"] > 0
    assert all(m["inside"] is not None or m["reason"] for m in found["methods"].values())
