"""What a user's model raises comes out in words that name the case and the mend."""

import pytest
import torch
from model_states import model_state
from torch import nn
from torch.utils.checkpoint import checkpoint

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.failures import model_errors
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import find_layers

X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)

    def features(self, x):
        return self.conv(x).relu().mean((2, 3))

    def forward(self, x):
        return self.fc(self.features(x))


class TwoInputs(Net):
    def forward(self, x, age):
        return super().forward(x) + age


class TakesAnObject(Net):
    def forward(self, batch):
        return super().forward(batch.pixel_values)


class TakesAMapping(Net):
    def forward(self, batch):
        return super().forward({"image": batch}["img"])


class Imports(Net):
    def forward(self, x):
        import no_such_package  # noqa: F401

        return super().forward(x)


class OutOfMemory(Net):
    def forward(self, x):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Stopped(Net):
    def forward(self, x):
        raise KeyboardInterrupt


class Reentrant(Net):
    def forward(self, x):
        return self.fc(checkpoint(self.features, x, use_reentrant=True))


@pytest.mark.parametrize(
    ("model", "x", "told"),
    [
        (Net(), X.repeat(1, 3, 1, 1), r"3 channel\(s\).*'conv' takes 1: .*--mode L, mode='L'"),
        (Net().half(), X, r"float32, values .*weights are float16: .*model\.float\(\)"),
        (Net(), X[:, 0, 0], r"shape \(2, 8\)"),
        (TwoInputs(), X, r"takes \(x, age\), but is given images alone: put it into a small module"),
        (TakesAnObject(), X, r"AttributeError: 'Tensor' object.*a dictionary, an object.*small module"),
        (TakesAMapping(), X, r"KeyError: 'img'.*small module"),
        (Imports(), X, r"ModuleNotFoundError: No module named 'no_such_package'\. Install"),
        (OutOfMemory(), X, r"out of memory.*shape \(2, 1, 8, 8\).*--batch-size"),
    ],
    ids=["channels", "dtype", "rank", "two inputs", "object", "mapping", "import", "memory"],
)
def test_m11_what_the_model_raises_is_told_with_its_mend(model, x, told):
    before = model_state(model)
    with pytest.raises((ModelError, InputError), match=told) as caught, frozen(model), torch.no_grad():
        model(x)
    assert caught.value.__cause__ is not None
    assert model_state(model) == before


def test_m11_finding_layers_tells_it_too():
    with pytest.raises(ModelError, match=r"takes \(x, age\)"):
        find_layers(TwoInputs(), X)


def test_m11_an_interruption_passes():
    with pytest.raises(KeyboardInterrupt), frozen(model := Stopped()):
        model(X)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_m11_reentrant_checkpointing_is_named():
    model, leaf = Reentrant(), X.clone().requires_grad_()
    with (
        pytest.raises(ModelError, match=r"backward pass fails.*Its checkpointing is re-entrant"),
        frozen(model),
    ):
        torch.autograd.grad(model(leaf).sum(), leaf)
    with pytest.raises(ModelError, match=r"cannot be followed.*use_reentrant=False"):
        find_layers(model, X)


def test_m11_other_errors_stay_what_they_are():
    model = Net()
    with pytest.raises(ZeroDivisionError), model_errors(model):
        1 / 0  # noqa: B018

    def unreadable(row):
        raise OSError("no such image")

    with pytest.raises(OSError, match="no such image"), frozen(model):
        model(unreadable(0))


def test_m11_our_own_errors_in_a_models_call_are_not_worded_anew():
    model = Net()

    def refuse(*_):
        raise InputError("the edit keeps no shape")

    with frozen(model):
        model.conv.register_forward_hook(refuse)
        with pytest.raises(InputError, match=r"^the edit keeps no shape$"), model_errors(model):
            model(X)
