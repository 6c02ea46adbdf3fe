from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image


@pytest.fixture
def pixels():
    """Twelve grey images (12, 10, 8) of uint8."""
    return np.random.default_rng(0).integers(0, 256, (12, 10, 8), dtype=np.uint8)


@pytest.fixture
def manifest(tmp_path, pixels) -> Path:
    """A CSV beside a folder of PNGs: four patients, text labels, two metadata columns, one mask."""
    (tmp_path / "images").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "images" / f"{i:02d}.png")
    Image.fromarray((pixels[0] > 128).astype(np.uint8) * 255).save(tmp_path / "mask.png")
    frame = pd.DataFrame(
        {
            "image": [f"images/{i:02d}.png" for i in range(12)],
            "diagnosis": ["sick", "healthy"] * 6,
            "patient": [f"00{i // 3}" for i in range(12)],
            "fold": ["train"] * 6 + ["test"] * 6,
            "age": np.arange(12) + 40,
            "ruler": [0, 1] * 6,
            "mask": ["mask.png", *[None] * 11],
        }
    )
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"
