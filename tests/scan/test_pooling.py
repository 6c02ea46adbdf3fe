import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shortcutscope.models.layers import Layer
from shortcutscope.scan.pooling import from_positions, pool_activation, pool_relevance, positions

SHAPES = {
    "NCHW": (4, 3, 5), "NHWC": (3, 5, 4), "NCDHW": (4, 2, 3, 2), "NDHWC": (2, 3, 2, 4), "NCL": (4, 7),
    "tokens": (7, 4), "vector": (4,),
}  # fmt: skip


def make_layer(layout, prefix_tokens=0):
    return Layer("layer", "Module", layout, SHAPES[layout], 0.5, prefix_tokens=prefix_tokens)


def spread(layout, values):
    """(N, C, P) as a NumPy array, by moving the channels to the front."""
    channel_last = layout in ("NHWC", "NDHWC", "tokens")
    values = np.moveaxis(values, -1, 1) if channel_last else values
    return np.ascontiguousarray(values).reshape(*values.shape[:2], -1)


@given(
    layout=st.sampled_from(list(SHAPES)),
    seed=st.integers(0, 1000),
    prefix_tokens=st.integers(0, 2),
    channels_last=st.booleans(),
    offset=st.sampled_from([0.0, 1e3]),
)
def test_pools_are_what_their_names_say(layout, seed, prefix_tokens, channels_last, offset):
    rng = np.random.default_rng(seed)
    prefix = prefix_tokens if layout == "tokens" else 0
    layer = make_layer(layout, prefix)
    a = rng.standard_normal((2, *SHAPES[layout])) + offset
    g = rng.standard_normal((2, *SHAPES[layout]))
    values, gradient = torch.from_numpy(a).float(), torch.from_numpy(g).float()
    if channels_last and layout == "NCHW":
        values, gradient = (t.contiguous(memory_format=torch.channels_last) for t in (values, gradient))
    a, g = spread(layout, values.numpy().astype(float)), spread(layout, gradient.numpy().astype(float))
    patches = a[:, :, prefix:]
    expected = {"mean": patches.mean(2), "max": patches.max(2), "std": patches.std(2)}
    if prefix:
        expected["class"] = a[:, :, 0]
    expected |= {"sum": (a * g).sum(2), "max relevance": (a * g).max(2), "gradient": g.sum(2)}
    found = pool_activation(layer, values)
    relevance = pool_relevance(layer, values, gradient)
    found |= {"sum": relevance["sum"], "max relevance": relevance["max"], "gradient": relevance["gradient"]}
    assert found.keys() == expected.keys()
    for name, value in found.items():
        # A deviation of 1 on top of 1000 keeps four digits in float32; the square of it would keep none.
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-4, atol=1e-3 if offset else 1e-5)


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_positions_are_a_view_and_can_be_undone(layout, memory_format):
    values = torch.randn(2, *SHAPES[layout])
    if layout == "NCHW":
        values = values.contiguous(memory_format=memory_format)
    layer = make_layer(layout)
    view, dim = positions(layer, values)
    assert view.data_ptr() == values.data_ptr()
    assert view.shape[3 - dim] == 4
    restored = from_positions(layer, view, dim, values)
    assert torch.equal(restored, values)
    assert restored.stride() == values.stride()


def test_constant_channel_has_no_deviation():
    pools = pool_activation(make_layer("NCHW"), torch.full((1, 4, 3, 5), 1e6))
    assert pools["std"].max() == 0


def test_half_precision_is_pooled_in_float32():
    values = torch.full((1, 2, 100, 100), 0.1, dtype=torch.float16)
    layer = make_layer("NCHW")
    relevance = pool_relevance(layer, values, torch.ones_like(values))
    torch.testing.assert_close(relevance["sum"], torch.full((1, 2), 1000.0), rtol=1e-3, atol=0)
    # A running sum in float16 stops growing at 2048 x 0.1.
    assert all(v.dtype == torch.float32 for v in {**relevance, **pool_activation(layer, values)}.values())
