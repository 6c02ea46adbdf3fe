"""Evidence: standard deviations above the usual, at the working size, without touching the model."""

import numpy as np
import pytest
import torch

from shortcutscope.masks.evidence import (
    RELEVANCE,
    WORKING_SIDE,
    EvidenceProjection,
    Vectors,
    activations,
    reduced,
    responses,
    working_size,
)
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import find_layers
from shortcutscope.planting.thin import thin_resnet18


def test_a_projection_counts_standard_deviations():
    features = torch.randn(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    weights = np.array([1.0, -2.0, 0.5])
    fitted = EvidenceProjection.fit(weights, features)
    along = torch.einsum("nfhw,f->nhw", features, torch.tensor(weights, dtype=torch.float32))
    expected = ((along - along.mean(0)) / along.std(0)).clamp_min(0)
    torch.testing.assert_close(fitted.excess(features), expected, atol=0.02, rtol=0.02)


def test_large_images_are_averaged_down():
    assert working_size((64, 48)) == (64, 48)
    assert max(working_size((512, 256))) == WORKING_SIDE
    assert reduced(torch.zeros(1, 1, 192, 96)).shape == (1, 1, 96, 48)


@pytest.mark.parametrize("shape", [(2, 1, 20, 24), (2, 3, 20, 24), (2, 1, 8, 10, 12)])
def test_responses_are_finite_for_images_and_volumes(shape):
    found = responses(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert found.shape[0] == 2
    assert found.shape[2:] == shape[2:]
    assert found.isfinite().all()
    flat = responses(torch.zeros(shape))
    assert flat.isfinite().all()


@pytest.fixture(scope="module")
def problem():
    generator = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(80, 1, 32, 32, generator=generator)
    concept = np.tile([0.0, 1.0], 40)
    x[1::2, :, 20:24, 6:10] += 3
    return x, concept, np.repeat([0, 1], 40)


def fitted(x, concept, labels):
    model = thin_resnet18(width=4).eval()
    layers = find_layers(model, x[:2], ["blocks.0", "blocks.1"])
    with frozen(model):
        peaks = {n: v.flatten(2).amax(2).numpy() for n, v in activations(model, x, layers).items()}
        filtered = responses(x).flatten(2)
        pooled = (filtered.mean(2).double().numpy(), filtered.amax(2).double().numpy())
        vectors = Vectors.fit(pooled, peaks, concept, labels)
        return model, vectors.located(model, x[concept == 0], layers)


def test_the_input_evidence_lies_where_the_artifact_is(problem):
    x, concept, labels = problem
    model, evidence = fitted(x, concept, labels)
    with frozen(model):
        maps = evidence.maps(model, x[1::2])
    assert set(maps) == set(evidence.names)
    for name in evidence.inputs:
        inside = maps[name][:, 20:24, 6:10].mean()
        assert inside > 5 * maps[name].mean()


def test_nothing_runs_above_the_last_layer():
    model = thin_resnet18(width=4).eval()
    x = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    layers = find_layers(model, x, ["blocks.0", "blocks.1"])
    ran = []
    handle = model.fc.register_forward_hook(lambda *_: ran.append("fc"))
    with frozen(model):
        found = activations(model, x, layers)
    handle.remove()
    assert ran == []
    assert not model.blocks[1]._forward_hooks
    with torch.no_grad():
        torch.testing.assert_close(found["blocks.1"], model.blocks[1](model.blocks[0](model.stem(x))))


def test_what_is_left_out_is_not_computed(problem):
    x, concept, labels = problem
    model, evidence = fitted(x, concept, labels)
    with frozen(model):
        whole, some = evidence.maps(model, x[:4]), evidence.only(["input pattern", RELEVANCE])
        maps = some.maps(model, x[:4])
    assert some.layers == ()
    assert set(maps) == {"input pattern", RELEVANCE}
    for name, values in maps.items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-4, atol=1e-5)
