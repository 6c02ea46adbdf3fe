"""A folder as FiftyOne reads it (``fiftyone.types.FiftyOneDataset``), written without it.

The format is MongoDB's extended JSON: ``metadata.json`` has the fields, ``samples.json`` a document a sample.
Images are named relative to a folder that FiftyOne is told when it reads (``rel_dir=``).
"""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shortcutscope.errors import InputError
from shortcutscope.files import write_json
from shortcutscope.types import Bools, Record

#: Of FiftyOne: it brings what an earlier version wrote up to its own.
_VERSION = "1.0.0"
_FIELDS, _LABELS = "fiftyone.core.fields", "fiftyone.core.labels"
_TYPES = {"text": "StringField", "whole": "IntField", "number": "FloatField", "facts": "DictField"}


@dataclass(frozen=True)
class Sample:
    """A sample of such a data set.

    Attributes
    ----------
    sample_id, image
        Its id, and the file of its image, relative to the folder that FiftyOne is told.
    labels
        Name of a field to its labels, by `detections` or `classifications`.
    size
        Rows and columns of the image, where they are known.
    facts
        What else is known, in the field ``shortcutscope``.
    """

    sample_id: str
    image: str
    labels: Mapping[str, Record]
    size: tuple[int, int] | None = None
    facts: Record = field(default_factory=dict)


def write_dataset(folder: Path, name: str, samples: Sequence[Sample], info: Record) -> Path:
    """Write the two files of a data set.

    Raises
    ------
    InputError
        For a file in place of the folder.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file: give a new folder")
    labels = {field: value["_cls"] for sample in samples for field, value in sample.labels.items()}
    dataset = _object_id(name)
    documents = [_document(sample, name) for sample in samples]
    write_json(folder / "samples.json", {"samples": documents})
    metadata = {
        "_id": dataset,
        "name": name,
        "version": _VERSION,
        "sample_collection_name": f"samples.{dataset['$oid']}",
        "persistent": False,
        "media_type": "image",
        "tags": [],
        "info": info,
        "sample_fields": _schema(labels),
    }
    write_json(folder / "metadata.json", metadata)
    return folder


def detections(found: Sequence[Record]) -> Record:
    """Boxes, with masks where they have some, as the value of a field."""
    return {"_cls": "Detections", "detections": list(found)}


def detection(label: str, sample_id: str, mask: Bools, **attributes: object) -> Record:
    """The smallest box around a mask ``(H, W)`` that is not empty, and the mask in it."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    (top, bottom), (left, right) = ((int(edge[0]), int(edge[-1]) + 1) for edge in (rows, columns))
    height, width = mask.shape
    return {
        "_cls": "Detection",
        "_id": _object_id("detection", label, sample_id),
        "label": label,
        "tags": [],
        "bounding_box": [left / width, top / height, (right - left) / width, (bottom - top) / height],
        "mask": packed(mask[top:bottom, left:right]),
        **attributes,
    }


def classifications(label: str, sample_id: str, **attributes: object) -> Record:
    """A label of the whole image as the value of a field, which takes those of other findings, too."""
    own = _object_id("classification", label, sample_id)
    one = {"_cls": "Classification", "_id": own, "label": label, "tags": [], **attributes}
    return {"_cls": "Classifications", "classifications": [one]}


def packed(mask: Bools) -> Record:
    """A mask as FiftyOne keeps it in its database: NumPy's format, compressed."""
    buffer = io.BytesIO()
    np.save(buffer, mask, allow_pickle=False)
    return {
        "$binary": {"base64": base64.b64encode(zlib.compress(buffer.getvalue())).decode(), "subType": "00"}
    }


def unpacked(value: Record, most: int) -> Bools:
    """The mask that `packed` packed.

    Raises
    ------
    ValueError
        For what is none, or has more than `most` pixels.
    """
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(base64.b64decode(value["$binary"]["base64"]), 8 * most + 1024)
    if unpacker.unconsumed_tail:
        raise ValueError(f"a mask has more than {most} pixels")
    mask = np.load(io.BytesIO(content), allow_pickle=False)
    if mask.ndim != 2:
        raise ValueError(f"a mask has {mask.ndim} axes, not two")
    return np.asarray(mask != 0)


def _document(sample: Sample, name: str) -> Record:
    size: Record | None = None
    if sample.size is not None:
        size = {"_cls": "ImageMetadata", "height": sample.size[0], "width": sample.size[1]}
    own = _object_id(name, sample.sample_id)
    return {
        "_id": own,
        "_media_type": "image",
        "_rand": int(own["$oid"][:8], 16) / 2**32,
        "filepath": sample.image,
        "tags": [],
        "metadata": size,
        "sample_id": sample.sample_id,
        "shortcutscope": sample.facts,
        **sample.labels,
    }


def _object_id(*parts: str) -> Record:
    return {"$oid": hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]}


def _schema(labels: Mapping[str, str]) -> list[Record]:
    metadata = [_field(name, "whole") for name in ("size_bytes", "width", "height", "num_channels")]
    embedded = f"{_FIELDS}.EmbeddedDocumentField"
    return [
        {**_field("id", "text"), "ftype": f"{_FIELDS}.ObjectIdField", "db_field": "_id"},
        _field("filepath", "text"),
        {**_field("tags", "text"), "ftype": f"{_FIELDS}.ListField", "subfield": f"{_FIELDS}.StringField"},
        {
            **_field("metadata", "facts"),
            "ftype": embedded,
            "embedded_doc_type": "fiftyone.core.metadata.ImageMetadata",
            "fields": [_field("mime_type", "text"), *metadata],
        },
        _field("_media_type", "text"),
        _field("_rand", "number"),
        _field("sample_id", "text"),
        _field("shortcutscope", "facts"),
        *(
            {**_field(name, "facts"), "ftype": embedded, "embedded_doc_type": f"{_LABELS}.{kind}"}
            for name, kind in labels.items()
        ),
    ]


def _field(name: str, kind: str) -> Record:
    return {
        "name": name,
        "ftype": f"{_FIELDS}.{_TYPES[kind]}",
        "embedded_doc_type": None,
        "subfield": None,
        "fields": [],
        "db_field": name,
        "description": None,
        "info": None,
    }
