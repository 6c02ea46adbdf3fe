"""A trained model with its images as a user has them: a folder of PNG files, a manifest and a checkpoint."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.torch import save
from torch import nn

from shortcutscope.data.table import ImageTable, Normalize
from shortcutscope.errors import InputError
from shortcutscope.files import write_atomically
from shortcutscope.progress import progress_bar

MODEL = "shortcutscope.planting.thin:thin_resnet18"


@dataclass(frozen=True)
class Study:
    """Files of a study.

    Attributes
    ----------
    manifest : Path
        CSV with the columns image, sample_id, label, split, group and the concepts.
    weights : Path
        Checkpoint of a `thin_resnet18`.
    normalize : Normalize
        From image to the model's input.
    """

    manifest: Path
    weights: Path
    normalize: Normalize

    def table(self, split: str | None = None) -> ImageTable:
        """Open the manifest, or that of a split that has its own, as a user would."""
        path = self.manifest if split is None else self.manifest.with_name(f"{split}.csv")
        return ImageTable.from_csv(path, transform=self.normalize)

    def command(self, out: Path) -> str:
        """Return the command that audits the study."""
        mean, std = (
            ",".join(f"{v:g}" for v in values) for values in (self.normalize.mean, self.normalize.std)
        )
        # What would be measured of the pictures follows from what was planted.
        words = ["shortcutscope", "audit", MODEL, str(self.manifest), "--no-measure"]
        words += ["--weights", str(self.weights)]
        return shlex.join([*words, "--mean", mean, "--std", std, "--out", str(out)])


def write_study(
    folder: Path,
    model: nn.Module,
    parts: dict[str, ImageTable],
    *,
    apart: Collection[str] = (),
    progress: bool = True,
) -> Study:
    """Write images, manifests and checkpoint; what is there from a former call is replaced.

    Parameters
    ----------
    folder : Path
        Gets ``images/<split>/<sample_id>.png``, ``images.csv`` and ``model.safetensors``.
    model : nn.Module
        The trained model.
    parts : dict
        Split name to its samples, grey images in 0..1 with a `Normalize` as the transform.
    apart : collection of str
        Splits that get a manifest ``<split>.csv`` of their own.

    Raises
    ------
    InputError
        When the tables have different transforms or none.
    """
    transforms = [table.transform for table in parts.values()]
    normalize = transforms[0]
    if not isinstance(normalize, Normalize) or any(t != normalize for t in transforms):
        raise InputError("the parts of a study need one Normalize as their transform")
    frames = {name: _write_part(folder, name, table, progress) for name, table in parts.items()}
    manifest, weights = folder / "images.csv", folder / "model.safetensors"
    for name in apart:
        _write_manifest(folder / f"{name}.csv", [frames.pop(name)])
    _write_manifest(manifest, list(frames.values()))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(weights, lambda file: file.write(save(tensors)))
    return Study(manifest, weights, normalize)


def _write_manifest(path: Path, frames: list[pd.DataFrame]) -> None:
    text = pd.concat(frames, ignore_index=True).to_csv(index=False)
    write_atomically(path, lambda file: file.write(text.encode()))


def _write_part(folder: Path, split: str, table: ImageTable, progress: bool) -> pd.DataFrame:
    images = folder / "images" / split
    images.mkdir(parents=True, exist_ok=True)
    names = [f"images/{split}/{sample_id}.png" for sample_id in table.frame["sample_id"]]
    for i, name in enumerate(progress_bar(names, desc=f"write {split}", unit="image", progress=progress)):
        grey = np.rint(table.image(i)[0].numpy() * 255).astype(np.uint8)
        Image.fromarray(grey, mode="L").save(folder / name)
    frame = table.frame.assign(split=split)
    frame.insert(0, "image", names)
    return frame
