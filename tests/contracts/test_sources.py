"""What every source of images holds to: read alike anywhere, and an identity that is the content's."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from shortcutscope.data.decoding.decoded import DecodedImages
from shortcutscope.data.joining import JoinedSource
from shortcutscope.data.sources import (
    ArraySource,
    DatasetSource,
    DerivedSource,
    ImageReading,
    ImageSource,
    NpzSource,
    PathSource,
    as_array,
    origin_of,
)
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines.artifact_augmentation import PastedSource
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.planting import plant

N, SIDE = 4, 32


def paths(images: np.ndarray, folder: Path) -> ImageSource:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    return PathSource([f"{i}.png" for i in range(len(images))], str(folder))


def arrays(images: np.ndarray, folder: Path) -> ImageSource:
    return ArraySource(images)


def members(images: np.ndarray, folder: Path) -> ImageSource:
    folder.mkdir(parents=True)
    np.savez(folder / "a.npz", train=images[:1], test=images[1:])
    return NpzSource(folder / "a.npz", ("train", "test"), ImageReading())


class Items(torch.utils.data.Dataset):
    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int):
        return torch.as_tensor(self.images[i][None]), 0


def items(images: np.ndarray, folder: Path) -> ImageSource:
    return DatasetSource(Items(images), ImageReading())


def joined(images: np.ndarray, folder: Path) -> ImageSource:
    return JoinedSource(ArraySource(images[:1]), paths(images[1:], folder))


def table_of(images: np.ndarray) -> ImageTable:
    frame = pd.DataFrame({"sample_id": list("abcd"), "label": [0, 1, 0, 1]})
    return ImageTable.from_arrays(images, frame)


def planted(images: np.ndarray, folder: Path) -> ImageSource:
    return plant(table_of(images), get_artifact("tag"), prevalence={0: 1.0, 1: 0.0}).source


def kept(images: np.ndarray, folder: Path) -> ImageSource:
    return DecodedImages(folder / "cache").over(paths(images, folder / "images"))


def pasted(images: np.ndarray, folder: Path) -> ImageSource:
    corner = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    corner[:3, :3] = True
    return PastedSource(table_of(images), {3: 0}, {0: corner})


#: Makes a source of uint8 images (N, H, W), with a folder of its own.
SOURCES: dict[str, Callable[[np.ndarray, Path], ImageSource]] = {
    one.__name__: one for one in (paths, arrays, members, items, joined, planted, kept, pasted)
}


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (N, SIDE, SIDE), dtype=np.uint8)


@pytest.mark.parametrize("name", SOURCES)
class TestSource:
    @pytest.fixture
    def source(self, name, images, tmp_path):
        return SOURCES[name](images, tmp_path / "here")

    def test_images_are_channels_first_and_the_same_again_in_any_process(self, source):
        assert len(source) == N
        elsewhere = pickle.loads(pickle.dumps(source))
        assert len(elsewhere) == N
        for i in reversed(range(N)):
            image = as_array(source.read(i))
            assert image.shape == (1, SIDE, SIDE)
            np.testing.assert_array_equal(as_array(source.read(i)), image)
            np.testing.assert_array_equal(as_array(elsewhere.read(i)), image)
            assert elsewhere.identity(i) == source.identity(i)

    def test_an_identity_is_of_the_content_and_not_of_the_place(self, name, source, images, tmp_path):
        identities = [source.identity(i) for i in range(N)]
        assert all(isinstance(one, str) for one in identities)
        assert len(set(identities)) == N
        moved = SOURCES[name](images, tmp_path / "elsewhere")
        assert [moved.identity(i) for i in range(N)] == identities
        images = images.copy()
        images[1] = 255 - images[1]
        changed = SOURCES[name](images, tmp_path / "changed")
        assert [changed.identity(i) == identities[i] for i in range(N)] == [True, False, True, True]

    def test_the_origin_is_a_source_that_is_made_of_no_other(self, source):
        for i in range(N):
            base, own = origin_of(source, i)
            assert not isinstance(base, DerivedSource)
            assert 0 <= own < len(base)
            assert source.identity(i).startswith(base.identity(own))
            assert as_array(base.read(own)).shape == as_array(source.read(i)).shape
