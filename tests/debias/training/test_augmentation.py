import pytest
import torch

from shortcutscope.debias.training.augmentation import SHIFT, augmented, shifted, strongly_changed, symmetric


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shifts_move_by_at_most_the_given_number_of_pixels():
    batch = torch.arange(2 * 9 * 9.0).reshape(2, 1, 9, 9)
    generator = drawn()
    seen = set()
    for _ in range(200):
        moved = shifted(batch, 2, generator)
        assert moved.shape == batch.shape
        dy, dx = divmod(int(moved[0, 0, 4, 4] - batch[0, 0, 2, 2]), 9)
        seen.add((dy - 2, dx - 2))
        torch.testing.assert_close(moved[:, :, 4, 4], batch[:, :, 2 + dy, 2 + dx])
    assert seen == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}
    assert shifted(batch, 0, generator) is batch


@pytest.mark.parametrize("kind", ["none", "shifts", "strong", "symmetries"])
@pytest.mark.parametrize("shape", [(2, 40), (3, 16, 12), (1, 8, 8, 8), (7,)])
def test_shares_of_a_batch_are_changed_as_the_whole_batch_is(kind, shape):
    images = torch.randn(6, *shape, generator=drawn(1))
    whole = augmented(images, kind, drawn(), slice(0, 6), 6)
    assert whole.shape == images.shape
    assert whole.dtype == images.dtype
    parts = [augmented(images[part], kind, drawn(), part, 6) for part in (slice(0, 4), slice(4, 6))]
    torch.testing.assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize("shape", [(1, 64), (1, 32, 48), (1, 16, 16, 16)])
def test_strong_changes_differ_between_samples_and_stay_small(shape):
    """A blob in the middle stays near it, about as bright, and of each sample at a place of its own."""
    grids = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in shape[1:]), indexing="ij")
    blob = torch.exp(-sum(grid.square() for grid in grids) / 0.08).expand(40, *shape)
    changed = strongly_changed(blob, drawn())
    mass = (changed - changed.flatten(1).median(1).values.view(-1, *(1,) * len(shape))).clamp_min(0.3)
    mass = mass - 0.3
    for grid in grids:
        centres = (mass * grid).flatten(1).sum(1) / mass.flatten(1).sum(1)
        assert len(centres.round(decimals=3).unique()) > 20
        assert 0.5 * 2 * SHIFT < float(centres.abs().max()) < 2 * SHIFT + 0.05
    peaks = changed.flatten(1).amax(1)
    assert float(peaks.std()) > 0.02
    assert 0.6 < float(peaks.min()) < float(peaks.max()) < 1.6


def test_oblong_images_are_turned_and_not_sheared():
    """A disc stays round."""
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(96) - 47.5, indexing="ij")
    disc = (y.square() + x.square() < 64).float().expand(20, 1, 32, 96)
    changed = (strongly_changed(disc, drawn()) > 0.5).double()
    for one in changed[:, 0]:
        row, column = one.nonzero().double().std(0)
        assert float(row / column) == pytest.approx(1, abs=0.05)


def test_a_constant_image_stays_what_it_is():
    images = torch.full((3, 1, 8, 8), 0.4)
    torch.testing.assert_close(strongly_changed(images, drawn()), images)


def test_symmetries_are_the_eight_of_a_square_and_all_rolls():
    """Of a picture with one bright pixel and another beside it, each pair of neighbours is reached."""
    image = torch.zeros(1, 4, 4)
    image[0, 1, 1], image[0, 1, 2] = 1, 2
    changed = symmetric(image.expand(3000, 1, 4, 4), drawn())
    assert (changed.flatten(1).sort(1).values == image.flatten().sort().values).all()
    ones, twos = (changed.flatten(1) == value for value in (1, 2))
    pairs = {(int(a), int(b)) for a, b in zip(ones.float().argmax(1), twos.float().argmax(1), strict=True)}
    assert len(pairs) == 16 * 4


def test_symmetries_keep_the_axes_of_oblong_pictures():
    image = torch.arange(6 * 9.0).reshape(1, 1, 6, 9).expand(20, 1, 6, 9)
    changed = symmetric(image, drawn())
    steps = (changed[:, 0, 0, 1:] - changed[:, 0, 0, :-1]).abs()
    assert ((steps == 1) | (steps == 8)).all()
