"""Small networks with random weights of every source through an audit: right, or refused with a reason.

Right means that the scores of the audit are those of the network on images that its library prepared.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import shortcutscope as ss
from shortcutscope.errors import ModelError
from shortcutscope.models.outputs import find_scores

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

RNG = np.random.default_rng(0)
LABELS, TAG = np.arange(40) % 2, RNG.integers(0, 2, 40)
PIXELS = (RNG.random((40, 44, 56, 3)) * 120 + 60 * LABELS[:, None, None, None]).astype(np.uint8)
PIXELS[TAG == 1, :12, :12] = 255
VOLUMES = RNG.random((40, 32, 32, 32), dtype=np.float32) + LABELS[:, None, None, None].astype(np.float32)

VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 64,
}
VISION = {"vision_config": {**VIT, "patch_size": 16}}
STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}
SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "image_size": 64}
#: Model type, and what makes it small.
HUGGING_FACE: dict[str, dict[str, Any]] = {
    "vit": {**VIT, "patch_size": 16},
    "beit": {**VIT, "patch_size": 16},
    "data2vec-vision": {**VIT, "patch_size": 16, "out_indices": [0, 1, 1, 1]},
    "deit": {**VIT, "patch_size": 16},
    "vit_msn": {**VIT, "patch_size": 16},
    "ijepa": {**VIT, "patch_size": 16},
    "dinov2": {**VIT, "patch_size": 16, "mlp_ratio": 1},
    "dinov2_with_registers": {**VIT, "patch_size": 16, "mlp_ratio": 1},
    "siglip": VISION,
    "clip": VISION,
    "convnext": STAGES,
    "convnextv2": STAGES,
    "resnet": {**STAGES, "embedding_size": 8, "layer_type": "basic"},
    "regnet": {**STAGES, "embedding_size": 8, "groups_width": 4},
    "bit": {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "num_groups": 1},
    "poolformer": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "swin": SWIN,
    "swinv2": SWIN,
    "focalnet": {
        "embed_dim": 8,
        "depths": [1, 1],
        "focal_levels": [1, 1],
        "focal_windows": [3, 3],
        "hidden_sizes": [8, 16],
        "image_size": 64,
    },
    "mobilenet_v1": {"depth_multiplier": 0.25, "image_size": 64},
    "mobilenet_v2": {"depth_multiplier": 0.35, "image_size": 64},
    "mobilevit": {
        "hidden_sizes": [16, 16, 16],
        "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 16],
        "image_size": 64,
    },
    "mobilevitv2": {"image_size": 64, "width_multiplier": 0.25},
    "levit": {
        "hidden_sizes": [16, 16, 16],
        "num_attention_heads": [2, 2, 2],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
        "image_size": 64,
    },
    "pvt": {
        "hidden_sizes": [8, 8, 16, 16],
        "num_attention_heads": [1, 1, 2, 2],
        "depths": [1, 1, 1, 1],
        "image_size": 64,
    },
    "pvt_v2": {
        "hidden_sizes": [8, 8, 16, 16],
        "num_attention_heads": [1, 1, 2, 2],
        "depths": [1, 1, 1, 1],
        "image_size": 64,
    },
    "segformer": {
        "hidden_sizes": [8, 8, 16, 16],
        "num_attention_heads": [1, 1, 2, 2],
        "depths": [1, 1, 1, 1],
    },
    "efficientnet": {
        "width_coefficient": 0.25,
        "depth_coefficient": 0.25,
        "image_size": 64,
        "hidden_dim": 320,
    },
    "swiftformer": {"embed_dims": [8, 16, 16, 16], "depths": [1, 1, 1, 1]},
    "hiera": {
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "image_size": [64, 64],
        "query_stride": [2, 2],
        "num_query_pool": 1,
        "masked_unit_size": [8, 8],
    },
    "textnet": {"stem_out_channels": 8, "hidden_sizes": [8, 8, 8, 8, 8]},
    "hgnet_v2": {},
    "pp_lcnet": {"scale": 0.25},
}
#: Name, arguments, and axes of an image.
MONAI: list[tuple[str, dict[str, Any], int]] = [
    *[
        (
            "DenseNet",
            {
                "spatial_dims": d,
                "in_channels": 1,
                "init_features": 8,
                "growth_rate": 4,
                "block_config": [1, 1, 1],
            },
            d,
        )
        for d in (2, 3)
    ],
    *[
        (name, {"spatial_dims": d, "n_input_channels": 1, "feed_forward": True}, d)
        for d in (2, 3)
        for name in ("resnet10",)
    ],
    *[
        (
            "ResNet",
            {
                "block": "bottleneck",
                "layers": [1, 1, 1, 1],
                "block_inplanes": [4, 4, 8, 8],
                "spatial_dims": d,
                "n_input_channels": 1,
            },
            d,
        )
        for d in (2, 3)
    ],
    *[("SEResNet50", {"spatial_dims": d, "in_channels": 1, "layers": [1, 1, 1, 1]}, d) for d in (2, 3)],
    *[
        ("EfficientNetBN", {"model_name": "efficientnet-b0", "spatial_dims": d, "in_channels": 1}, d)
        for d in (2, 3)
    ],
    ("Classifier", {"in_shape": [1, 32, 32], "classes": 2, "channels": [4, 8], "strides": [2, 2]}, 2),
    ("Classifier", {"in_shape": [1, 32, 32, 32], "classes": 2, "channels": [4, 8], "strides": [2, 2]}, 3),
    ("UNet", {"spatial_dims": 2, "in_channels": 1, "channels": [4, 8], "strides": [2]}, 2),
]
PLAIN = [
    *[
        f"timm:{name}"
        for name in (
            "resnet10t",
            "mobilenetv3_small_050",
            "convnext_atto",
            "ghostnet_050",
            "lcnet_050",
            "regnetx_002",
            "efficientnet_lite0",
            "starnet_s1",
        )
    ],
    *[
        f"torchvision:{name}"
        for name in (
            "resnet18",
            "mobilenet_v3_small",
            "squeezenet1_1",
            "shufflenet_v2_x0_5",
            "mnasnet0_5",
            "efficientnet_b0",
            "regnet_y_400mf",
        )
    ],
    "xrv:densenet121",
    "xrv:resnet50",
]

#: A ReLU comes last, so that nobody can know what small scores are.
REFUSED = {"torchvision:squeezenet1_1": "by an operation that says not what they are"}


def audited(model: torch.nn.Module, table: ss.ImageTable, out: Path) -> ss.Audit:
    return ss.audit(
        model,
        table,
        out,
        concepts=["tag"],
        present={"tag": "1"},
        head=ss.Head(task="multiclass"),
        statistics=ss.Statistics(50, 20),
        running=ss.Running(batch_size=20, progress=False),
    )


def require_right(model: torch.nn.Module, table: ss.ImageTable, theirs: torch.Tensor, out: Path) -> None:
    """The audit's scores are the network's on inputs that its library made, but for rounding."""
    train_norms(model, theirs)
    with torch.no_grad():
        wanted = find_scores(model(theirs)).float().numpy()
    made = audited(model, table, out).scan.logits
    apart = np.sqrt(((made - wanted).astype(np.float64) ** 2).mean(0)) / wanted.astype(np.float64).std(0)
    assert apart.max() < 0.05


def train_norms(model: torch.nn.Module, images: torch.Tensor) -> None:
    """Let batch norms see the images: else random weights make scores that vanish."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        model(images[:20])
    for norm in norms:
        norm.eval()


