"""Folders of images by class: which folders are splits, and which files are no images of the data set."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shortcutscope.data.manifests.columns import quoted
from shortcutscope.data.readers.image import is_image_name
from shortcutscope.errors import InputError

__all__ = ["ClassFolders", "class_folders"]

_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
_IMAGES = ("images", "image", "imgs", "img")
_MASKS = (
    *("mask", "masks", "label", "labels", "annotation", "annotations", "seg", "segmentation"),
    *("segmentations", "ground_truth", "groundtruth", "gt"),
)
#: A mask's name after its picture's: x_mask.png, x_mask_1.png and x_segmentation.png beside x.png.
_MASK_NAME = re.compile(r"(?P<picture>.+?)[ _.-](?:mask|seg|segmentation)(?:[ _.-]?\d+)?", re.IGNORECASE)
_MANIFEST = "or give a manifest: a CSV with the columns image and label"


@dataclass(frozen=True)
class ClassFolders:
    """The images below a folder, one entry each, and what was left out.

    Attributes
    ----------
    names
        Below the folder.
    labels, splits
        Names of the class, and of the split or an empty text.
    notes
        What was left out or taken for a split, a sentence each.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, sorted."""
        return sorted(set(self.labels))


def class_folders(root: Path) -> ClassFolders:
    """Find the images of ``root/CLASS/...``, ``root/SPLIT/CLASS/...`` or ``root/CLASS/SPLIT/...``.

    Raises
    ------
    InputError
        When there is no such folder, it has no class folders, one of them has no images, or it is in doubt
        what a folder or file is.
    """
    if not root.is_dir():
        raise InputError(f"no such folder: {str(root)!r}")
    left_out: Counter[str] = Counter()
    images, folders = _walk(root, left_out)
    tops = sorted({folder.split("/")[0] for folder in folders})
    if not tops:
        raise InputError(f"{str(root)!r} has no sub-folders; it needs one per class")
    images = _without_masks(root, images, folders, left_out)
    splits = [top for top in tops if top.lower() in _SPLITS]
    notes: list[str] = []
    if splits and len(splits) < len(tops):
        others = quoted([top for top in tops if top not in splits])
        raise InputError(
            f"{str(root)!r} has the folders {quoted(splits)}, which look like splits, beside {others}: "
            f"move these elsewhere, {_MANIFEST} (and split)"
        )
    depth = 1 if splits else 0
    deep = [name.split("/") for name in images]
    classes = _classes(root, folders, splits)
    empty = [c for c in classes if c not in {"/".join(p[: depth + 1]) for p in deep}]
    if empty:
        raise InputError(f"the class folder {str(root / empty[0])!r} has no images; remove it or fill it")
    _refuse_loose(root, [name for name, parts in zip(images, deep, strict=True) if len(parts) < depth + 2])
    inner = [len(parts) > 2 and parts[1].lower() in _SPLITS for parts in deep]
    if splits:
        of_split = [parts[0] for parts in deep]
    elif all(inner):
        of_split = [parts[1] for parts in deep]
    elif any(inner):
        odd = images[inner.index(False)]
        raise InputError(
            f"some images of {str(root)!r} are in folders that look like splits, and others, such "
            f"as {odd!r}, "
            f"are not: move all into splits or none, {_MANIFEST} (and split)"
        )
    else:
        of_split = [""] * len(images)
    if any(of_split):
        notes.append(f"folders were taken as splits: {', '.join(sorted(set(of_split)))}")
    if left_out:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(left_out.items()))
        notes.append(f"left out of the folder: {counts}")
    labels = tuple(parts[depth] for parts in deep)
    return ClassFolders(tuple(images), labels, tuple(of_split), tuple(notes))


def _walk(root: Path, left_out: Counter[str]) -> tuple[list[str], list[str]]:
    """Names of images and of folders below the root, sorted; what systems leave behind is counted."""
    images, folders = [], []
    been = {root.resolve()}
    for place, below, files in os.walk(root, followlinks=True):
        for name in list(below):  # a link may lead back up
            target = Path(place, name).resolve()
            if target in been:
                below.remove(name)
            been.add(target)
        for name in [name for name in below if name.startswith(".") or name == "__MACOSX"]:
            below.remove(name)
            inside = sum(len(inner_files) for _, _, inner_files in os.walk(Path(place, name)))
            left_out[f"file(s) in {name}"] += inside
        below.sort()
        where = Path(place).relative_to(root)
        folders += [(where / name).as_posix() for name in below]
        for name in files:
            if name.startswith("."):
                left_out["hidden file(s)"] += 1
            elif is_image_name(Path(name)):
                if where.parts:
                    images.append((where / name).as_posix())
                else:
                    left_out["image(s) outside of the class folders"] += 1
            else:
                left_out[f"file(s) {Path(name).suffix.lower() or 'without ending'}, no images"] += 1
    return sorted(images, key=lambda name: name.split("/")), folders


def _without_masks(
    root: Path, images: Sequence[str], folders: list[str], left_out: Counter[str]
) -> list[str]:
    """The images that are no masks; folders of masks are taken from `folders`."""
    lower = {folder.lower() for folder in folders}
    for folder in list(folders):
        place, _, name = folder.rpartition("/")
        beside = any(f"{place}/{image}".lstrip("/").lower() in lower for image in _IMAGES)
        if name.lower() not in _MASKS or not beside:
            continue
        if not place or place.lower() in _SPLITS:
            raise InputError(
                f"{str(root / place)!r} has the folders of images and of masks ({name!r}) side by "
                "side, and not "
                f"one per class: give the folder that holds the classes, {_MANIFEST} (and mask)"
            )
        inside = [image for image in images if image.startswith(f"{folder}/")]
        left_out[f"mask(s) in folders {name}"] += len(inside)
        images = [image for image in images if not image.startswith(f"{folder}/")]
    for folder in folders:
        name = folder.rpartition("/")[2].lower()
        if name in _MASKS and any(image.startswith(f"{folder}/") for image in images):
            raise InputError(
                f"the folder {str(root / folder)!r} may hold masks or be a class: rename or move "
                f"it, {_MANIFEST}"
            )
    return _without_mask_files(root, images, left_out)


def _without_mask_files(root: Path, images: Sequence[str], left_out: Counter[str]) -> list[str]:
    stems = {_stem(image) for image in images}
    images_left, alone = [], []
    for image in images:
        match = _MASK_NAME.fullmatch(_stem(image))
        if match is None:
            images_left.append(image)
        elif match["picture"] in stems:
            left_out["mask(s) beside their picture"] += 1
        else:
            alone.append(image)
    if alone:
        raise InputError(
            f"{len(alone)} file(s) below {str(root)!r} are named as masks are, but the pictures are "
            "not beside "
            f"them: {quoted(alone)}; move them elsewhere, {_MANIFEST}"
        )
    return images_left


def _stem(name: str) -> str:
    """A name without its ending, with its folders."""
    place, _, last = name.rpartition("/")
    return f"{place}/{last.removesuffix('.gz').rpartition('.')[0]}"


def _classes(root: Path, folders: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Folders of the classes, below the splits where there are some."""
    depth = 1 if splits else 0
    classes = [folder for folder in folders if folder.count("/") == depth]
    if not classes:
        raise InputError(
            f"the folders of {str(root)!r} are splits ({quoted(splits)}), and hold no folders of "
            "classes; give each "
            f"split one per class, {_MANIFEST}"
        )
    odd = [c for c in classes if c.rpartition("/")[2].lower() in _IMAGES]
    if odd:
        raise InputError(
            f"the folder {str(root / odd[0])!r} is no class: give the folder that holds one "
            "sub-folder per class, "
            f"{_MANIFEST}"
        )
    return classes


def _refuse_loose(root: Path, names: Sequence[str]) -> None:
    if names:
        raise InputError(
            f"{len(names)} image(s) of {str(root)!r} lie in a split, but in no class folder: "
            f"{quoted(names)}; move "
            f"them, {_MANIFEST}"
        )
