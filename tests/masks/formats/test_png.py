import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from shortcutscope.errors import InputError
from shortcutscope.masks.formats.png import import_png
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter


def test_pictures_are_named_as_the_images_and_lie_on_them(masks, table, tmp_path):
    folder = masks.export(tmp_path / "out", format="png")
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    assert files == ["a.png", "b.png", "d.png", "sub/c.png"]
    for entry in masks.entries:
        path = folder / entry.image.replace(".jpg", ".png")
        with Image.open(path) as picture, Image.open(table.source.root + "/" + entry.image) as image:
            assert picture.size == ImageOps.exif_transpose(image).size
            assert np.array_equal(np.asarray(picture), masks.mask(entry.sample_id) * 255)
            assert json.loads(picture.text["shortcutscope"])["layers"] == ["layer1"]


def test_there_and_back(masks, tmp_path, same):
    folder = masks.export(tmp_path / "out", format="png")
    assert same(MaskSet.open(folder), masks)
    assert same(import_png(folder, tmp_path / "back"), masks)
    (folder / "masks.json").unlink()
    assert same(import_png(folder, tmp_path / "named", like=masks), masks)


def test_the_stored_frame(masks, tmp_path, same):
    stored = masks.in_frame("stored")
    folder = stored.export(tmp_path / "out", format="png")
    with Image.open(folder / "a.png") as picture:
        assert picture.size == (30, 18)
    assert same(import_png(folder, tmp_path / "back", like=stored), masks)
    assert MaskSet.open(folder).mask("s-a").shape == (18, 30)
    with pytest.raises(InputError, match=r"in_frame\('stored'\)"):
        import_png(folder, tmp_path / "mixed", like=masks)


def test_a_soft_brush_leaves_a_hard_mask_that_counts_as_accepted(masks, tmp_path):
    folder = masks.export(tmp_path / "out", format="png")
    with Image.open(folder / "b.png") as picture:
        painted = np.asarray(picture.convert("RGBA")).copy()
    painted[-3:, -3:, :3] = 200
    painted[-4, -3:, :3] = 90
    painted[0, 0, :3] = 255
    Image.fromarray(painted).save(folder / "b.png")
    back = import_png(folder, tmp_path / "back", like=masks)
    expected = masks.mask("s-b").copy()
    expected[-3:, -3:] = True
    expected[-4, -3:] &= masks.mask("s-b")[-4, -3:] & False
    expected[0, 0] = True
    assert np.array_equal(back.mask("s-b"), expected)
    entry = back.entry("s-b")
    assert (entry.edited, entry.accepted, entry.flagged) == (True, True, False)
    assert back.entry("s-c").accepted is None
    assert back.provenance["imported"]["format"] == "png"


def test_what_does_not_fit_is_named(masks, tmp_path):
    folder = masks.export(tmp_path / "out", format="png")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "b.png")
    with pytest.raises(InputError, match=r"'s-b'.*\(5, 5\).*\(22, 15\)"):
        import_png(folder, tmp_path / "1", like=masks)
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match=r"b\.png"):
        import_png(folder, tmp_path / "2", like=masks)
    (folder / "b.png").unlink()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "z.png")
    with pytest.raises(InputError, match="no sample"):
        import_png(folder, tmp_path / "3", like=masks.take(["s-a", "s-c", "s-d"]))
    with pytest.raises(InputError, match="no folder"):
        import_png(tmp_path / "none", tmp_path / "4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no masks"):
        import_png(tmp_path / "empty", tmp_path / "5")


def test_images_of_one_stem_and_names_outside_the_folder(tmp_path):
    with MaskWriter(tmp_path / "m", "tag") as writer:
        for k, image in enumerate(["a.jpg", "a.png", "../b.png", "/etc/c.png", "C:\\d.png"]):
            writer.append(str(k), np.ones((2, 3), dtype=bool), image=image)
    folder = MaskSet.open(tmp_path / "m").export(tmp_path / "out", format="png")
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    assert files == ["2.png", "3.png", "4.png", "a.jpg.png", "a.png.png"]
    assert not (tmp_path / "b.png").exists()


def test_other_kinds_are_refused(tmp_path):
    with MaskWriter(tmp_path / "m", "tag") as writer:
        writer.append("v", np.ones((2, 3, 4), dtype=bool))
    masks = MaskSet.open(tmp_path / "m")
    for format in ("png", "coco", "cvat", "labelme"):
        with pytest.raises(InputError, match=r"'v' is a volume.*npz"):
            masks.export(tmp_path / "out", format=format)
        with pytest.raises(InputError, match="no masks"):
            masks.take([]).export(tmp_path / "out", format=format)
