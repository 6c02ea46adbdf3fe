import json
import random
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from grouped import grouped
from model_states import model_state
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError, ModelError, StaleRunError
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Head
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.scan import batches as batches_module
from shortcutscope.scan import plan as plan_module
from shortcutscope.scan import scanner
from shortcutscope.scan.capture import capture_batch
from shortcutscope.scan.plan import Scanning, autocast_dtype
from shortcutscope.scan.scanner import Scan, ScanEstimate, estimate, scan

N = 21


def double_contrast(image):
    return image * 2


def make_table(n=N, channels=1, size=16, seed=0, **columns):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{i:03d}" for i in range(n)],
            "label": rng.integers(0, 2, n),
            "group": [f"p{i // 2}" for i in range(n)],
            "split": "test",
            "ruler": rng.integers(0, 2, n),
            **columns,
        }
    )
    images = rng.random((n, channels, size, size), dtype=np.float32)
    return ImageTable.from_arrays(images, frame)


@pytest.fixture
def table():
    return make_table()


@pytest.fixture
def model():
    return thin_resnet18(width=4, seed=0).eval()


GROUPS = {"scanning": Scanning, "running": Running}


def run(model, table, out, **options):
    options = {"batch_size": 4, "shard_rows": 8, "progress": False, **options}
    return scan(model, table, out, **grouped(options, **GROUPS))


def test_equals_capture_on_the_whole_table(model, table, tmp_path):
    found = run(model, table, tmp_path / "scan")
    x = torch.stack([table[i][0] for i in range(N)])
    with frozen(model):
        expected = capture_batch(model, x, found.layers)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-6)
    assert found.logits.dtype == np.float32
    for layer in found.layers:
        for stat in ("mean", "max", "std"):
            values = expected.activations[layer.name][stat].numpy()
            np.testing.assert_allclose(found.activation(layer.name, stat), values, rtol=2e-3, atol=1e-5)
        for stat in ("sum", "max", "gradient"):
            values = expected.relevances[layer.name][stat].numpy()
            atol = 1e-3 * np.abs(values).max()
            np.testing.assert_allclose(found.relevance(layer, stat), values, rtol=2e-3, atol=atol)
        assert np.array_equal(found.gradient(layer), found.relevance(layer, "gradient"))
        assert found.features(layer).shape == (N, 3 * layer.channels)
        assert np.array_equal(found.features(layer)[:, -layer.channels :], found.activation(layer, "std"))


def test_samples_follow_the_table(model, table, tmp_path):
    found = run(model, table, tmp_path / "scan")
    columns = ["sample_id", "label", "group", "split", "prediction", "target", "ruler"]
    assert list(found.samples.columns) == columns
    for name in ("sample_id", "label", "group", "split", "ruler"):
        assert found.samples[name].tolist() == table.frame[name].tolist()
    assert found.samples["prediction"].tolist() == found.logits.argmax(1).tolist()
    assert found.samples["target"].tolist() == found.samples["prediction"].tolist()
    assert len(found) == N
    np.testing.assert_allclose(found.margin(), found.logits[:, 1] - found.logits[:, 0])
    assert np.array_equal(found.margin(positive=0), -found.margin())


def test_opened_again_it_is_the_same(model, table, tmp_path):
    first = run(model, table, tmp_path / "scan", layers="all")
    again = Scan.open(tmp_path / "scan")
    assert again.layers == first.layers
    assert again.samples.equals(first.samples)
    assert (again.task, again.target) == ("multiclass", "predicted")
    again.verify()


def global_generators():
    legacy = np.random.get_state()[1]  # noqa: NPY002 - the very thing that must not be touched
    return torch.random.get_rng_state().tolist(), legacy.tolist(), random.getstate()


def test_model_and_generators_are_left_alone(model, table, tmp_path):
    model.train()
    before = model_state(model)
    state = global_generators()
    run(model, table, tmp_path / "scan")
    assert model_state(model) == before
    assert global_generators() == state


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"channels_last": False}, {"shard_rows": 100}])
def test_batching_and_memory_format_change_nothing(model, table, tmp_path, options):
    expected = run(model, table, tmp_path / "expected")
    found = run(model, table, tmp_path / "found", **options)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-6)
    layer = found.layers[2]
    scale = np.abs(expected.relevance(layer)).max()
    np.testing.assert_allclose(
        found.relevance(layer), expected.relevance(layer), rtol=1e-2, atol=1e-3 * scale
    )


def test_workers_keep_the_order(model, table, tmp_path):
    expected = run(model, table, tmp_path / "expected")
    found = run(model, table, tmp_path / "found", workers=2)
    assert np.array_equal(found.logits, expected.logits)


