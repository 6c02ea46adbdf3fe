import argparse
import logging

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel
from torchvision.models import resnet18

from shortcutscope.errors import InputError
from shortcutscope.models.loading import load_model, load_report, model_fingerprint
from shortcutscope.models.weights.checkpoints import copy_into, fitting
from shortcutscope.models.weights.files import Weights, read_checkpoint
from shortcutscope.models.weights.names import PREFIXES, match_names

FACTORY = """
from torch import nn

WIDTH = 4

def build(num_classes=2, width=WIDTH):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.Flatten(), nn.LazyLinear(num_classes))

def small(num_classes=2):
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, num_classes))

def number():
    return 3

def broken(num_classes=2):
    raise KeyError("no config")

READY = small(5)
"""


@pytest.fixture
def factory_file(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(FACTORY)
    return path


@pytest.fixture
def spec(factory_file):
    return f"{factory_file}:small"


def small(num_classes=2, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, num_classes))


def same(a: nn.Module, b: nn.Module) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_torchvision_and_timm_by_name():
    assert type(load_model("torchvision:resnet18", num_classes=3)).__name__ == "ResNet"
    model = load_model("timm:resnet10t", num_classes=3, arguments={"in_chans": 1})
    assert model(torch.rand(1, 1, 32, 32)).shape == (1, 3)
    assert not model.training


def test_factories_from_modules_and_files(spec, factory_file):
    thin = load_model("shortcutscope.planting.thin:thin_resnet18", num_classes=4, arguments={"width": 2})
    assert thin(torch.rand(1, 1, 32, 32)).shape == (1, 4)
    assert load_model(spec, num_classes=7)[2].out_features == 7
    assert load_model(f"{factory_file}:READY")[2].out_features == 5


def test_a_module_in_the_working_directory_is_found(factory_file, monkeypatch):
    monkeypatch.chdir(factory_file.parent)
    assert load_model("nets:small")[2].out_features == 2


def test_building_leaves_the_global_generator_alone(spec):
    before = torch.get_rng_state()
    load_model(spec)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ("resnet18", "torchvision:NAME"),
        ("torchvision:resnet81", "did you mean.*resnet18"),
        ("timm:vit_tinny_patch16_224", "did you mean.*vit_tiny"),
        ("no.such.module:build", "cannot import"),
        ("no/such/file.py:build", "no file"),
        ("{file}:smal", "did you mean small"),
        ("{file}:number", "returned a int"),
        ("{file}:broken", "KeyError.*no config"),
        ("{file}:WIDTH", "no factory"),
    ],
)
def test_bad_specs_say_what_is_wrong(bad, text, factory_file):
    with pytest.raises(InputError, match=text):
        load_model(bad.format(file=factory_file))


def test_a_file_that_fails_on_import_is_named(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("import no_such_dependency")
    with pytest.raises(InputError, match=r"bad\.py fails on import.*no_such_dependency"):
        load_model(f"{path}:build")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", *PREFIXES, "model.module.", "model.net._orig_mod."])
def test_wrapped_and_prefixed_checkpoints(tmp_path, spec, wrapper, prefix, caplog):
    model = small()
    state = {prefix + name: value for name, value in model.state_dict().items()}
    path = tmp_path / "checkpoint.pt"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    with caplog.at_level(logging.INFO, logger="shortcutscope"):
        assert same(load_model(spec, path), model)
    assert ("stripped" in caplog.text) == bool(prefix)
    assert (f"'{wrapper}'" in caplog.text) == bool(wrapper)


def test_a_prefix_that_belongs_to_the_model_is_kept():
    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.model = inner

    model = Wrapper(small())
    state, stripped = match_names(model.state_dict(), set(model.state_dict()))
    assert stripped == ()
    assert list(state) == list(model.state_dict())
    state, stripped = match_names(nn.DataParallel(model).state_dict(), set(model.state_dict()))
    assert stripped == ("module.",)
    assert set(state) == set(model.state_dict())


def test_a_wrapper_around_a_part_of_the_model():
    model = nn.ModuleDict({"features": small(), "head": nn.Linear(2, 2)})
    state = {name.replace("features.", "features.module."): v for name, v in model.state_dict().items()}
    other = nn.ModuleDict({"features": small(seed=1), "head": nn.Linear(2, 2)})
    fit = fitting(other, [Weights(state)])
    copy_into(other, fit)
    assert fit.report.stripped == (".module.",)
    assert same(other, model)


def test_safetensors(tmp_path, spec):
    model = small()
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    assert same(load_model(spec, tmp_path / "m.safetensors"), model)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:40])
    with pytest.raises(InputError, match=r"cut\.safetensors is not a readable safetensors"):
        load_model(spec, tmp_path / "cut.safetensors")


