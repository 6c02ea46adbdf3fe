import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcutscope.data.readers.image import UnreadableImageError, read_image
from shortcutscope.data.readers.nifti import nifti_frame
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.extras import MissingExtraError

nibabel = pytest.importorskip("nibabel")


def write(path, values, codes="RAS", affine=None):
    if affine is None:
        start = nibabel.orientations.axcodes2ornt("RAS")
        turn = nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt(codes))
        affine = nibabel.orientations.inv_ornt_aff(turn, values.shape[:3])
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


@settings(max_examples=25, deadline=None)
@given(axes=st.permutations("RAS"), flips=st.lists(st.booleans(), min_size=3, max_size=3))
def test_every_orientation_comes_out_canonical_and_goes_back(tmp_path_factory, axes, flips):
    codes = "".join({"R": "L", "A": "P", "S": "I"}[a] if f else a for a, f in zip(axes, flips, strict=True))
    path = tmp_path_factory.mktemp("nifti") / "a.nii"
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    write(path, stored, codes)
    shown = read_image(path)
    expected = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
    assert shown.dtype == np.float32
    assert np.array_equal(shown[0], expected)
    size, orientation = nifti_frame(path)
    assert size == expected.shape
    assert np.array_equal(orientation.undo(shown[0]), stored)


def test_real_files_of_nibabel():
    folder = pathlib.Path(nibabel.__file__).parent / "tests" / "data"
    path = folder / "example4d.nii.gz"
    image = nibabel.as_closest_canonical(nibabel.load(path))
    found = read_image(path)
    assert found.shape == (image.shape[3], *image.shape[:3])
    assert np.allclose(found[1], image.get_fdata()[..., 1])


def test_one_slice_is_an_image_where_it_is_asked_for(tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    write(tmp_path / "a.nii.gz", values, "LPS")
    assert read_image(tmp_path / "a.nii.gz").shape == (1, 3, 4, 1)
    flat = read_image(tmp_path / "a.nii.gz", dims=2)
    assert np.array_equal(flat[0], values[::-1, ::-1, 0])
    size, orientation = nifti_frame(tmp_path / "a.nii.gz", dims=2)
    assert size == (3, 4)
    assert np.array_equal(orientation.undo(flat[0]), values[..., 0])
    write(tmp_path / "b.nii", np.zeros((2, 3, 4), dtype=np.uint8))
    with pytest.raises(InputError, match=r"b\.nii.*one slice"):
        read_image(tmp_path / "b.nii", dims=2)


def test_slope_and_intercept_are_applied(tmp_path):
    image = nibabel.Nifti1Image(np.array([[[0, 2000, 4000]]], dtype=np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -1000)
    nibabel.save(image, tmp_path / "a.nii")
    assert np.allclose(read_image(tmp_path / "a.nii")[0, 0, 0], [-1000, 0, 1000])


def test_a_table_of_volumes(tmp_path):
    for k, codes in enumerate(["RAS", "LPS", "SAR", "PIR"]):
        write(tmp_path / f"{k}.nii.gz", np.random.default_rng(k).random((4, 6, 8)).astype(np.float32), codes)
    (tmp_path / "t.csv").write_text("image,label\n" + "".join(f"{k}.nii.gz,{k % 2}\n" for k in range(4)))
    table = ImageTable.from_csv(tmp_path / "t.csv", size=(4, 4, 4)).verify(progress=False)
    geometry = table.geometry(2)
    assert geometry.stored_size == (4, 6, 8)
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[1:3, 2, :2] = True
    back = geometry.to_source(mask, frame="stored")
    assert back.shape == (4, 6, 8)
    assert np.array_equal(geometry.from_source(back, frame="stored"), mask)


def test_broken_files_are_named(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"nothing")
    (tmp_path / "b.nii.gz").write_bytes(b"nothing")
    for name in ("a.nii", "b.nii.gz", "none.nii"):
        with pytest.raises(UnreadableImageError, match=name):
            read_image(tmp_path / name)


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(MissingExtraError, match=r"shortcutscope\[medical\]"):
        read_image(write_nothing(tmp_path / "a.nii"))


def write_nothing(path):
    path.write_bytes(b"")
    return path
