from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shortcutscope.data.readers.image import (
    UnreadableImageError,
    channels_first,
    read_image,
    resize,
    to_float,
    to_mode,
)
from shortcutscope.errors import InputError

GREY = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 10
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "pgm"])
def test_lossless_grey_comes_back_with_a_channel_axis(tmp_path, suffix):
    Image.fromarray(GREY).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), GREY[None])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_colour_comes_back_channels_first(tmp_path, suffix):
    Image.fromarray(COLOUR).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), COLOUR.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    deep = GREY.astype(np.uint16) * 256 + 7
    Image.fromarray(deep).save(tmp_path / f"a.{suffix}")
    found = read_image(tmp_path / f"a.{suffix}", mode="L")
    assert found.dtype == np.uint16
    assert np.array_equal(found[0], deep)


def test_float_tiff_keeps_its_values(tmp_path):
    values = GREY.astype(np.float32) * 3 - 100.5
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert np.array_equal(read_image(tmp_path / "a.tiff")[0], values)


def test_tiff_of_several_pages_is_a_volume(tmp_path):
    pages = [Image.fromarray(GREY + k) for k in range(5)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    found = read_image(tmp_path / "a.tif")
    assert found.shape == (1, 5, 6, 4)
    assert np.array_equal(found[0, 3], GREY + 3)
    assert read_image(tmp_path / "a.tif", dims=2).shape == (5, 6, 4)


def test_colour_pages_and_thumbnails(tmp_path):
    page, thumbnail = Image.fromarray(COLOUR), Image.fromarray(COLOUR[::2, ::2].copy())
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    page.save(tmp_path / "b.tif", save_all=True, append_images=[thumbnail])
    assert read_image(tmp_path / "a.tif").shape == (3, 2, 6, 4)
    assert np.array_equal(read_image(tmp_path / "b.tif"), COLOUR.transpose(2, 0, 1))


def test_tiff_that_pillow_does_not_know_is_read_all_the_same(tmp_path):
    from skimage.io import imsave

    deep = (COLOUR.astype(np.uint16) << 8) + 3
    imsave(tmp_path / "a.tif", deep.astype(np.float64), check_contrast=False)
    assert np.array_equal(read_image(tmp_path / "a.tif"), deep.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("mode", "channels"), [("P", 3), ("CMYK", 3), ("RGBA", 3), ("LA", 1), ("1", 1), ("YCbCr", 3)]
)
def test_unusual_pixel_formats_become_grey_or_rgb(tmp_path, mode, channels):
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    Image.fromarray(COLOUR).convert(mode).save(tmp_path / f"a.{suffix}")
    found = read_image(tmp_path / f"a.{suffix}")
    assert found.shape == (channels, 6, 4)
    assert found.dtype == np.uint8


def test_exif_orientation_is_applied(tmp_path):
    image = Image.fromarray(np.repeat(np.repeat(GREY, 8, 0), 8, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    image.save(tmp_path / "a.jpg", exif=exif, quality=100)
    plain = io.BytesIO()
    image.save(plain, format="jpeg", quality=100)
    upright = np.rot90(np.asarray(Image.open(plain)), k=-1)
    assert np.array_equal(read_image(tmp_path / "a.jpg")[0], upright)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "npy", "bmp"])
def test_truncated_files_are_named(tmp_path, suffix):
    path = tmp_path / f"scan-7.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    if suffix == "npy":
        np.save(path, noise)
    else:
        Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImageError, match=r"scan-7\."):
        read_image(path)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300), suffix=st.sampled_from(["png", "jpg", "tif", "npy"]), data=st.data())
def test_arbitrary_bytes_are_refused_as_unreadable_and_nothing_else(tmp_path_factory, content, suffix, data):
    magic = {
        "png": b"\x89PNG\r\n\x1a\n",
        "jpg": b"\xff\xd8\xff\xe0",
        "tif": b"II*\x00",
        "npy": b"\x93NUMPY\x01\x00",
    }
    path = tmp_path_factory.mktemp("fuzz") / f"a.{suffix}"
    path.write_bytes((magic[suffix] if data.draw(st.booleans()) else b"") + content)
    with pytest.raises(UnreadableImageError):
        read_image(path)


