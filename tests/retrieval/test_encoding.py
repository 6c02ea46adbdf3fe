"""Encoders of any kind are shown the images, as the source of their weights reads them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.preprocessing import Preprocessing
from shortcutscope.options import Running
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.retrieval import encoding
from shortcutscope.retrieval.encoding import as_read_by, blocks_of

QUIET = Running(progress=False)


class Returning(nn.Module):
    """Two blocks, and what is made of them."""

    def __init__(self, made, channels=1):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(channels, 4, 3, stride=2), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.ReLU())
        self.made = made

    def forward(self, images):
        maps = self.two(self.one(images))
        return self.made(maps)


@pytest.fixture(scope="module")
def table():
    return radiographs(12, size=48, seed=0)


@pytest.mark.parametrize(
    "made",
    [
        lambda maps: maps.mean((2, 3)),
        lambda maps: maps,
        lambda maps: (maps.mean((2, 3)), maps),
        lambda maps: {"last_hidden_state": maps.flatten(2).mT, "pooler_output": maps.mean((2, 3))},
        lambda maps: {"hidden_states": (maps, maps), "scale": torch.tensor(3.0)},
        lambda maps: maps.mean((2, 3)).softmax(1),
    ],
    ids=["vectors", "maps", "tuple", "hugging face", "nested", "probabilities"],
)
def test_blocks_are_read_whatever_the_encoder_returns(table, made):
    encoder = Returning(made).train()
    blocks = blocks_of(encoder, table, QUIET)
    assert {len(block) for block in blocks.values()} == {12}
    assert not any(name.startswith("network.") for name in blocks)
    assert encoder.training


def test_an_encoder_that_returns_no_tensor_is_refused(table):
    with pytest.raises(ModelError, match="returns no tensor"):
        blocks_of(Returning(lambda maps: SimpleNamespace(a=1)), table, QUIET)


def test_grey_images_are_shown_in_all_channels_and_a_note_says_so(table):
    shown, note = as_read_by(Returning(lambda maps: maps, channels=3), table)
    assert shown.image(0).shape == (1, 48, 48)
    assert shown[0][0].shape == (3, 48, 48)
    torch.testing.assert_close(shown[0][0][2], table[0][0][0])
    assert "grey in all three channels" in note


def test_the_source_of_the_weights_says_how_images_are_read(table, monkeypatch):
    encoder = Returning(lambda maps: maps, channels=3)
    own = Preprocessing("a test", "RGB", resize=(32, 32), mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    monkeypatch.setattr(encoding, "own_preprocessing", lambda _: own)
    shown, note = as_read_by(encoder, table)
    assert shown[0][0].shape == (3, 32, 32)
    torch.testing.assert_close(shown[3][0], own(table.image(3).expand(3, 48, 48)))
    assert note.startswith("features: images as a test reads them")


def test_what_the_table_cannot_give_is_refused(table, monkeypatch):
    encoder = Returning(lambda maps: maps)
    own = Preprocessing("a test", "L", value_range=(-1024, 1024))
    monkeypatch.setattr(encoding, "own_preprocessing", lambda _: own)
    with pytest.raises(InputError, match="Open them for it"):
        as_read_by(encoder, table)
