"""Masks are drawn of any number of images in the same memory."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from shortcutscope.benchmarks.peak import NotMeasurableError, peak_bytes
from shortcutscope.benchmarks.suites.scan import in_process
from shortcutscope.data.table import ImageTable
from shortcutscope.masks.annotation import annotate
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan

pytestmark = pytest.mark.slow

#: Eight times the images may need this much more, of the whole process.
GROWTH = 1.1


class Marked(torch.utils.data.Dataset):
    """Noise with a bright square on every other image, made when it is read."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        image = 0.3 * np.random.default_rng(i).random((1, 32, 32), np.float32)
        if i % 2:
            image[:, 4:10, 4:10] = 0.9
        return torch.from_numpy(image)


def peak_of_masks(n):
    torch.set_num_threads(1)
    frame = pd.DataFrame({"label": np.arange(n) // 2 % 2})
    table = ImageTable.from_dataset(Marked(n), frame)
    model = thin_resnet18(width=4).eval()
    with tempfile.TemporaryDirectory() as folder:
        scanned = scan(
            model,
            table,
            Path(folder) / "scan",
            scanning=Scanning(relevance=False),
            running=Running(progress=False),
        )
        ids = table.frame["sample_id"].to_numpy(np.str_)
        concept = Concept("square", np.arange(n) % 2.0, "planted", ids)
        masks = annotate(
            model,
            scanned,
            table,
            concept,
            out=Path(folder) / "masks",
            heat=True,
            running=Running(progress=False),
        )
        assert len(masks) == n
        try:
            return peak_bytes()
        except NotMeasurableError:
            return None


def test_memory_does_not_grow_with_the_number_of_images():
    small, large = (in_process(peak_of_masks, n) for n in (400, 3200))
    if small is None or large is None:
        pytest.skip("the system tells no peak memory")
    assert large / small <= GROWTH
