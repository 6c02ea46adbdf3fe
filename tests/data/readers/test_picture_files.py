import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from shortcutscope.data.readers.image import UnreadableImageError, read_image
from shortcutscope.data.sources import PathSource
from shortcutscope.data.stored_frame import stored_frame

GREY = np.array([[0, 16384, 32768], [65535, 257, 1]], dtype=np.uint16)
COLOUR = np.stack([GREY, GREY // 2, GREY // 4], axis=-1)


def deep_png(path, array, kind, *chunks):
    """A PNG of 16 bits a sample, by the format's description; Pillow cannot write one of colours."""
    rows, columns = array.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", columns, rows, 16, kind, 0, 0, 0)
    body = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in body))
    return path


def test_d5_png_keeps_sixteen_bits(tmp_path):
    assert np.array_equal(read_image(deep_png(tmp_path / "a.png", COLOUR, 2)), COLOUR.transpose(2, 0, 1))
    alpha = np.full((*GREY.shape, 1), 7, dtype=np.uint16)
    with_alpha = deep_png(tmp_path / "b.png", np.concatenate([COLOUR, alpha], axis=-1), 6)
    assert np.array_equal(read_image(with_alpha), COLOUR.transpose(2, 0, 1))
    grey_alpha = deep_png(tmp_path / "c.png", np.concatenate([GREY[..., None], alpha], axis=-1), 4)
    assert np.array_equal(read_image(grey_alpha), GREY[None])
    exif = (b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    turned = deep_png(tmp_path / "d.png", COLOUR, 2, exif)
    assert np.array_equal(read_image(turned), np.rot90(COLOUR, -1).transpose(2, 0, 1))
    assert stored_frame(PathSource(["d.png"], str(tmp_path)), 0)[0] == (3, 2)
    turned.write_bytes(turned.read_bytes()[:-20])
    with pytest.raises(UnreadableImageError, match=r"d\.png"):
        read_image(turned)


@pytest.mark.parametrize("bits", [8, 16])
def test_d5_tiff_whose_lowest_value_is_white_is_inverted(tmp_path, bits):
    stored = GREY if bits == 16 else (GREY // 257).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "a.tif")[0], 2**bits - 1 - stored)
    tifffile.imwrite(tmp_path / "b.tif", np.stack([stored] * 2), photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "b.tif")[0], np.stack([2**bits - 1 - stored] * 2))


def test_d5_white_is_not_known_of_floats(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.float32), photometric="miniswhite")
    with pytest.raises(UnreadableImageError, match="its lowest value is white"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{}, {"bigtiff": True, "tile": (16, 16)}, {"byteorder": ">"}])
def test_d5_tiff_keeps_its_depth(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOUR, photometric="rgb", **options)
    assert np.array_equal(read_image(path), COLOUR.transpose(2, 0, 1))
    tifffile.imwrite(path, COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", **options)
    assert np.array_equal(read_image(path), COLOUR.transpose(2, 0, 1))
    tifffile.imwrite(path, np.stack([COLOUR, COLOUR // 3]), photometric="rgb", **options)
    assert np.array_equal(read_image(path), np.stack([COLOUR, COLOUR // 3]).transpose(3, 0, 1, 2))
    for kind in (np.float16, np.float32, np.float64, np.uint32, np.int16):
        tifffile.imwrite(path, (GREY // 4).astype(kind), **options)
        assert np.array_equal(read_image(path)[0], (GREY // 4).astype(kind)), kind


def test_d5_pages_are_a_volume_channels_or_refused(tmp_path):
    path = tmp_path / "a.tif"
    pages = np.arange(2 * 5 * 4, dtype=np.uint16).reshape(2, 5, 4)
    tifffile.imwrite(path, pages, photometric="minisblack")
    assert read_image(path).shape == (1, 2, 5, 4)
    tifffile.imwrite(tmp_path / "b.ome.tif", pages, photometric="minisblack", metadata={"axes": "CYX"})
    assert np.array_equal(read_image(tmp_path / "b.ome.tif"), pages)
    tifffile.imwrite(tmp_path / "c.ome.tif", pages, photometric="minisblack", metadata={"axes": "ZYX"})
    assert read_image(tmp_path / "c.ome.tif").shape == (1, 2, 5, 4)
    both = np.zeros((2, 3, 5, 4), dtype=np.uint16)
    tifffile.imwrite(path, both, imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(UnreadableImageError, match="pages are several axes"):
        read_image(path)
    with tifffile.TiffWriter(path) as file:
        file.write(np.full((64, 48), 200, np.uint8))
        file.write(np.full((32, 24), 100, np.uint8))
    assert read_image(path).shape == (1, 64, 48)
    with tifffile.TiffWriter(path) as file:
        file.write(np.full((64, 48), 200, np.uint8))
        file.write(np.full((48, 64), 100, np.uint8))
    with pytest.raises(UnreadableImageError, match="different sizes"):
        read_image(path)


@pytest.mark.parametrize("ending", ["png", "webp", "gif"])
def test_d5_animations_are_refused(tmp_path, ending):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)).convert("RGB") for value in (10, 200)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableImageError, match="it has 2 frames"):
        read_image(tmp_path / f"a.{ending}")


def test_d5_kinds_of_pixels(tmp_path):
    grey = np.array([[0, 64, 128, 255]], dtype=np.uint8)
    bits = Image.fromarray(grey).convert("1", dither=0)
    palette = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8), "P")
    palette.putpalette([0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 0, 255])
    alpha = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(255 - grey)])
    expected = {
        "bits": (bits, [[[0, 0, 255, 255]]]),
        "palette": (palette, [[[0, 85, 170, 255]], [[0, 85, 170, 0]], [[0, 85, 170, 255]]]),
        "alpha": (alpha, [grey]),
    }
    for name, (image, pixels) in expected.items():
        image.save(tmp_path / f"{name}.png", **({"transparency": 0} if name == "palette" else {}))
        assert read_image(tmp_path / f"{name}.png").tolist() == np.asarray(pixels).tolist(), name
    Image.new("CMYK", (2, 1), (0, 0, 0, 255)).save(tmp_path / "black.jpg", quality=100)
    assert read_image(tmp_path / "black.jpg").max() == 0
    (tmp_path / "grey.pgm").write_bytes(b"P5 3 2 65535\n" + GREY.astype(">u2").tobytes())
    assert np.array_equal(read_image(tmp_path / "grey.pgm")[0], GREY)
    assert read_image(tmp_path / "grey.pgm").dtype == np.uint16
    (tmp_path / "colour.ppm").write_bytes(b"P6 # deep\n3 2 65535\n" + COLOUR.astype(">u2").tobytes())
    with pytest.raises(UnreadableImageError, match="deeper than 8 bits"):
        read_image(tmp_path / "colour.ppm")


def test_formats_that_are_not_listed_are_not_opened(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(UnreadableImageError, match="none of PNG, JPEG"):
        read_image(tmp_path / "a.png")
