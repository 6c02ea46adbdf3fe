"""Draw the pictures of the gallery anew, and write its page: ``python docs/gallery.py``.

Every picture is drawn by the code that stands above it on the page, in the order of the page, on a study of
phantoms that is made on the spot. It takes some minutes.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PICTURES = HERE / "gallery"


@dataclass(frozen=True)
class Entry:
    """A picture: its file, what it shows, and the code whose last line is the figure."""

    name: str
    title: str
    text: str
    code: str


STUDY = """\
import shortcutscope as ss

tag, noise = ss.phantoms.get_artifact("tag"), ss.phantoms.get_artifact("noise")
pool = ss.phantoms.radiographs(1500, seed=0)
held = ss.holdout(pool.frame["group"], pool.frame["label"], fraction=0.4, seed=0)
train = ss.phantoms.plant(pool.take(~held), tag, correlation=0.95)
train = ss.phantoms.plant(train, noise, prevalence={0: 0.3, 1: 0.3})
half = {0: 0.5, 1: 0.5}
test = ss.phantoms.plant(ss.phantoms.plant(pool.take(held), tag, prevalence=half), noise, prevalence=half)
model = ss.train_classifier(ss.phantoms.thin_resnet18(), train, epochs=4)
audit = ss.audit(model, test, out / "run", train=train, statistics=ss.Statistics(100, 100))
"""

ENTRIES = (
    Entry(
        "costs",
        "What each concept costs",
        "AUROC where the concept agrees with the label, and where it does not; the network leans on what is "
        "far apart.",
        "audit.plot()",
    ),
    Entry(
        "depth",
        "Over the depth of the network",
        "How well a layer tells the concept, and how far the output depends on it there.",
        'audit["tag"].plot()',
    ),
    Entry(
        "contrast",
        "Carriers beside their likes",
        "Images with the concept beside images without it that are alike otherwise, the means of both sides, "
        "and their difference.",
        'audit["tag"].plot_contrast()',
    ),
    Entry(
        "map",
        "The samples, laid out by UMAP",
        "By the relevance at the last layer that was scanned; for the eye alone.",
        'audit.map("tag")',
    ),
    Entry(
        "circuit",
        "The channels that carry it",
        "Found by relevance, tested by ablation: what taking them out changes, against others.",
        "few = ss.Judging(samples=100, draws=20)\n"
        'ss.draw_circuit(audit["tag"].circuit(model, test, edges=False, judging=few))',
    ),
    Entry(
        "masks",
        "Masks on their images",
        "Drawn for a localized finding, without marks by anybody.",
        'masks = audit["tag"].annotate(model, test)\n'
        "carriers = [entry.sample_id for entry in masks.entries if not entry.empty][:6]\n"
        "ss.draw_overlays(masks, test, carriers)",
    ),
    Entry(
        "areas",
        "How large masks are, and where",
        "A histogram of their areas, and the share of masks that cover each pixel.",
        "ss.draw_areas(masks)",
    ),
    Entry(
        "readings",
        "Does another reading of the images suit the network better?",
        "AUROC of every reading, with the interval of the given one as a band.",
        "ss.draw_readings(ss.check_preprocessing(model, test))",
    ),
    Entry(
        "comparison",
        "Before and after",
        "A student that was trained on the same images with all groups of class and concept weighted alike; "
        "on so few it gains nothing.",
        'student = ss.debias(model, train, audit=audit["tag"], recipe="group-balanced-ce")\n'
        'ss.compare(audit, student, test, model=model, concept="tag").plot()',
    ),
)


def page() -> str:
    """The text of the page."""
    parts = [
        "# Gallery",
        "",
        "What results draw of themselves. Each picture was drawn by the code above it, one after the other, "
        "and all are drawn anew by `python docs/gallery.py`.",
        "In a notebook the last line shows the figure; elsewhere `.savefig(path)` writes it, and `ax=` draws "
        "it beside others where a figure is one plot.",
        "",
        "```python",
        STUDY.replace('out / "run"', '"runs/gallery"').strip(),
        "```",
    ]
    for entry in ENTRIES:
        parts += [
            "",
            f"## {entry.title}",
            "",
            entry.text,
            "",
            "```python",
            entry.code,
            "```",
            "",
            f"![{entry.title}](gallery/{entry.name}.png)",
        ]
    return "\n".join(parts) + "\n"


def draw(folder: Path, entries: tuple[Entry, ...] = ENTRIES) -> None:
    """Run the code of the page, and write the pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as out:
        names: dict[str, Any] = {"out": Path(out)}
        exec(STUDY, names)
        for entry in entries:
            *before, last = entry.code.splitlines()
            exec("\n".join(before), names)
            eval(last, names).savefig(folder / f"{entry.name}.png", dpi=100, bbox_inches="tight")
            print(entry.name, file=sys.stderr)


if __name__ == "__main__":
    draw(PICTURES)
    (HERE / "gallery.md").write_text(page(), encoding="utf-8")
