"""Of the columns that are measured of files and pictures: does the one that was planted come first?

Phantoms are written to files, of which nine in ten that carry the plant are of one class. *null*: nothing is
planted, and the labels are dealt anew, so that whatever is accused is accused by chance. *disease*: nothing
is planted; what is found is what the phantoms' lesions do to the picture.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from shortcutscope.audit.audited_data import TrainingData, audited_data
from shortcutscope.audit.measured import LEVEL, screened_measured
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable
from shortcutscope.options import Running
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.types import Array, Floats, Record

DRAWS, SAMPLES, SIDE = 20, 200, 64
AGREE = 0.9
_COMPRESSION = ("file_format", "file_codec", "file_jpeg_quality", "file_bytes", "file_bytes_per_pixel")
_SHAPE = ("file_aspect", "file_width", "file_height")
#: What was planted to the columns that name it.
PLANTED: dict[str, tuple[str, ...]] = {
    "codec": _COMPRESSION,
    "quality": _COMPRESSION[2:],
    "aspect": _SHAPE,
    "exposure": ("picture_mean_grey",),
    "sources": (*_COMPRESSION, *_SHAPE, "file_manufacturer"),
    "border": ("picture_border",),
    "noise": ("picture_noise", "picture_sharpness"),
}


def cases(settings: Settings) -> list[Case]:
    """20 draws of each plant, and of none."""
    seeds = range(settings.seed, settings.seed + (3 if settings.quick else DRAWS))
    return [{"kind": kind, "seed": seed} for kind in ("null", "disease", *PLANTED) for seed in seeds]


def run_case(case: Case, settings: Settings) -> Case:
    """Write the files of one draw, measure them and screen the columns."""
    kind, seed = case["kind"], case["seed"]
    phantoms = radiographs(SAMPLES, size=SIDE, seed=1000 + seed)
    rng = np.random.default_rng([seed, len(kind)])
    labels = phantoms.frame["label"].to_numpy()
    if kind == "null":
        labels = rng.permutation(labels)
    carries = np.where(rng.random(SAMPLES) < AGREE, labels, 1 - labels) if kind in PLANTED else 0 * labels
    with tempfile.TemporaryDirectory() as folder:
        names = [
            write(Path(folder) / str(row), phantoms.image(row)[0].numpy(), kind, bool(carries[row]), rng)
            for row in range(SAMPLES)
        ]
        frame = pd.DataFrame({"image": names, "label": labels, "group": phantoms.frame["group"]})
        table = ImageTable.from_frame(frame, root=folder, size=SIDE, mode="L")
        measured = table.measured(Running(workers=0, progress=False))
    columns, _, screen = screened_measured(audited_data(measured, TrainingData()), seed=seed)
    assert screen is not None
    first = columns[0] if columns else None
    return {
        "first": first,
        "is_planted": first in PLANTED.get(kind, ()),
        "accused": bool((screen.columns["q"] <= LEVEL).any()),
        "columns": columns,
    }


def write(path: Path, picture: Floats, kind: str, carries: bool, rng: np.random.Generator) -> str:
    """Write a picture in [0, 1], with the plant where it carries it; the name of its file."""
    suffix: str = ".jpg" if kind == "quality" else ".png"
    options: dict[str, Any] = {"quality": 75 if carries else 90} if kind == "quality" else {}
    if carries and kind in ("codec", "sources"):
        suffix, options = ".jpg", {"quality": 90}
    if carries and kind in ("exposure", "sources"):
        picture = picture.clip(0, 1) ** 0.85
    if carries and kind == "aspect":
        picture = picture[:, 6:-6]
    if carries and kind == "border":
        picture = np.pad(picture[4:, 3:], ((4, 0), (3, 0)))
    if carries and kind == "noise":
        picture = picture + rng.normal(scale=0.02, size=picture.shape)
    image = Image.fromarray(_bytes(picture))
    if carries and kind == "sources":
        image, exif = image.resize((80, 80)), Image.Exif()
        exif[0x010F] = "another camera"
        options["exif"] = exif
    image.save(path.with_suffix(suffix), **options)
    return path.with_suffix(suffix).name


def _bytes(picture: Floats) -> Array:
    return (255 * picture.clip(0, 1)).round().astype(np.uint8)


def summarize(finished: list[Case]) -> Record:
    """How often the planted column came first, and how often something was accused with nothing planted."""
    kinds = {kind: [c for c in finished if c["kind"] == kind] for kind in (*PLANTED, "null", "disease")}
    first = {k: float(np.mean([c["is_planted"] for c in kinds[k]])) for k in PLANTED if kinds[k]}
    accused = {k: sum(c["accused"] for c in kinds[k]) for k in ("null", "disease")}
    return {
        "planted_first": first,
        "accused": accused,
        "draws": {k: len(of) for k, of in kinds.items()},
        "bars_met": min(first.values(), default=0.0) >= 0.95 and 20 * accused["null"] <= len(kinds["null"]),
    }


SUITE = Suite(
    name="columns",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("kind", "seed", "first", "is_planted", "accused"),
)
