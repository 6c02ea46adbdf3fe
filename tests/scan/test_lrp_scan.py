"""Scans with LRP: every kind of network, the check and what follows where it fails, resuming."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from grouped import grouped
from model_states import model_state
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError, ModelError, StaleRunError
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_cnn1d, thin_cnn3d, thin_resnet18
from shortcutscope.scan import choice as choice_module
from shortcutscope.scan import plan as plan_module
from shortcutscope.scan.choice import AttributionChoice
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import Scan, estimate, scan

N = 10
GROUPS = {"scanning": Scanning, "running": Running}


def make_table(*shape, seed=0):
    frame = pd.DataFrame({"sample_id": [f"s{i:03d}" for i in range(N)], "label": np.arange(N) % 2})
    x = np.random.default_rng(seed).random((N, *shape), dtype=np.float32)
    return ImageTable.from_arrays(x, frame, dims=len(shape) - 1)


def run(model, table, out, **options):
    defaults = {"batch_size": 4, "shard_rows": 4, "progress": False, "attribution": "lrp"}
    return scan(model, table, out, **grouped({**defaults, **options}, **GROUPS))


def without_constants(model):
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "pos_embed", "cls_token")):
            nn.init.zeros_(parameter)
    return model.eval()


def vit():
    timm = pytest.importorskip("timm")
    options = {"img_size": 32, "patch_size": 8, "depth": 2, "num_classes": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("vit_tiny_patch16_224", embed_dim=24, num_heads=3, **options)


class Squares(torch.autograd.Function):
    """An operation that no rule reaches: twice as much relevance leaves it as arrives."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


class Bypassing(nn.Module):
    def __init__(self, operation=Squares.apply):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)
        self.operation = operation

    def forward(self, x):
        return self.head(self.operation(self.conv(x)).mean((2, 3)))


@pytest.fixture
def model():
    return thin_resnet18(width=4, seed=0).eval()


@pytest.fixture
def table():
    return make_table(1, 16, 16)


@pytest.fixture
def bypassing():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Bypassing().eval()


def fallen_back(*arguments, **options):
    with pytest.warns(UserWarning, match="gradient x activation, although attribution='lrp'"):
        return run(*arguments, **options)


@pytest.mark.parametrize(
    ("make", "shape", "used"),
    [
        (lambda: thin_resnet18(width=8), (1, 16, 16), "lrp:epsilon_plus"),
        (vit, (3, 32, 32), "lrp:epsilon_gamma"),
        (lambda: thin_cnn1d(in_channels=2), (2, 64), "lrp:epsilon_plus"),
        (thin_cnn3d, (1, 12, 12, 12), "lrp:epsilon_plus"),
    ],
    ids=["resnet", "transformer", "signal", "volume"],
)
def test_relevance_of_every_layer_sums_to_the_explained_score(make, shape, used, tmp_path):
    model = without_constants(make())
    before = model_state(model)
    found = run(model, make_table(*shape), tmp_path / "scan")
    assert model_state(model) == before
    assert found.attribution.used == used
    assert found.attribution.requested == "lrp"
    assert found.attribution.reason is None
    assert found.attribution.checks["passed"]
    explained = found.logits[np.arange(N), found.samples["target"]]
    scale = np.abs(explained).max()
    for layer in found.layers:
        np.testing.assert_allclose(found.relevance(layer).sum(1), explained, rtol=0.02, atol=5e-3 * scale)


