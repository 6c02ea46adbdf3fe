"""Going on from a layer gives what running the whole network with the layer edited gives."""

import pytest
import torch
from torch import nn

from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import find_layers
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.scan.capture import forward_edited
from shortcutscope.scan.resume import Resumption

ROWS = torch.tensor([4, 1, 6])


def conv(channels_in=4):
    return nn.Conv2d(channels_in, 4, 3, padding=1)


class Net(nn.Module):
    """Three convolutions and a head; `between` says what else happens."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.three = conv(1), conv(), conv()
        self.act, self.head = nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.three(self.act(self.two(self.act(self.one(x))))).mean((2, 3)))


class Skips(Net):
    def forward(self, x):
        first = self.one(x)
        return self.head((self.three(self.two(first).relu()) + first).mean((2, 3)))


class Overwrites(Net):
    def forward(self, x):
        first = self.one(x)
        second = self.two(first)
        first += 1
        second.mul_(2)
        return self.head((self.three(second) + first).mean((2, 3)))


class Patches(Net):
    """A module whose output has a row a patch, and not a sample."""

    def forward(self, x):
        n = len(x)
        tiles = self.one(x).unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        tiles = self.two(tiles)
        return self.head(self.three(tiles).mean((2, 3)).reshape(n, -1, 4).mean(1))


class Constant(Net):
    """A module whose output has no samples, but as many rows as a batch may have."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(8, 4)

    def forward(self, x):
        rows = self.table(torch.arange(8))
        return self.head(self.three(self.two(self.one(x))).mean((2, 3)) @ (rows.T @ rows))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv(1)

    def forward(self, x, *, scale):
        values = self.conv(x)
        return {"map": values * scale, "mean": [values.mean((2, 3))]}


class Structures(Net):
    def __init__(self):
        super().__init__()
        self.pair = Pair()

    def forward(self, x):
        found = self.pair(x, scale=2.0)
        return self.head(self.three(self.two(found["map"])).mean((2, 3)) + found["mean"][0])


def edit(values):
    return values * 0.5 + 0.1


def both(model, x, names, rows=ROWS):
    """Scores from going on and from the whole network, and whether it went on, layer by layer."""
    layers = [layer for layer in find_layers(model, x, "all") if layer.name in names]
    with frozen(model) as borrowed:
        whole = [forward_edited(borrowed, x[rows], layer, edit) for layer in layers]
        plain = borrowed(x.clone())
        with Resumption(borrowed, layers) as network:
            logits = network.record(x)
            resumed = [network.go_on(layer, edit, rows) for layer in layers]
            everyone = [network.go_on(layer, edit) for layer in layers]
            told = [network.resumes(layer) for layer in layers]
        complete = [forward_edited(borrowed, x, layer, edit) for layer in layers]
    torch.testing.assert_close(logits, plain)
    for got, expected in zip(resumed + everyone, whole + complete, strict=True):
        torch.testing.assert_close(got, expected)
    assert not any("forward" in vars(module) for module in model.modules())
    return told


@pytest.mark.parametrize("kind", [Net, Skips, Overwrites, Constant, Structures])
def test_goes_on_from_every_layer(kind):
    model, x = kind().eval(), torch.randn(8, 1, 8, 8)
    assert all(both(model, x, {"two", "three", "head"}))


def test_a_residual_network_goes_on_from_its_blocks():
    model, x = thin_resnet18(width=4).eval(), torch.randn(7, 1, 32, 32)
    layers = {layer.name for layer in find_layers(model, x)}
    assert len(layers) > 5
    assert all(both(model, x, layers))


def test_what_has_no_row_a_sample_is_run_as_a_whole():
    model, x = Patches().eval(), torch.randn(8, 1, 8, 8)
    layers = [layer for layer in find_layers(model, x, "all") if layer.name in ("one", "head")]
    with frozen(model) as borrowed, Resumption(borrowed, layers) as network:
        network.record(x)
        assert [network.resumes(layer) for layer in layers] == [True, False]
        for layer in layers:
            torch.testing.assert_close(
                network.go_on(layer, edit, ROWS), forward_edited(borrowed, x[ROWS], layer, edit)
            )


def test_of_one_sample_the_whole_network_runs():
    assert not any(both(Net().eval(), torch.randn(1, 1, 8, 8), {"two"}, torch.tensor([0])))


@pytest.mark.parametrize("n", [2, 3])
def test_of_few_samples_some_are_chosen(n):
    model, x, rows = Net().eval(), torch.randn(n, 1, 8, 8), torch.tensor([1])
    layers = find_layers(model, x, ["two"])
    with frozen(model) as borrowed, Resumption(borrowed, layers) as network:
        network.record(x)
        assert network.resumes(layers[0]) == (n > 2)
        scores = network.go_on(layers[0], torch.zeros_like, rows)
    expected = forward_edited(model, x[rows], layers[0], torch.zeros_like)
    torch.testing.assert_close(scores, expected)


def test_only_what_lies_behind_the_layer_runs_again():
    model, x, ran = Net().eval(), torch.randn(8, 1, 8, 8), []
    layer = next(layer for layer in find_layers(model, x, "all") if layer.name == "two")
    with frozen(model) as borrowed:
        for name in ("one", "two", "three", "head"):
            part = borrowed.get_submodule(name)
            own = part.forward
            part.forward = lambda values, own=own, name=name: ran.append(name) or own(values)
        try:
            with Resumption(borrowed, [layer]) as network:
                network.record(x)
                ran.clear()
                network.go_on(layer, edit, ROWS)
                assert ran == ["three", "head"]
            assert all("forward" in vars(borrowed.get_submodule(n)) for n in ("one", "two", "three", "head"))
        finally:
            for name in ("one", "two", "three", "head"):
                del borrowed.get_submodule(name).forward


def fail(values):
    raise RuntimeError("mine")


def test_the_model_is_given_back_after_an_error():
    model, x = Net().eval(), torch.randn(8, 1, 8, 8)
    layers = find_layers(model, x, "all")
    with frozen(model) as borrowed:
        with Resumption(borrowed, layers) as network:
            network.record(x)
            with pytest.raises(RuntimeError, match="mine"):
                network.go_on(layers[0], fail)
            torch.testing.assert_close(network.go_on(layers[0], lambda values: values), borrowed(x))
        assert not any("forward" in vars(module) for module in model.modules())


def test_layers_are_seen_while_recording():
    model, x, seen = Net().eval(), torch.randn(8, 1, 8, 8), {}
    layers = find_layers(model, x, "all")
    with frozen(model) as borrowed, Resumption(borrowed, layers) as network:
        network.record(x, lambda layer, values: seen.update({layer.name: values.shape}), layers[:2])
    assert set(seen) == {layer.name for layer in layers[:2]}
