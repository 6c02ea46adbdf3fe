"""Networks of every source are explained as captum explains them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import captum.attr
import pytest
import torch
from torch import Tensor, nn

import shortcutscope as ss
from shortcutscope.models.outputs import find_scores
from shortcutscope.models.seeding import seeded

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def hugging_face(folder: Path) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    return ss.load_model(f"hf:{folder}")


def monai(_: Path) -> nn.Module:
    pytest.importorskip("monai.networks.nets", reason="the extra monai is not installed")
    return ss.load_model(
        "monai:resnet10", num_classes=2, arguments={"spatial_dims": 2, "n_input_channels": 1}
    )


def torchxrayvision(_: Path) -> nn.Module:
    pytest.importorskip("torchxrayvision", reason="the extra xrv is not installed")
    return ss.load_model("xrv:densenet121")


def timm(_: Path) -> nn.Module:
    return ss.load_model("timm:resnet10t", num_classes=3)


#: How a network is made, channels and side of its images.
SOURCES: dict[str, tuple[Callable[[Path], nn.Module], int, int]] = {
    "hf": (hugging_face, 3, 32),
    "monai": (monai, 1, 32),
    "xrv": (torchxrayvision, 1, 64),
    "timm": (timm, 3, 32),
}


class Scores(nn.Module):
    """A network that returns its scores as a tensor, as captum wants it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return find_scores(self.network(x))


@pytest.mark.parametrize("source", SOURCES)
def test_relevance_of_the_input_is_that_of_captum(source: str, tmp_path: Path) -> None:
    make, channels, side = SOURCES[source]
    with seeded(0):
        model = make(tmp_path).eval()
        x = torch.rand(2, channels, side, side)
    scores = Scores(model)
    theirs = {
        "gradient_x_input": captum.attr.InputXGradient(scores).attribute(x.clone().requires_grad_(), 1),
        "integrated_gradients": captum.attr.IntegratedGradients(scores).attribute(x, target=1, n_steps=12),
    }
    options = {"integrated_gradients": {"steps": 12}}
    for method, reference in theirs.items():
        ours = ss.attribute(model, x, target=1, method=method, check=False, **options.get(method, {}))
        expected = reference.detach()
        error = (ours.relevance - expected).abs().max() / expected.abs().max()
        assert float(error) < 1e-5, method
