"""The check of the preprocessing as a stage of an audit, within a twentieth of what the scan costs."""

from __future__ import annotations

import logging

from torch import nn

from shortcutscope.audit.preprocessing.check import (
    IMAGES,
    PreprocessingCheck,
    affordable_images,
    chosen_images,
    compared_readings,
)
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.scan.plan import Plan
from shortcutscope.types import Record

_log = logging.getLogger(__name__)


def check_in_audit(
    run: RunDirectory,
    model: nn.Module,
    table: ImageTable,
    plan: Plan,
    expected_auroc: float | None,
    seed: int,
) -> Record:
    """What the run keeps of the check: `PreprocessingCheck.to_json`, or ``not_made`` with the reason.

    Parameters
    ----------
    run
        Of the audit; it has the check once it was made.
    model, table, plan
        What is scanned, and how.
    expected_auroc
        What the model should reach; where it does not, all readings are tried, whatever that costs.
    seed
        Of the choice of images and the resamples.
    """
    depends = {"expected_auroc": expected_auroc, "seed": seed}
    kept: Record = run.cached(
        "preprocessing", "readings", depends, lambda: _checked(model, table, plan, expected_auroc, seed)
    )
    for text in warnings_of(kept):
        run.warn(text)
        _log.warning(text)
    return kept


def warnings_of(kept: Record) -> tuple[str, ...]:
    """What a run's check found wrong."""
    return () if "not_made" in kept else PreprocessingCheck.from_json(kept).warnings


def _checked(
    model: nn.Module, table: ImageTable, plan: Plan, expected_auroc: float | None, seed: int
) -> Record:
    n, passes = affordable_images(len(table), relevance=plan.scanning.relevance)
    if not n and expected_auroc is None:
        return {
            "not_made": f"a twentieth of a scan of {len(table)} images allows too few of them; "
            "check_preprocessing(model, data) compares ways to read them"
        }
    try:
        some = chosen_images(table, n or IMAGES, seed)
        with frozen(model, plan.running.device) as borrowed:
            arguments = (borrowed, some, plan.head, expected_auroc, seed, plan.running.batch_size)
            check = compared_readings(*arguments, passes=passes if n else len(some))
            if check.met is False:
                check = compared_readings(*arguments)
    except (InputError, ModelError) as error:
        return {"not_made": str(error)}
    return check.to_json()
