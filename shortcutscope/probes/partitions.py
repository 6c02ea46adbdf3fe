"""Columns that say what another one says: the label over again, or the same parting of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from shortcutscope.data.manifests.words import key
from shortcutscope.errors import InputError
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.reading import entries, level_text

#: Words in a column's name that make a copy of the label the label, and not a total confound.
LABEL_WORDS = {
    "label", "labels", "target", "targets", "class", "classes", "y", "diagnosis", "dx", "truth", "gt",
    "outcome",
}  # fmt: skip


def is_the_label(frame: pd.DataFrame, column: str, classes: Sequence[str] | None) -> str | None:
    """Why a column is the label itself, or None where it is another thing.

    A column that only goes with the label in every sample is a confound that these samples cannot tell from
    it, and no copy: what makes the label is that the column parts the samples as it does *and* is written in
    the classes' names, or named so or after a class.

    Parameters
    ----------
    frame
        Of an image table, with ``label``.
    column
        Another of its columns.
    classes
        Names in label order, where they are known.
    """
    try:
        content = entries(frame[column], column)
    except InputError:
        return None  # what it cannot be read as is told where it is read
    labels = frame["label"].to_numpy()
    pairs = sorted({(int(y), float(entry)) for y, entry in zip(labels, content.values, strict=True)})
    codes = [entry for _, entry in pairs]
    one_to_one = len(pairs) == len(set(codes)) == len(np.unique(labels)) > 1
    if not (content.known.all() and one_to_one):
        return None
    names = [key(name) for name in classes or ()]
    if content.kind == "words" and pairs[-1][0] < len(names):
        words = [key(level_text(content.levels[int(code)])) for code in codes]
        if words == [names[label] for label, _ in pairs]:
            return "it is the label itself, in the names of the classes"
    loose = key(column.replace("_", " ").replace("-", " ").replace(".", " "))
    if LABEL_WORDS & set(loose.split()) or loose in names:
        return "it is the label itself, by its name and in every sample"
    return None


def merged(concepts: Sequence[Concept]) -> list[Concept]:
    """Concepts of columns of which none parts the samples as another does.

    Of those that do the first stands for all, before it one of which it is known which value is the artifact;
    the others are named in :attr:`shortcutscope.probes.concept.Concept.same` and in its notes.

    Parameters
    ----------
    concepts
        Of one table's columns: over the same samples in the same order.
    """
    groups: dict[bytes, list[Concept]] = {}
    for concept in concepts:
        groups.setdefault(_partition(concept), []).append(concept)
    return [_together(group) if len(group) > 1 else group[0] for group in groups.values()]


def _partition(concept: Concept) -> bytes:
    """The same for two concepts that part the samples alike, whichever side is called 1."""
    values = concept.values
    defined = values[concept.known]
    if len(defined) and defined[0] == 1:
        values = 1 - values
    return np.nan_to_num(values, nan=2.0).astype(np.int8).tobytes()


def _together(group: Sequence[Concept]) -> Concept:
    first = next((c for c in group if c.reading is not None and not c.reading.symmetric), group[0])
    others = [c for c in group if c is not first]
    alike = [np.array_equal(c.values, first.values, equal_nan=True) for c in others]
    texts = [
        c.name if same else f"{c.name} (the other way round)" for c, same in zip(others, alike, strict=True)
    ]
    note = f"these samples are parted alike by {', '.join(texts)}: tested once, for all of them"
    return replace(first, same=tuple(c.name for c in others), notes=(*first.notes, note))
