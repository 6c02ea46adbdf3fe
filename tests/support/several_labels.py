"""Images with three labels, a tag for the first of them, and a network with an output for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import ThinResNet

LABELS = ("Edema", "Pleural Effusion", "Mass")


def labelled(n: int, agree: float, seed: int, *, unknown: float = 0.0) -> ImageTable:
    """Noise with a faint square for each label, and in a corner a plain one that goes with the first label.

    The square of the last label is plain, too, and goes with that of the second as often.
    """
    generator = np.random.default_rng(seed)
    labels = (generator.random((n, 3)) < 0.5).astype(float)
    labels[:, 2] = np.where(generator.random(n) < agree, labels[:, 1], 1 - labels[:, 1])
    tag = np.where(generator.random(n) < agree, labels[:, 0], 1 - labels[:, 0])
    images = generator.uniform(0, 1, (n, 1, 32, 32)).astype(np.float32)
    for k, (row, column) in enumerate([(4, 4), (4, 20), (20, 4)]):
        images[labels[:, k] == 1, :, row : row + 6, column : column + 6] += 1.0 if k == 2 else 0.12
    images[tag == 1, :, 26:, 26:] += 1.0
    labels[generator.random((n, 3)) < unknown] = np.nan
    frame = pd.DataFrame({"patient": np.arange(n) // 2, "tag": tag.astype(int)})
    frame["coin"] = generator.integers(0, 2, n)
    ids = [f"{seed}-{k}" for k in range(n)]
    frame.insert(0, "sample_id", ids)
    frame["patient"] = [f"{seed}-{k}" for k in frame["patient"]]
    return ImageTable.from_arrays(
        images, frame, labels=labels, label=list(LABELS), group="patient", value_range=(0, 2)
    )


def trained(table: ImageTable, *, epochs: int = 6, seed: int = 0) -> nn.Module:
    """A thin network with an output for each label, by their names in other writing."""
    with seeded(seed):
        network = ThinResNet(width=8, blocks=(1, 1), num_classes=len(table.labels))
        images = torch.stack([table.image(k) for k in range(len(table))])
        targets = torch.from_numpy(table.label_values).float()
        known = torch.isfinite(targets)
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        network.train()
        for _ in range(epochs):
            for rows in torch.randperm(len(images)).split(50):
                loss = nn.functional.binary_cross_entropy_with_logits(
                    network(images[rows]), targets[rows].nan_to_num(), weight=known[rows].float()
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    network.class_names = ["edema", "pleural_effusion", "MASS"]  # type: ignore[assignment]
    return network.eval()


#: MODEL of the command line.
FACTORY = "several_labels:untrained"


def untrained() -> nn.Module:
    """The network with new weights, whose outputs bear names."""
    network = ThinResNet(width=8, blocks=(1, 1), num_classes=len(LABELS))
    network.class_names = ["edema", "pleural_effusion", "MASS"]  # type: ignore[assignment]
    return network


def write_files(folder: Path, table: ImageTable, name: str) -> Path:
    """Images as files, and a manifest with labels as a data set may have them: 1, 0, -1 and empty cells."""
    (folder / name).mkdir()
    files = []
    for k in range(len(table)):
        files.append(f"{name}/{k}.png")
        pixels = np.round(table.image(k).numpy()[0] / 2 * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / files[-1])
    frame = table.frame.drop(columns="label").assign(image=files)
    for label in table.labels:
        frame[label] = frame[label].astype("Int8")
    frame.to_csv(folder / f"{name}.csv", index=False)
    return folder / f"{name}.csv"
