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


@pytest.fixture
def write_record():
    """Writes WFDB records as text and bytes, by the format's own description: 16 bits, a microvolt a step."""

    def write(folder: Path, name: str, signals: np.ndarray, leads: list[str]) -> Path:
        stored = np.round(np.nan_to_num(signals, nan=-32.768) * 1000).astype("<i2")
        (folder / f"{name}.dat").write_bytes(stored.T.tobytes())
        header = [f"{name} {len(signals)} 100 {signals.shape[1]}"]
        header += [
            f"{name}.dat 16 1000.0(0)/mV 16 0 {row[0]} {int(row.sum(dtype=np.int16))} 0 {lead}"
            for row, lead in zip(stored, leads, strict=True)
        ]
        (folder / f"{name}.hea").write_text("\n".join(header) + "\n")
        return folder / f"{name}.hea"

    return write
