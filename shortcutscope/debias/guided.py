"""Which samples a student was trained on, and which guided it: what later judges it must know."""

from __future__ import annotations

import pandas as pd

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.problem import DebiasProblem

__all__ = ["guided_by"]


def guided_by(problem: DebiasProblem, *, teacher: bool, fits_validation: bool) -> pd.DataFrame:
    """The samples of a retraining by what they did.

    Parameters
    ----------
    problem
        With its tables.
    teacher
        Whether a teacher was judged on `DebiasProblem.judged_on`.
    fits_validation
        Whether the validation samples were fitted to, as by last-layer recipes, and not only chosen by.

    Returns
    -------
    frame
        ``role``, ``sample_id`` and ``group``, which is missing where patients are not known.
    """
    named: list[tuple[str, ImageTable | None]] = [("train", problem.train), ("clean", problem.clean)]
    if teacher:
        named.append(("held_out", problem.judged_on))
    training = problem.training
    if fits_validation:
        named.append(("train", problem.validation))
    elif training.select != "last" or training.validate_every is not None:
        named.append(("validation", problem.validation))
    frames = [_rows(role, table) for role, table in named if table is not None]
    return pd.concat(frames, ignore_index=True)


def _rows(role: str, table: ImageTable) -> pd.DataFrame:
    frame = pd.DataFrame({"role": role, "sample_id": table.frame["sample_id"].astype("string")})
    groups = table.frame["group"].astype("string")
    frame["group"] = groups if table.has_groups else pd.Series(pd.NA, index=frame.index, dtype="string")
    return frame.reset_index(drop=True)
