"""The networks of the protocol `pahde`: the paper's architectures, thin or with the weights of ImageNet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import nn

from shortcutscope.debias.training.fit import Training
from shortcutscope.models.loading import load_model
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import thin_resnet1d

#: Of images, and that of signals.
OF_IMAGES, OF_SIGNALS = ("vgg16", "resnet50", "vit"), "xresnet1d"
#: What the paper trains, by the names here.
PUBLISHED = {"vgg16": "vgg16", "resnet50": "resnet50", "vit": "vit_b_16"}
#: Trainings of thin networks, and of those of full width.
THIN: dict[str, Training] = {
    "vgg16": Training(epochs=8, lr=2e-3),
    "resnet50": Training(epochs=6, lr=2e-3),
    "vit": Training(epochs=24, lr=1.5e-3),
    "xresnet1d": Training(epochs=5, lr=2e-3),
}
FULL = Training(epochs=5, lr=1e-4, batch_size=32)


def thin_vgg(in_channels: int = 1, num_classes: int = 2, width: int = 12, seed: int = 0) -> nn.Sequential:
    """VGG's plain stages of 3x3 convolutions and max pooling, with 6 of the 13 convolutions of VGG-16.

    With batch norm, as torchvision's ``vgg16_bn``: it is trained from scratch, where the paper's VGG-16 has
    the weights of ImageNet.
    """
    network, channels = nn.Sequential(), in_channels
    with seeded(seed):
        for stage, count in enumerate((1, 1, 2, 2)):
            for _ in range(count):
                after = width * 2**stage
                network.extend([nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()])
                channels = after
            network.append(nn.MaxPool2d(2))
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 64), nn.ReLU())
        return network.extend([*head, nn.Linear(64, num_classes)])


def thin_resnet50(in_channels: int = 1, num_classes: int = 2, width: int = 12, seed: int = 0) -> nn.Module:
    """ResNet-50 in timm's variant D, as the authors' code has it: one bottleneck a stage, a fifth as wide."""
    from timm.models.resnet import Bottleneck, ResNet

    with seeded(seed):
        model: nn.Module = ResNet(
            Bottleneck,  # type: ignore[arg-type]  # a class, whatever timm's hint says
            (1, 1, 1, 1),
            num_classes=num_classes,
            in_chans=in_channels,
            channels=tuple(width * 2**stage for stage in range(4)),
            stem_width=8,
            stem_type="deep",
            avg_down=True,
        )
    return model


def thin_vit(in_channels: int = 1, num_classes: int = 2, size: int = 48, seed: int = 0) -> nn.Module:
    """A ViT of patch size 8, two blocks of three heads and width 48, its head on the mean of the tokens.

    A class token, as ViT-B/16 has it, learns nothing from as few images.
    """
    from timm.models.vision_transformer import VisionTransformer

    with seeded(seed):
        model: nn.Module = VisionTransformer(
            img_size=size,
            patch_size=8,
            in_chans=in_channels,
            num_classes=num_classes,
            embed_dim=48,
            depth=2,
            num_heads=3,
            mlp_ratio=2,
            global_pool="avg",
            class_token=False,
        )
    return model


def network(architecture: str, shape: tuple[int, ...], seed: int, *, thin: bool) -> nn.Module:
    """A new network for inputs of a shape (C, *spatial), on the GPU where there is one."""
    if architecture == OF_SIGNALS:
        model: nn.Module = thin_resnet1d(in_channels=shape[0], width=8 if thin else 64, seed=seed)
    elif thin:
        makers: dict[str, Callable[[], nn.Module]] = {
            "vgg16": lambda: thin_vgg(shape[0], seed=seed),
            "resnet50": lambda: thin_resnet50(shape[0], seed=seed),
            "vit": lambda: thin_vit(shape[0], size=shape[-1], seed=seed),
        }
        model = makers[architecture]()
    else:
        model = _pretrained(PUBLISHED[architecture], seed)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def weights_file(architecture: str) -> Path | None:
    """ImageNet weights in torch's cache, where torchvision once put them; None where there are none."""
    if architecture not in PUBLISHED:
        return None
    url = torchvision.models.get_model_weights(PUBLISHED[architecture])["IMAGENET1K_V1"].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    return path if path.exists() else None


def _pretrained(name: str, seed: int) -> nn.Module:
    """A network of torchvision with a new last layer for two classes."""
    key = next(key for key, value in PUBLISHED.items() if value == name)
    with seeded(seed):
        model = load_model(f"torchvision:{name}", weights_file(key))
        place, last = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
        model.set_submodule(place, nn.Linear(last.in_features, 2))
    return model
