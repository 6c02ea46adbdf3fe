from __future__ import annotations

import functools
import pickle
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from shortcutscope.data.transform import Normalize, fingerprint_of
from shortcutscope.errors import InputError


def test_normalize_is_torchvisions():
    from torchvision.transforms.functional import normalize, resize

    image = torch.rand(3, 12, 9, generator=torch.Generator().manual_seed(0))
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    assert torch.allclose(Normalize(mean, std)(image), normalize(image, mean, std))
    expected = normalize(resize(image, [6, 5], antialias=True), mean, std)
    assert torch.allclose(Normalize(mean, std, size=(6, 5))(image), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 8), (2, 8, 8), (1, 4, 8, 8)])
def test_normalize_takes_any_number_of_axes(shape):
    out = Normalize(0.5, 0.25, size=4)(torch.ones(shape))
    assert out.shape == (shape[0],) + (4,) * (len(shape) - 1)
    assert torch.allclose(out, torch.tensor(2.0))


def test_normalize_is_a_value():
    one, other = Normalize(0.5, [0.25], size=[6, 5]), Normalize([0.5], 0.25, size=(6, 5))
    assert one == other == pickle.loads(pickle.dumps(one))
    assert repr(one) == "Normalize(mean=(0.5,), std=(0.25,), size=(6, 5))"
    assert fingerprint_of(one) == fingerprint_of(other)


def test_normalize_refuses_what_cannot_be():
    with pytest.raises(InputError, match="std positive"):
        Normalize(0.5, 0)
    with pytest.raises(InputError, match="2 channels and std 3"):
        Normalize([0.5, 0.5], [1, 1, 1])
    with pytest.raises(InputError, match="3 channels and the image 1"):
        Normalize([0.5] * 3, [1] * 3)(torch.zeros(1, 4, 4))
    with pytest.raises(InputError, match="does not fit"):
        Normalize(0.5, 1, size=(4, 4))(torch.zeros(1, 4, 4, 4))


def scale(image, by=2.0):
    return image * by


@dataclass
class Window:
    low: float
    high: float

    def __call__(self, image):
        return image.clamp(self.low, self.high)

    def halve(self, image):
        return image / 2


class Slotted:
    __slots__ = ("by",)

    def __init__(self, by):
        self.by = by


def adder(amount):
    return lambda image: image + amount


PAIRS = {
    "none": (lambda: None, lambda: scale),
    "function": (lambda: scale, lambda: adder(1)),
    "lambda constant": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
    "lambda operation": (lambda: lambda x: x + 1, lambda: lambda x: x - 1),
    "closure": (lambda: adder(1), lambda: adder(2)),
    "nested code": (lambda: lambda x: [y + 1 for y in x], lambda: lambda x: [y + 2 for y in x]),
    "partial": (lambda: functools.partial(scale, by=2), lambda: functools.partial(scale, by=3)),
    "object": (lambda: Window(0, 1), lambda: Window(0, 2)),
    "slots": (lambda: Slotted(1), lambda: Slotted(2)),
    "bound method": (lambda: Window(0, 1).halve, lambda: Window(0, 2).halve),
    "tensor": (lambda: adder(torch.arange(3)), lambda: adder(torch.arange(3) + 1)),
    "array": (lambda: adder(np.arange(3)), lambda: adder(np.arange(3.0))),
    "set": (lambda: adder({"a", "b", "c"}), lambda: adder({"a", "b", "d"})),
    "bfloat": (
        lambda: adder(torch.ones(2, dtype=torch.bfloat16)),
        lambda: adder(torch.ones(2, dtype=torch.float16)),
    ),
    "module": (lambda: linear(0), lambda: linear(1)),
    "numpy number": (lambda: adder(np.float32(1)), lambda: adder(np.float64(1))),
}


def linear(seed):
    module = nn.Linear(2, 2)
    nn.init.constant_(module.weight, seed)
    nn.init.zeros_(module.bias)
    return module


@pytest.mark.parametrize("name", PAIRS)
def test_fingerprint_tells_transforms_apart(name):
    one, other = PAIRS[name]
    assert fingerprint_of(one()) == fingerprint_of(one()) != fingerprint_of(other())


def test_torchvision_pipelines_count_by_their_settings():
    from torchvision import transforms
    from torchvision.transforms import v2

    for kit in (transforms, v2):
        pipelines = [
            kit.Compose([kit.Resize(s), kit.Normalize([m], [0.5])])
            for s, m in ((8, 0), (8, 0), (9, 0), (8, 1))
        ]
        prints = [fingerprint_of(pipeline) for pipeline in pipelines]
        assert prints[0] == prints[1]
        assert len(set(prints)) == 3


def test_cycles_and_generators_end():
    window = Window(0, 1)
    window.self = window  # type: ignore[attr-defined]
    assert fingerprint_of(window)
    assert fingerprint_of(adder(np.random.default_rng(0))) == fingerprint_of(adder(np.random.default_rng(1)))


def test_fingerprint_is_the_same_in_another_process():
    code = (
        "from shortcutscope.data.transform import Normalize, fingerprint_of\n"
        "import functools\n"
        "f = lambda x, s={'a', 'b', 'c'}: x + len(s)\n"
        "print(fingerprint_of([f, Normalize(.1, .2), functools.partial(max, 3), {'k': frozenset('xyz')}]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert len(found.pop().strip()) == 64
