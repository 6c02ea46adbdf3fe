"""What is offered as a model's own preprocessing is what its library does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import shortcutscope as ss
from shortcutscope.data.geometry import Geometry
from shortcutscope.data.transform_geometry import follow
from shortcutscope.models.loading import comes_with_preprocessing
from shortcutscope.models.preprocessing import CenterCrop, Preprocessing, require_same


def picture(height: int, width: int) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([rows % 256, columns % 256, (rows + columns) % 256], -1).astype(np.uint8))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b1", "swin_t"])
def test_of_torchvision(name: str) -> None:
    from torchvision.models import get_model_weights

    own = ss.model_preprocessing(f"torchvision:{name}")
    theirs = get_model_weights(name).DEFAULT.transforms()
    shown = picture(230, 331)
    image = torch.from_numpy(np.array(shown)).movedim(-1, 0) / 255
    apart = (own(image) - theirs(shown)).abs().max()
    assert own(image).shape == theirs(shown).shape
    assert apart * min(own.std or ()) * 255 < 3


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "eva02_tiny_patch14_336"])
def test_of_timm(name: str) -> None:
    import timm

    own = ss.model_preprocessing(f"timm:{name}")
    config = timm.get_pretrained_cfg(name)
    assert own.mean == config.mean
    assert own(torch.rand(3, 300, 400)).shape == config.input_size


def test_of_published_weights_by_their_name() -> None:
    one, two = (ss.model_preprocessing(f"torchvision:resnet50@IMAGENET1K_V{k}") for k in (1, 2))
    assert (one.resize, two.resize) == (256, 232)
    with pytest.raises(ss.InputError, match="no weights 'X' of resnet50; there are IMAGENET1K_V1"):
        ss.model_preprocessing("torchvision:resnet50@X")


def test_of_a_model_that_was_loaded() -> None:
    model = ss.load_model("timm:resnet10t", num_classes=2)
    assert ss.model_preprocessing(model) == ss.model_preprocessing("timm:resnet10t")
    with pytest.raises(ss.InputError, match="not made by load_model"):
        ss.model_preprocessing(torch.nn.Identity())
    with pytest.raises(ss.InputError, match="nothing is known of the preprocessing of models from"):
        ss.model_preprocessing("shortcutscope.planting.thin:thin_resnet18")


def test_only_trained_names_come_with_it() -> None:
    assert not comes_with_preprocessing("torchvision:resnet18", None)
    assert not comes_with_preprocessing("torchvision:resnet18", "model.safetensors")
    assert comes_with_preprocessing("torchvision:resnet18", "DEFAULT")
    assert not comes_with_preprocessing("shortcutscope.planting.thin:thin_resnet18", None)


def test_one_that_does_something_else_is_refused() -> None:
    own = Preprocessing("a test", "RGB", resize=(32, 32))

    def theirs(shown: Image.Image) -> torch.Tensor:
        small = np.asarray(shown.resize((32, 32), Image.Resampling.BILINEAR))
        return torch.from_numpy(small.copy()).movedim(-1, 0) / 255

    assert require_same(own, theirs) is own
    for wrong in (lambda x: theirs(x).flip(0), lambda x: theirs(x)[:, :31], lambda x: theirs(x) * 2):
        with pytest.raises(ss.InputError, match="preprocessing of a test is not understood: of a picture"):
            require_same(own, wrong)


def test_it_is_the_transform_of_a_table_whose_masks_find_back() -> None:
    own = Preprocessing("a test", "L", (-1024.0, 1024.0), 20, crop=(16, 16), mean=(0.0,), std=(1024.0,))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 30, 40), dtype=np.uint8)
    table = ss.ImageTable.from_arrays(pixels, labels=[0, 1, 0, 1], **own.options())
    assert table.shape == (1, 16, 16)
    assert -1 <= float(table[0][0].min()) < float(table[0][0].max()) <= 1
    assert table.transform_fingerprint() != table.with_transform(None).transform_fingerprint()
    geometry = follow(own, table.image(0), Geometry.of((30, 40)))
    assert (geometry.size, geometry.input_size) == ((30, 40), (16, 16))


def test_the_middle_of_a_small_image_has_a_border() -> None:
    made = CenterCrop((4, 4), fill=-1.0)(torch.ones(1, 2, 3))
    assert made.tolist()[0] == [[-1] * 4, [1, 1, 1, -1], [1, 1, 1, -1], [-1] * 4]


def test_channels_that_do_not_fit_are_refused() -> None:
    own = Preprocessing("a test", mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(ss.InputError, match="has 3 channels and the image 1"):
        own(torch.rand(1, 8, 8))
    with pytest.raises(ss.InputError, match="interpolation='area'; allowed are"):
        Preprocessing("a test", interpolation="area")
