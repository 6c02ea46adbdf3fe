import pytest
import torch
from torch import nn

from shortcutscope.errors import InputError
from shortcutscope.models.layers import find_layers
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import (
    ThinResNet,
    simba_cnn3d,
    thin_cnn1d,
    thin_cnn3d,
    thin_resnet1d,
    thin_resnet18,
)


@pytest.mark.parametrize(
    ("factory", "shape"),
    [
        (thin_resnet18, (1, 64, 64)),
        (thin_resnet18, (1, 28, 28)),
        (thin_cnn1d, (12, 100)),
        (thin_cnn3d, (1, 16, 16, 16)),
        (thin_resnet1d, (12, 400)),
        (simba_cnn3d, (1, 32, 32, 32)),
    ],
)
def test_factories_give_one_logit_per_class(factory, shape):
    model = factory(num_classes=3).eval()
    assert model(torch.zeros(2, *shape)).shape == (2, 3)


def test_stages_double_the_channels_and_halve_the_resolution():
    model = thin_resnet18(width=4).eval()
    h = model.stem(torch.zeros(1, 1, 64, 64))
    shapes = [tuple(h.shape[1:])]
    for block in model.blocks:
        h = block(h)
        shapes.append(tuple(h.shape[1:]))
    expected = [(4, 32, 32)] * 3 + [(8, 16, 16)] * 2 + [(16, 8, 8)] * 2 + [(32, 4, 4)] * 2
    assert shapes == expected


def test_no_module_is_called_twice_in_a_forward_pass():
    model = thin_resnet18(width=4).eval()
    calls = {name: 0 for name, _ in model.named_modules()}

    def count(name):
        def hook(*_):
            calls[name] += 1

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(count(name))
    model(torch.zeros(1, 1, 32, 32))
    assert set(calls.values()) == {1}


def test_same_seed_same_weights_other_seed_other_weights():
    first, second, other = thin_resnet18(seed=3), thin_resnet18(seed=3), thin_resnet18(seed=4)
    assert torch.equal(first.fc.weight, second.fc.weight)
    assert not torch.equal(first.fc.weight, other.fc.weight)


@pytest.mark.parametrize("factory", [thin_resnet18, thin_cnn1d, thin_cnn3d, thin_resnet1d, simba_cnn3d])
def test_factories_leave_the_global_generator_alone(factory):
    before = torch.get_rng_state()
    factory(seed=11)
    assert torch.equal(before, torch.get_rng_state())


def test_seeded_restores_the_generator_after_an_exception():
    before = torch.get_rng_state()

    def fail():
        with seeded(5):
            torch.rand(3)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert torch.equal(before, torch.get_rng_state())


def test_residual_path_is_an_identity_where_the_shape_stays():
    model = thin_resnet18(width=4)
    kinds = [isinstance(block.downsample, nn.Identity) for block in model.blocks]
    assert kinds == [True, True, False, True, False, True, False, True]


def test_the_network_of_signals_has_the_stages_of_the_one_of_images():
    layers = find_layers(thin_resnet1d(width=4).eval(), torch.zeros(1, 12, 400))
    assert [layer.layout for layer in layers] == ["NCL"] * 9
    expected = [(4, 200)] * 3 + [(8, 100)] * 2 + [(16, 50)] * 2 + [(32, 25)] * 2
    assert [layer.shape for layer in layers] == expected


def test_the_simba_network_has_the_published_blocks():
    model = simba_cnn3d().eval()
    layers = find_layers(model, torch.zeros(1, 1, 32, 32, 32))
    assert [layer.shape for layer in layers] == [(32 * 2**k, *[16 // 2**k] * 3) for k in range(5)]
    kinds = [type(module) for module in model.block1]
    assert kinds == [nn.Conv3d, nn.BatchNorm3d, nn.Sigmoid, nn.MaxPool3d]
    assert model.dropout.p == 0.2


@pytest.mark.parametrize("options", [{"blocks": 0}, {"activation": "tanh"}])
def test_simba_networks_that_cannot_be_are_refused(options):
    with pytest.raises(InputError, match="must be"):
        simba_cnn3d(**options)


def test_more_than_three_axes_are_refused():
    with pytest.raises(InputError, match="dims=4"):
        ThinResNet(dims=4)


@pytest.mark.parametrize("options", [{"width": 0}, {"blocks": ()}, {"blocks": (2, 0)}, {"num_classes": 0}])
def test_sizes_that_make_no_network_are_refused(options):
    with pytest.raises(InputError, match="1 or more"):
        ThinResNet(**options)