# Targets


def test_every_class(model, table, tmp_path):
    every = run(model, table, tmp_path / "every", target="every")
    predicted = run(model, table, tmp_path / "predicted")
    layer = every.layers[-1]
    scale = np.abs(predicted.relevance(layer)).max()
    np.testing.assert_allclose(every.relevance(layer), predicted.relevance(layer), atol=1e-3 * scale)
    for k in range(2):
        single = run(model, table, tmp_path / f"class {k}", target=k)
        np.testing.assert_allclose(
            every.relevance(layer, target=k), single.relevance(layer), rtol=2e-3, atol=1e-3 * scale
        )
        assert single.samples["target"].unique().tolist() == [k]
        assert np.array_equal(single.relevance(layer, target=k), single.relevance(layer))
    with pytest.raises(InputError, match="class 2 is outside the model's 2 classes"):
        every.relevance(layer, target=2)
    with pytest.raises(InputError, match="scan with target='every'"):
        predicted.relevance(layer, target=1)


@pytest.mark.parametrize("target", ["predicted", "every"])
def test_rows_of_a_layer_are_those_of_its_arrays(model, table, tmp_path, target):
    scanned = run(model, table, tmp_path / "scan", target=target, shard_rows=4, batch_size=4)
    layer = scanned.layers[2]
    for rows, whole in (
        (scanned.feature_rows(layer), scanned.features(layer)),
        (scanned.activation_rows(layer, "max"), scanned.activation(layer, "max")),
        (scanned.gradient_rows(layer), scanned.gradient(layer)),
    ):
        assert rows.shape == whole.shape
        for start, stop in ((0, N), (3, 13), (20, 21)):
            np.testing.assert_array_equal(rows.read(start, stop), whole[start:stop])


def test_a_class_per_sample_goes_over_the_whole_table(model, table, tmp_path):
    classes = np.arange(N) % 2
    found = run(model, table, tmp_path / "scan", target=classes)
    assert found.samples["target"].tolist() == classes.tolist()
    labels = run(model, table, tmp_path / "labels", target="label")
    assert labels.samples["target"].tolist() == table.frame["label"].tolist()
    with pytest.raises(StaleRunError, match="target"):
        run(model, table, tmp_path / "scan", target=1 - classes)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.zeros(3, int), r"shape \(3,\) but the table has 21"),
        (np.arange(N), "target 2, 3, 4, 5, 6 lies outside the model's 2 classes"),
        (7, "target 7 lies outside"),
    ],
)
def test_targets_that_do_not_fit(model, table, tmp_path, target, message):
    with pytest.raises(InputError, match=message):
        run(model, table, tmp_path / "scan", target=target)
    assert not (tmp_path / "scan").exists()


def test_single_score_model(table, tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(392, 1))
    found = run(model, table, tmp_path / "scan")
    assert found.task == "binary"
    assert found.logits.shape == (N, 1)
    assert found.samples["prediction"].tolist() == (found.logits[:, 0] > 0).astype(int).tolist()


def test_multilabel_model_takes_any_label(model, table, tmp_path):
    found = run(
        model, make_table(label=np.full(N, 9)), tmp_path / "scan", head=Head(task="multilabel"), target=1
    )
    assert found.task == "multilabel"
    assert np.array_equal(found.margin(1), found.logits[:, 1])


def test_activations_alone(model, table, tmp_path):
    found = run(model, table, tmp_path / "scan", relevance=False)
    assert found.activation(found.layers[0]).shape == (N, 4)
    with pytest.raises(InputError, match="relevance=True"):
        found.relevance(found.layers[0])


def test_questions_that_the_scan_cannot_answer(model, table, tmp_path):
    found = run(model, table, tmp_path / "scan")
    with pytest.raises(InputError, match="'nowhere' was not scanned; there are"):
        found.activation("nowhere")
    with pytest.raises(InputError, match="stat is 'median'; allowed are mean, max, std"):
        found.activation(found.layers[0], "median")


# Interruption and resuming


def interrupt_after(monkeypatch, batches, error):
    original = plan_module.Plan.run
    left = [batches + 1]  # planning runs one batch, too

    def stopping(self, *args):
        left[0] -= 1
        if left[0] < 0:
            raise error
        return original(self, *args)

    monkeypatch.setattr(plan_module.Plan, "run", stopping)


def run_interrupted(model, table, out, batches, error):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, batches, error)
        with pytest.raises(error):
            run(model, table, out)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.glob("shard-*")}


