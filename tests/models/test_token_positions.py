"""Tokens without a place in the image, wherever they stand among the others."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_states import model_state
from torch import nn

from shortcutscope.attribution.tokens import on_grid, prefix_share
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import find_layers
from shortcutscope.models.token_positions import extra_tokens
from shortcutscope.scan.capture import forward_edited
from shortcutscope.scan.pooling import pool_activation

SIZE, PATCH, WIDTH = (16, 32), 8, 12
GRID = (2, 4)
N = math.prod(GRID)


class Tokens(nn.Module):
    """Two transformer blocks; extra tokens are put in before the patches of these numbers."""

    def __init__(self, places, order=None):
        super().__init__()
        self.places, self.order = places, order
        self.patch = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.extra = nn.Parameter(torch.randn(1, len(places), WIDTH))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(WIDTH, 2, 24, 0.0, batch_first=True, norm_first=True)
                for _ in range(2)
            )
        )
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        if self.order is not None:
            tokens = tokens[:, self.order]
        parts, extra, done = [], self.extra.expand(len(x), -1, -1), 0
        for k, place in enumerate(self.places):
            parts += [tokens[:, done:place], extra[:, k : k + 1]]
            done = place
        return self.head(self.blocks(torch.cat([*parts, tokens[:, done:]], 1)).mean(1))


def build(places, order=None):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Tokens(places, order)


IMAGES = torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(1))
PLACES = {
    "none": [],
    "in front": [0, 0],
    "in the middle": [4],
    "at the end": [N, N, N],
    "spread": [0, 3, 6, N],
}


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_m8_a_lit_patch_shows_at_its_place(places):
    model = build(places)
    before, generator = model_state(model), torch.get_rng_state()
    layers = find_layers(model, IMAGES, ["blocks.0", "blocks.1"])
    assert model_state(model) == before
    assert torch.equal(torch.get_rng_state(), generator)
    where = tuple(place + k for k, place in enumerate(places))
    for layer in layers:
        assert (layer.grid, layer.prefix_tokens) == (GRID, len(places))
        assert tuple(layer.tokens_without_position) == where
    layer, seen = layers[0], []
    dark = torch.zeros(1, 1, *SIZE)
    with frozen(model), torch.no_grad():
        model.blocks[0].register_forward_hook(lambda module, args, result: seen.append(result))
        model(dark)
        for y in range(GRID[0]):
            for x in range(GRID[1]):
                lit = dark.clone()
                lit[..., y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH] = 3
                model(lit)
                change = (layer.channels_first(seen[-1]) - layer.channels_first(seen[0])).abs().sum(1)[0]
                assert int(change.argmax()) == y * GRID[1] + x
    values = torch.randn(3, N + len(places), WIDTH)
    patches = [t for t in range(N + len(places)) if t not in where]
    torch.testing.assert_close(on_grid(layer, values).flatten(1), values[:, patches].sum(2))
    pools = pool_activation(layer, values)
    torch.testing.assert_close(pools["mean"], values[:, patches].mean(1))
    if places:
        torch.testing.assert_close(pools["class"], values[:, where[0]])
        share = values.sum(2).abs()[:, list(where)].sum(1) / values.sum(2).abs().sum(1)
        torch.testing.assert_close(prefix_share(layer, values), share)


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_m8_edits_see_tokens_without_a_place_first_and_are_put_back_in_place(places):
    model = build(places).double()
    images = IMAGES.double()
    (layer,) = find_layers(model, images, "blocks.0")
    with frozen(model):
        plain = model(images)
        shown = []

        def keep(flat):
            shown.append(flat)
            return flat

        torch.testing.assert_close(forward_edited(model, images, layer, keep), plain)

        def only_patches(flat):
            return torch.cat([flat[..., : len(places)], flat[..., len(places) :] * 0], dim=-1)

        edited = forward_edited(model, images, layer, only_patches)
        where = layer.tokens_without_position

        def by_hand(module, args, result):
            kept = torch.zeros_like(result)
            kept[:, where] = result[:, where]
            return kept

        model.blocks[0].register_forward_hook(by_hand)
        torch.testing.assert_close(edited, model(images))


def test_m8_patches_in_another_order_are_read_as_a_row():
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    (layer,) = find_layers(build([0], order), IMAGES, "blocks.0")
    assert (layer.grid, layer.prefix_tokens) == ((N + 1,), 0)


def test_m8_places_can_be_told():
    model = build([4])
    (layer,) = find_layers(model, IMAGES, "blocks.0", layouts={"blocks.0": "tokens@-1"})
    assert (layer.extra_tokens, layer.grid, layer.prefix_tokens) == ((N,), GRID, 1)
    (layer,) = find_layers(model, IMAGES, "blocks.0", layouts={"blocks.0": "tokens@0"})
    assert (layer.extra_tokens, layer.prefix_tokens) == ((), 1)
    for wrong in ("tokens@9", "tokens@1,1", "tokens@", "tokens@x", "NHWC@1"):
        with pytest.raises(InputError, match="tokens"):
            find_layers(model, IMAGES, "blocks.0", layouts={"blocks.0": wrong})


@given(st.integers(2, 60), st.data())
def test_extra_tokens_are_found_wherever_they_are(n_patches, data):
    n_tokens = n_patches + data.draw(st.integers(0, 5))
    places = data.draw(st.permutations(range(n_tokens)))[:n_patches]
    places = sorted(places)
    found = extra_tokens(lambda patches: [places[p] for p in patches], n_tokens, n_patches)
    assert found == tuple(t for t in range(n_tokens) if t not in places)
