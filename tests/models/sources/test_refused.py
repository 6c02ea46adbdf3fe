import importlib

import pytest

import shortcutscope as ss


@pytest.mark.parametrize("spec", ["onnx:model.onnx", "keras:model.keras"])
def test_other_formats_say_what_to_do(spec):
    with pytest.raises(ss.InputError, match=r"PyTorch.*--weights"):
        ss.load_model(spec)


@pytest.mark.parametrize(
    ("spec", "package"),
    [("hf:.", "transformers"), ("xrv:resnet50", "torchxrayvision"), ("monai:ViT", "monai")],
)
def test_a_missing_package_names_the_command(spec, package, monkeypatch, tmp_path):
    real = importlib.import_module

    def refuse(name):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name)

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(
        ss.InputError, match=rf'needs {package}: pip install "shortcutscope\[{spec.split(":")[0]}\]"'
    ):
        ss.load_model(spec)
