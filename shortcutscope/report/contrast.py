"""What carriers of a finding look like, as pure data: names, numbers, pictures beside each other, means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shortcutscope.audit.appearance.contrast import ContrastSheet
from shortcutscope.discover.naming.words import shown, wording_of
from shortcutscope.report import wording
from shortcutscope.report.gallery import DIVERGING, data_uri, shared_limit
from shortcutscope.report.run_files import mapping, number, texts
from shortcutscope.types import JSON, Array, Floats, Record

#: Pictures this small are enlarged, by a whole number, so that a page shows them without blur.
SMALL = 64


def summarize_appearance(finding: JSON) -> Record | None:
    """The names of a finding in words and figures; None where its carriers were not looked at.

    Returns
    -------
    dict or None
        ``names`` (``word``, ``numbers``, ``auroc``), ``why`` there are none, ``counts``, and ``properties``:
        a row for each of the best (``property``, ``word``, ``carriers``, ``others``, ``auroc``); ``text``,
        the names of a model of images and texts (``names``, ``auroc``, ``margin``, ``why``), or None.
    """
    appearance = mapping(finding.get("appearance"))
    if not appearance:
        return None
    names = [mapping(name) for name in appearance.get("names") or ()]
    carriers, others = (number(appearance.get(key)) for key in ("carriers", "others"))
    counts = f"{wording.count(carriers)} with it against {wording.count(others)} without it"
    return {
        "names": [
            {
                "word": str(name.get("word") or ""),
                "numbers": str(name.get("numbers") or ""),
                "auroc": _strength(number(name.get("auroc"))),
            }
            for name in names
        ],
        "why": str(appearance.get("why") or ""),
        "counts": counts if carriers and others else "",
        "properties": [_row(mapping(row)) for row in appearance.get("properties") or ()],
        "text": _by_text(mapping(appearance.get("text"))),
    }


def _by_text(text: JSON) -> Record | None:
    if not text:
        return None
    told = [mapping(row) for row in text.get("texts") or ()]
    return {
        "names": texts(text.get("names")),
        "auroc": wording.decimal(number(told[0].get("auroc")) if told else None),
        "margin": wording.decimal(number(text.get("margin"))),
        "why": str(text.get("why") or ""),
    }


def _row(row: JSON) -> dict[str, str]:
    name, auroc = str(row.get("property")), number(row.get("auroc"))
    words = wording_of(name)
    values = (number(row.get(key)) for key in ("carriers", "others"))
    first, second = (wording.MISSING if v is None else shown(v, words.form) for v in values)
    return {
        "property": words.noun or name.removeprefix("file_").replace("_", " "),
        "word": words.more if auroc is not None and auroc > 0.5 else words.less,
        "carriers": first,
        "others": second,
        "auroc": _strength(auroc),
    }


def _strength(auroc: float | None) -> str:
    return wording.decimal(None if auroc is None else 0.5 + abs(auroc - 0.5))


def read_contrast(path: Path, classes: Sequence[str]) -> Record:
    """A contrast sheet as data URIs.

    Parameters
    ----------
    path
        That an audit wrote.
    classes
        Names of the labels.

    Returns
    -------
    dict
        ``kind``, ``cut``, ``pairs`` (``label``, ``carrier``, ``other``, ``carrier_id``, ``other_id``),
        ``patches`` (``carrier``, ``other``) of findings that are confined to a part of images, and ``means``,
        None where one side is empty, or of signals: ``carriers``, ``others``, ``difference``, and ``top``,
        the difference that gets the full colour.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    contrast = ContrastSheet.open(path)
    lossless = contrast.kind == "signal"
    pairs = [
        {
            "label": class_name(int(label), classes),
            "carrier": data_uri(_enlarged(carrier), lossless=lossless),
            "other": data_uri(_enlarged(other), lossless=lossless) if other_id else None,
            "carrier_id": carrier_id,
            "other_id": other_id,
        }
        for label, carrier, other, carrier_id, other_id in zip(
            contrast.labels,
            contrast.carriers,
            contrast.others,
            contrast.carrier_ids,
            contrast.other_ids,
            strict=True,
        )
    ]
    patches = [
        {"carrier": data_uri(_enlarged(carrier)), "other": data_uri(_enlarged(other)) if other_id else None}
        for carrier, other, other_id in zip(
            contrast.carrier_patches, contrast.other_patches, contrast.other_ids, strict=False
        )
    ]
    return {
        "kind": contrast.kind,
        "cut": contrast.cut,
        "pairs": pairs,
        "patches": patches,
        "means": _means(contrast),
    }


def class_name(label: int, classes: Sequence[str]) -> str:
    """What a label is called."""
    return classes[label] if 0 <= label < len(classes) else f"class {label}"


def _means(contrast: ContrastSheet) -> Record | None:
    if contrast.kind == "signal" or not contrast.has_both:
        return None
    difference = contrast.difference
    top = shared_limit(difference)
    return {
        "carriers": data_uri(_enlarged(_grey(contrast.mean_carriers))),
        "others": data_uri(_enlarged(_grey(contrast.mean_others))),
        "difference": data_uri(_enlarged(coloured(difference, top)), lossless=True),
        "top": top,
    }


def _grey(mean: Floats) -> Array:
    return np.clip(mean * 255, 0, 255).round().astype(np.uint8)


def coloured(difference: Floats, top: float) -> Array:
    """(h, w, 3) uint8: orange where carriers are brighter, purple where they are darker."""
    colours = DIVERGING(np.clip(difference / top, -1, 1) / 2 + 0.5)[..., :3]
    picture: Array = (colours * 255).round().astype(np.uint8)
    return picture


def _enlarged(picture: Array) -> Array:
    """(H, W, 3), each pixel repeated where the picture is small."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=-1)
    times = max(1, round(2 * SMALL / max(picture.shape[:2])))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def classes_of(run: JSON) -> list[str]:
    """Names of a run's classes."""
    return texts(mapping(run.get("data")).get("classes"))
