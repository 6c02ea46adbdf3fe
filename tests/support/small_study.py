"""A study that needs no training: a network made to read a tag, and files of images with and without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

import shortcutscope as ss

SIDE = 24
FACTORY = "small_study:tag_reader"


class TagReader(nn.Module):
    """Scores how bright the middle is, and more than that whether there is a white square in the corner."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Sequential(nn.AvgPool2d(3), nn.Conv2d(1, 3, 1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()),
        )
        self.fc = nn.Linear(4, 2)
        with torch.no_grad():
            self.blocks[0][1].weight.copy_(torch.tensor([1.0, 6.0, 0.5])[:, None, None, None])
            self.blocks[0][1].bias.copy_(torch.tensor([0.0, -5.0, 0.1]))
            self.blocks[1][0].weight.copy_(
                torch.tensor([[1.0, 0, 0], [0, 4, 0], [0.2, 2, 1], [0.1, 0, 1]])[..., None, None]
            )
            self.blocks[1][0].bias.zero_()
            self.fc.weight.copy_(torch.tensor([[-20.0, -40, 0, 0], [20, 40, 0, 0]]))
            self.fc.bias.copy_(torch.tensor([7.75, -7.75]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.blocks(x).mean((2, 3)))


def tag_reader(num_classes: int = 2) -> TagReader:
    return TagReader()


def pictures(n: int, *, seed: int = 0, agree: float = 0.5) -> tuple[np.ndarray, pd.DataFrame]:
    """Grey pictures (n, SIDE, SIDE) uint8, and their table: label, tag (agrees with the label so often)."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    tag = np.where(rng.random(n) < agree, label, 1 - label)
    images = rng.normal(80, 25, (n, SIDE, SIDE))
    images[:, 9:15, 9:15] += 60.0 * label[:, None, None]
    images[tag == 1, 1:7, 1:7] = 250
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{seed}-{k:04d}" for k in range(n)],
            "image": [f"images/s{seed}-{k:04d}.png" for k in range(n)],
            "label": label,
            "tag": tag,
            "coin": rng.integers(0, 2, n),
        }
    )
    return images.clip(0, 255).astype(np.uint8), frame


def write_files(folder: Path, n: int = 160, n_train: int = 0) -> Path:
    """Images, and a manifest of them; the rows of training come first, in a split of their own."""
    parts = []
    for split, count, agree in (("train", n_train, 0.95), ("test", n, 0.5)):
        if count:
            images, frame = pictures(count, seed=len(parts), agree=agree)
            (folder / "images").mkdir(parents=True, exist_ok=True)
            for image, name in zip(images, frame["image"], strict=True):
                Image.fromarray(image).save(folder / name)
            parts.append(frame.assign(split=split))
    path = folder / "images.csv"
    pd.concat(parts).to_csv(path, index=False)
    return path


def tables() -> tuple[ss.ImageTable, ss.ImageTable]:
    """To audit, and trained on: a tag, a coin, and one too near the label to be tested."""
    made = []
    for n, seed, agree in ((120, 0, 0.5), (60, 1, 0.95)):
        images, frame = pictures(n, seed=seed, agree=agree)
        frame["twin"] = np.where(np.arange(n) < 3, 1 - frame["label"], frame["label"])
        frame = frame.drop(columns="image")
        how = {"sample_id": "sample_id", "transform": ss.Normalize(0.3, 0.25)}
        made.append(ss.ImageTable.from_arrays(images[:, None], frame, **how))
    return made[0], made[1]


def audit(folder: Path, **options: Any) -> Any:
    """The audit of a tag that is a shortcut, a coin that is none, and one too near the label to be tested."""
    data, train = tables()
    return ss.audit(
        tag_reader(),
        data,
        out=folder,
        concepts=["tag", "coin", "twin"],
        train=train,
        statistics=ss.Statistics(50, 20),
        running=ss.Running(progress=False),
        **options,
    )
