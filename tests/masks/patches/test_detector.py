"""A detector of what one place of every carrier has: anywhere, out of fold, of any number of channels."""

import numpy as np
import pytest
import torch

from shortcutscope.masks.evidence import PATCHES
from shortcutscope.masks.fusion import map_weights
from shortcutscope.masks.patches import detector as patch_detector
from shortcutscope.masks.patches.detector import HIGHEST, REACH, PatchDetector, PatchStart, TaughtDetector
from shortcutscope.stats.metrics import auroc


def cross(n, seed, channels=1, side=24):
    """Soft noise; every other image has a small cross somewhere."""
    generator = np.random.default_rng(seed)
    images = torch.from_numpy(generator.normal(0, 1, (n, channels, side, side)).astype(np.float32))
    images = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    places = generator.integers(4, side - 4, (n, 2))
    for k in range(0, n, 2):
        y, x = places[k]
        images[k, :, y - 3 : y + 4, x] = 1.5
        images[k, :, y, x - 3 : x + 4] = 1.5
    return images, (np.arange(n) % 2 == 0).astype(float), places


@pytest.mark.usefixtures("quickly_taught")
@pytest.mark.parametrize("channels", [1, 3])
def test_it_finds_a_small_thing_anywhere(channels):
    images, concept, _ = cross(80, 0, channels)
    detector = PatchDetector.fit(images, concept, seed=0)
    new, carries, places = cross(40, 1, channels)
    assert auroc(carries, detector.scores(new)) > 0.95
    maps, drawn = detector.maps(new)
    assert maps.shape == (40, 24, 24)
    assert maps.min() >= 0
    assert maps.max() <= 1
    centres = [np.argwhere(maps[k] == maps[k].max()).mean(0) for k in range(0, 40, 2)]
    near = [np.abs(at - place).max() <= 2 * REACH for at, place in zip(centres, places[::2], strict=True)]
    assert np.mean(near) > 0.9
    truth = np.zeros(drawn.shape, bool)
    for k, (y, x) in list(enumerate(places))[::2]:
        truth[k, y - 3 : y + 4, x] = truth[k, y, x - 3 : x + 4] = True
    assert auroc(truth[::2].ravel().astype(float), drawn[::2].ravel()) > 0.95


@pytest.mark.usefixtures("hardly_taught")
def test_an_image_is_scored_by_its_highest_positions():
    images, concept, _ = cross(24, 2)
    detector = PatchDetector.fit(images, concept, seed=0)
    logits = detector.looked(images)[1].flatten(1).numpy()
    assert detector.scores(images) == pytest.approx(np.sort(logits, 1)[:, -HIGHEST:].mean(1), abs=1e-5)


@pytest.mark.usefixtures("hardly_taught")
def test_a_start_is_shared_and_left_as_it_was():
    images, concept, _ = cross(40, 8)
    start = PatchStart.fit(images, seed=0)
    before = [value.clone() for value in start.network.state_dict().values()]
    PatchDetector.fit(images, concept, seed=0, start=start)
    after = start.network.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.usefixtures("hardly_taught")
def test_what_learnt_nothing_is_tried_once_more_and_the_better_one_is_kept(monkeypatch):
    monkeypatch.setattr(patch_detector, "TRIES", 2)
    images, concept, _ = cross(24, 9)
    losses = iter([0.69, 0.6, 0.69, 0.6, 0.3])
    tried = []

    def teach(network, *_):
        tried.append(network)
        return next(losses)

    monkeypatch.setattr(patch_detector, "_teach", teach)
    start = PatchStart.fit(images, seed=0)
    assert PatchDetector.fit(images, concept, 0, start).network is tried[1]
    assert PatchDetector.fit(images, concept, 0, start).network is tried[3]
    assert PatchDetector.fit(images, concept, 0, start).network is tried[4]
    assert len(tried) == 5


@pytest.mark.usefixtures("hardly_taught")
def test_the_same_seed_gives_the_same_and_no_generator_is_touched():
    images, concept, _ = cross(24, 3)
    before = torch.get_rng_state()
    first, second = (PatchDetector.fit(images, concept, seed=5).scores(images) for _ in range(2))
    assert (first == second).all()
    assert (torch.get_rng_state() == before).all()


@pytest.mark.usefixtures("hardly_taught")
def test_it_does_not_depend_on_the_unit_of_the_images():
    images, concept, _ = cross(24, 4)
    plain, scaled = (PatchDetector.fit(images * unit, concept, seed=0) for unit in (1.0, 1024.0))
    assert plain.scores(images) == pytest.approx(scaled.scores(images * 1024), rel=1e-3, abs=1e-3)


@pytest.mark.usefixtures("quickly_taught")
def test_each_fold_has_one_that_others_taught_and_chance_is_chance(monkeypatch):
    images, concept, _ = cross(90, 5)
    labels, folds = np.arange(90) // 2 % 2, np.arange(90) // 6 % 3
    taught = TaughtDetector.of_folds(images, concept, labels, folds, 3, seed=0)
    assert len(taught) == 3
    assert min(one.auroc for one in taught) > 0.85
    coin, halves = np.random.default_rng(7).permutation(concept), np.arange(90) // 6 % 2
    assert max(one.auroc for one in TaughtDetector.of_folds(images, coin, labels, halves, 2, seed=0)) < 0.75


def test_a_map_weighs_by_what_is_known_of_it_out_of_fold():
    concept, labels = np.array([0, 1, 0, 1]), np.zeros(4)
    peaks = {"input pattern": np.array([0, 1, 0, 1.0]), PATCHES: np.array([0, 1, 0, 1.0])}
    assert map_weights(peaks, concept, labels)[PATCHES] == 1
    assert map_weights(peaks, concept, labels, {PATCHES: 0.5})[PATCHES] == 0
    assert map_weights(peaks, concept, labels, {PATCHES: 0.9})[PATCHES] == pytest.approx(0.8**3)
