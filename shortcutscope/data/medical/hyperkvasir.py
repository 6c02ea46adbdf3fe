"""HyperKvasir: gastrointestinal endoscopy, of Borgli et al. (Scientific Data 7, 283, 2020)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Unpack, get_args

import pandas as pd

from shortcutscope.data.manifests.columns import quoted
from shortcutscope.data.medical.layout import DatasetLayout
from shortcutscope.data.table import ImageTable, TableOptions
from shortcutscope.errors import InputError

__all__ = ["LAYOUT", "hyperkvasir"]

LAYOUT = DatasetLayout(
    "HyperKvasir",
    (
        "labeled-images/image-labels.csv (Video file, Organ, Finding, Classification)",
        "labeled-images/{lower,upper}-gi-tract/<Classification>/<Finding>/<Video file>.jpg",
        "segmented-images/{images,masks}/<image>.jpg",
        "segmented-images/bounding-boxes.json",
    ),
    "https://datasets.simula.no/hyper-kvasir/",
)

Level = Literal["Finding", "Classification", "Organ"]
Part = Literal["labeled", "segmented"]

_COLUMNS = ["Video file", "Organ", "Finding", "Classification"]
_POLYPS = {"Organ": "Lower GI", "Finding": "polyps", "Classification": "pathological-findings"}


def hyperkvasir(
    root: str | Path,
    *,
    target: str | Sequence[str] | None = "polyps",
    by: Level = "Finding",
    part: Part = "labeled",
    folds: str | Path | None = None,
    test_fold: int = 1,
    **options: Unpack[TableOptions],
) -> ImageTable:
    """HyperKvasir's labelled images, or its segmented ones.

    Where the segmented set lies beside the labelled one, its masks belong to the labelled images of the same
    name. The data set says nothing of patients: its "Video file" is the group, but as every image of the
    release has its own, frames of one examination cannot be kept together, and the table says that it has no
    groups. Results across random splits are optimistic for that reason. Finding is written
    ``hemorrhoids``, whether the release writes it so or ``hemorroids``.

    Parameters
    ----------
    root
        Folder with ``labeled-images`` (or that folder itself), and with ``segmented-images``.
    target
        Finding or findings (values of `by`) whose label is 1; all other images are 0. None: a class for
        each value.
    by
        Column that the target is a value of.
    part
        ``"segmented"``: only the polyps with a mask; their bounding boxes are the columns ``boxes`` (how
        many) and ``bounding_boxes`` (JSON, in pixels).
    folds
        One of the authors' files of folds (file-name;class-name;split-index), for the column ``fold`` and
        the splits; without it there are none.
    test_fold
        The fold that is the split test; the others are train.
    **options
        See :class:`shortcutscope.data.table.TableOptions`.

    Raises
    ------
    InputError
        For an unknown target, column or part, and when the folder is not laid out as expected.
    """
    if part not in get_args(Part):
        raise InputError(f'part must be "labeled" or "segmented", not {part!r}')
    if by not in get_args(Level):
        raise InputError(f"by must be {', '.join(map(repr, get_args(Level)))}, not {by!r}")
    base = Path(root)
    frame = _labeled(base) if part == "labeled" else _segmented(base)
    frame, classes = _with_label(frame, target, by)
    if folds is not None:
        frame = _with_folds(frame, base, Path(folds), test_fold)
    options.setdefault("classes", classes)
    table = ImageTable.from_frame(frame, group="Video file", root=root, **options)
    return table.replaced(has_groups=False)


def _labeled(root: Path) -> pd.DataFrame:
    folder = root / "labeled-images" if (root / "labeled-images").is_dir() else root
    path = LAYOUT.file(folder, "image-labels.csv")
    frame = LAYOUT.table(root, path, _COLUMNS, text=_COLUMNS)
    names = [Path(str(name)).stem for name in frame["Video file"]]
    files = _by_stem(root, folder)
    missing = [name for name in names if name not in files]
    if missing:
        raise LAYOUT.error(
            root, f"{len(missing)} of {len(names)} images of {path.name} are missing: {quoted(missing)}"
        )
    frame["Finding"] = frame["Finding"].str.replace("hemorroids", "hemorrhoids", regex=False)
    frame = frame.assign(image=[files[name] for name in names])
    masks = root / "segmented-images" / "masks"
    return frame.assign(mask=_masks(root, masks, names)) if masks.is_dir() else frame


def _segmented(root: Path) -> pd.DataFrame:
    folder = LAYOUT.folder(root, "segmented-images") if not (root / "masks").is_dir() else root
    files = _by_stem(root, LAYOUT.folder(folder, "images"))
    if not files:
        raise LAYOUT.error(root, "the folder of the segmented images is empty")
    names = sorted(files)
    masks = _masks(root, LAYOUT.folder(folder, "masks"), names)
    without = [name for name, mask in zip(names, masks, strict=True) if not mask]
    if without:
        raise LAYOUT.error(root, f"{len(without)} segmented images have no mask: {quoted(without)}")
    boxes = _boxes(root, folder)
    frame = pd.DataFrame({"Video file": names, **_POLYPS, "image": [files[name] for name in names]})
    return frame.assign(
        mask=masks,
        boxes=[len(boxes.get(name, ())) for name in names],
        bounding_boxes=[json.dumps(boxes.get(name, [])) for name in names],
    )


def _boxes(root: Path, folder: Path) -> dict[str, list[object]]:
    path = LAYOUT.file(folder, "bounding-boxes.json")
    try:
        return {name: list(entry["bbox"]) for name, entry in json.loads(path.read_text("utf-8")).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LAYOUT.error(root, f'{path.name} is no object of images with "bbox": {error!r}') from error


def _by_stem(root: Path, folder: Path) -> dict[str, str]:
    """Image name to its file below the root. By name, since folders differ in spelling from the table."""
    return {path.stem: path.relative_to(root).as_posix() for path in sorted(folder.rglob("*.jpg"))}


def _masks(root: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """Mask file of each image, empty where it has none."""
    files = _by_stem(root, folder)
    return [files.get(name, "") for name in names]


def _with_label(
    frame: pd.DataFrame, target: str | Sequence[str] | None, by: Level
) -> tuple[pd.DataFrame, list[str]]:
    values = sorted(set(frame[by]))
    if target is None:
        return frame.assign(label=frame[by]), values
    targets = {target} if isinstance(target, str) else set(target)
    unknown = sorted(targets - set(values))
    if unknown or not targets:
        raise InputError(
            f"no {by} {quoted(unknown) or 'given'} in HyperKvasir; there are {quoted(values, len(values))}"
        )
    name = " or ".join(sorted(targets))
    return frame.assign(label=frame[by].isin(targets).astype(int)), [f"no {name}", name]


def _with_folds(frame: pd.DataFrame, root: Path, path: Path, test_fold: int) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"no such file of folds: {str(path)!r}")
    try:
        rows = pd.read_csv(path, sep=";")
        fold_of = {
            Path(str(name)).stem: int(fold)
            for name, fold in zip(rows["file-name"], rows["split-index"], strict=True)
        }
    except (ValueError, KeyError) as error:
        raise LAYOUT.error(
            root, f"{path.name} is no table file-name;class-name;split-index: {error!r}"
        ) from error
    if test_fold not in fold_of.values():
        raise InputError(f"test_fold must be one of {sorted(set(fold_of.values()))}, not {test_fold!r}")
    fold = [fold_of.get(Path(str(name)).stem) for name in frame["Video file"]]
    split = ["" if f is None else "test" if f == test_fold else "train" for f in fold]
    return frame.assign(fold=pd.Series(fold, dtype=float), split=split)