def test_missing_file_and_pickled_array(tmp_path):
    with pytest.raises(UnreadableImageError, match="no such file"):
        read_image(tmp_path / "none.png")
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UnreadableImageError, match="array of object, not of numbers"):
        read_image(tmp_path / "a.npy")


def test_npy_axes(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4), np.float32))
    assert read_image(tmp_path / "a.npy").shape == (2, 3, 4)
    assert read_image(tmp_path / "a.npy", dims=3).shape == (1, 2, 3, 4)
    assert read_image(tmp_path / "a.npy", channels_last=True).shape == (4, 2, 3)
    with pytest.raises(InputError, match=r"a\.npy.*\(2, 3, 4\).*1 spatial"):
        read_image(tmp_path / "a.npy", dims=1)


@pytest.mark.parametrize(
    ("shape", "dims", "expected"),
    [
        ((5,), None, (1, 5)),
        ((12, 5), 1, (12, 5)),
        ((6, 5), None, (1, 6, 5)),
        ((3, 6, 5), None, (3, 6, 5)),
        ((2, 4, 6, 5), None, (2, 4, 6, 5)),
        ((4, 6, 5), 3, (1, 4, 6, 5)),
    ],
)
def test_channel_axis(shape, dims, expected):
    assert channels_first(np.zeros(shape), dims).shape == expected


def test_scalars_are_no_images():
    with pytest.raises(InputError, match="dims"):
        channels_first(np.zeros(()))


def test_luma_is_pillows():
    ours = to_mode(COLOUR.transpose(2, 0, 1), "L")[0].astype(int)
    theirs = np.asarray(Image.fromarray(COLOUR).convert("L")).astype(int)
    assert np.abs(ours - theirs).max() <= 1


def test_modes_between_channel_counts():
    grey, alpha = GREY[None], np.stack([GREY] * 4)
    assert np.array_equal(to_mode(grey, "RGB"), np.stack([GREY] * 3))
    assert to_mode(alpha, "RGB").shape == (3, 6, 4)
    assert to_mode(grey, "L") is grey
    with pytest.raises(InputError, match="2 channels"):
        to_mode(np.zeros((2, 4, 4)), "RGB")
    with pytest.raises(InputError, match="mode"):
        to_mode(grey, "CMYK")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.bool_])
@pytest.mark.parametrize("shape", [(2, 12), (1, 9, 12), (3, 9, 12), (1, 6, 9, 12)])
def test_resize_keeps_dtype_and_constants(dtype, shape):
    image = np.ones(shape, dtype=dtype)
    small = resize(image, 5)
    assert small.dtype == dtype
    assert small.shape == (shape[0],) + (5,) * (len(shape) - 1)
    assert np.allclose(small, 1, rtol=1e-6)


def test_resize_is_antialiased():
    checkerboard = np.indices((64, 64)).sum(axis=0) % 2
    small = resize(checkerboard.astype(np.float32)[None], (16, 8))
    assert small.shape == (1, 16, 8)
    assert np.abs(small - 0.5).max() < 0.1


@pytest.mark.parametrize("size", [0, (4, 4, 4), (4, -1)])
def test_resize_refuses_sizes_that_do_not_fit(size):
    with pytest.raises(InputError, match="size"):
        resize(np.zeros((1, 6, 6)), size)


@given(
    low=st.floats(-2000, 2000), width=st.floats(0.01, 4000), kind=st.sampled_from(["bool", "uint8", "uint16"])
)
def test_unsigned_full_scale_is_mapped_to_the_declared_range(low, width, kind):
    top = {"bool": 1, "uint8": 255, "uint16": 65535}[kind]
    values = to_float(np.array([0, top], dtype=kind), (low, low + width))
    assert values.dtype == torch.float32
    assert np.allclose(values.numpy(), [low, low + width], rtol=1e-5, atol=1e-3)


def test_physical_values_are_not_scaled():
    hounsfield = np.array([-1024, 0, 3071], dtype=np.int16)
    assert to_float(hounsfield, (-1024, 3071)).tolist() == [-1024, 0, 3071]
    assert to_float(np.array([0.25]), (0, 255)).tolist() == [0.25]
    assert to_float(np.array([7], dtype=np.uint8), (0, 255)).tolist() == [7]