@pytest.mark.parametrize("batches", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_resumed_scan_equals_an_uninterrupted_one(model, table, tmp_path, batches, error):
    expected = run(model, table, tmp_path / "expected")
    run_interrupted(model, table, tmp_path / "scan", batches, error)
    with pytest.raises(InputError, match="run the same scan again"):
        Scan.open(tmp_path / "scan")
    found = run(model, table, tmp_path / "scan")
    assert found.samples.equals(expected.samples)
    assert np.array_equal(found.logits, expected.logits)
    for layer in found.layers:
        assert np.array_equal(found.relevance(layer), expected.relevance(layer))
    assert content(tmp_path / "scan") == content(tmp_path / "expected")


def test_finished_scan_is_opened_without_running_the_model_again(model, table, tmp_path, monkeypatch):
    run(model, table, tmp_path / "scan")
    before = content(tmp_path / "scan")
    interrupt_after(monkeypatch, 0, AssertionError("scanned again"))
    found = run(model, table.with_columns(ruler=np.ones(N, int)), tmp_path / "scan")
    assert content(tmp_path / "scan") == before
    assert found.samples["ruler"].tolist() == [1] * N  # metadata of the table at hand


def test_other_inputs_are_refused_with_their_names(model, table, tmp_path):
    run(model, table, tmp_path / "scan")
    other = thin_resnet18(width=4, seed=1)
    for arguments, name in (
        ((other, table), "model"),
        ((model, make_table(seed=1)), "data"),
        ((model, table.with_transform(double_contrast)), "transform"),
    ):
        with pytest.raises(StaleRunError, match=name):
            run(*arguments, tmp_path / "scan")
    for options, name in (
        ({"layers": "all"}, "layers"),
        ({"target": 1}, "target"),
        ({"relevance": False}, "relevance"),
    ):
        with pytest.raises(StaleRunError, match=name):
            run(model, table, tmp_path / "scan", **options)


def test_wide_networks_get_short_shards(model, table, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "SHARD_BYTES", 6000 * 4)
    run(model, table, tmp_path / "scan", shard_rows=4096)
    shards = json.loads((tmp_path / "scan" / "manifest.json").read_text())["shards"]
    assert len(shards) > 1
    assert all(shard["start"] % 4 == 0 for shard in shards)


# What it will cost


def test_estimate_is_what_it_then_takes(model, table, tmp_path):
    expected = estimate(model, table, running=Running(batch_size=4))
    assert isinstance(expected, ScanEstimate)
    assert not list(tmp_path.iterdir())
    found = run(model, table, tmp_path / "scan")
    assert expected.layers == found.layers
    assert expected.n_samples == N
    assert expected.seconds > 0
    reader = found._reader
    stored = sum(reader.read(key).size * (4 if key == "logits" else 2) for key in reader.keys()) + 6 * N  # noqa: SIM118
    assert expected.bytes == stored
    assert "21 samples x 9 layers" in str(expected)


def test_full_disk_is_refused_beforehand(model, table, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="needs about"):
        run(model, table, tmp_path / "scan")


# Bad input, before any long work


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0; it must be a whole number of at least 1"),
        ({"shard_rows": 0}, "shard_rows=0; it must be"),
        ({"workers": -1}, "workers=-1; it must be"),
        ({"precision": "fp8"}, "allowed are fp32, bf16"),
        ({"target": "best"}, "best"),
        ({"layers": "nowhere"}, "nowhere"),
    ],
)
def test_options_that_cannot_be_used(model, table, tmp_path, options, message):
    before = model_state(model)
    with pytest.raises(InputError, match=message):
        run(model, table, tmp_path / "scan", **options)
    assert not (tmp_path / "scan").exists()
    assert model_state(model) == before


