"""What every format of masks holds to: what it writes it reads, or refuses with nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shortcutscope.data.readers.orientation import Orientation
from shortcutscope.errors import InputError
from shortcutscope.masks.formats import FORMATS
from shortcutscope.masks.mask_files import Assessment
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter

SHAPES = {"image": (9, 14), "volume": (4, 6, 5), "signal": (3, 40)}
#: Formats that lie on files of a source, tested in tests/masks/formats.
NEEDS_SOURCES = {"dicom-seg"}
#: The kinds of masks that the others hold.
HOLDS = {
    **{name: {"image"} for name in ("png", "coco", "cvat", "labelme", "fiftyone")},
    "nifti": {"image", "volume"},
    "npz": {"image", "volume", "signal"},
    "csv": {"signal"},
}


def masks_of(kind: str, folder: Path) -> MaskSet:
    """Three masks with holes and several parts, the last of them empty."""
    generator = np.random.default_rng(0)
    with MaskWriter(folder, "tag", {"concept": "tag"}) as writer:
        for number, name in enumerate("abc"):
            mask = generator.random(SHAPES[kind]) > (0.6, 0.8, 1)[number]
            image = "" if kind == "signal" else f"{name}.png" if kind == "image" else f"{name}.npy"
            turned = Orientation.from_exif(6) if kind == "image" and name == "a" else None
            writer.append(
                name, mask, image=image, kind=kind, assessment=Assessment(confidence=0.5), orientation=turned
            )
    return MaskSet.open(folder)


def files_in(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def test_every_format_says_what_it_holds():
    assert {*HOLDS, *NEEDS_SOURCES} == set(FORMATS)


@pytest.mark.parametrize("name", HOLDS)
class TestMaskFormat:
    @pytest.fixture
    def path(self, name, tmp_path):
        return tmp_path / "out" / (f"masks.{name}" if name == "npz" else "masks")

    @pytest.fixture(params=sorted(SHAPES))
    def kind(self, request):
        return request.param

    def test_what_is_written_is_read_or_refused_with_nothing_written(self, name, kind, path, tmp_path):
        masks = masks_of(kind, tmp_path / "own")
        path.parent.mkdir()
        if kind not in HOLDS[name]:
            with pytest.raises(InputError, match=kind if kind != "image" else "images?|signals"):
                masks.export(path, format=name)
            assert files_in(path.parent) == []
            return
        masks.export(path, format=name)
        back = FORMATS[name].read(path, tmp_path / "back", like=masks)
        alone = FORMATS[name].read(path, tmp_path / "alone")  # some formats know the image's name alone
        assert sorted(back.sample_ids) == sorted(masks.sample_ids)
        for sample_id, (_, lone) in zip(
            sorted(back.sample_ids), sorted(alone, key=lambda one: one[0]), strict=True
        ):
            np.testing.assert_array_equal(back.mask(sample_id), masks.mask(sample_id))
            np.testing.assert_array_equal(lone, masks.mask(sample_id))
            assert not back.entry(sample_id).edited

    def test_masks_in_the_stored_frame_come_back_upright(self, name, path, tmp_path):
        masks = masks_of(sorted(HOLDS[name])[0], tmp_path / "own")  # images, where it holds them
        stored = masks.in_frame("stored")
        path.parent.mkdir()
        stored.export(path, format=name)
        back = FORMATS[name].read(path, tmp_path / "back", like=stored)
        assert back.frame == masks.frame
        for sample_id, mask in masks:
            np.testing.assert_array_equal(back.mask(sample_id), mask)

    def test_the_same_masks_give_the_same_files(self, name, path, tmp_path):
        masks = masks_of(sorted(HOLDS[name])[0], tmp_path / "own")
        path.parent.mkdir()
        masks.export(path, format=name)
        first = {
            one: (path.parent / one).read_bytes()
            for one in files_in(path.parent)
            if (path.parent / one).is_file()
        }
        masks.export(path, format=name)
        assert {one: (path.parent / one).read_bytes() for one in first} == first

    def test_a_write_that_fails_leaves_nothing_half_written(self, name, path, tmp_path, monkeypatch):
        masks = masks_of(sorted(HOLDS[name])[0], tmp_path / "own")
        path.parent.mkdir()
        masks.export(path, format=name)
        before = files_in(path.parent)
        (masks.folder / masks.entries[-1].file).unlink()
        with pytest.raises(InputError):
            masks.export(path.parent / f"other{path.suffix}", format=name)
        assert files_in(path.parent) == before

    def test_what_is_no_such_file_is_refused_and_no_set_is_made(self, name, tmp_path):
        wrong = tmp_path / "thesis.txt"
        wrong.write_text("precious")
        for source in (wrong, tmp_path / "nowhere"):
            with pytest.raises(InputError):
                FORMATS[name].read(source, tmp_path / "back")
            assert not (tmp_path / "back").exists()

    def test_an_unknown_option_is_refused(self, name, path, tmp_path):
        with pytest.raises(TypeError, match="colour"):
            masks_of(sorted(HOLDS[name])[0], tmp_path / "own").export(path, format=name, colour="red")