def frame() -> pd.DataFrame:
    return pd.DataFrame({"label": LABELS, "tag": TAG})


@pytest.fixture(autouse=True)
def _seeded() -> Any:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("kind", HUGGING_FACE)
def test_hugging_face(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(kind, num_labels=2, **HUGGING_FACE[kind])
    if kind in ("deit", "levit"):
        model = getattr(transformers, f"{'DeiT' if kind == 'deit' else 'Levit'}ForImageClassification")(
            config
        )
    else:
        model = transformers.AutoModelForImageClassification.from_config(config)
    model.save_pretrained(tmp_path / "model")
    processor = transformers.ViTImageProcessor(size={"height": 64, "width": 64})
    processor.save_pretrained(tmp_path / "model")
    loaded = ss.load_model(f"hf:{tmp_path / 'model'}")
    own = ss.model_preprocessing(loaded)
    table = ss.ImageTable.from_arrays(PIXELS, frame(), channels_last=True, **own.options())
    theirs = processor(images=[Image.fromarray(x) for x in PIXELS], return_tensors="pt")["pixel_values"]
    require_right(loaded, table, theirs, tmp_path / "run")


@pytest.mark.parametrize(("name", "arguments", "axes"), MONAI)
def test_monai(name: str, arguments: dict[str, Any], axes: int, tmp_path: Path) -> None:
    pytest.importorskip("monai")
    classes = {} if name == "Classifier" else {"num_classes": 2}
    model = ss.load_model(f"monai:{name}", arguments=arguments, **classes)
    images = VOLUMES if axes == 3 else VOLUMES[:, 16]
    table = ss.ImageTable.from_arrays(images, frame(), dims=axes, value_range=(0, 2))
    if name == "UNet":
        with pytest.raises((ss.InputError, RuntimeError), match=r"scores|pixel|map"):
            audited(model, table, tmp_path / "run")
        return
    require_right(model, table, torch.from_numpy(images[:, None]), tmp_path / "run")


@pytest.mark.parametrize("spec", PLAIN)
def test_others(spec: str, tmp_path: Path) -> None:
    source = spec.partition(":")[0]
    if source == "xrv":
        pytest.importorskip("torchxrayvision")
    model = ss.load_model(spec, num_classes=2)
    grey = source == "xrv"
    pixels = PIXELS.mean(-1).astype(np.uint8) if grey else PIXELS
    value_range = (-1024.0, 1024.0) if grey else (0.0, 1.0)
    table = ss.ImageTable.from_arrays(
        pixels, frame(), channels_last=not grey, size=64, value_range=value_range
    )
    theirs = torch.stack([table.image(i) for i in range(40)])
    if spec in REFUSED:
        with pytest.raises(ModelError, match=REFUSED[spec]):
            audited(model, table, tmp_path / "run")
        return
    require_right(model, table, theirs, tmp_path / "run")
