"""A table's transform taken apart, and put together in other ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize

import shortcutscope as ss
from shortcutscope.audit.preprocessing.readings import (
    AS_GIVEN,
    ImagesReading,
    ReadImages,
    in_contrast_and_channels,
    in_geometry,
    in_values,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 3, 40, 48), dtype=np.uint8)
UNIT = torch.from_numpy(PIXELS[0]).float() / 255


def images(transform=None, **options) -> ReadImages:
    return ReadImages(ss.ImageTable.from_arrays(PIXELS, labels=[0, 1, 0], transform=transform, **options))


def named(of, name) -> ImagesReading:
    return next(reading for reading in of if reading.name == name)


@pytest.mark.parametrize(
    ("transform", "value_range"),
    [
        (None, (0, 1)),
        (None, (-1024, 1024)),
        (Normalize(MEAN, STD), (0, 1)),
        (Normalize((120,), (60,)), (0, 255)),
        (lambda x: 1 - x, (0, 1)),
        (lambda x: x[[2, 1, 0]] * 2 - 1, (0, 1)),
        (ss.Normalize(0.5, 0.25), (0, 1)),
    ],
)
def test_linear_transforms_are_undone(transform, value_range):
    found = images(transform, value_range=value_range)
    assert found.linear is not None
    given = found.table[0][0]
    torch.testing.assert_close(found.inputs(0, [ImagesReading()])[0], given)
    unit = found.unit(0)
    assert float(unit.min()) >= -1e-5
    assert float(unit.max()) <= 1 + 1e-5
    whole = named(
        in_values(found, unit[None], ImagesReading()), "values 0 to 255" + ", not inverted" * found.inverted
    )
    assert float(found.inputs(0, [whole])[0].max()) > 200


@pytest.mark.parametrize(
    "transform", [lambda x: (x - x.mean()) / x.std(), torch.sqrt, lambda x: (x > 0.5) + 0.0]
)
def test_others_are_not(transform):
    found = images(transform)
    assert found.linear is None
    assert not found.can_reshape
    assert list(in_values(found, torch.rand(2, 3, 4, 4), ImagesReading())) == []
    inverted, flipped = in_contrast_and_channels(found, ImagesReading())
    torch.testing.assert_close(found.inputs(0, [inverted])[0], found.table.transformed(1 - UNIT))
    torch.testing.assert_close(found.inputs(0, [flipped])[0], found.table.transformed(UNIT.flip(0)))


def test_values_are_what_they_are_called():
    found = images(Normalize((0.5,), (0.5,)))
    every = list(in_values(found, UNIT[None], ImagesReading()))
    wanted = {
        "values 0 to 1": UNIT,
        "values -1 to 1": 2 * UNIT - 1,
        "values 0 to 255": 255 * UNIT,
        "values -1024 to 1024": 2048 * UNIT - 1024,
        "mean and std of ImageNet": Normalize(MEAN, STD)(UNIT),
        "each image with mean 0 and std 1": (UNIT - UNIT.mean()) / UNIT.std(),
    }
    for name, value in wanted.items():
        torch.testing.assert_close(found.inputs(0, [named(every, name)])[0], value, rtol=1e-4, atol=1e-3)
    inverted = found.inputs(0, [named(in_contrast_and_channels(found, ImagesReading()), "inverted")])[0]
    torch.testing.assert_close(inverted, 1 - 2 * UNIT, rtol=1e-4, atol=1e-5)


def test_geometries_are_made_of_the_stored_image():
    found = images(Compose([Resize((16, 16)), Normalize((0.5,), (0.5,))]))
    every = list(in_geometry(found, ImagesReading()))
    assert {r.name for r in every if r.name.startswith("size")} == {"size 28", "size 32"}
    middle = named(every, "the middle, its aspect kept")
    wanted = Resize((16, 16), antialias=True)(CenterCrop(40)(UNIT)) * 2 - 1
    torch.testing.assert_close(found.inputs(0, [middle])[0], wanted, rtol=1e-4, atol=1e-5)
    whole = named(every, "the whole image, its aspect not kept")
    torch.testing.assert_close(found.inputs(0, [whole])[0], found.table[0][0], rtol=1e-4, atol=1e-5)
    assert found.inputs(0, [named(every, "size 32")])[0].shape == (3, 32, 32)


def test_the_tables_own_size_is_undone():
    found = images(size=16)
    whole = named(in_geometry(found, ImagesReading()), "size 32")
    wanted = torch.from_numpy(ss.ImageTable.from_arrays(PIXELS, labels=[0, 1, 0], size=32).image(0).numpy())
    assert (found.inputs(0, [whole])[0] - wanted).abs().max() < 1 / 255


def test_names_keep_what_differs():
    given = ImagesReading()
    values = given.differing("values 0 to 1", "values")
    both = values.differing("size 8", "geometry")
    assert (given.name, both.name, both.aspects) == (
        AS_GIVEN,
        "values 0 to 1; size 8",
        ("values", "geometry"),
    )
    assert both.differing("size 9", "geometry").name == "values 0 to 1; size 9"


def test_volumes_and_signals_have_other_values_only():
    volume = np.random.default_rng(0).random((2, 6, 6, 6), dtype=np.float32)
    found = ReadImages(ss.ImageTable.from_arrays(volume, labels=[0, 1], dims=3))
    assert list(in_geometry(found, ImagesReading())) == []
    assert len(list(in_values(found, found.unit(0)[None], ImagesReading()))) == 10


def test_channels_keep_the_order_that_the_transform_gives_them():
    found = images(Compose([Resize((16, 16)), lambda x: x.flip(0)]))
    whole = named(in_geometry(found, ImagesReading()), "the whole image, its aspect not kept")
    torch.testing.assert_close(found.inputs(0, [whole])[0], found.table[0][0], rtol=1e-4, atol=1e-5)
    assert not images(lambda x: x.mean(0, keepdim=True)).can_reshape
    assert not images(lambda x: x[[1, 0, 2]]).can_reshape
