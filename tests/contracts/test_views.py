"""What every discovery view holds to: scores of all samples under its name, the same again, and no change."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.candidates import SampleInfo
from shortcutscope.discover.early import early_features
from shortcutscope.discover.views import VIEWS, ViewInput
from shortcutscope.models.seeding import seeded
from shortcutscope.options import Running
from shortcutscope.planting.thin import ThinResNet
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.reading import Scan
from shortcutscope.scan.scanner import scan

N, SIDE = 120, 32


@pytest.fixture(scope="module", params=["images", "signals", "without relevance"])
def seen(request, tmp_path_factory) -> ViewInput:
    generator = np.random.default_rng(0)
    labels = np.arange(N) % 2
    images = generator.uniform(0.2, 0.5, (N, 1, SIDE, SIDE)).astype(np.float32)
    images[generator.random(N) < np.where(labels == 1, 0.9, 0.1), :, 4:12, 4:12] = 0.95
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(N)], "label": labels})
    if request.param == "signals":
        table = ImageTable.from_arrays(images[:, :, :2].reshape(N, 1, -1), frame, dims=1, channels_last=False)
    else:
        table = ImageTable.from_arrays(images, frame, value_range=(0, 1))
    axes = 1 if request.param == "signals" else 2
    with seeded(0):
        model = ThinResNet(width=4, blocks=(1, 1), dims=axes).eval()
    relevance = request.param != "without relevance"
    folder = tmp_path_factory.mktemp("views") / "scan"
    found: Scan = scan(
        model, table, folder, scanning=Scanning(relevance=relevance), running=Running(progress=False)
    )
    samples = SampleInfo(labels, np.arange(N), {1: found.margin(1).astype(np.float64)}, 0)
    return ViewInput(found, early_features(found, table, Running(progress=False)), samples, [])


@pytest.mark.parametrize("name", VIEWS)
class TestView:
    def test_scores_are_of_every_sample_named_apart_and_the_same_again(self, name, seen):
        seen.notes.clear()
        first, second = list(VIEWS[name](seen)), list(VIEWS[name](seen))
        assert len({view for view, _ in first}) == len(first)
        assert [view for view, _ in second] == [view for view, _ in first]
        for (view, scores), (_, again) in zip(first, second, strict=True):
            assert view.partition(":")[0] in VIEWS
            assert scores.ndim == 2
            assert scores.shape[0] == N
            assert scores.shape[1] > 0
            np.testing.assert_array_equal(scores, again)
        assert first or seen.notes  # a view that cannot be had says so

    def test_what_it_looks_at_stays_as_it_is(self, name, seen):
        early, labels = seen.early.values.copy(), seen.samples.labels.copy()
        margins = {side: values.copy() for side, values in seen.samples.margins.items()}
        list(VIEWS[name](seen))
        np.testing.assert_array_equal(seen.early.values, early)
        np.testing.assert_array_equal(seen.samples.labels, labels)
        for side, values in margins.items():
            np.testing.assert_array_equal(seen.samples.margins[side], values)
