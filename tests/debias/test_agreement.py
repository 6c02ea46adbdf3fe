"""Training samples of which the run knows none are read and labelled as its network knows them, or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.agreement import refuse_strange_samples
from shortcutscope.errors import InputError
from shortcutscope.files import write_json


class Brightness(nn.Module):
    """Says class 1 of bright images: an artifact that brightens them decides alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x.mean((1, 2, 3)) - 0.5
        return torch.stack([-bright, bright], 1)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    record = {"format": 1, "inputs": {"task": "auto"}, "performance": {"balanced_accuracy": 0.95}}
    write_json(tmp_path / "run.json", record)
    return tmp_path


def samples(carriers: np.ndarray, labels: np.ndarray) -> ImageTable:
    images = np.where(carriers, 0.8, 0.2)[:, None, None, None] * np.ones((1, 1, 4, 4))
    return ImageTable.from_arrays(images.astype(np.float32), labels=labels)


LABELS = np.repeat([0, 1], 40)


def test_r3_swapped_labels_and_inverted_images_are_refused(run: Path) -> None:
    refuse_strange_samples(run, Brightness(), samples(LABELS == 1, LABELS))
    with pytest.raises(InputError, match=r"mean recall of 0\.00 on 80 .* had 0\.95"):
        refuse_strange_samples(run, Brightness(), samples(LABELS == 1, 1 - LABELS))
    with pytest.raises(InputError, match="labels numbered"):
        refuse_strange_samples(run, Brightness(), samples(LABELS == 0, LABELS))


def test_samples_against_the_shortcut_are_no_strange_ones(run: Path) -> None:
    """On balanced samples a network that leans on the artifact is right by chance only."""
    carriers = np.tile([True, False], 40)
    balanced = samples(carriers, LABELS)
    with pytest.raises(InputError, match=r"mean recall of 0\.50"):
        refuse_strange_samples(run, Brightness(), balanced)
    refuse_strange_samples(run, Brightness(), balanced, carriers.astype(float))


def test_too_few_samples_tell_nothing(run: Path) -> None:
    few = samples(LABELS[36:44] == 0, LABELS[36:44])
    refuse_strange_samples(run, Brightness(), few)
