"""Whose preprocessing DATA is read with: MODEL's, another model's, or what is typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope.cli.inputs import open_model, open_table, published, resolved
from shortcutscope.cli.options import DataOptions, ModelOptions
from shortcutscope.errors import InputError
from shortcutscope.models.preprocessing import Preprocessing
from shortcutscope.models.sources import SOURCES

CODE = """
from torch import nn

from shortcutscope.errors import InputError
from shortcutscope.models.preprocessing import Preprocessing
from shortcutscope.models.sources import ModelSource

def known(name, weights):
    if name == "odd":
        raise InputError("its preprocessing is not understood")
    return Preprocessing(f"thirdparty:{name}", "L", (-1.0, 1.0), (8, 8), mean=(0.5,), std=(0.25,))

SOURCE = ModelSource(lambda name: nn.Identity, preprocessing=known, complete=True)
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for k in range(2):
        Image.fromarray(np.full((12, 16, 3), 100 * k, np.uint8)).save(tmp_path / f"{k}.png")
    pd.DataFrame({"image": ["0.png", "1.png"], "label": [0, 1]}).to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


@pytest.fixture
def _source(third_party: Callable[..., None]) -> None:
    third_party(SOURCES, "SOURCE", CODE)


def read(manifest: Path, **options: Any) -> Any:
    return open_table(manifest, resolved(DataOptions(**options), "thirdparty:net", None))


@pytest.mark.usefixtures("_source")
def test_a_trained_models_own_is_the_default_and_options_take_its_place(manifest: Path) -> None:
    table = read(manifest)
    assert isinstance(table.transform, Preprocessing)
    assert (table.shape, table.value_range) == ((1, 8, 8), (-1.0, 1.0))
    assert float(table[0][0].mean()) == pytest.approx((-1 - 0.5) / 0.25)
    assert read(manifest, size=6).shape == (1, 6, 6)
    other = read(manifest, mean="0", std="1", mode="RGB")
    assert (other.shape, float(other[0][0].mean())) == ((3, 8, 8), -1)
    wide = read(manifest, value_range=(0.0, 255.0), mean="0", std="1")
    assert float(wide[1][0].mean()) == pytest.approx(100)
    with pytest.raises(
        InputError, match="the mean and std of thirdparty:net are those of values from -1 to 1"
    ):
        read(manifest, value_range=(0.0, 255.0))
    plain = read(manifest, preprocessing="none")
    assert (plain.transform, plain.shape) == (None, (3, 12, 16))


@pytest.mark.usefixtures("_source")
def test_one_that_is_not_understood_is_refused_unless_something_is_said() -> None:
    with pytest.raises(InputError, match=r"is not understood; or, .* --preprocessing none"):
        resolved(DataOptions(), "thirdparty:odd", None)
    assert resolved(DataOptions(size=8), "thirdparty:odd", None).preprocessing == "none"


def test_architectures_with_weights_of_ones_own_have_none_unless_asked() -> None:
    weights = Path("model.safetensors")
    assert resolved(DataOptions(), "torchvision:resnet18", weights).preprocessing == "auto"
    own = resolved(DataOptions(preprocessing="own"), "torchvision:resnet18", weights)
    assert own.preprocessing == "torchvision:resnet18"
    given = resolved(DataOptions(), "torchvision:resnet50", Path("IMAGENET1K_V1"))
    assert given.preprocessing == "torchvision:resnet50@IMAGENET1K_V1"
    another = DataOptions(preprocessing="timm:resnet18")
    assert resolved(another, "torchvision:resnet18", weights) == another
    with pytest.raises(InputError, match="nothing is known of the preprocessing"):
        resolved(DataOptions(preprocessing="own"), "my.nets:build", weights)


def test_published_weights_are_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def load(spec: str, weights: Any, **options: Any) -> Any:
        asked.append(weights)

    monkeypatch.setattr("shortcutscope.models.loading.load_model", load)
    monkeypatch.chdir(tmp_path)
    for name in ("DEFAULT", "model.safetensors"):
        open_model("torchvision:resnet18", replace(ModelOptions(), weights=Path(name)))
    assert asked == ["DEFAULT", Path("model.safetensors")]
    Path("DEFAULT").touch()
    assert published(Path("DEFAULT")) is None
