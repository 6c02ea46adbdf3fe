"""Measured columns of a table: measured as images are verified, each image decoded once."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope import ImageTable
from shortcutscope.data.properties.names import OF_FILES, OF_PICTURES, measured_source
from shortcutscope.errors import InputError
from shortcutscope.options import Running

QUIET = Running(workers=0, progress=False)


@pytest.fixture
def mixed(tmp_path):
    """Eight pictures, half of them JPEG by a camera, half PNG."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x010F] = "Canon"
    names = []
    for k in range(8):
        image = Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8))
        names.append(f"Jane Doe {k}.{'jpg' if k % 2 else 'png'}")
        image.save(tmp_path / names[-1], **({"exif": exif} if k % 2 else {}))
    frame = pd.DataFrame({"image": names, "label": [0, 1] * 4, "file_year": range(8)})
    return ImageTable.from_frame(frame, root=tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_columns_are_those_of_each_image(mixed, workers):
    table = mixed.measured(Running(workers=workers, progress=False))
    frame = table.frame
    assert frame["file_codec"].tolist() == ["PNG", "JPEG"] * 4
    assert frame["file_manufacturer"].tolist() == ["none", "Canon"] * 4
    assert np.isnan(frame["file_jpeg_quality"]).tolist() == [True, False] * 4
    means = [float(mixed.image(k).mean()) for k in range(8)]
    np.testing.assert_allclose(frame["picture_mean_grey"], means, atol=1e-5)
    assert frame["file_year"].tolist() == list(range(8))  # the user's own stays
    assert table.fingerprint() == mixed.fingerprint()
    assert "Jane" not in frame.drop(columns="sample_id").to_csv()


def test_verify_measures_in_the_same_pass(mixed, monkeypatch):
    reads = []
    read = type(mixed.source).read
    monkeypatch.setattr(type(mixed.source), "read", lambda self, i: (reads.append(i), read(self, i))[1])
    table = mixed.keeping().verify(workers=0, progress=False, measure=True)
    pd.testing.assert_frame_equal(table.frame, mixed.measured(QUIET).frame)
    assert sorted(reads[:8]) == list(range(8))
    assert len(reads) == 16  # once for each of the two tables


def test_images_in_memory_have_pictures_and_no_files():
    images = np.random.default_rng(0).random((4, 3, 16, 16))
    table = ImageTable.from_arrays(images, [0, 1, 0, 1]).measured(QUIET)
    assert {measured_source(column) for column in table.metadata} == {"picture"}
    assert set(table.metadata) == set(OF_PICTURES)


def test_unreadable_images_are_named(mixed, tmp_path):
    (tmp_path / "Jane Doe 3.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match="Jane Doe 3"):
        mixed.measured(QUIET)


def test_no_name_is_of_both_kinds():
    assert not set(OF_FILES) & set(OF_PICTURES)
