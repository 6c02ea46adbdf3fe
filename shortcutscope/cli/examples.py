"""An example or two for each command, as its help shows them."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final = {
    "demo": ["shortcutscope demo --out runs/demo"],
    "layers": [
        "shortcutscope layers torchvision:resnet18",
        "shortcutscope layers mypackage.nets:make --shape 1,64,64",
    ],
    "audit": [
        "shortcutscope audit torchvision:resnet18 val.csv --weights model.safetensors --num-classes 2 "
        "--size 224 --concepts ruler,site --out runs/derm",
        "shortcutscope audit --config runs/derm/audit.toml --out runs/again",
    ],
    "embeddings": ["shortcutscope embeddings features.npz val.csv --label malignant --out runs/encoders"],
    "retrieve": ["shortcutscope retrieve runs/derm ruler --csv hits.csv --page hits.html"],
    "annotate": [
        "shortcutscope annotate runs/derm ruler",
        "shortcutscope annotate runs/derm stamps --marks boxes.csv --export stamps.json",
    ],
    "export": [
        "shortcutscope export runs/derm/masks/ruler --format png --format coco",
        "shortcutscope export runs/derm/masks/ruler --out ruler.json --out ruler.xml",
    ],
    "pixels": ["shortcutscope pixels runs/derm ruler"],
    "debias": ["shortcutscope debias runs/derm --finding ruler --data train.csv --clean clean.csv"],
    "compare": ["shortcutscope compare runs/derm --finding ruler --data test.csv"],
    "amplify": [
        "shortcutscope amplify runs/derm --finding ruler --data train.csv --test test.csv --start fresh"
    ],
    "report": ["shortcutscope report runs/derm"],
    "record": [
        "shortcutscope record runs/derm --format junit --out shortcuts.xml",
        "shortcutscope record runs/derm --format markdown",
    ],
    "verify": ["shortcutscope verify runs/derm"],
    "doctor": ["shortcutscope doctor"],
    "bench": ["shortcutscope bench nulls --quick --json nulls.json"],
    "reproduce": ["shortcutscope reproduce boland --quick"],
}


def epilog(name: str) -> str | None:
    """The examples of a command below each other; None where it has none."""
    examples = EXAMPLES.get(name)
    if examples is None:
        return None
    # The help joins lines, and keeps paragraphs apart.
    return "\n\n".join(["Examples:" if len(examples) > 1 else "Example:", *examples])
