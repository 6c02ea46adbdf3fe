import io
import struct
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from shortcutscope.data.readers.image import UnreadableImageError, read_image
from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.data.sources import ImageReading, NpzSource, read_npz
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError


def png_header(path, width, height):
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 9)),
    )
    body = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


def npy_header(shape, kind="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_sizes_up_to_the_limit():
    assert check_size((2, 3), 6) == (2, 3)
    for size in ((2, 4), (10**6, 10**6)):
        with pytest.raises(InputError, match=r"values, and the limit is 6.*max_pixels= \(--max-pixels\)"):
            check_size(size, 6)
    with pytest.raises(InputError, match="at least one pixel"):
        check_size((3, 0))


def test_r5_headers_of_a_trillion_pixels_are_refused(tmp_path):
    """Each of these files says that it has 10**12 values, and has none of them."""
    png_header(tmp_path / "a.png", 10**6, 10**6)
    (tmp_path / "b.npy").write_bytes(npy_header((10**6, 10**6)) + bytes(64))
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((4, 4), np.uint8))
    with tifffile.TiffFile(tmp_path / "c.tif", mode="r+b") as file:
        file.pages[0].tags["ImageWidth"].overwrite(10**6)
        file.pages[0].tags["ImageLength"].overwrite(10**6)
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), tmp_path / "d.nii")
    raw = bytearray((tmp_path / "d.nii").read_bytes())
    raw[42:48] = struct.pack("<3h", 10**4, 10**4, 10**4)
    (tmp_path / "d.nii").write_bytes(raw)
    (tmp_path / "e.pgm").write_bytes(b"P5 1000000 1000000 255\n" + bytes(16))
    for name in ("a.png", "b.npy", "c.tif", "d.nii", "e.pgm"):
        with pytest.raises(UnreadableImageError, match=rf"{name}.*the limit is 268,435,456"):
            read_image(tmp_path / name)


def test_r5_arrays_that_are_shorter_than_they_say(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy_header((1000, 1000)) + bytes(64))
    with pytest.raises(UnreadableImageError, match="holds 64 bytes"):
        read_image(tmp_path / "a.npy")
    for member, told in ((npy_header((10**6, 10**6)) + bytes(64), "it has"), (b"\x93NUMPY", "npz file")):
        with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
            archive.writestr("train_images.npy", member)
        with pytest.raises(InputError, match=rf"b\.npz.*{told}"):
            read_npz(tmp_path / "b.npz", "train_images")


def test_r5_the_limit_can_be_raised(tmp_path):
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.png")
    frame = pd.DataFrame({"image": ["a.png"], "label": [0]})
    with pytest.raises(UnreadableImageError, match="20 x 30, 600 values"):
        ImageTable.from_frame(frame, root=tmp_path, max_pixels=599).image(0)
    small = ImageTable.from_frame(frame, root=tmp_path, max_pixels=600)
    assert small.image(0).shape == (1, 20, 30)
    assert small.fingerprint() == ImageTable.from_frame(frame, root=tmp_path).fingerprint()
    for limit in (0, -1, 2.5, True):
        with pytest.raises(InputError, match="max_pixels"):
            ImageTable.from_frame(frame, root=tmp_path, max_pixels=limit)
    np.savez(tmp_path / "b.npz", x=np.zeros((5, 20, 30), np.uint8))
    with pytest.raises(InputError, match="20 x 30"):
        NpzSource(tmp_path / "b.npz", ["x"], ImageReading(max_pixels=599))
    assert MAX_PIXELS == 2**28


def test_r4_medmnist_files_of_odd_members_are_refused(tmp_path):
    images, labels = np.zeros((4, 6, 6), np.uint8), np.array([[0], [1], [0], [1]])
    odd = {
        "scalar": {"train_images": np.uint8(3), "train_labels": labels},
        "vector": {"train_images": np.zeros(4, np.uint8), "train_labels": labels},
        "text": {"train_images": images, "train_labels": np.array(["a", "b", "a", "b"])},
        "deep": {"train_images": images, "train_labels": np.zeros((4, 1, 1), int)},
        "none": {"train_images": images, "train_labels": np.int64(3)},
        "other": {"a": images},
        "record": {"train_images": np.zeros(4, [("a", "u1")]), "train_labels": labels},
        "complex": {"train_images": images * 1j, "train_labels": labels},
    }
    for name, members in odd.items():
        np.savez(tmp_path / f"{name}.npz", **members)
        with pytest.raises(InputError):
            ImageTable.from_medmnist(tmp_path / f"{name}.npz", splits=["train"])
    np.savez(tmp_path / "pickle.npz", train_images=np.array([{}], dtype=object), train_labels=labels)
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "folder.npz").mkdir()
    for name in ("pickle", "empty", "folder"):
        with pytest.raises(InputError):
            ImageTable.from_medmnist(tmp_path / f"{name}.npz", splits=["train"])