def test_tied_weights_that_safetensors_stores_once(tmp_path):
    def tied():
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        return model

    model, other = tied(), tied()
    save_model(model, str(tmp_path / "tied.safetensors"))
    copy_into(other, fitting(other, read_checkpoint(tmp_path / "tied.safetensors")))
    assert same(model, other)


@pytest.mark.parametrize("given", [None, 6])
def test_the_number_of_classes_follows_the_checkpoint(tmp_path, spec, given):
    torch.save(small(6).state_dict(), tmp_path / "six.pt")
    assert load_model(spec, tmp_path / "six.pt", num_classes=given)[2].out_features == 6


def test_the_number_of_classes_of_a_torchvision_checkpoint(tmp_path):
    model = resnet18(num_classes=3)
    torch.save({"state_dict": nn.DataParallel(model).state_dict()}, tmp_path / "r.pt")
    assert same(load_model("torchvision:resnet18", tmp_path / "r.pt"), model)


def test_a_wrong_number_of_classes_is_not_overruled(tmp_path, spec):
    torch.save(small(6).state_dict(), tmp_path / "six.pt")
    with pytest.raises(InputError, match=r"2 of another shape: 2\.weight: \(6, 4\) in the file, \(3, 4\)"):
        load_model(spec, tmp_path / "six.pt", num_classes=3)


def test_missing_and_unexpected_names_are_listed(tmp_path, spec):
    state = small().state_dict()
    state["extra.weight"] = state.pop("0.bias")
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(InputError, match=r"1 missing: 0\.bias; 1 unexpected: extra\.weight"):
        load_model(spec, tmp_path / "odd.pt")


def test_a_pickle_needs_trust(tmp_path, spec):
    model = small()
    path = tmp_path / "lightning.ckpt"
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": argparse.Namespace(lr=0.1)}, path)
    with pytest.raises(InputError, match=r"argparse\.Namespace.*trust=True"):
        load_model(spec, path)
    assert same(load_model(spec, path, trust=True), model)
    torch.save(model, path)  # the whole module
    with pytest.raises(InputError, match="trust=True"):
        load_model(spec, path)
    assert same(load_model(spec, path, trust=True), model)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_damaged_files_are_named(tmp_path, spec, content):
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.pt"):
        load_model(spec, tmp_path / "bad.pt")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(2)]])
def test_files_without_a_state_dict_are_refused(tmp_path, spec, content):
    torch.save(content, tmp_path / "no.pt")
    with pytest.raises(InputError, match="state dict"):
        load_model(spec, tmp_path / "no.pt")


def test_a_missing_checkpoint_is_named(spec, tmp_path):
    with pytest.raises(InputError, match="no checkpoint at"):
        load_model(spec, tmp_path / "none.pt")


def test_published_weights_are_asked_for_by_name(monkeypatch):
    asked = {}

    def builder(**kwargs):
        asked.update(kwargs)
        return nn.Linear(1, 1)

    monkeypatch.setattr("torchvision.models.get_model_builder", lambda name: builder)
    load_model("torchvision:resnet18", "IMAGENET1K_V1")
    assert asked == {"weights": "IMAGENET1K_V1"}
    monkeypatch.setattr("timm.create_model", lambda name, **kwargs: builder(**kwargs))
    load_model("timm:resnet18", "DEFAULT")
    assert asked["pretrained"] is True


