"""The demo: plant two shortcuts, train a network on them, see whether the audit finds them, and unlearn one.

Everything is made on the spot, so that it runs with no data and no network. The images, the manifest and
the checkpoint stay in the folder: the audit can be repeated, or changed, from the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from torch import nn

from shortcutscope.cli.demonstration_unlearning import Unlearned, unlearn
from shortcutscope.cli.tables import print_verdicts
from shortcutscope.data.splits import grouped_folds, holdout
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.training.classifier import train_classifier
from shortcutscope.facade import Audit, audit
from shortcutscope.options import Recording, Running, Statistics
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.planting.study import MODEL, write_study
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.scan.plan import Scanning

PLANTED = ("tag", "noise")
CORRELATION = 0.95
CLEAN = 0.1
CONTROLS = ("sex", "age", "room")


@dataclass(frozen=True)
class DemoSize:
    """How large the demo is.

    Attributes
    ----------
    images : int
        Phantoms: four in seven are trained on, a tenth of these are clean; two in seven are audited, one in
        seven is kept for the comparison.
    epochs : int
        Length of the training.
    permutations, bootstrap : int
        Of the audit.
    """

    images: int = 2800
    epochs: int = 5
    permutations: int = 200
    bootstrap: int = 200


@dataclass(frozen=True)
class Check:
    """What was planted, or not, against what the audit says of it."""

    concept: str
    expected: str
    found: str
    agrees: bool


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    size: DemoSize | None = None,
    console: Console | None = None,
    progress: bool = True,
) -> tuple[Audit, tuple[Check, ...], Unlearned | None]:
    """Run the demo and print its verdicts, and what became of the costlier shortcut.

    Parameters
    ----------
    out : Path
        Folder; gets ``data/`` (images, manifest, checkpoint) and ``audit/`` (the run with its report).
    seed : int
        Seed of the phantoms, the planting, the training and the audit.
    size : DemoSize, optional
        Smaller for tests.
    console : Console, optional
        Where to print; standard output by default.
    progress : bool
        Show progress bars.

    Returns
    -------
    audit, checks, unlearned
        The audit, whether it agrees with what was planted, and masks, student and comparison.
    """
    size = size or DemoSize()
    console = console or Console()
    parts, model = _prepare(size, seed, console, progress)
    held_out = parts["audited"]
    study = write_study(Path(out) / "data", model, parts, apart=("clean", "test"), progress=progress)
    console.print(f"Auditing it on {len(held_out)} held-out images, in which neither goes with the class ...")
    run = Path(out) / "audit"
    statistics, running = Statistics(size.permutations, size.bootstrap, seed), Running(progress=progress)
    found = audit(
        model,
        study.table(),
        run,
        scanning=Scanning(measure=False),  # what is measured of pictures follows from what is planted
        statistics=statistics,
        running=running,
        record=Recording(model_spec=MODEL, command=f"shortcutscope demo --out {out} --seed {seed}"),
    )
    report = found.report()
    print_verdicts(console, found, report)
    checks = check(found)
    console.print(_check_table(checks))
    console.print("The same audit from the command line, on the files that the demo wrote:")
    console.print(study.command(Path(out) / "again"), markup=False, highlight=False, soft_wrap=True)
    mended = unlearn(
        model,
        found,
        study,
        epochs=size.epochs,
        statistics=statistics,
        running=running,
        console=console,
    )
    return found, checks, mended


def make_tables(images: int, seed: int) -> dict[str, ImageTable]:
    """Make the tables ``train``, ``clean``, ``audited`` and ``test``; no patient is in two of them.

    Within a class the two artifacts are drawn independently of each other. In all tables but ``train`` half
    of either class carries each of them, so that all combinations of artifact and class occur.
    """
    table = radiographs(images, seed=seed)
    fold = grouped_folds(table.frame["group"].to_numpy(), table.frame["label"].to_numpy(), 7, seed)
    trained = table.take(np.flatnonzero(fold < 4))
    clean = holdout(trained.frame["group"].to_numpy(), trained.frame["label"].to_numpy(), CLEAN, seed)
    parts = {
        "train": trained.take(np.flatnonzero(~clean)),
        "clean": trained.take(np.flatnonzero(clean)),
        "audited": table.take(np.flatnonzero((fold >= 4) & (fold < 6))),
        "test": table.take(np.flatnonzero(fold == 6)),
    }
    for number, name in enumerate(PLANTED):
        artifact = get_artifact(name)
        for part, own in parts.items():
            shares = None if part == "train" else {0: 0.5, 1: 0.5}
            parts[part] = plant(
                own, artifact, correlation=CORRELATION, prevalence=shares, seed=2 * seed + number
            )
    return parts


def _prepare(
    size: DemoSize, seed: int, console: Console, progress: bool
) -> tuple[dict[str, ImageTable], nn.Module]:
    """The samples, and a network trained on some of them."""
    console.print("Making radiograph-like phantoms; planting a tag (localized) and noise (diffuse) ...")
    parts = make_tables(size.images, seed)
    train = parts["train"]
    console.print(
        f"Training a thin ResNet-18 on {len(train)} images, both in 95 % of class 1 and 5 % of class 0 ..."
    )
    model = thin_resnet18(seed=seed)
    train_classifier(model, train, epochs=size.epochs, seed=seed, progress=progress)
    return parts, model


def check(found: Audit) -> tuple[Check, ...]:
    """Compare the findings with what was planted and with the controls, which nothing was done to."""
    checks = []
    for finding in found.findings:
        said = finding.verdict if finding.verdict != "shortcut" else f"{finding.verdict}, {finding.extent}"
        if finding.name in PLANTED:
            expected = f"shortcut, {get_artifact(finding.name).extent}"
            checks.append(Check(finding.name, expected, said, said == expected))
        else:
            checks.append(Check(finding.name, "no shortcut", said, finding.verdict != "shortcut"))
    return tuple(checks)


def _check_table(checks: Sequence[Check]) -> Table:
    table = Table(title="Against what was planted")
    for column in ("concept", "planted", "the audit says", ""):
        table.add_column(column, overflow="fold")
    for item in checks:
        table.add_row(item.concept, item.expected, item.found, "as planted" if item.agrees else "MISSED")
    return table
