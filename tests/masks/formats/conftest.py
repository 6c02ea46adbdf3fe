import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope.data.sample_geometry import image_name
from shortcutscope.data.table import ImageTable
from shortcutscope.masks.mask_files import Assessment
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter

PROVENANCE = {
    "model": "0f" * 32,
    "layers": ["layer1"],
    "concept": "ruler",
    "method": "fused",
    "threshold": 0.4,
}


def blob(size, seed):
    """A ragged shape with a hole, and a part of its own."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(size, dtype=bool)
    mask[2 : size[0] // 2 + 2, 3 : size[1] - 4] = True
    mask[4:6, 6:9] = False
    mask ^= generator.random(size) > 0.93
    return mask


@pytest.fixture
def table(tmp_path):
    """Turned by EXIF, of 16 bits, in a sub-folder, and one that carries nothing; none of them square."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((18, 30), np.uint8)).save(folder / "a.jpg", exif=exif)
    Image.fromarray(np.zeros((22, 15), np.uint16)).save(folder / "b.png")
    Image.fromarray(np.zeros((17, 40, 3), np.uint8)).save(folder / "sub" / "c.png")
    Image.fromarray(np.zeros((12, 21), np.uint8)).save(folder / "d.png")
    names = ["a.jpg", "b.png", "sub/c.png", "d.png"]
    frame = pd.DataFrame({"image": names, "label": [0, 1, 0, 1], "sample_id": ["s-a", "s-b", "s-c", "s-d"]})
    return ImageTable.from_frame(frame, root=folder, size=(48, 48), mode="L")


@pytest.fixture
def masks(table, tmp_path):
    """Masks of that table, in the images' own geometry."""
    with MaskWriter(tmp_path / "run" / "masks" / "ruler", "ruler", PROVENANCE) as writer:
        for i, sample_id in enumerate(table.frame["sample_id"]):
            geometry = table.geometry(i)
            empty = np.zeros(geometry.size, dtype=bool)
            writer.append(
                sample_id,
                empty if sample_id == "s-d" else blob(geometry.size, i),
                image=image_name(table, i),
                assessment=Assessment(confidence=0.25 * i, flagged=i == 1),
                orientation=geometry.orientation,
            )
    return MaskSet.open(tmp_path / "run" / "masks" / "ruler")


@pytest.fixture
def same():
    """Whether two sets hold the same masks, and know the same of them."""

    def check(found, expected):
        assert sorted(found.sample_ids) == sorted(expected.sample_ids)
        for entry in expected.entries:
            assert np.array_equal(found.mask(entry.sample_id), expected.mask(entry.sample_id)), entry
            other = found.entry(entry.sample_id)
            for what in (
                "image",
                "size",
                "area",
                "confidence",
                "flagged",
                "accepted",
                "edited",
                "orientation",
            ):
                assert getattr(other, what) == getattr(entry, what), what
        assert found.name == expected.name
        for key in PROVENANCE:
            assert found.provenance[key] == PROVENANCE[key]
        return True

    return check