def test_several_processes_that_do_not_know_of_each_other(model, table, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(InputError, match=r"WORLD_SIZE=8 .*RANK, MASTER_ADDR, MASTER_PORT.* start them with"):
        run(model, table, tmp_path / "scan")
    assert not (tmp_path / "scan").exists()


def test_label_outside_the_models_outputs(model, tmp_path):
    table = make_table(label=[0, 1, 2, *[0] * (N - 3)])
    with pytest.raises(InputError, match="label 2 lies outside the model's 2 classes"):
        run(model, table, tmp_path / "scan")


def test_wrong_channel_count(table, tmp_path):
    with pytest.raises(InputError, match=r"1 channel.*takes 3.*--mode RGB"):
        run(thin_resnet18(in_channels=3, width=4), table, tmp_path / "scan")


def test_nan_from_the_start(model, table, tmp_path):
    nn.init.constant_(next(model.parameters()), float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        run(model, table, tmp_path / "scan")
    assert not (tmp_path / "scan").exists()


def test_nan_later_names_the_samples(model, tmp_path):
    table = make_table()
    table.source.images[[9, 17]] = np.nan
    with pytest.raises(ModelError, match="for the samples s009"):
        run(model, table, tmp_path / "scan")


def test_infinite_gradient_names_layer_and_samples(table, tmp_path):
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, bias=False)

        def forward(self, x):
            return self.conv(x).square().mean((2, 3)).sqrt()

    table.source.images[6] = 0
    with pytest.raises(ModelError, match=r"relevance/conv/sum is NaN or infinite for the samples s006"):
        run(Root(), table, tmp_path / "scan", layers=["conv"])


def test_images_of_different_shapes(model, tmp_path):
    table = make_table().with_transform(crop_some)
    with pytest.raises(InputError, match="rows 0 and 5 give images of shape"):
        run(model, table, tmp_path / "scan")


def crop_some(image):
    return image[:, 1:] if image[0, 0, 0] > 0.9 else image


@pytest.mark.parametrize(("column", "message"), [("prediction", "rename"), ("target", "rename")])
def test_columns_that_the_scan_adds(model, tmp_path, column, message):
    with pytest.raises(InputError, match=message):
        run(model, make_table(**{column: 1}), tmp_path / "scan")


def test_metadata_that_parquet_cannot_hold(model, tmp_path):
    with pytest.raises(InputError, match="one type"):
        run(model, make_table(note=[1, "two", *[3] * (N - 2)]), tmp_path / "scan")


def test_memory_that_does_not_hold_the_batch(model, table, tmp_path, monkeypatch):
    def exhausted(*args, **kwargs):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(batches_module, "capture_batch", exhausted)
    with pytest.raises(InputError, match="smaller batch_size"):
        run(model, table, tmp_path / "scan")


def test_precision_is_refused_where_the_device_lacks_it(monkeypatch):
    cpu = torch.device("cpu")
    assert autocast_dtype("fp32", cpu) is None
    monkeypatch.setattr(plan_module, "_has_bf16", lambda device: False)
    with pytest.raises(InputError, match="not supported by this machine's cpu"):
        autocast_dtype("bf16", cpu)
    monkeypatch.setattr(plan_module, "_has_bf16", lambda device: True)
    assert autocast_dtype("bf16", cpu) is torch.bfloat16


def test_brain_floats(model, table, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "_has_bf16", lambda device: True)
    half = run(model, table, tmp_path / "half", precision="bf16")
    full = run(model, table, tmp_path / "full")
    assert not np.array_equal(half.logits, full.logits)
    np.testing.assert_allclose(half.logits, full.logits, atol=0.05)
    with pytest.raises(StaleRunError, match="precision"):
        run(model, table, tmp_path / "half")


def test_progress_counts_from_where_it_goes_on(model, table, tmp_path, monkeypatch, capsys):
    run_interrupted(model, table, tmp_path / "scan", 2, KeyboardInterrupt)
    shown = []
    original = scanner.progress_bar

    def watched(**options):
        shown.append(options)
        return original(**options)

    monkeypatch.setattr(scanner, "progress_bar", watched)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    run(model, table, tmp_path / "scan", progress=True)
    assert (shown[0]["total"], shown[0]["initial"], shown[0]["progress"]) == (N, 8, True)
    assert "21/21" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.parametrize("target", ["label", "every", np.arange(N) % 2])
def test_accelerator_gives_the_same(model, table, tmp_path, target):
    if not torch.cuda.is_available():
        pytest.skip("no accelerator")
    expected = run(model, table, tmp_path / "cpu", target=target)
    found = run(model, table, tmp_path / "cuda", target=target, device="cuda", workers=2)
    assert next(model.parameters()).device.type == "cpu"
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-2, atol=1e-3)
    for layer in found.layers:
        scale = np.abs(expected.relevance(layer)).max()
        np.testing.assert_allclose(found.relevance(layer), expected.relevance(layer), atol=0.02 * scale)


def test_a_plan_is_for_its_model_alone_which_is_hashed_once(table, model, tmp_path, monkeypatch):
    hashed = []

    def counted(model):
        hashed.append(model)
        return model_fingerprint(model)

    monkeypatch.setattr(plan_module, "model_fingerprint", counted)
    with frozen(model) as borrowed:
        plan = plan_module.make_plan(borrowed, table, Scanning(), Running(progress=False))
    scan(model, table, tmp_path / "scan", plan=plan)
    assert hashed == [model]
    other = thin_resnet18(width=4, seed=0).eval()
    scan(other, table, tmp_path / "equal", plan=plan)
    assert hashed == [model, other]
    with torch.no_grad():
        model.fc.weight.mul_(2)
    with pytest.raises(InputError, match="another model"):
        scan(model, table, tmp_path / "changed", plan=plan)
