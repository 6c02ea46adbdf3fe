from pathlib import Path

import pytest
import torch

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import device as bench
from shortcutscope.errors import InputError
from shortcutscope.planting.thin import thin_resnet18

SETTINGS = Settings(quick=True, seed=0, data=None, cache=Path("unused"), jobs=1)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_without_an_accelerator_it_is_refused_before_work():
    with pytest.raises(InputError, match=r"no accelerator .* `bench audit`"):
        bench.run_case(bench.cases(SETTINGS)[0], SETTINGS)


@pytest.mark.gpu
def test_the_small_version_on_an_accelerator():
    measured = bench.run_case(bench.cases(SETTINGS)[0], SETTINGS)
    assert measured["same_verdicts"]


@pytest.mark.slow
def test_all_of_it_runs_on_a_processor_with_a_thin_network(monkeypatch):
    monkeypatch.setattr(bench, "_network", lambda *_: thin_resnet18(width=4, in_channels=3).eval())
    case = {"samples": 240, "masks": 4, "clean": 48, "compared": 160, "steps": 2, "input": 32}
    measured = bench.measure(case, 0, torch.device("cpu"))
    assert measured["same_verdicts"]
    assert {"audit", "masks", "distillation", "audit: scan"} <= set(measured["seconds"])
    assert bench.summarize([measured])["minutes"][0] > 0
