"""What a reader of a ranking should know: what it rests on, how sure it is, and what would help."""

from __future__ import annotations

import numpy as np

from shortcutscope.retrieval.learning import Learnt
from shortcutscope.retrieval.progress import Advice
from shortcutscope.retrieval.ranking import MIN_MARKS
from shortcutscope.retrieval.search import PLACES
from shortcutscope.types import Floats

#: How many carriers to box where it is not clear where it is.
TO_BOX = 3


def notes_of(learnt: Learnt, known: Floats, ids: np.ndarray, advice: Advice) -> list[str]:
    """Notes on a ranking.

    Parameters
    ----------
    learnt
        From the marks.
    known
        ``(N,)`` 1, 0 or NaN.
    ids
        ``(N,)`` of the samples.
    advice
        Whether to go on marking.
    """
    notes = list(learnt.searched.notes)
    if unclear := not_clear_where(learnt, known, ids):
        notes.append(unclear)
    if len(learnt.fusion.recoveries) > 1:
        notes.append(str(learnt.fusion))
    if not learnt.trusting:
        return [*notes, str(advice)]
    if (known == 1).sum() < MIN_MARKS:
        return [*notes, "ranked by values that were inferred, not by marks: confirm some first"]
    note = "learnt from inferred values, too: held-out marks are recovered no worse with them"
    return [*notes, note, str(advice)]


def not_clear_where(learnt: Learnt, known: Floats, ids: np.ndarray) -> str:
    """That boxes would help, and on which samples; empty where it is clear what mined patches show."""
    presence = learnt.fusion.presence
    if presence is None or (presence.clear and learnt.fusion.weights[PLACES] > 0):
        return ""
    carriers = np.flatnonzero(known == 1)
    surest_first = carriers[np.argsort(-learnt.searched.scores[PLACES][carriers], kind="stable")]
    missed = ", ".join(str(ids[row]) for row in surest_first[::-1][:TO_BOX])
    return (
        f"it is not clear where it is, and the places in the list may show something else ({presence}): "
        f"where it is something small, box it on at least {TO_BOX} marked carriers, such as {missed}"
    )
