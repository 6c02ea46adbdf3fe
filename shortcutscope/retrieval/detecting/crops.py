"""What a detector was taught by, to look at: the boxed or mined patches, kind by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from shortcutscope.data.pictures import Picture, sample_picture
from shortcutscope.data.table import ImageTable
from shortcutscope.retrieval.detecting.detection import Detection
from shortcutscope.retrieval.places import EDGES
from shortcutscope.show import parts
from shortcutscope.show.isolation import sheet

#: Margin around a box as a share of its longer side, height of a crop as it is shown, and most of a kind.
MARGIN, HEIGHT, SHOWN = 0.5, 64, 12


@dataclass(frozen=True, eq=False, repr=False)
class Crops:
    """Patches of each kind, with their surroundings.

    Attributes
    ----------
    frame
        kind, sample_id, x0, y0, x1, y1 in pixels of the file, searched (whether it is searched for now).
    pictures
        Row of the frame to ``(H, W)`` or ``(H, W, 3)`` uint8.
    mined
        Whether nobody boxed them, so that they are to be looked at.
    """

    frame: pd.DataFrame
    pictures: Mapping[int, Picture]
    mined: bool

    def __len__(self) -> int:
        """Number of kinds."""
        return int(self.frame["kind"].nunique())

    def __repr__(self) -> str:
        counts = self.frame["kind"].value_counts(sort=False)
        kinds = ", ".join(f"{kind}: {count} crops" for kind, count in counts.items())
        return f"Crops({'mined' if self.mined else 'boxed'}; {kinds})"

    def is_searched(self, kind: int) -> bool:
        """Whether a kind is searched for, and not only offered."""
        return bool(self.frame.loc[self.frame["kind"] == kind, "searched"].all())

    def _repr_html_(self) -> str:
        text = "Kinds of patches that the detector looks for."
        if self.mined:
            text += (
                " Nobody boxed them: look whether they show what you marked, and keep() those that do. Those "
                "in brackets are too rare to be searched for unless they are kept."
            )
        sections = [parts.heading("Crops"), f"<p>{text}</p>"]
        kinds, names = self.frame["kind"].to_numpy(), self.frame["sample_id"].astype(str).tolist()
        for kind in range(len(self)):
            rows = np.flatnonzero(kinds == kind).tolist()[:SHOWN]
            sections.append(f"<h4>{kind if self.is_searched(kind) else f'({kind})'}</h4>")
            sections.append(parts.pictures([(self.pictures[row], names[row]) for row in rows], height=HEIGHT))
        return sheet(*sections, plain=repr(self))


def crops_of(detection: Detection, table: ImageTable) -> Crops:
    """Cut the patches out of the images of a table in the size of its files."""
    rows: list[tuple[object, ...]] = []
    pictures: dict[int, Picture] = {}
    ids = table.frame["sample_id"].astype(str).to_numpy()
    for number, kind in enumerate(detection.offered):
        for row, box in kind:
            pictures[len(rows)] = _crop(sample_picture(table.image(row).numpy(), table.value_range), box)
            rows.append((number, ids[row], *box, number < len(detection.kinds)))
    frame = pd.DataFrame(rows, columns=["kind", "sample_id", *EDGES, "searched"])
    return Crops(frame, pictures, detection.mined)


def _crop(picture: Picture, box: Sequence[float]) -> Picture:
    x0, y0, x1, y1 = box
    margin = MARGIN * max(x1 - x0, y1 - y0)
    high, wide = picture.shape[:2]
    top, bottom = max(0, int(y0 - margin)), min(high, int(np.ceil(y1 + margin)))
    left, right = max(0, int(x0 - margin)), min(wide, int(np.ceil(x1 + margin)))
    part = Image.fromarray(np.ascontiguousarray(picture[top:bottom, left:right]))
    scale = HEIGHT / part.height
    return np.asarray(part.resize((max(1, round(part.width * scale)), HEIGHT)))
