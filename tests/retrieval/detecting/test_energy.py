import math

import numpy as np
import torch
from scipy.ndimage import correlate

from shortcutscope.retrieval.detecting.energy import ORIENTATIONS, cells, kernels, normalized, oriented


def test_steered_filters_are_those_of_the_turned_derivative():
    image = torch.rand(1, 24, 30, generator=torch.Generator().manual_seed(0))
    scale = 1.0
    fast = oriented(image, scale).numpy()
    half = math.ceil(3 * scale)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    smooth = np.exp(-(x**2 + y**2) / (2 * scale**2))
    assert abs(kernels(scale)[1].abs().sum() - 1) < 1e-6
    for k in range(ORIENTATIONS):
        along = x * math.cos(math.pi * k / ORIENTATIONS) + y * math.sin(math.pi * k / ORIENTATIONS)
        slow = np.abs(correlate(image[0].numpy().astype(float), along * smooth, mode="mirror"))
        assert np.allclose(fast[k], np.median(fast[k] / slow) * slow, rtol=1e-3, atol=1e-5)


def test_contrast_is_made_equal():
    image = torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(0))
    faint = normalized(0.2 + 0.5 * image)
    assert torch.corrcoef(torch.stack([normalized(image).flatten(), faint.flatten()]))[0, 1] > 0.99
    assert faint.std() > 0.8 * normalized(image).std()
    assert torch.isfinite(cells(torch.zeros(1, 9, 9))).all()


def test_colours_have_cells_of_their_own():
    assert cells(torch.zeros(3, 16, 20)).shape[0] == cells(torch.zeros(1, 16, 20)).shape[0] + 4
    assert cells(torch.zeros(1, 16, 20)).shape[1:] == (8, 10)
