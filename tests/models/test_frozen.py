import copy

import pytest
import torch
from model_states import model_state
from torch import nn

from shortcutscope.errors import ModelError
from shortcutscope.models.frozen import frozen


class InsideError(Exception):
    pass


def disturb(model: nn.Module) -> None:
    """What a careless caller may do to a borrowed model, and then fail."""
    for i, module in enumerate(model.modules()):
        module.register_forward_hook(lambda *_: None)
        module.register_full_backward_hook(lambda *_: None)
        if i % 2:
            module.training = True
        if isinstance(getattr(module, "inplace", None), bool):
            module.inplace = not module.inplace
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                buffer.add_(1)
                module._buffers[name] = torch.zeros(3)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = torch.ones_like(parameter)
    raise InsideError


def test_every_architecture_comes_back_unchanged(architecture, build):
    model, x = build(architecture)
    model.train()
    next(model.parameters()).requires_grad_(False)
    before = model_state(model)
    with frozen(model) as lent:
        assert lent is model
        lent(x.clone())
    assert model_state(model) == before
    with pytest.raises(InsideError), frozen(model):
        disturb(model)
    assert model_state(model) == before


def test_inside_it_evaluates_without_parameter_gradients_or_in_place_modules():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)
    ).train()
    with frozen(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not model[2].inplace
        x = torch.rand(2, 3, 8, 8, requires_grad=True)
        model(x).sum().backward()
    assert x.grad is not None
    assert model[0].weight.grad is None
    assert model[2].inplace
    assert model[3].training
    assert model[1].num_batches_tracked == 0


def test_mixed_modes_and_flags_are_restored_one_by_one():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True), nn.ReLU(), nn.BatchNorm1d(2))
    model.train()
    model[3].eval()
    model[0].bias.requires_grad_(False)
    before = model_state(model)
    with frozen(model), frozen(model):  # nested loans
        assert model_state(model) != before
    assert model_state(model) == before
    assert model[0].training
    assert not model[3].training


def test_gradients_are_the_same_object_afterwards():
    model = nn.Linear(3, 2)
    model(torch.rand(4, 3)).sum().backward()
    grad, value = model.weight.grad, model.weight.grad.clone()
    with frozen(model):
        model.zero_grad(set_to_none=False)
        model.weight.grad = torch.full_like(model.weight, 7.0)
    assert model.weight.grad is grad
    assert torch.equal(grad, value)


def test_users_hooks_stay_and_their_handles_still_remove_them():
    model = nn.Sequential(nn.Linear(3, 2))
    calls = []
    handle = model[0].register_forward_hook(lambda *_: calls.append(1))
    with frozen(model):
        model[0].register_forward_hook(lambda *_: calls.append(2))
        handle.remove()
    model(torch.rand(1, 3))
    assert calls == [1]
    handle.remove()
    model(torch.rand(1, 3))
    assert calls == [1]


def test_parameters_keep_their_memory_and_format():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    twin = copy.deepcopy(model)
    before = model_state(model)
    with frozen(model):
        model.to(memory_format=torch.channels_last)
        model.double()
    assert model_state(model) == before  # includes addresses, strides and dtypes
    for m in (model, twin):
        m(torch.ones(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, twin[0].weight)  # the optimizer still holds this very parameter


def test_device_is_restored_and_gradients_are_not_moved():
    model = nn.Linear(3, 2)
    model.register_buffer("constant", torch.ones(2))
    model(torch.rand(4, 3)).sum().backward()
    before = model_state(model)
    with frozen(model, device="meta"):
        assert model.weight.is_meta
        assert model.constant.is_meta
    assert model_state(model) == before


def test_a_failing_move_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(inplace=True))
    before = model_state(model)
    with pytest.raises(RuntimeError), frozen(model, device="no-such-device"):
        pass
    assert model_state(model) == before


def test_a_module_that_counts_in_a_buffer_gets_its_count_back():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += len(x)
            return x

    model = Counter()
    seen = model.seen
    with frozen(model):
        model(torch.rand(5, 1))
        assert model.seen == 5
    assert model.seen is seen
    assert seen == 0


def test_train_overrides_are_not_called():
    class MergesInTrain(nn.Linear):
        def train(self, mode=True):
            with torch.no_grad():
                self.weight += 1
            return super().train(mode)

    model = nn.Sequential(MergesInTrain(2, 2))
    before = model_state(model)
    with frozen(model):
        assert not model[0].training
    assert model_state(model) == before


def test_m3_inference_tensors_and_scripted_parts_are_refused_before_anything_is_changed():
    with torch.inference_mode():
        made = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True)).train()
    traced = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True)).train()
    traced.append(torch.jit.trace(nn.Conv2d(2, 2, 1).eval(), torch.zeros(1, 2, 4, 4)))
    traced.train()
    for model, told in ((made, r"'0\.weight' was made under torch\.inference_mode"), (traced, "part '2'")):
        flags = [(m.training, getattr(m, "inplace", None)) for m in model.modules()]
        asked = [p.requires_grad for p in model.parameters()]
        with pytest.raises(ModelError, match=told), frozen(model):
            pytest.fail("lent out")
        assert [(m.training, getattr(m, "inplace", None)) for m in model.modules()] == flags
        assert [p.requires_grad for p in model.parameters()] == asked
    with frozen(copy.deepcopy(made)) as lent:  # what the text advises
        lent(torch.zeros(1, 1, 4, 4))


def test_m3_everything_else_is_restored_where_one_thing_cannot_be():
    class Stubborn(nn.ReLU):
        locked = False

        def __setattr__(self, name, value):
            if self.locked and name == "training" and value:
                raise RuntimeError("cannot go back")
            super().__setattr__(name, value)

    model = nn.Sequential(Stubborn(inplace=True), nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Dropout())
    model.train()
    before = model_state(model)
    with pytest.raises(ModelError, match=r"not be given back wholly.*cannot go back"), frozen(model):
        Stubborn.locked = True
    Stubborn.locked = False
    after = model_state(model)
    differing = {key for key in before if before[key] != after[key]}
    assert differing <= {"0 training", "0 inplace"}
    model[0].training = True
