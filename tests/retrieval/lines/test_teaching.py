import numpy as np
import pytest
import torch

from shortcutscope.retrieval.lines.teaching import teach_lines
from shortcutscope.stats.metrics import auroc


def picture(row, *, wire):
    """Blurred steps as of ribs, and on carriers a thin line somewhere, with its box."""
    generator = np.random.default_rng(row)
    y, x = np.mgrid[:96, :96].astype(float)
    image = 0.4 + generator.normal(0, 0.01, (96, 96))
    for start in generator.uniform(0, 80, 3):
        image += 0.1 / (1 + np.exp(-(y - start - 0.3 * x) / 1.5))
    start, slope = generator.uniform(20, 60), generator.uniform(-0.2, 0.2)
    middle = start + slope * x
    if wire:
        image += 0.2 * np.exp(-((y - middle) ** 2) / 1.5)
    ends = middle[0, [0, -1]]
    box = (0.0, float(ends.min() - 3), 96.0, float(ends.max() + 4))
    return torch.from_numpy(image / 2)[None].float(), box


@pytest.fixture(scope="module")
def films():
    made = {row: picture(row, wire=row < 20) for row in range(40)}
    return {row: image for row, (image, _) in made.items()}, {row: box for row, (_, box) in made.items()}


def test_boxed_lines_are_found_in_other_images_and_held_out_ones(films):
    images, boxes = films
    boxed = {row: [boxes[row]] for row in range(8)}
    search = teach_lines(images.__getitem__, boxed, [*range(20, 28)], np.arange(40))
    found = {row: search.search(images[row], row) for row in images}
    carries = (np.arange(40) < 20).astype(float)
    assert auroc(carries, np.array([found[row][0] for row in range(40)])) > 0.95
    inside = 0
    for row in range(8, 20):
        x0, y0, x1, y1 = found[row][1]
        left, top, right, bottom = boxes[row]
        inside += left - 2 <= (x0 + x1) / 2 <= right + 2 and top - 2 <= (y0 + y1) / 2 <= bottom + 2
    assert inside >= 10
    assert search.search(images[0], 0)[0] != search.search(images[0])[0]  # held out


def test_boxes_without_lines_teach_none(films):
    images, boxes = films
    small = {row: [(2.0, 2.0, 9.0, 9.0)] for row in range(8)}
    assert teach_lines(images.__getitem__, small, [*range(20, 28)], np.arange(40)) is None
    mixed = {row: [boxes[row], *[(k, 1.0, k + 3.0, 4.0) for k in range(3)]] for row in range(8)}
    assert teach_lines(images.__getitem__, mixed, [*range(20, 28)], np.arange(40)) is None
    few = {row: [boxes[row]] for row in range(8)}
    assert teach_lines(images.__getitem__, few, [20, 21], np.arange(40)) is None
