import numpy as np
import torch

from shortcutscope.retrieval.lines.figures import (
    LENGTHS,
    N_FIGURES,
    QUANTILES,
    STRENGTHS,
    figures_of,
    line_features,
)
from shortcutscope.retrieval.lines.tracing import lines_of, ridges_of


def with_line(thick, *, turned=False):
    y, x = np.mgrid[:96, :96].astype(float)
    image = 0.3 + 0.2 * np.exp(-((y - 30 - 0.3 * x) ** 2) / (2 * thick**2))
    return image.T if turned else image


def test_figures_do_not_depend_on_direction_and_tell_thin_from_wide():
    thin, turned, wide = (with_line(1.0), with_line(1.0, turned=True), with_line(2.0))
    figures = []
    for image in (thin, turned, wide):
        ridges = ridges_of(image)
        figures.append(figures_of(lines_of(ridges, 0.2, 40), ridges, image).mean(0))
    assert figures[0].shape == (N_FIGURES,)
    assert np.allclose(figures[0], figures[1], rtol=0.05, atol=0.05)
    assert figures[0][0] > 1.3 * figures[2][0]  # how far both sides fall within two pixels


def test_a_picture_has_as_many_figures_whatever_it_shows():
    many = len(STRENGTHS) * len(LENGTHS) * (N_FIGURES * (2 + len(QUANTILES)) + 2)
    for shape in ((96, 96), (9, 40), (1, 1)):
        features = line_features(torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)))
        assert features.shape == (many,)
        assert np.isfinite(features).all()
    assert (line_features(torch.zeros(1, 64, 64)) == 0).all()
