import numpy as np
import pandas as pd
import pytest

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.masks.formats.nifti import import_nifti
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter

nibabel = pytest.importorskip("nibabel")


def affine_of(codes, size):
    start = nibabel.orientations.axcodes2ornt("RAS")
    turn = nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt(codes))
    turned = nibabel.orientations.inv_ornt_aff(turn, size)
    return np.diag([0.8, 1.5, 2.0, 1]) @ turned


@pytest.fixture
def volumes(tmp_path):
    """Volumes whose axes lie differently, and masks on them in canonical orientation."""
    folder = tmp_path / "images"
    folder.mkdir()
    names = {"RAS": "r.nii.gz", "LPS": "l.nii", "SAR": "s.nii.gz", "PIL": "p.nii.gz"}
    for codes, name in names.items():
        image = nibabel.Nifti1Image(np.zeros((4, 6, 8), np.int16), affine_of(codes, (4, 6, 8)))
        nibabel.save(image, folder / name)
    frame = pd.DataFrame({"image": list(names.values()), "label": [0, 1, 0, 1]})
    table = ImageTable.from_frame(frame, root=folder, size=(4, 4, 4))
    with MaskWriter(tmp_path / "m", "coil") as writer:
        for i, name in enumerate(names.values()):
            geometry = table.geometry(i)
            mask = np.random.default_rng(i).random(geometry.size) > 0.7
            writer.append(name, mask, orientation=geometry.orientation)
    return table, MaskSet.open(tmp_path / "m")


def test_masks_lie_on_their_volumes_in_nibabels_eyes(volumes, tmp_path):
    table, masks = volumes
    folder = masks.export(tmp_path / "out", format="nifti", sources=table)
    for name, mask in masks:
        image = nibabel.load(table.source.root + "/" + name)
        written = nibabel.load(folder / (name.split(".")[0] + ".nii.gz"))
        assert np.allclose(written.affine, image.affine)
        assert written.shape == image.shape
        assert written.get_data_dtype() == np.uint8
        assert np.array_equal(nibabel.as_closest_canonical(written).get_fdata() > 0, mask)
        told = written.header.extensions[0].get_content()
        assert "coil" in (told if isinstance(told, str) else told.decode())


def test_there_and_back_also_from_a_program_with_other_axes(volumes, tmp_path):
    table, masks = volumes
    folder = masks.export(tmp_path / "out", format="nifti", sources=table)
    for k, options in enumerate(({}, {"like": masks}, {"like": masks.in_frame("stored")})):
        back = import_nifti(folder, tmp_path / f"back{k}", **options)
        assert back.sample_ids == sorted(masks.sample_ids)
        assert all(np.array_equal(back.mask(name), mask) for name, mask in masks)
        assert not any(entry.edited for entry in back.entries)
        assert back.entry("s.nii.gz").orientation == masks.entry("s.nii.gz").orientation
    for path in folder.glob("*.nii.gz"):
        canonical = nibabel.as_closest_canonical(nibabel.load(path))
        nibabel.save(nibabel.Nifti1Image(canonical.get_fdata().astype(np.float32), canonical.affine), path)
    (folder / "masks.json").unlink()
    back = import_nifti(folder, tmp_path / "other", like=masks)
    assert all(np.array_equal(back.mask(name), mask) for name, mask in masks)


def test_images_and_volumes_without_a_space_of_their_own(masks, tmp_path, same):
    folder = masks.export(tmp_path / "out", format="nifti")
    written = nibabel.load(folder / "sub" / "c.nii.gz")
    assert written.shape == (40, 17, 1)
    assert nibabel.aff2axcodes(written.affine) == ("L", "P", "S")
    assert np.array_equal(np.asarray(written.dataobj)[..., 0].T > 0, masks.mask("s-c"))
    assert same(import_nifti(folder, tmp_path / "back"), masks)
    turned = nibabel.as_closest_canonical(written)
    nibabel.save(nibabel.Nifti1Image(np.asarray(turned.dataobj), turned.affine), folder / "sub" / "c.nii.gz")
    (folder / "masks.json").unlink()
    assert same(import_nifti(folder, tmp_path / "other", like=masks), masks)
    with MaskWriter(tmp_path / "v", "tag") as writer:
        writer.append("f", np.random.default_rng(0).random((3, 5, 7)) > 0.5)
    frames = MaskSet.open(tmp_path / "v")
    back = import_nifti(frames.export(tmp_path / "f", format="nifti"), tmp_path / "fb", like=frames)
    assert np.array_equal(back.mask("f"), frames.mask("f"))


def test_one_slice(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((5, 7, 1), np.int16), affine_of("LPS", (5, 7, 1)))
    nibabel.save(image, tmp_path / "a.nii")
    table = ImageTable.from_frame(pd.DataFrame({"image": ["a.nii"], "label": [0]}), root=tmp_path, dims=2)
    mask = np.random.default_rng(0).random((5, 7)) > 0.5
    with MaskWriter(tmp_path / "m", "tag") as writer:
        writer.append("a.nii", mask, orientation=table.geometry(0).orientation)
    masks = MaskSet.open(tmp_path / "m")
    folder = masks.export(tmp_path / "out", format="nifti", sources=table)
    written = nibabel.as_closest_canonical(nibabel.load(folder / "a.nii.gz"))
    assert np.array_equal(written.get_fdata()[..., 0] > 0, mask)
    assert np.array_equal(import_nifti(folder, tmp_path / "back").mask("a.nii"), mask)


def test_sources_that_are_missing_or_do_not_fit(volumes, tmp_path):
    _, masks = volumes
    with pytest.raises(InputError, match=r"'r\.nii\.gz'.*sources="):
        masks.export(tmp_path / "out", format="nifti")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), tmp_path / "small.nii")
    (tmp_path / "broken.nii").write_bytes(b"nothing")
    for name, text in (("small.nii", r"\(2, 2, 2\)"), ("broken.nii", "cannot be read"), ("none.nii", "read")):
        with pytest.raises(InputError, match=text) as caught:
            masks.export(tmp_path / "out", format="nifti", sources={"r.nii.gz": tmp_path / name})
        assert name in str(caught.value)
    memory = ImageTable.from_arrays(np.zeros((2, 4, 4)), [0, 1])
    with pytest.raises(InputError, match="no files"):
        masks.export(tmp_path / "out", format="nifti", sources=memory)


def test_broken_files_are_named(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no NIfTI file"):
        import_nifti(tmp_path / "in", tmp_path / "back")
    (tmp_path / "in" / "a.nii.gz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        import_nifti(tmp_path / "in", tmp_path / "back")
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((2, 2, 2, 2), np.int16), np.eye(4)), tmp_path / "in" / "a.nii.gz"
    )
    with pytest.raises(InputError, match=r"a\.nii\.gz.*fourth axis"):
        import_nifti(tmp_path / "in" / "a.nii.gz", tmp_path / "back2")


def test_a_missing_package_names_the_extra(masks, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(InputError, match=r'pip install "shortcutscope\[medical\]"'):
        masks.export(tmp_path / "x", format="nifti")