def test_fingerprints_depend_on_class_names_and_values_only():
    model = small()
    digest = model_fingerprint(model)
    assert digest == model_fingerprint(small().train().requires_grad_(False))
    assert digest == model_fingerprint(small().to(memory_format=torch.channels_last))
    assert digest != model_fingerprint(small(seed=1))
    assert digest != model_fingerprint(small().double())
    assert digest != model_fingerprint(nn.Sequential(*small(), nn.ReLU(), nn.Linear(2, 1)))
    assert model_fingerprint(nn.BatchNorm1d(2)) != model_fingerprint(nn.BatchNorm2d(2))
    assert len(digest) == 64


def test_fingerprints_see_every_bit_of_any_dtype():
    model = nn.Linear(2, 2).to(torch.bfloat16)
    digest = model_fingerprint(model)
    with torch.no_grad():
        model.weight[0, 0] = torch.nextafter(model.weight[0, 0], torch.tensor(9.0, dtype=torch.bfloat16))
    assert model_fingerprint(model) != digest


SEVERAL = {
    "criterion": lambda m, e: {"state_dict": {**named("model.", m), "criterion.weight": torch.ones(2)}},
    "averaged model": lambda m, e: AveragedModel(load(m)).state_dict(),
    "averages alone": lambda m, e: {"model_ema": m, "epoch": 3},
    "averages alone, by prefix": lambda m, e: {"state_dict": named("ema_model.", m)},
    "averages beside": lambda m, e: {"state_dict": m, "state_dict_ema": e},
    "averages in front": lambda m, e: {"ema_state_dict": e, "model": m},
    "averages under a prefix": lambda m, e: {"state_dict": {**named("ema.", e), **named("model.", m)}},
    "nested": lambda m, e: {"checkpoint": {"model": {"state_dict": m}}, "loss": torch.tensor(0.3)},
    "another prefix": lambda m, e: {"state_dict": named("classifier.backbone.", m)},
    "metrics and counters": lambda m, e: {
        **m, "val_metrics.tp": torch.ones(2), "0.total_ops": torch.ones(1), "class_weights": torch.ones(2)
    },
    "beside an optimizer": lambda m, e: {"net": m, "optimizer": Adam(load(m).parameters()).state_dict()},
    "class weights of its own": lambda m, e: {"hyper_parameters": {"0.weight": torch.ones(4, 3)}, "model": m},
}  # fmt: skip


def named(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def load(state):
    model = small()
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize("kind", SEVERAL)
def test_m13_the_networks_weights_are_found_in_what_training_leaves(tmp_path, spec, kind):
    model, averaged = small(seed=3), small(seed=4)
    torch.save(SEVERAL[kind](model.state_dict(), averaged.state_dict()), tmp_path / "c.pt")
    made = load_model(spec, tmp_path / "c.pt")
    assert same(made, model)
    report = load_report(made)
    assert report.averaged == (kind in ("averaged model", "averages alone", "averages alone, by prefix"))
    assert bool(report.beside) == (kind.startswith("averages") and "alone" not in kind)
    for name in report.left_out:
        assert name in str(report)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("averages beside", "state_dict_ema"),
        ("averages in front", "ema_state_dict"),
        ("averages under a prefix", "ema"),
        ("averages under a prefix", "state_dict/ema"),
    ],
)
def test_m13_averages_beside_are_named_and_can_be_chosen(tmp_path, spec, kind, key, caplog):
    model, averaged = small(seed=3), small(seed=4)
    torch.save(SEVERAL[kind](model.state_dict(), averaged.state_dict()), tmp_path / "c.pt")
    with caplog.at_level(logging.WARNING, logger="shortcutscope"):
        load_model(spec, tmp_path / "c.pt")
    assert key in caplog.text
    assert "weights_key" in caplog.text
    caplog.clear()
    made = load_model(spec, tmp_path / "c.pt", weights_key=key)
    assert same(made, averaged)
    assert load_report(made).averaged
    assert not caplog.text
    with pytest.raises(InputError, match=rf"no weights 'ema_2'; it has .*{key}"):
        load_model(spec, tmp_path / "c.pt", weights_key="ema_2")


