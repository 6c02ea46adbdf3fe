from __future__ import annotations

import numpy as np
import pytest
import torch

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines import twins as twins_module
from shortcutscope.debias.baselines.twins import in_order, with_twins


def _tinted(n: int = 40) -> ImageTable:
    """Pictures of noise whose mean grey tells the label."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = rng.normal(0.35 + 0.3 * labels[:, None, None, None], 0.05, (n, 1, 16, 16)).clip(0, 1)
    return ImageTable.from_arrays(images.astype(np.float32), labels=labels)


def test_a_twin_is_its_original_with_the_grey_level_of_another() -> None:
    table = _tinted()
    twins = with_twins(table, ["offset"], 3, seed=1)
    n = len(table)
    assert len(twins) == 4 * n
    for i in range(n):
        assert torch.equal(twins.image(i), table.image(i))
    source = twins.source
    for i in range(n, 4 * n):
        own, donor, twin = table.image(i % n), table.image(int(source.donors[0, i - n])), twins.image(i)
        assert float(twin.mean()) == pytest.approx(float(donor.mean()), abs=2e-3)
        centred = own - own.mean()
        assert torch.allclose(twin - twin.mean(), centred, atol=5e-3)
    frame = twins.frame
    assert (frame["label"].to_numpy() == np.tile(table.frame["label"].to_numpy(), 4)).all()
    assert frame["sample_id"].is_unique


def test_among_twins_the_property_tells_nothing_of_the_label() -> None:
    table = _tinted(200)
    twins = with_twins(table, ["exposure"], 4, seed=0)
    n = len(table)
    grey = np.array([float(twins.image(i).mean()) for i in range(len(twins))])
    labels = twins.frame["label"].to_numpy()
    assert abs(np.corrcoef(grey[:n], labels[:n])[0, 1]) > 0.9
    assert abs(np.corrcoef(grey[n:], labels[n:])[0, 1]) < 0.15


@pytest.mark.parametrize(("n", "twins"), [(40, 3), (2, 4), (5, 5)])
def test_no_image_gives_to_itself_and_all_give_alike(n, twins) -> None:
    donors = twins_module._donors(n, twins, seed=3)
    assert (donors != np.tile(np.arange(n), twins)).all()
    assert (np.bincount(donors, minlength=n) == twins).all()


def test_the_transform_is_that_of_the_table() -> None:
    table = _tinted().with_transform(lambda image: image.expand(3, -1, -1) * 2 - 1)
    twins = with_twins(table, ["offset"], 1, seed=0)
    assert twins[len(table)][0].shape == (3, 16, 16)
    assert twins.fingerprint() != with_twins(table, ["offset"], 1, seed=5).fingerprint()


def test_a_twin_has_the_frame_of_one_image_and_the_grey_of_another() -> None:
    rng = np.random.default_rng(3)
    images = rng.normal(rng.uniform(0.4, 0.7, (30, 1, 1, 1)), 0.05, (30, 1, 32, 32)).clip(0.1, 1)
    images[::3, :, :4] = 0
    table = ImageTable.from_arrays(images.astype(np.float32), labels=np.arange(30) % 2)
    transfers = in_order(["exposure", "frame"])
    assert transfers == ("frame", "exposure")
    source = with_twins(table, transfers, 2, seed=0).source
    frames, greys = source.donors
    assert (frames != greys).mean() > 0.8
    for i in range(30, 90):
        twin = source.read(i)
        assert bool((twin[:, :4] < 0.02).all()) == (frames[i - 30] % 3 == 0)
        assert float(twin.mean()) == pytest.approx(float(table.image(int(greys[i - 30])).mean()), abs=3e-3)
    assert "frame of" in source.identity(30)
    assert "exposure of" in source.identity(30)
