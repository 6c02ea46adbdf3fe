"""A small finished audit with masks, a student and a comparison, to be damaged."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from shortcutscope.cli import main
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.planting.study import write_study

NETWORK = '''
import torch


class Brightness(torch.nn.Module):
    """Scores nothing but how bright the image is."""

    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.Sequential(
            torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Conv2d(1, 4, 1)), torch.nn.Identity()
        )
        self.fc = torch.nn.Linear(4, 2)
        with torch.no_grad():
            self.blocks[0][1].weight.fill_(1.0)
            self.blocks[0][1].bias.zero_()
            self.fc.weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
            self.fc.bias.zero_()

    def forward(self, x):
        return self.fc(self.blocks(x).mean((2, 3)))


def brightness(num_classes=2):
    return Brightness()
'''


@dataclass(frozen=True)
class World:
    """Files of a user: a manifest, a model with weights, and a run of an audit."""

    folder: Path
    manifest: Path
    weights: Path
    run: Path

    @property
    def model(self) -> list[str]:
        return ["--weights", str(self.weights)]

    @property
    def reading(self) -> list[str]:
        return ["--mean", "0.45", "--std", "0.25"]

    @property
    def known(self) -> list[str]:
        """Options that name the model and the data of a run."""
        model = ["--model", "stranger_model:brightness", *self.model]
        return [*model, "--data", str(self.manifest), *self.reading]

    def audit(self, manifest: Path, out: Path, concepts: str = "sex") -> list[str]:
        """A command that audits one column in a second or two; with ``tag``, the command of the run."""
        return [
            *("audit", "stranger_model:brightness", str(manifest), *self.model, *self.reading),
            *(
                "--concepts",
                concepts,
                "--present",
                "sex=F",
                "--permutations",
                "60",
                "--bootstrap",
                "20",
                "--out",
                str(out),
            ),
        ]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    (folder / "stranger_model.py").write_text(NETWORK)
    sys.path.insert(0, str(folder))
    before = Path.cwd()
    os.chdir(folder)  # nothing that a command makes up by itself lands in the checkout
    from stranger_model import brightness  # type: ignore[import-not-found]

    table, tag = radiographs(160, size=32, seed=3, patients=False), get_artifact("tag")
    parts = {
        "train": plant(table.take(np.arange(60)), tag, correlation=0.9, column="tag"),
        "test": plant(table.take(np.arange(60, 160)), tag, prevalence={0: 0.5, 1: 0.5}, column="tag", seed=1),
    }
    study = write_study(folder, brightness(), parts, progress=False)
    made = World(folder, study.manifest, study.weights, folder / "run")
    commands = [
        made.audit(made.manifest, made.run, "tag,sex"),
        ["annotate", str(made.run), "tag", *made.known],
        ["debias", str(made.run), *made.known, "--finding", "tag", "--recipe", "erm", "--epochs", "0.2"],
        ["compare", str(made.run), *made.known],
    ]
    for command in commands:
        with pytest.raises(SystemExit) as leaving:
            main(command)
        assert leaving.value.code in (0, 2, 3), command
    yield made
    os.chdir(before)
    sys.path.remove(str(folder))
