"""MLflow and Weights & Biases, neither of which this package needs or brings."""

from __future__ import annotations

from typing import Any

from shortcutscope.audit.record import AuditRecord
from shortcutscope.errors import InputError
from shortcutscope.extras import require_package
from shortcutscope.tracking.figures import figures_of, words_of

#: Files of a run that say what was found.
FILES = ("report.html", "findings.json", "run.json", "SHA256SUMS")


def log_mlflow(audit: AuditRecord, *, prefix: str = "shortcuts", step: int | None = None) -> None:
    """Log an audit to MLflow's active run, or to one that MLflow begins: metrics, tags, and files.

    Parameters
    ----------
    audit
        A finished audit.
    prefix
        What the names of metrics and tags begin with, and the folder of the files.
    step
        Of the metrics.

    Raises
    ------
    InputError
        When mlflow is not installed.

    Examples
    --------
    >>> ss.log_mlflow(ss.Audit.open("runs/derm"))  # doctest: +SKIP
    """
    mlflow = require_package("mlflow", "log_mlflow")
    mlflow.log_metrics(figures_of(audit, prefix), step=step)
    mlflow.set_tags(words_of(audit, prefix))
    for name in FILES:
        if (audit.path / name).is_file():
            mlflow.log_artifact(str(audit.path / name), prefix)


def log_wandb(
    audit: AuditRecord, *, run: Any = None, prefix: str = "shortcuts", step: int | None = None
) -> None:
    """Log an audit to a run of Weights & Biases: figures, verdicts, the table, the report, and files.

    Parameters
    ----------
    audit
        A finished audit.
    run
        What ``wandb.init`` gave; by default the run that is active.
    prefix
        What names begin with.
    step
        Of the figures.

    Raises
    ------
    InputError
        When wandb is not installed, or there is no run.

    Examples
    --------
    >>> ss.log_wandb(ss.Audit.open("runs/derm"), run=wandb.init(project="derm"))  # doctest: +SKIP
    """
    wandb = require_package("wandb", "log_wandb")
    run = run if run is not None else wandb.run
    if run is None:
        raise InputError("there is no active run of wandb: call wandb.init() first, or give run=")
    logged: dict[str, Any] = {
        **figures_of(audit, prefix), f"{prefix}/findings": wandb.Table(dataframe=_plain(audit))
    }  # fmt: skip
    report = audit.path / FILES[0]
    if report.is_file():
        logged[f"{prefix}/report"] = wandb.Html(report.read_text(encoding="utf-8"), inject=False)
    run.log(logged, step=step)
    run.summary.update(words_of(audit, prefix))
    artifact = wandb.Artifact(f"{prefix}-{run.id}", type="shortcut-audit")
    for name in FILES:
        if (audit.path / name).is_file():
            artifact.add_file(str(audit.path / name))
    run.log_artifact(artifact)


def _plain(audit: AuditRecord) -> Any:
    """The table of findings; columns of words are words throughout, as a table of wandb wants them."""
    frame = audit.to_frame()
    words = frame.select_dtypes(exclude="number").columns
    return frame.assign(**{name: frame[name].fillna("").astype(str) for name in words})
