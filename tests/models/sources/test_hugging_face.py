from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import shortcutscope as ss
from shortcutscope.models.heads.head import own_names

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vision transformer with its image processor."""
    made = tmp_path_factory.mktemp("vit")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        id2label={0: "benign", 1: "malignant"},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.ViTForImageClassification(config).save_pretrained(made)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(made)
    return made


def test_a_folder_gives_network_names_and_preprocessing(folder: Path) -> None:
    model = ss.load_model(f"hf:{folder}")
    assert own_names(model)[0] == ("benign", "malignant")
    own = ss.model_preprocessing(model)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    theirs = processor(images=Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    ours = own(torch.from_numpy(pixels).movedim(-1, 0) / 255)[None]
    assert torch.allclose(ours, theirs, atol=0.02)
    plain = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        assert torch.equal(model(theirs).logits, plain(theirs).logits)


PROCESSORS: dict[str, dict[str, Any]] = {
    "BeitImageProcessor": {},
    "BitImageProcessor": {},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 224}},
    "DeiTImageProcessor": {},
    "EfficientNetImageProcessor": {},
    "LevitImageProcessor": {},
    "MobileNetV2ImageProcessor": {},
    "MobileViTImageProcessor": {},
    "PoolFormerImageProcessor": {},
    "SiglipImageProcessor": {},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_processors_of_classifiers_are_understood(name: str, tmp_path: Path) -> None:
    getattr(transformers, name)(**PROCESSORS[name]).save_pretrained(tmp_path)
    assert ss.model_preprocessing(f"hf:{tmp_path}").mode == "RGB"  # what it does was compared


@pytest.mark.parametrize("name", ["PerceiverImageProcessor", "GLPNImageProcessor"])
def test_others_are_refused_and_not_guessed(name: str, tmp_path: Path) -> None:
    getattr(transformers, name)().save_pretrained(tmp_path)
    with pytest.raises(ss.InputError, match=r"is not understood: of a picture .* Open the table with size="):
        ss.model_preprocessing(f"hf:{tmp_path}")


def test_a_folder_without_all_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    backbone = transformers.ViTModel.from_pretrained(folder)
    backbone.save_pretrained(tmp_path)
    with pytest.raises(ss.InputError, match=r"lacks \d+ weights of the network, such as classifier"):
        ss.load_model(f"hf:{tmp_path}")


def test_what_cannot_be_loaded_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ss.InputError, match="no such folder"):
        ss.load_model("hf:google/vit-base-patch16-224")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ss.InputError, match=r"has no model\.safetensors; give the folder"):
        ss.load_model(f"hf:{tmp_path}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ss.InputError, match="its weights are pickled"):
        ss.load_model(f"hf:{tmp_path}")
    with pytest.raises(ss.InputError, match="a classifier of 2 classes, not 3"):
        ss.load_model(f"hf:{folder}", num_classes=3)
    with pytest.raises(ss.InputError, match="code that lies in a folder of a model is not run"):
        ss.load_model(f"hf:{folder}", arguments={"trust_remote_code": True})


def test_code_in_a_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForImageClassification": "evil.Model", "AutoConfig": "evil.Config"}
    config["model_type"] = "evil"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ss.InputError, match="fails"):
        ss.load_model(f"hf:{tmp_path}")
    assert not (tmp_path / "ran").exists()
