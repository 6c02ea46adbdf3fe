"""What a run rests on, so that no later stage is given other images, labels or inputs without a word.

Kept in the run: ids, labels and the files' contents of all samples; of some evenly chosen ones what the image
looks like, and what the network is given of it; and what the transform makes of an image that nobody took.
Pixels decide, and not how they are stored or by which code they are transformed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from shortcutscope.audit.run_directory import RunDirectory, read_record
from shortcutscope.data.samples import SampleTable
from shortcutscope.errors import InputError
from shortcutscope.files import read_frame
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.types import Floats, Record

FILE = "identity.parquet"
#: Samples whose pixels are looked at.
PROBED = 16
#: Cells a side in which pixels are summed up.
_CELLS = 8
#: Share of the range by which a cell may differ: half a grey level of 8 bits, which decoders of JPEG reach.
_TOLERANCE = 2e-3
_SHOWN = 3


@dataclass(frozen=True)
class Sketch:
    """Mean and standard deviation in each cell of a picture: enough to tell it from another, and no picture.

    Attributes
    ----------
    shape
        Of the picture, (C, *spatial).
    values
        (2 C cells,).
    """

    shape: tuple[int, ...]
    values: Floats

    @classmethod
    def of(cls, picture: Tensor) -> Self:
        """The sketch of a float tensor (C, *spatial)."""
        pixels = picture.detach().cpu().double()
        mean, square = (_by_cells(x) for x in (pixels, pixels**2))
        values = torch.cat([mean.flatten(), (square - mean**2).clamp_min(0).sqrt().flatten()])
        return cls(tuple(picture.shape), values.float().numpy())

    def like(self, other: Sketch, spread: float) -> bool:
        """Whether two pictures are the same, up to decoding; `spread` is the range of their values."""
        return self.shape == other.shape and bool(
            np.abs(self.values - other.values).max(initial=0.0) <= _TOLERANCE * spread
        )

    def __str__(self) -> str:
        side = " x ".join(map(str, self.shape))
        return f"{side}, mean {self.values[: len(self.values) // 2].mean():.3g}"


def keep_identity(run: RunDirectory, audited: SampleTable, training: SampleTable | None) -> None:
    """Keep what a run rests on.

    Parameters
    ----------
    run
        Held by this process.
    audited
        The samples that are scanned.
    training
        Those by which only the association is measured; their images may be absent.

    Raises
    ------
    InputError
        When all audited images are the same to the network, or have a side of one pixel.
    """
    probes = _probes(audited)
    if len(audited) > 1 and _all_alike(probes):
        raise InputError(
            f"the network is given the same input for all of the {len(probes)} images that were looked at, "
            f"of {len(audited)}: they are one image, or the transform makes them one. Give images that differ"
        )
    shape = next(iter(probes.values()))[1].shape
    if len(shape) > 2 and min(shape[1:]) < 2:
        raise InputError(
            f"the network's inputs have a side of one pixel ({' x '.join(map(str, shape))}), so that nothing "
            "in them has a place: give signals (channels, time) with dims=1 (--dims 1), and single slices as "
            "images"
        )
    parts = [_frame(audited, probes, with_contents=True)]
    if training is not None:
        parts.append(_frame(training, _probes_if_any(training)))
    image, model_input = _invented(audited.image(_even(len(audited), 1)[0]).shape, audited)
    identity = {
        "value_range": list(audited.value_range),
        "classes": None if audited.classes is None else list(audited.classes),
        "transform": repr(audited.transform),
        "transform_fingerprint": audited.transform_fingerprint(),
        "image_shape": list(image.shape),
        "input_shape": list(model_input.shape),
        "input": model_input.values.tolist(),
    }
    run.update({"identity": identity})
    run.write_frame(FILE, pd.concat(parts, ignore_index=True))


def keep_identity_of_output(
    run: RunDirectory, own: RunDirectory, audited: SampleTable, training: SampleTable | None
) -> None:
    """Keep what the run of one output rests on, from what the run of all outputs does.

    Parameters
    ----------
    run, own
        Of all outputs, and of one.
    audited, training
        The samples of which its label is known.
    """
    frames = [audited.frame] + ([] if training is None else [training.frame])
    labels = pd.concat(frames).drop_duplicates("sample_id").set_index("sample_id")["label"]
    stored = read_frame(run.path / FILE)
    kept = stored[stored["sample_id"].isin(labels.index)].reset_index(drop=True)
    kept["label"] = labels.reindex(kept["sample_id"]).to_numpy(np.int64)
    classes = None if audited.classes is None else list(audited.classes)
    own.update({"identity": {**run.record["identity"], "classes": classes}})
    own.write_frame(FILE, kept)


def refuse_other_model(run: Path, model: nn.Module) -> None:
    """Refuse a network that is not the one that was audited.

    Raises
    ------
    InputError
        Its weights have another fingerprint.
    """
    stored = read_record(run).get("model", {}).get("fingerprint")
    if stored is not None and stored != model_fingerprint(model):
        raise InputError(
            f"this is not the model that was audited in {run}: the weights differ. Give that one, "
            "or audit this one first"
        )


def refuse_other_data(run: Path, table: SampleTable, what: str = "the data", *, others: bool = False) -> None:
    """Refuse samples that are not read, labelled or transformed as those of a run.

    Of samples that the run knows, ids, labels and pixels are compared; of others what their transform makes
    of the same image, and what their labels are called.

    Parameters
    ----------
    run
        Run directory.
    table
        The samples, audited ones or others.
    what
        What they are, for the error.
    others
        Their pixels may be others under the same ids, as those of planted twins are.

    Raises
    ------
    InputError
        Names which of images, labels and transform differ, with what the run had.
    """
    table.require_one_label(what)
    if not (run / FILE).exists():
        raise InputError(f"{run} holds no {FILE}: run the same audit again, finished stages are kept")
    stored, facts = read_frame(run / FILE), read_record(run).get("identity", {})
    position = {str(name): row for row, name in enumerate(table.frame["sample_id"])}
    shared = stored[stored["sample_id"].isin(list(position))]
    rows = [position[name] for name in shared["sample_id"]]
    differences = [_labels_differ(shared, rows, table, facts)]
    images = "" if others else _images_differ(shared, rows, table, facts)
    differences.append(images or _transform_differs(shared.head(0) if others else shared, rows, table, facts))
    differing = [text for text in differences if text]
    if differing:
        raise InputError(
            f"{what} are not those that were audited in {run}, or are read in another way:\n"
            + "\n".join(f"- {text}" for text in differing)
            + "\nGive them as they were audited, or audit these into another folder first"
        )


Facts = Mapping[str, Any]


def _labels_differ(shared: pd.DataFrame, rows: Sequence[int], table: SampleTable, facts: Facts) -> str:
    had, have = facts.get("classes"), table.classes
    if had is not None and have is not None:
        renamed = [k for k, (old, new) in enumerate(zip(had, have, strict=False)) if old != new]
        if renamed:
            k = renamed[0]
            return f"labels: class {k} is {have[k]!r} now, {had[k]!r} in the run"
    labels = table.frame["label"].to_numpy()[rows]
    other = np.flatnonzero(labels != shared["label"].to_numpy())
    if not len(other):
        return ""
    one = shared.iloc[other[0]]
    return (
        f"labels: {len(other)} of {len(rows)} differ, such as that of {one['sample_id']!r}, "
        f"which is {labels[other[0]]} now, {one['label']} in the run"
    )


def _images_differ(shared: pd.DataFrame, rows: Sequence[int], table: SampleTable, facts: Facts) -> str:
    low, high = facts.get("value_range", table.value_range)
    if table.value_range != (low, high):
        value_range = "{:g} to {:g}".format(*table.value_range)
        return f"images: their range is {value_range} now, {low:g} to {high:g} in the run"
    looked, wrong = 0, []
    for row, then, _ in _kept_probes(shared, rows):
        now = Sketch.of(table.image(row))
        looked += 1
        if not now.like(then, high - low):
            wrong.append((row, now, then))
    if wrong:
        row, current, then = wrong[0]
        name = table.frame["sample_id"].iloc[row]
        return (
            f"images: {len(wrong)} of {looked} that were looked at differ, such as {name!r} "
            f"({current} now, {then} in the run)"
        )
    contents = shared["content"].to_numpy()
    with_content = [k for k in range(len(rows)) if contents[k]]
    changed = [k for k in with_content if _content(table, rows[k]) != contents[k]]
    # Where all of them are stored in another way the pixels decide, of which some were looked at.
    if changed and (len(changed) < len(with_content) or not looked):
        names = ", ".join(repr(str(shared["sample_id"].iloc[k])) for k in changed[:_SHOWN])
        return (
            f"images: the files of {len(changed)} of {len(with_content)} have changed since, such as {names}"
        )
    return ""


def _transform_differs(shared: pd.DataFrame, rows: Sequence[int], table: SampleTable, facts: Facts) -> str:
    if not facts or table.transform_fingerprint() == facts["transform_fingerprint"]:
        return ""
    change = f"transform: {table.transform!r} now, {facts['transform']} in the run"
    probes = list(_kept_probes(shared, rows))
    spread = max((float(np.ptp(then.values)) for _, _, then in probes), default=0.0)
    for row, _, then in probes:
        now = Sketch.of(table[row][0])
        if not now.like(then, spread or 1.0):
            return f"{change}: {table.frame['sample_id'].iloc[row]!r} becomes {now} now, {then} in the run"
    sketch = Sketch(tuple(facts["input_shape"]), np.asarray(facts["input"], np.float32))
    try:
        _, now = _invented(tuple(facts["image_shape"]), table)
    except Exception as error:  # the transform is the user's, and refuses images of the run's shape
        return f"{change}; it fails on images of the run's shape ({type(error).__name__}: {error})"
    if not now.like(sketch, float(np.ptp(sketch.values)) or 1.0):
        return f"{change}: the same image becomes {now} now, {sketch} in the run"
    return ""


def _invented(shape: tuple[int, ...], table: SampleTable) -> tuple[Tensor, Sketch]:
    """A ramp over the table's range, (C, *spatial), and what the table's transform makes of it."""
    low, high = table.value_range
    ramp = torch.linspace(low, high, int(np.prod(shape))).reshape(tuple(shape))
    return ramp, Sketch.of(table.transformed(ramp.clone()))


def _by_cells(values: Tensor) -> Tensor:
    """Means (C, *cells) over the cells of (C, *spatial); as it is with more than three axes."""
    axes = values.ndim - 1
    if axes == 0 or axes > 3:
        return values
    cells = [min(_CELLS, side) for side in values.shape[1:]]
    pool: tuple[Any, ...] = (
        functional.adaptive_avg_pool1d,
        functional.adaptive_avg_pool2d,
        functional.adaptive_avg_pool3d,
    )
    means: Tensor = pool[axes - 1](values[None], cells)[0]
    return means


Probes = dict[int, tuple[Sketch, Sketch]]


def _probes(table: SampleTable) -> Probes:
    """Sketches of image and input by row."""
    sketches = {}
    for row in _even(len(table), PROBED):
        image = table.image(row)
        sketches[row] = (Sketch.of(image), Sketch.of(table.transformed(image)))
    return sketches


def _probes_if_any(table: SampleTable) -> Probes:
    """The same of training samples, whose images may be absent, or blanks in their place."""
    try:
        sketches = _probes(table)
    except (InputError, OSError):
        return {}
    return {} if _all_alike(sketches) else sketches


def _all_alike(probes: Probes) -> bool:
    return len({(model_input.shape, model_input.values.tobytes()) for _, model_input in probes.values()}) == 1


def _frame(table: SampleTable, probes: Probes, *, with_contents: bool = False) -> pd.DataFrame:
    rows = range(len(table))
    columns: Record = {
        "sample_id": table.frame["sample_id"].astype(str).to_numpy(),
        "label": table.frame["label"].to_numpy(np.int64),
        "content": [_content(table, row) if with_contents else "" for row in rows],
    }
    for k, name in enumerate(("image", "input")):
        sketches = [probes[row][k] if row in probes else None for row in rows]
        columns[f"{name}_shape"] = [None if s is None else list(s.shape) for s in sketches]
        columns[name] = [None if s is None else s.values for s in sketches]
    return pd.DataFrame(columns)


def _kept_probes(shared: pd.DataFrame, rows: Sequence[int]) -> Iterator[tuple[int, Sketch, Sketch]]:
    """Rows of the table at hand, and the sketches that the run has of image and input."""
    for k in np.flatnonzero(shared["image"].notna().to_numpy()).tolist():
        entry = shared.iloc[k]
        image, model_input = (
            Sketch(tuple(map(int, entry[f"{name}_shape"])), np.asarray(entry[name], np.float32))
            for name in ("image", "input")
        )
        yield rows[k], image, model_input


def _content(table: SampleTable, row: int) -> str:
    text = json.dumps(table.source.identity(int(table.rows[row])))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _even(n: int, count: int) -> list[int]:
    """Rows at even distances, the first and the last among them."""
    return sorted({int(row) for row in np.linspace(0, n - 1, min(n, count)).round()})
