from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import shortcutscope as ss
from shortcutscope.models.heads.head import own_names

nets = pytest.importorskip("monai.networks.nets", reason="the extra monai is not installed")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

PLAIN = {
    "_target_": "monai.networks.nets.DenseNet121",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": "@n",
}


def bundle(folder: Path, network: dict[str, Any]) -> Path:
    (folder / "configs").mkdir()
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps({"n": 2, "network_def": network}))
    labels = {"outputs": {"pred": {"channel_def": {"0": "benign", "1": "malignant"}}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": labels}))
    return folder


def test_networks_by_name() -> None:
    flat = ss.load_model(
        "monai:resnet10", num_classes=2, arguments={"spatial_dims": 2, "n_input_channels": 1}
    )
    deep = ss.load_model("monai:DenseNet121", num_classes=3, arguments={"spatial_dims": 3, "in_channels": 1})
    with torch.no_grad():
        assert flat(torch.rand(2, 1, 32, 32)).shape == (2, 2)
        assert deep(torch.rand(2, 1, 32, 32, 32)).shape == (2, 3)
    with pytest.raises(ss.InputError, match="needs spatial_dims, in_channels, out_channels: arguments="):
        ss.load_model("monai:DenseNet121")
    with pytest.raises(ss.InputError, match="MONAI has no network 'DensNet121'; did you mean DenseNet121"):
        ss.load_model("monai:DensNet121")


def test_a_bundle_is_read(tmp_path: Path) -> None:
    folder = bundle(tmp_path, PLAIN)
    with pytest.raises(ss.InputError, match=r"not on this machine.*get models/model\.pt"):
        ss.load_model(f"monai:{folder}")
    theirs = nets.DenseNet121(2, 1, 2).eval()
    torch.save(theirs.state_dict(), folder / "models" / "model.pt")
    model = ss.load_model(f"monai:{folder}")
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), theirs(x))
    assert own_names(model)[0] == ("benign", "malignant")
    with pytest.raises(ss.InputError, match="made of MONAI's transforms, which are not read here"):
        ss.model_preprocessing(model)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"spatial_dims": "$import_module('os').getpid()"}, "has an expression"),
        ({"in_channels": "@nowhere"}, "refers to '@nowhere'"),
        ({"act": {"_target_": "torch.nn.ReLU"}}, "makes an object, 'torch.nn.ReLU'"),
        ({"_target_": "scripts.net.Mine"}, r"is scripts\.net\.Mine, code of its own"),
        ({"_target_": None}, "names no class"),
    ],
)
def test_a_bundles_code_is_not_run(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    folder = bundle(tmp_path, {**PLAIN, **changes})
    with pytest.raises(ss.InputError, match=text):
        ss.load_model(f"monai:{folder}")


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ss.InputError, match="is no bundle of MONAI"):
        ss.load_model(f"monai:{tmp_path}")
    (tmp_path / "configs").mkdir()
    with pytest.raises(ss.InputError, match="configurations in YAML"):
        ss.load_model(f"monai:{tmp_path}")
