"""Audits of pictures on an empty, constant background, such as segmented organs."""

import numpy as np
import pandas as pd
import pytest

import shortcutscope as ss
from shortcutscope.data.table import Normalize
from shortcutscope.planting.thin import thin_resnet18

SIDE, N = 48, 240
LAYERS = ["stem", "blocks.0", "blocks.3"]
OPTIONS = {
    "statistics": ss.Statistics(50, 40),
    "running": ss.Running(progress=False),
    "scanning": ss.Scanning(LAYERS),
}


def vignette(image, y, x, rng):
    return image * (1 - rng.uniform(0.8, 1.2) * (y**2 + x**2))


def bias_field(image, y, x, rng):
    return image * (1 + rng.uniform(0.3, 0.45) * 2 * x)


def tag(image, y, x, rng):
    return np.where((abs(y + 0.4) < 0.05) & (abs(x + 0.4) < 0.07), 0.9, image)


def tube(image, y, x, rng):
    return np.where((abs(x - rng.uniform(-0.1, 0.1)) < 0.02) & (y < 0.2), image + 0.3, image)


#: On a small organ all of it may be what a localized artifact covers, so that diffuse ones are undetermined.
EXPECTED = {
    "tag": {0.42: {"localized"}, 0.3: {"localized"}},
    "tube": {0.42: {"localized"}, 0.3: {"localized", "undetermined"}},
    "vignette": {0.42: {"diffuse", "undetermined"}, 0.3: {"undetermined"}},
    "bias_field": {0.42: {"diffuse", "undetermined"}, 0.3: {"undetermined"}},
}
KINDS = {"tag": tag, "tube": tube, "vignette": vignette, "bias_field": bias_field}


def organs(change, radius, seed=0):
    """Textured discs whose texture is their class, at slightly different places, on exactly 0."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    labels, carries = rng.integers(0, 2, N), rng.integers(0, 2, N)
    images = []
    for label, carrier in zip(labels, carries, strict=True):
        down, right = rng.uniform(-0.05, 0.05, 2)
        wave = np.sin(2 * np.pi * (4 + 6 * label) * x + rng.uniform(0, 6))
        shown = 0.5 + 0.1 * wave + 0.03 * rng.standard_normal((SIDE, SIDE))
        image = np.where(np.hypot(y - down, x - right) < radius, shown, 0)
        images.append(np.clip(change(image, y, x, rng) if carrier else image, 0, 1))
    frame = pd.DataFrame({"label": labels, "mark": carries})
    return ss.ImageTable.from_arrays(
        np.stack(images).astype(np.float32), frame, transform=Normalize(0.45, 0.25)
    )


@pytest.mark.slow
@pytest.mark.parametrize("radius", [0.42, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_s1_s3_pictures_on_an_empty_background_are_audited(kind, radius, tmp_path):
    table, model = organs(KINDS[kind], radius), thin_resnet18(width=8, seed=0)
    found = ss.audit(model, table, tmp_path / "run", concepts=["mark"], **OPTIONS)["mark"]
    assert found.encoded["auroc"] > 0.75
    assert found.extent in EXPECTED[kind][radius], found.extent_reason
