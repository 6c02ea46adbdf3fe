"""The samples that a retrieval found: a table, small pictures, and the way to review them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.numpy import load_file, save

from shortcutscope.data.axial import axial_first, knows_axial
from shortcutscope.data.pictures import SLICES, Picture, kind_of, sample_picture, slices_picture
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import read_frame, read_object, to_json, write_atomically, write_json
from shortcutscope.retrieval.places import EDGES
from shortcutscope.show import parts
from shortcutscope.show.isolation import page, sheet
from shortcutscope.types import Floats

if TYPE_CHECKING:
    from shortcutscope.data.table import ImageTable
    from shortcutscope.retrieval.marks import Marks

#: Longest side of a picture in pixels, and how many a notebook shows.
SIDE = 96
SHOWN = 48
_COLUMNS = ("rank", "sample_id", "score", "mark")


class TakesMarks(Protocol):
    """What ranks anew by what a person says of samples, as `shortcutscope.retrieval.retrieval.Retrieval`."""

    def mark(
        self,
        answers: Mapping[str, bool | None],
        *,
        boxes: Mapping[str, Sequence[Sequence[float]]] | None = None,
        who: str = "",
        when: str = "",
    ) -> Any:
        """Take answers: sample id to True or False, or None for one that is taken back; and where."""
        ...

    @property
    def images(self) -> ImageTable | None:
        """The samples' images, where they were given."""
        ...

    @property
    def marks(self) -> Marks:
        """What was said so far."""
        ...

    @property
    def advice(self) -> Any:
        """Whether to go on marking."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Hits:
    """The best-ranked samples.

    Attributes
    ----------
    name
        What was looked for.
    frame
        Best first: rank, sample_id, score, mark (1, 0 or NaN), label, group, split.
    notes
        Precision with its interval, whether to go on marking, and what else a reader should know.
    pictures
        Sample id to ``(H, W)`` or ``(H, W, 3)`` uint8; empty where no images were given.
    retrieval
        What marks go back to; None for hits read from the disk.

    Examples
    --------
    >>> hits = audit["tag"].retrieve(3, running=quiet)
    >>> len(hits.ids), hits.scores.shape, list(hits.to_frame()["rank"])
    (3, (3,), [1, 2, 3])
    >>> table, page = hits.to_csv("hits.csv"), hits.to_html("hits.html")
    >>> ss.Hits.open(hits.save("hits")).ids == hits.ids
    True
    """

    name: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    retrieval: TakesMarks | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        marked = self.frame["mark"]
        return (
            f"Hits({self.name!r}: {len(self)} samples, {int((marked == 1).sum())} marked as carriers, "
            f"{int((marked == 0).sum())} as free of it)"
        )

    @property
    def ids(self) -> list[str]:
        """Sample ids, best first."""
        return [str(i) for i in self.frame["sample_id"]]

    @property
    def scores(self) -> Floats:
        """``(k,)``, each by a model that was not told the sample's answer."""
        return self.frame["score"].to_numpy(float)

    def to_frame(self) -> pd.DataFrame:
        """A copy of the table."""
        return self.frame.copy()

    def to_csv(self, path: str | Path, files: Mapping[str, str] | None = None) -> Path:
        """Write the table, to be marked in a spreadsheet (column ``mark``) and read in again.

        Parameters
        ----------
        path
            The file.
        files
            Sample id to the name of its image, such as ``table.files``: a column ``image``. Without it the
            file names neither images nor patients.
        """
        frame = self.frame.drop(columns="group", errors="ignore")
        if files is not None:
            names = [files.get(name, "") for name in self.ids]
            frame = self.frame.copy()
            frame.insert(list(frame.columns).index("sample_id") + 1, "image", names)
        path, text = Path(path), frame.to_csv(index=False)
        write_atomically(path, lambda file: file.write(text.encode()))
        return path

    def to_fiftyone(self, folder: str | Path, files: Mapping[str, str] | None = None) -> Path:
        """Write a data set for FiftyOne, in which the hits are labels with rank, score and mark.

        Parameters
        ----------
        folder
            The folder, read by ``fiftyone.Dataset.from_dir(folder, dataset_type=FiftyOneDataset,
            rel_dir=...)``, where the last is the folder of the images.
        files
            Sample id to the name of its image, such as ``table.files``; without it a sample's id is its name.

        Examples
        --------
        >>> hits.to_fiftyone("hits", table.files)  # doctest: +SKIP
        """
        from shortcutscope.data.fiftyone import Sample, classifications, write_dataset

        columns = self.frame.columns.intersection(["rank", "score", "mark", *EDGES])
        samples = []
        for name, row in zip(self.ids, self.frame[columns].to_dict("records"), strict=True):
            label = classifications(self.name, name, **to_json(row))
            samples.append(Sample(name, (files or {}).get(name, name), {"hits": label}))
        return write_dataset(Path(folder), f"hits of {self.name}", samples, {"notes": list(self.notes)})

    def to_html(self, path: str | Path) -> Path:
        """Write a page of the pictures and scores, to look at while the table is marked."""
        path, content = Path(path), page(self.name, *self._parts()).encode()
        write_atomically(path, lambda file: file.write(content))
        return path

    def save(self, folder: str | Path) -> Path:
        """Write ``hits.parquet``, ``hits.json`` and the pictures into a folder."""
        folder = Path(folder)
        write_atomically(folder / "hits.parquet", lambda file: self.frame.to_parquet(file, index=False))
        if self.pictures:
            payload = save({name: np.ascontiguousarray(p) for name, p in self.pictures.items()})
            write_atomically(folder / "pictures.safetensors", lambda file: file.write(payload))
        write_json(folder / "hits.json", {"name": self.name, "notes": list(self.notes)})
        return folder

    @classmethod
    def open(cls, folder: str | Path) -> Hits:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            When the folder holds no hits.
        """
        folder = Path(folder)
        record = read_object(folder / "hits.json")
        frame = read_frame(folder / "hits.parquet")
        missing = [c for c in _COLUMNS if c not in frame]
        if missing:
            raise InputError(f"{folder / 'hits.parquet'} lacks the columns {missing}: retrieve again")
        pictures = folder / "pictures.safetensors"
        with intact(folder, "a folder of hits", "retrieve again"):
            images: dict[str, Picture] = load_file(pictures) if pictures.exists() else {}
            return cls(record["name"], frame, tuple(record["notes"]), images)

    def _repr_html_(self) -> str:
        return sheet(parts.heading(self.name), *self._parts(), plain=repr(self))

    def _parts(self) -> list[str]:
        rows = list(self.frame.head(SHOWN).itertuples())
        more = f" The first {len(rows)} are shown." if len(rows) < len(self) else ""
        cells = [(self.pictures.get(str(row.sample_id)), _caption(row)) for row in rows]
        return [
            f"<p>{len(self)} samples, best first.{more}</p>",
            parts.notes(self.notes),
            parts.pictures(cells),
        ]


def _caption(row: Any) -> str:
    return f"{row.rank}. {row.sample_id}\n{row.score:.2f} {MARKED.get(row.mark, '')}"


def refuse_other_csv(path: Path) -> None:
    """Refuse to write hits over a file that holds something else.

    Raises
    ------
    InputError
        Another file, such as the audited manifest, is there.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        columns = file.readline().strip().split(",")
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise InputError(
            f"{str(path)!r} is there and is no list of hits: it lacks the columns {', '.join(missing)}. Give "
            "the name of a new file"
        )


