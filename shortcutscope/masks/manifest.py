"""The list of a folder's masks: ``masks.json`` when it is finished, a journal while it grows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shortcutscope.errors import InputError
from shortcutscope.files import read_json, to_json, write_atomically
from shortcutscope.masks.mask_files import MaskEntry
from shortcutscope.types import JSON, Record

MANIFEST = "masks.json"
#: One line a mask, so that a mask more costs the same however many there are.
JOURNAL = "masks.jsonl"


@dataclass(frozen=True)
class Manifest:
    """What the list says: the finding's name, the masks, what made them, how much of a journal is whole."""

    name: str
    entries: list[MaskEntry]
    provenance: Record
    whole_bytes: int = 0


def coco_header(name: str, provenance: JSON) -> Record:
    """The parts of a COCO file that do not depend on the images."""
    return {
        "info": {
            "description": f"masks of {name}",
            "version": str(provenance.get("version", "")),
            "shortcutscope": dict(provenance),
        },
        "licenses": [],
        "categories": [{"id": 1, "name": name, "supercategory": "artifact"}],
    }


def coco_box(entry: MaskEntry) -> list[int]:
    """COCO's ``bbox`` of an image's mask: x, y, width, height; zeros when it is empty."""
    if entry.box is None:
        return [0, 0, 0, 0]
    (row, column), (height, width) = entry.box
    return [column, row, width, height]


def write_manifest(path: Path, name: str, entries: Iterable[MaskEntry], provenance: JSON) -> None:
    """Write the list in COCO's form, one line a mask.

    The masks themselves lie beside it, and are named in ``mask_file``.
    """
    entries = tuple(entries)
    write_atomically(path, lambda file: file.writelines(_lines(name, entries, provenance)))


def _lines(name: str, entries: Sequence[MaskEntry], provenance: JSON) -> Iterator[bytes]:
    """The file piece by piece: its text is many times as long as what is held of the masks."""
    for key, value in coco_header(name, provenance).items():
        yield (b"{" if key == "info" else b",\n") + f'"{key}": '.encode() + _json(value)
    yield b',\n"images": ['
    for number, entry in enumerate(entries, 1):
        yield (b"\n" if number == 1 else b",\n") + _json({"id": number, **entry.to_dict()})
    yield b'],\n"annotations": ['
    first = True
    for number, entry in enumerate(entries, 1):
        if entry.kind != "image" or entry.empty:
            continue
        yield (b"\n" if first else b",\n") + _json(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "area": entry.area,
                "bbox": coco_box(entry),
                "iscrowd": 0,
            }
        )
        first = False
    yield b"]}\n"


def read_manifest(path: Path) -> Manifest:
    """Read what :func:`write_manifest` wrote.

    Raises
    ------
    InputError
        Naming the file, when it is missing or malformed.
    """
    content = read_json(path)
    try:
        entries = [MaskEntry.from_dict(image) for image in content["images"]]
        return Manifest(
            str(content["categories"][0]["name"]), entries, dict(content["info"].get("shortcutscope", {}))
        )
    except (InputError, KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise InputError(f"{path} is no list of masks of this package: {error}") from error


def journal_head(name: str, provenance: JSON) -> bytes:
    """First line of a journal."""
    return _line({"name": name, "provenance": dict(provenance)})


def journal_line(entry: MaskEntry) -> bytes:
    """Line of a mask."""
    return _line(entry.to_dict())


def _line(value: object) -> bytes:
    return _json(value) + b"\n"


def _json(value: object) -> bytes:
    return json.dumps(to_json(value), allow_nan=False).encode()


def read_journal(path: Path) -> Manifest:
    """Read a journal up to the first line that an interruption cut short.

    Raises
    ------
    InputError
        Naming the file, when not even its first line is whole.
    """
    name, provenance, entries, whole = None, {}, [], 0
    with path.open("rb") as file:
        for line in file:
            try:
                if not line.endswith(b"\n"):
                    break
                record = json.loads(line)
                if name is None:
                    name, provenance = str(record["name"]), dict(record["provenance"])
                else:
                    entries.append(MaskEntry.from_dict(record))
            except (ValueError, KeyError, TypeError, RecursionError):  # an InputError is a ValueError
                break
            whole += len(line)
    if name is None:
        raise InputError(f"{path} is no journal of masks: delete it and make the masks again")
    return Manifest(name, entries, provenance, whole)