def test_m13_several_networks_are_asked_for(tmp_path, spec):
    one, other = small(seed=3), small(seed=4)
    torch.save({"teacher": one.state_dict(), "student": other.state_dict()}, tmp_path / "two.pt")
    with pytest.raises(InputError, match=r"several networks that fit, 'teacher', 'student'.*weights_key="):
        load_model(spec, tmp_path / "two.pt")
    assert same(load_model(spec, tmp_path / "two.pt", weights_key="teacher"), one)


def test_m13_parts_that_the_network_lacks_are_refused_unless_it_is_named(tmp_path, spec):
    model = small(seed=3)
    state = {**named("model.", model.state_dict()), "head.weight": torch.ones(2, 2)}
    torch.save({"state_dict": state}, tmp_path / "more.pt")
    with pytest.raises(InputError, match=r"1 unexpected: head\.weight.*weights_key="):
        load_model(spec, tmp_path / "more.pt")
    made = load_model(spec, tmp_path / "more.pt", weights_key="state_dict/model")
    assert same(made, model)
    assert load_report(made).left_out == ("head.weight",)
    # A deeper network is no loss: whatever is asked for, its layers are not dropped.
    torch.save({"state_dict": {**model.state_dict(), "3.weight": torch.ones(2, 2)}}, tmp_path / "deep.pt")
    for key in (None, "state_dict"):
        with pytest.raises(InputError, match=r"1 unexpected: 3\.weight"):
            load_model(spec, tmp_path / "deep.pt", weights_key=key)


def test_m13_a_file_of_an_optimizer_says_what_it_is(tmp_path, spec):
    optimizer = Adam(small().parameters())
    optimizer.zero_grad()
    for content in (optimizer.state_dict(), {"optimizer": optimizer.state_dict(), "epoch": 3}):
        torch.save(content, tmp_path / "o.pt")
        with pytest.raises(InputError, match=r"optimizer without weights.*state_dict"):
            load_model(spec, tmp_path / "o.pt")


def test_m13_a_key_without_a_file_is_refused(tmp_path, spec):
    with pytest.raises(InputError, match="weights_key='ema' chooses within a checkpoint file"):
        load_model(spec, weights_key="ema")
    torch.save(small().state_dict(), tmp_path / "plain.pt")
    with pytest.raises(InputError, match="one state dict without keys"):
        load_model(spec, tmp_path / "plain.pt", weights_key="ema")


NORMED = """
import warnings
from torch import nn
from torch.nn import utils
from torch.nn.utils import parametrizations

def net(norm, num_classes=2):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, num_classes))

def weight_old(): return net(utils.weight_norm)
def weight_new(): return net(parametrizations.weight_norm)
def spectral_old(): return net(utils.spectral_norm)
def spectral_new(): return net(parametrizations.spectral_norm)
def plain(): return net(lambda layer: layer)
"""


@pytest.mark.parametrize("kind", ["weight", "spectral"])
@pytest.mark.parametrize("order", [("old", "new"), ("new", "old"), ("old", "old")])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_m13_normalised_weights_of_either_kind_fit(tmp_path, kind, order, prefix):
    (tmp_path / "normed.py").write_text(NORMED)
    saved, loaded = (f"{tmp_path / 'normed.py'}:{kind}_{age}" for age in order)
    x = torch.rand(5, 3)
    model = load_model(saved)
    torch.save({"state_dict": named(prefix, model.state_dict())}, tmp_path / "n.pt")
    made = load_model(loaded, tmp_path / "n.pt")
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x))
    with pytest.raises(InputError, match="normalised"):
        load_model(f"{tmp_path / 'normed.py'}:plain", tmp_path / "n.pt")