def test_an_lrp_scan_says_so_and_has_no_gradient(model, table, tmp_path):
    found = run(model, table, tmp_path / "scan", attribution="lrp:epsilon_plus_flat")
    again = Scan.open(tmp_path / "scan")
    assert again.attribution == found.attribution
    assert (again.attribution.used, str(again.attribution)) == (
        "lrp:epsilon_plus_flat",
        "LRP (epsilon_plus_flat)",
    )
    assert not again.has_gradient
    layer = again.layers[-1]
    assert again.relevance(layer, "max").shape == (N, layer.channels)
    with pytest.raises(InputError, match=r"gives no gradient; scan with attribution='gradient_x_activation'"):
        again.gradient(layer)
    manifest = json.loads((tmp_path / "scan" / "manifest.json").read_text())
    assert manifest["remarks"]["attribution"]["checks"]["passed"]
    plain = run(model, table, tmp_path / "plain", attribution="gradient_x_activation")
    assert (plain.attribution, plain.has_gradient) == (AttributionChoice(), True)
    assert np.array_equal(plain.logits, again.logits)
    assert not np.allclose(plain.relevance(again.layers[0]), again.relevance(again.layers[0]))


@pytest.mark.parametrize("target", ["predicted", "label", 1, np.arange(N) // 3 % 2])
def test_any_target(model, table, tmp_path, target):
    every = run(model, table, tmp_path / "every", target="every")
    found = run(model, table, tmp_path / "scan", target=target)
    ones = found.samples["target"].to_numpy()[:, None] == 1
    for layer in found.layers:
        expected = np.where(ones, every.relevance(layer, target=1), every.relevance(layer, target=0))
        atol = 1e-3 * np.abs(expected).max()
        np.testing.assert_allclose(found.relevance(layer), expected, rtol=2e-3, atol=atol)


def test_an_interrupted_scan_goes_on(model, table, tmp_path, monkeypatch):
    expected = run(model, table, tmp_path / "expected")
    original, count = plan_module.Plan.run, [0]

    def stopping(self, *arguments):
        count[0] += 1
        if count[0] == 5:  # the trials of the gradient and (twice) of LRP come first
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(plan_module.Plan, "run", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(model, table, tmp_path / "scan")
    assert json.loads((tmp_path / "scan" / "manifest.json").read_text())["shards"]
    found = run(model, table, tmp_path / "scan")
    assert found.attribution == expected.attribution
    for layer in found.layers:
        assert np.array_equal(found.relevance(layer), expected.relevance(layer))


def test_the_attribution_is_part_of_what_a_scan_is(model, table, tmp_path):
    run(model, table, tmp_path / "scan", attribution="lrp:epsilon_plus")
    run(model, table, tmp_path / "scan", attribution="lrp")  # which is the same rules
    for other in ("gradient_x_activation", "lrp:epsilon"):
        with pytest.raises(StaleRunError, match=r'attribution: "lrp:epsilon_plus" there'):
            run(model, table, tmp_path / "scan", attribution=other)


def test_falling_back(bypassing, table, tmp_path):
    found = fallen_back(bypassing, table, tmp_path / "scan")
    record = found.attribution
    assert (record.requested, record.used) == ("lrp", "gradient_x_activation")
    assert record.reason
    assert record.reason in record.warning
    assert not record.checks["passed"]
    assert str(record) == "gradient x activation"
    assert Scan.open(tmp_path / "scan").attribution == record
    plain = run(bypassing, table, tmp_path / "plain", attribution="gradient_x_activation")
    for layer in plain.layers:
        assert np.array_equal(found.gradient(layer), plain.gradient(layer))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = run(bypassing, table, tmp_path / "scan", attribution="gradient_x_activation")  # the same rows
    assert again.attribution == AttributionChoice()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_scripted_parts_fall_back(table, tmp_path):
    @torch.jit.script
    def squares(x):
        return x * x

    found = fallen_back(Bypassing(squares).eval(), table, tmp_path / "scan")
    assert found.attribution.used == "gradient_x_activation"


def test_strict_refuses_before_anything_is_written(bypassing, model, table, tmp_path):
    before = model_state(bypassing)
    with pytest.raises(
        ModelError, match=r"does not hold on this model: .*attribution='gradient_x_activation'"
    ):
        run(bypassing, table, tmp_path / "scan", strict=True)
    assert not (tmp_path / "scan").exists()
    assert model_state(bypassing) == before
    assert run(model, table, tmp_path / "scan", strict=True).attribution.used == "lrp:epsilon_plus"


@pytest.mark.parametrize("error", [RuntimeError("no rule for fold\nmore"), ModelError("no rule for fold")])
def test_lrp_that_cannot_be_run_falls_back(model, table, tmp_path, monkeypatch, error):
    def failing(*arguments, **options):
        raise error

    monkeypatch.setattr(choice_module, "check_lrp", failing)
    found = fallen_back(model, table, tmp_path / "scan")
    assert found.attribution.reason == "LRP cannot be run on this model (no rule for fold)"
    assert found.attribution.checks is None
    with pytest.raises(ModelError, match="no rule for fold"):
        run(model, table, tmp_path / "strict", strict=True)


def test_relevance_that_is_not_finite_at_some_layer_falls_back(model, table, tmp_path, monkeypatch):
    original = plan_module.Plan.run

    def overflowing(self, *arguments):
        if self.attribution.composite is not None:
            raise ModelError("relevance/blocks.1/sum is NaN")
        return original(self, *arguments)

    monkeypatch.setattr(plan_module.Plan, "run", overflowing)
    found = fallen_back(model, table, tmp_path / "scan")
    assert "blocks.1/sum is NaN" in found.attribution.reason
    assert found.attribution.checks["passed"]


def test_memory_that_does_not_suffice_is_no_reason_to_fall_back(model, table, tmp_path, monkeypatch):
    def exhausted(*arguments, **options):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(choice_module, "check_lrp", exhausted)
    with pytest.raises(InputError, match=r"checking LRP on 4 images .* choose a smaller batch_size"):
        run(model, table, tmp_path / "scan")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"attribution": "deeplift"},
            "attribution is 'deeplift'; allowed are 'gradient_x_activation', 'lrp', 'lrp:epsilon'",
        ),
        ({"attribution": "lrp:plus"}, "'lrp:epsilon_plus'"),
        ({"attribution": "lrp:"}, "attribution is 'lrp:'"),
        ({"attribution": "gradient:epsilon"}, "attribution is 'gradient:epsilon'"),
        ({"attribution": "lrp", "relevance": False}, "leave one of them out"),
        ({"target": 7}, "target 7 lies outside"),
    ],
)
def test_options_that_cannot_be_used(model, table, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(model, table, tmp_path / "scan", **options)
    assert not (tmp_path / "scan").exists()


def test_wrapped_models_are_refused_with_the_way_to_unwrap_them(model, table, tmp_path):
    with pytest.raises(ModelError, match=r"use the original module, model\._orig_mod"):
        run(torch.compile(model), table, tmp_path / "scan")
    with pytest.raises(ModelError, match=r"use the wrapped module, model\.module"):
        run(nn.DataParallel(model), table, tmp_path / "scan")


def test_mixed_precision(table, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "_has_bf16", lambda device: True)
    model = vit().eval()
    table = make_table(3, 32, 32)
    half = run(model, table, tmp_path / "half", precision="bf16")
    full = run(model, table, tmp_path / "full")
    assert half.attribution.used == full.attribution.used == "lrp:epsilon_gamma"
    layer = half.layers[-1]
    assert np.corrcoef(half.relevance(layer).ravel(), full.relevance(layer).ravel())[0, 1] > 0.95


def test_the_estimate_is_of_the_attribution_that_would_be_used(model, bypassing, table, tmp_path):
    plain, lrp = (
        estimate(model, table, scanning=Scanning(attribution=a)) for a in ("gradient_x_activation", "lrp")
    )
    channels = sum(layer.channels for layer in plain.layers)
    assert plain.bytes - lrp.bytes == 2 * N * channels  # no gradient is stored
    assert str(lrp).endswith("LRP (epsilon_plus)")
    with pytest.warns(UserWarning, match="although attribution='lrp'"):
        fallback = estimate(bypassing, table, scanning=Scanning(attribution="lrp"))
    assert fallback.attribution.reason
    with pytest.raises(ModelError, match="does not hold"):
        estimate(bypassing, table, scanning=Scanning(attribution="lrp", strict=True))
