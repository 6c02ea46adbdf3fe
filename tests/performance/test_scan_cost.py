"""The bars of the scan, measured as `shortcutscope bench scan` does: CPU times alternated in one process."""

from pathlib import Path

import pytest
import torch

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import scan as bench

pytestmark = pytest.mark.slow

SETTINGS = Settings(quick=True, seed=0, data=None, cache=Path("unused"), jobs=1)
CASES = {case["model"]: case for case in bench.cases(SETTINGS)}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("model", ["resnet18", "resnet50", "vgg16", "vit_tiny"])
def test_all_layers_cost_about_one_forward_and_one_backward_pass(model):
    measured = bench.run_case(CASES[model], SETTINGS)
    assert measured["ratio_fb"] <= bench.BARS["ratio_fb"]
    assert measured["ratio_all_vs_one"] <= bench.BARS["ratio_all_vs_one"]
    assert measured["ratio_captum_per_layer_both"] >= bench.CAPTUM_BARS.get(model, 1)
    if measured["memory_ratio_fb"] is None:
        pytest.skip(f"peak memory is not measurable here: {measured['memory_reason']}")
    assert measured["memory_ratio_fb"] <= bench.BARS["memory_ratio_fb"]


def test_memory_does_not_grow_with_the_number_of_samples():
    measured = bench.run_case(CASES["thin_resnet18"], SETTINGS)
    if measured["memory_growth"] is None:
        pytest.skip(measured["memory_reason"])
    assert measured["memory_growth"] <= bench.BARS["memory_growth"]
