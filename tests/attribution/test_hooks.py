"""Seeing and replacing layers' outputs leaves no trace. What the hooks pool is tested with the scan."""

import dataclasses

import pytest
import torch
from torch import nn

from shortcutscope.attribution.hooks import parameters_without_gradient, visiting
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.layers import find_layers


def test_visits_and_replaces_the_output(make_network, unchanged):
    model, x, name = make_network("signal")
    unchanged(model)
    (layer,) = find_layers(model, x, name)
    seen = []
    with torch.no_grad():
        with visiting(model, [layer], lambda layer, values: seen.append(values)):
            model(x)
        with visiting(model, [layer], lambda layer, values: values * 0):
            erased = model(x)
        expected = model[3:](torch.zeros_like(seen[0]))
    assert torch.equal(seen[0], model[:3](x))
    assert torch.equal(erased, expected)


def test_a_layer_that_does_not_run_is_named(make_network, unchanged):
    model, x, name = make_network("signal")
    unchanged(model)
    (layer,) = find_layers(model, x, name)
    with pytest.raises(ModelError, match="did not run"), visiting(model, [layer], lambda *_: None):
        pass


def test_a_layer_that_runs_twice_is_named(make_network):
    model, x, name = make_network("signal")
    (layer,) = find_layers(model, x, name)
    twice = nn.Sequential(model[2], nn.Conv1d(6, 4, 1).double(), model[2])
    again = dataclasses.replace(layer, name="0")
    with pytest.raises(ModelError, match="more than once"), visiting(twice, [again], lambda *_: None):
        twice(x.new_zeros(1, 4, 20))


def test_a_layer_named_twice_is_refused(make_network):
    model, x, name = make_network("signal")
    (layer,) = find_layers(model, x, name)
    with pytest.raises(InputError, match="twice"), visiting(model, [layer, layer], lambda *_: None):
        pass


def test_parameters_require_gradients_again_after_an_exception(make_network):
    model, _, _ = make_network("signal")
    model[0].bias.requires_grad_(False)
    seen = []
    with pytest.raises(AttributeError), parameters_without_gradient(model):
        seen.append([p for p in model.parameters() if p.requires_grad] or model.no_such_thing)
    assert not seen
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["0.bias"]
