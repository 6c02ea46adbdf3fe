"""Maps of every layout against explicit loops over positions."""

import itertools
import math

import pytest
import torch

from shortcutscope.attribution.tokens import on_grid, on_pixels, prefix_share
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer, find_layers


def layer_of(layout: str, shape: tuple[int, ...], grid: tuple[int, ...], prefix: int = 0) -> Layer:
    return Layer("layer", "Module", layout, shape, 1.0, prefix, grid)


LAYERS = [
    layer_of("NCHW", (5, 2, 3), (2, 3)),
    layer_of("NHWC", (2, 3, 5), (2, 3)),
    layer_of("NCDHW", (5, 2, 3, 4), (2, 3, 4)),
    layer_of("NCL", (5, 7), (7,)),
    layer_of("tokens", (6, 5), (2, 3)),
    layer_of("tokens", (8, 5), (2, 3), prefix=2),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.layout}{layer.prefix_tokens}")
def test_every_position_gets_the_sum_of_its_channels(layer):
    relevance = torch.randn(2, *layer.shape, dtype=torch.float64)
    maps = on_grid(layer, relevance)
    assert maps.shape == (2, *layer.grid)
    cells = list(itertools.product(*map(range, layer.grid)))
    for n, (index, cell) in itertools.product(range(2), enumerate(cells)):
        if layer.layout == "tokens":
            values = relevance[n, layer.prefix_tokens + index]
        else:
            values = relevance[n][cell] if layer.layout == "NHWC" else relevance[n][(slice(None), *cell)]
        assert maps[n][cell].item() == pytest.approx(math.fsum(values.tolist()), abs=1e-12)


def test_a_vector_has_one_value_a_sample_and_no_pixels():
    layer = layer_of("vector", (4,), ())
    maps = on_grid(layer, torch.ones(3, 4))
    assert maps.tolist() == [4, 4, 4]
    with pytest.raises(InputError, match="no positions"):
        on_pixels(maps, (8, 8))


def test_prefix_share_counts_tokens():
    layer = layer_of("tokens", (4, 2), (1, 2), prefix=2)
    relevance = torch.zeros(3, 4, 2)
    relevance[0] = torch.tensor([[1.0, 0.0], [0.0, -2.0], [4.0, -1.0], [-1.0, -1.0]])
    relevance[1, 1] = 1
    share = prefix_share(layer, relevance)
    assert share.tolist() == pytest.approx([3 / 8, 1, 0])
    assert prefix_share(LAYERS[0], torch.ones(2, 5, 2, 3)).tolist() == [0, 0]


@pytest.mark.parametrize("name", ["vit", "swin", "volume", "signal", "overwriting"])
def test_layers_come_back_on_the_pixels_without_a_reshape(make_network, name):
    model, x, layer_name = make_network(name)
    (layer,) = find_layers(model, x, layer_name)
    relevance = torch.randn(2, *layer.shape)
    assert on_pixels(on_grid(layer, relevance), x.shape[2:]).shape == (2, *x.shape[2:])


def test_a_map_is_interpolated_between_the_centres_of_its_cells():
    fine = on_pixels(torch.tensor([[0.0, 1.0]]), (4,))
    assert fine.tolist() == [pytest.approx([0, 0.25, 0.75, 1])]
    marked = torch.zeros(1, 4, 4)
    marked[0, 1, 2] = 1
    where = on_pixels(marked, (16, 16))[0]
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:8, 8:12] = True
    assert where[inside].min() > where[~inside].max()


@pytest.mark.parametrize(
    ("layer", "shape"), [(LAYERS[0], (2, 4, 2, 3)), (LAYERS[5], (2, 7, 5)), (LAYERS[3], (2, 5, 7, 1))]
)
def test_another_layers_relevance_is_refused(layer, shape):
    with pytest.raises(InputError, match="no batch of layer"):
        on_grid(layer, torch.zeros(shape))


def test_tokens_in_a_row_do_not_become_an_image():
    with pytest.raises(InputError, match="layouts"):
        on_pixels(torch.zeros(1, 6), (8, 8))