#: How a mark is shown; it is always a word, since colour and sign help only those who know them.
MARKED = {1.0: "carrier", 0.0: "free of it"}


def pictures_of(table: ImageTable, sample_ids: Iterable[str], side: int = SIDE) -> dict[str, Picture]:
    """Small pictures of samples of a table, in its value range.

    Parameters
    ----------
    table
        With images ``(C, H, W)`` of one or three channels; of others the first channel is shown, of volumes
        nine slices (axial ones of NIfTI files), of signals the traces of all leads.
    sample_ids
        Which; those that the table lacks are left out.
    side
        Longest side in pixels; volumes and signals are drawn twice as wide.
    """
    position = {str(name): k for k, name in enumerate(table.frame["sample_id"])}
    pictures: dict[str, Picture] = {}
    axial = knows_axial(table)
    for name in map(str, sample_ids):
        if name not in position:
            continue
        image = table.image(position[name]).numpy()
        kind = kind_of(image)
        if kind == "signal":
            pictures[name] = sample_picture(image, table.value_range, width=2 * side)
            continue
        if kind == "volume":
            volume = axial_first(image) if axial else image
            pictures[name] = slices_picture(volume, table.value_range, 2 * side // SLICES)
            continue
        thumbnail = Image.fromarray(sample_picture(image, table.value_range))
        thumbnail.thumbnail((side, side), Image.Resampling.LANCZOS)
        pictures[name] = np.asarray(thumbnail)
    return pictures
