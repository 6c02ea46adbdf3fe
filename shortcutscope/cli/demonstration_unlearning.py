"""The second half of the demo: draw the masks, train a student, and compare it with the biased network."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from torch import nn

from shortcutscope.cli.tables import print_comparison
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.options import Retraining
from shortcutscope.debias.student import Student
from shortcutscope.debias.training import Training
from shortcutscope.debias.unlearn import debias
from shortcutscope.facade import Audit, Comparison, compare
from shortcutscope.files import write_atomically
from shortcutscope.masks.learning import Drawing
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.options import Running, Statistics
from shortcutscope.planting.study import MODEL, Study
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.report.overlay import draw_overlays


@dataclass(frozen=True)
class Unlearned:
    """What the second half of the demo made.

    Attributes
    ----------
    masks
        Of the localized shortcut, where the audit found one.
    student
        The retrained network.
    comparison
        Of both networks, on images that neither the audit nor any training saw.
    """

    masks: MaskSet | None
    student: Student
    comparison: Comparison


def unlearn(
    model: nn.Module,
    found: Audit,
    study: Study,
    *,
    epochs: int,
    statistics: Statistics,
    running: Running,
    console: Console,
) -> Unlearned | None:
    """Go on from an audit that found shortcuts; None where it found none."""
    if not found.shortcuts:
        console.print("The audit found no shortcut, so there is nothing to unlearn.")
        return None
    images, test = study.table(), study.table("test")
    trained = images.frame["split"].to_numpy() == "train"
    train, audited = images.take(np.flatnonzero(trained)), images.take(np.flatnonzero(~trained))
    masks = _masks(model, found, audited, console, seed=statistics.seed, running=running)
    clean = study.table("clean")
    worst = found.shortcuts[0]
    console.print(
        f"Retraining without {worst.name!r}, the costlier one: a specialist teacher on {len(clean)} clean "
        f"images, and a student on {len(train)} biased ones ..."
    )
    student = debias(
        model,
        train,
        audit=worst,
        clean=clean,
        held_out=audited,
        test=test,
        training=Retraining(
            Training(epochs=epochs, seed=statistics.seed), initial=lambda number: thin_resnet18(seed=number)
        ),
        running=running,
    )
    console.print(repr(student), markup=False, highlight=False)
    console.print(f"Comparing both on {len(test)} images that nothing was chosen on ...")
    compared = compare(
        found,
        student,
        test,
        model=model,
        concept=worst.name,
        train=train,
        statistics=statistics,
        running=running,
        out=found.path,
    )
    print_comparison(console, compared)
    console.print(f"report with before and after: {found.report()}", markup=False, highlight=False)
    console.print("The same from the command line:")
    for words in commands(found, study):
        console.print(shlex.join(words), markup=False, highlight=False, soft_wrap=True)
    return Unlearned(masks, student, compared)


def commands(found: Audit, study: Study) -> list[list[str]]:
    """What to type for the masks, the student and the comparison."""
    mean, std = (",".join(f"{v:g}" for v in values) for values in (study.normalize.mean, study.normalize.std))
    model = ["--model", MODEL, "--weights", str(study.weights), "--mean", mean, "--std", std]
    folder = study.manifest.parent
    worst = found.shortcuts[0].name
    data, test = ["--data", str(study.manifest)], ["--data", str(folder / "test.csv")]
    clean = ["--clean", str(folder / "clean.csv"), "--held-out", str(study.manifest)]
    localized = [f.name for f in found.shortcuts if f.extent == "localized"]
    listed = [["shortcutscope", "annotate", str(found.path), name, *model, *data] for name in localized[:1]]
    listed.append(["shortcutscope", "debias", str(found.path), "--finding", worst, *model, *data, *clean])
    test += ["--train-data", str(study.manifest)]
    listed.append(["shortcutscope", "compare", str(found.path), "--finding", worst, *model, *test])
    return listed


def _masks(
    model: nn.Module, found: Audit, audited: ImageTable, console: Console, *, seed: int, running: Running
) -> MaskSet | None:
    """Of the first localized shortcut, also as PNG files and as a picture."""
    localized = [finding for finding in found.shortcuts if finding.extent == "localized"]
    if not localized:
        console.print("No shortcut is localized, so there are no masks to draw.")
        return None
    console.print(f"Drawing masks of {localized[0].name!r} on {len(audited)} images ...")
    masks = localized[0].annotate(model, audited, drawing=Drawing(seed=seed), running=running)
    exported = masks.export(found.path / "masks" / "png", "png")
    picture = masks.folder / "overlay.png"
    figure = draw_overlays(masks, audited)
    write_atomically(picture, lambda file: figure.savefig(file, format="png", dpi=120))
    console.print(str(masks), markup=False, highlight=False)
    console.print(
        f"masks: {masks.folder}; as PNG: {exported}; picture: {picture}", markup=False, highlight=False
    )
    return masks
