"""The plain recipe: its kernel, and masks of those that carry the concept."""

import numpy as np
import torch

from shortcutscope.masks.clarc import ClarcMaskPredictor, blurred
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import find_layers
from shortcutscope.planting.thin import thin_resnet18


def test_the_kernel_is_that_of_the_paper_at_its_size():
    point = np.zeros((1, 224, 224), np.float32)
    point[0, 100, 100] = 1
    found = blurred(point)[0]
    rows, columns = np.nonzero(found > 1e-9)
    assert rows.max() - rows.min() + 1 == 7
    assert columns.max() - columns.min() + 1 == 7
    line = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 8.0**2))
    expected = np.outer(line, line) / line.sum() ** 2
    np.testing.assert_allclose(found[97:104, 97:104], expected, rtol=1e-4)


def test_only_carriers_get_a_mask():
    model = thin_resnet18(width=4).eval()
    x = torch.rand(60, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    concept, labels = np.tile([0.0, 1.0], 30), np.repeat([0, 1], 30)
    (layer,) = find_layers(model, x[:2], ["blocks.1"])
    activation = np.random.default_rng(0).random((60, layer.channels)) + concept[:, None]
    predictor = ClarcMaskPredictor.fit(layer, activation, concept, labels, 4 * concept - 2)
    with frozen(model):
        drawn = predictor.predict(model, x[:6], 4 * concept[:6] - 2)
    assert [bool(one.mask.any()) for one in drawn] == [False, True] * 3
    assert all(0 <= one.heat.min() <= one.heat.max() <= 1 for one in drawn)
