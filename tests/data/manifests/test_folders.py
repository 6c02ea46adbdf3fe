"""Folders of images: classes, splits, and what is neither."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from shortcutscope import ImageTable
from shortcutscope.errors import InputError


@pytest.fixture
def made(tmp_path):
    def make(*names):
        for k, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() in (".png", ".jpg"):
                Image.fromarray(np.full((8, 8), k, np.uint8)).save(path)
            else:
                path.write_bytes(b"x")
        return ImageTable.from_folder(tmp_path)

    return make


@pytest.mark.parametrize("words", [("train", "val", "test"), ("Training", "VALID", "testing")])
@pytest.mark.parametrize("form", ["{split}/{label}/{k}.png", "{label}/{split}/{k}.png"])
def test_d6_splits_are_no_classes(made, words, form):
    places = [(split, label) for split in words for label in ("NORMAL", "PNEUMONIA")]
    table = made(*(form.format(split=s, label=c, k=k) for k, (s, c) in enumerate(places)))
    assert table.classes == ("NORMAL", "PNEUMONIA")
    assert sorted(zip(table.frame["split"], table.frame["label"], strict=True)) == sorted(
        (s, ("NORMAL", "PNEUMONIA").index(c)) for s, c in places
    )
    assert table.notes == (f"folders were taken as splits: {', '.join(sorted(words))}",)
    assert "note: folders were taken as splits" in repr(table)


def test_d6_what_systems_leave_behind_is_left_out_and_counted(made):
    table = made(
        *("a/1.png", "b/2.png", "a/.ipynb_checkpoints/1-checkpoint.png", ".hidden/x/3.png", "a/._1.png"),
        *("__MACOSX/a/._1.png", "b/Thumbs.db", "b/desktop.ini", "b/.DS_Store", "b/3.gif", "loose.png"),
    )
    assert sorted(table.files.values()) == ["a/1.png", "b/2.png"]
    assert table.classes == ("a", "b")
    (note,) = table.notes
    for part in (
        *(
            "1 file(s) in .ipynb_checkpoints",
            "1 file(s) in .hidden",
            "1 file(s) in __MACOSX",
            "2 hidden file(s)",
        ),
        *("1 file(s) .db, no images", "1 file(s) .gif, no images", "1 image(s) outside of the class folders"),
    ):
        assert part in note


def test_links_to_folders_are_followed_once(tmp_path):
    for name in ("stored/one", "stored/two", "data"):
        (tmp_path / name).mkdir(parents=True)
    for k, name in enumerate(("one", "two")):
        Image.fromarray(np.full((8, 8), k, np.uint8)).save(tmp_path / "stored" / name / "a.png")
        (tmp_path / "data" / name).symlink_to(tmp_path / "stored" / name)
    (tmp_path / "stored" / "two" / "up").symlink_to(tmp_path / "data")
    assert len(ImageTable.from_folder(tmp_path / "data")) == 2


def test_d6_masks_are_no_images(made):
    table = made(
        *("COVID/images/1.png", "COVID/masks/1.png", "Normal/images/2.png", "Normal/masks/2.png"),
        *("Normal/images/3.png", "Normal/images/3_mask.png", "Normal/images/3_mask_1.png"),
        "Normal/images/2_segmentation.png",
    )
    assert sorted(table.files.values()) == [
        "COVID/images/1.png",
        "Normal/images/2.png",
        "Normal/images/3.png",
    ]
    assert table.notes == (
        "left out of the folder: 3 mask(s) beside their picture, 2 mask(s) in folders masks",
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/a/1.png", "test/a/2.png", "extra/3.png"], "look like splits, beside 'extra'"),
        (["a/train/1.png", "b/2.png"], "some images of .* are in folders that look like splits"),
        (["train/1.png", "test/2.png"], "are splits .* and hold no folders of classes"),
        (
            ["train/1.png", "train/a/1.png", "test/a/2.png"],
            "1 image.* lie in a split, but in no class folder",
        ),
        (["images/1.png", "masks/1.png"], "folders of images and of masks .*'masks'. side by side"),
        (["images/a/1.png", "images/b/1.png"], "'images' is no class|images' is no class"),
        (["a/1.png", "masks/1.png"], "may hold masks or be a class"),
        (["a/1.png", "b/2_mask.png"], "named as masks are, but the pictures are not beside"),
        (["a/1.png", "b/x.txt"], "b' has no images"),
        (["1.png"], "has no sub-folders"),
    ],
)
def test_d6_what_is_in_doubt_is_refused_with_the_mend(made, names, message):
    with pytest.raises(InputError, match=message):
        made(*names)
