import json
import math
import sys

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from model_states import model_state
from sklearn.metrics import roc_auc_score
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.objective import CrossEntropy, Objective, cross_entropy
from shortcutscope.debias.training import images as images_module
from shortcutscope.debias.training.averaging import MovingAverage
from shortcutscope.debias.training.checkpoint import settings_digest
from shortcutscope.debias.training.fit import Training, fit
from shortcutscope.debias.training.images import Order
from shortcutscope.debias.training.loop import CHECKPOINT
from shortcutscope.debias.training.step import set_training_mode
from shortcutscope.errors import InputError, ModelError, StaleRunError
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import ThinResNet, thin_cnn1d, thin_cnn3d
from shortcutscope.scan.predictions import predict_logits


def squares(n=48, size=16, seed=0, channels=1):
    """Class 1 has a bright square at a random place."""
    generator = np.random.default_rng(seed)
    images = generator.normal(0.3, 0.05, (n, channels, size, size)).clip(0, 1).astype(np.float32)
    labels = np.arange(n) % 2
    for i in np.flatnonzero(labels):
        y, x = generator.integers(2, size - 6, 2)
        images[i, :, y : y + 5, x : x + 5] = 0.8
    return ImageTable.from_arrays(images, labels)


def small_net(num_classes=2, seed=0, dropout=0.2):
    with seeded(seed):
        net = ThinResNet(4, (1, 1), 1, num_classes)
    return nn.Sequential(net, nn.Dropout(dropout)) if dropout else net


def train(model, table, objective=None, validation=None, out=None, **options):
    options = {"epochs": 2, "batch_size": 16, "log_every": 1, **options}
    return fit(
        model,
        table,
        objective or CrossEntropy(),
        Training(**options),
        validation=validation,
        out=out,
        progress=False,
    )


class Probed(Objective):
    """Cross-entropy, a trained part of its own, a buffer that counts, and noise of its own."""

    def __init__(self, fail_at=None, poison_at=None):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(2))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(()))
        self.plan = _Plan(fail_at, poison_at)

    def terms(self, model, batch):
        self.seen += 1
        self.plan.before(int(self.seen))
        logits = model(batch.images)
        noise = torch.randn(2, generator=batch.generator)
        loss = cross_entropy(logits + self.offset.to(logits) + 0.1 * noise.to(logits), batch.labels)
        self.mean.mul_(0.9).add_(0.1 * loss.detach())
        return {"ce": loss * self.plan.factor(int(self.seen)), "offset": 0.1 * self.offset.square().sum()}


class _Plan:
    def __init__(self, fail_at, poison_at):
        self.fail_at, self.poison_at = fail_at, poison_at

    def before(self, step):
        if step == self.fail_at:
            raise KeyboardInterrupt

    def factor(self, step):
        return math.nan if step == self.poison_at else 1.0


def same(first, second):
    return all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())


# What is learnt


@pytest.mark.parametrize("classes", [1, 2])
def test_a_simple_task_is_learnt(classes):
    model = small_net(classes, dropout=0)
    fitted = train(model, squares(96), epochs=14, lr=1e-2)
    assert fitted.model is model
    assert not any(module.training for module in model.modules())
    logits = predict_logits(model, squares(60, seed=1))
    scores = logits[:, 0] if classes == 1 else logits[:, 1] - logits[:, 0]
    assert roc_auc_score(np.arange(60) % 2, scores) > 0.95
    assert fitted.history[-1]["ce"] < fitted.history[0]["ce"]
    assert fitted.steps == fitted.selected_step == 84 == fitted.history[-1]["step"]


def test_the_schedule_rises_and_falls_along_a_cosine():
    training = Training(lr=1.0, warmup=0.2)
    rates = [training.rate(step, 100) for step in range(100)]
    assert rates[:3] == [0.05, 0.1, pytest.approx(0.15)]
    assert max(rates) == rates[19] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3


def test_steps_follow_a_plain_loop():
    """One step of AdamW on the rows and at the rate that the trainer names."""
    table, model, slow = squares(20), small_net(dropout=0).double(), small_net(dropout=0).double().train()
    fitted = train(model, table, steps=3, batch_size=8, augmentation="none", precision="fp32", clip_norm=0.1)
    order = Order(20, 8, None, 0)
    optimizer = torch.optim.AdamW(slow.parameters(), lr=3e-3, weight_decay=1e-3)
    for step in range(3):
        optimizer.param_groups[0]["lr"] = fitted.history[step]["lr"]
        batch = torch.stack([table[int(i)][0] for i in order.rows(step)]).double()
        labels = torch.tensor([table[int(i)][1] for i in order.rows(step)])
        loss = nn.functional.cross_entropy(slow(batch), labels)
        assert fitted.history[step]["ce"] == pytest.approx(loss.item(), rel=1e-12)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(slow.parameters(), 0.1)
        optimizer.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, slow.state_dict()[name], rtol=1e-10, atol=1e-12)


def test_every_row_once_an_epoch_or_as_often_as_it_is_drawn():
    order = Order(10, 5, None, 3)
    epochs = [torch.cat([order.rows(2 * e), order.rows(2 * e + 1)]).tolist() for e in range(3)]
    assert all(sorted(rows) == list(range(10)) for rows in epochs)
    assert epochs[0] != epochs[1]
    assert order.rows(0).tolist() == Order(10, 5, None, 3).rows(0).tolist()
    drawn = Order(4, 4, torch.tensor([0.0, 1, 3, 0]), 0)
    rows = torch.cat([drawn.rows(step) for step in range(500)])
    assert torch.bincount(rows, minlength=4).div(2000).tolist() == pytest.approx([0, 0.25, 0.75, 0], abs=0.05)


def test_same_seed_same_weights_and_nothing_drawn_from_the_global_generator():
    torch.manual_seed(1)
    first = train(small_net(), squares(), Probed(), augmentation="strong").model
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = train(small_net(), squares(), Probed(), augmentation="strong").model
    assert torch.equal(before, torch.get_rng_state())
    assert same(first, second)
    assert not same(first, train(small_net(), squares(), Probed(), augmentation="strong", seed=1).model)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_do_not_fit_into_memory_are_read_again_with_the_same_result(monkeypatch, workers):
    kept = train(small_net(), squares()).model
    monkeypatch.setattr(images_module, "PRELOAD_BYTES", 0)
    before = torch.get_rng_state()
    assert same(kept, train(small_net(), squares(), workers=workers).model)
    assert torch.equal(before, torch.get_rng_state())


def test_the_bar_shows_the_rate_and_the_means_of_the_terms(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fit(small_net(), squares(), Probed(), Training(steps=3), name="student", progress=True)
    shown = capsys.readouterr().err
    for part in ("student: 100%", "3/3", "lr=", "ce=", "offset="):
        assert part in shown


# The model that was given


def test_nothing_but_weights_and_mode_changes_on_the_model():
    model = small_net().eval()
    model[0].stem.requires_grad_(False)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    before, attributes = model_state(model), {n: set(vars(m)) for n, m in model.named_modules()}
    parameters = {name: id(p) for name, p in model.named_parameters()}
    train(model, squares(), ema=0.9, precision="bf16")
    after = model_state(model)
    changed = {name for name in before if before[name] != after[name]}
    assert all(name.endswith((" parameter", " buffer")) for name in changed)
    for name in (name for name in changed if name.startswith("0.stem")):
        assert before[name][1:] == after[name][1:]  # all but the address
    assert attributes == {n: set(vars(m)) for n, m in model.named_modules()}
    assert parameters == {name: id(p) for name, p in model.named_parameters()}
    assert calls
    assert "forward" not in vars(model)
    assert all(value.is_contiguous() for value in model.state_dict().values())
    assert all(p.grad is None for p in model.parameters())


def test_frozen_parts_stay_in_evaluation_mode():
    model = small_net()
    model[0].blocks.requires_grad_(False)
    set_training_mode(model)
    assert model[1].training
    assert model[0].stem[1].training
    assert not any(part.training for part in model[0].blocks.modules())


def test_fp32_leaves_a_double_model_double():
    model = small_net().double()
    train(model, squares(), steps=1, precision="fp32")
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_a_precision_that_is_not_to_be_had_is_said(monkeypatch):
    from shortcutscope.debias.training import hardware

    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: False)
    asked = train(small_net(), squares(), precision="bf16")
    assert "no bfloat16" in " ".join(asked.notes)
    assert same(asked.model, train(small_net(), squares(), precision="fp32").model)
    assert "needs a CUDA device" in " ".join(train(small_net(), squares(), steps=1, precision="fp16").notes)


def test_an_objective_that_needs_the_images_gets_them_and_it_is_said():
    seen = []

    class Cached(CrossEntropy):
        allows_augmentation = False

        def terms(self, model, batch):
            seen.append((batch.images, batch.rows))
            return super().terms(model, batch)

    fitted = train(small_net(), squares(), Cached(), steps=1)
    torch.testing.assert_close(seen[0][0], torch.stack([squares()[int(i)][0] for i in seen[0][1]]))
    assert "without augmentation" in fitted.notes[0]


# Choosing weights


def test_the_weights_of_the_best_validation_are_returned():
    model, held_out = small_net(dropout=0), squares(30, seed=2)
    fitted = train(
        model, squares(), steps=12, lr=0.1, validation=held_out, select="loss", validate_every=2, log_every=5
    )
    losses = {row["step"]: row["validation_loss"] for row in fitted.history if "validation_loss" in row}
    assert list(losses) == [2, 4, 6, 8, 10, 12]
    assert fitted.selected_step == min(losses, key=losses.get)
    logits = predict_logits(model, held_out).double()
    loss = nn.functional.cross_entropy(logits, torch.arange(30) % 2)
    assert float(loss) == pytest.approx(losses[fitted.selected_step], rel=1e-4)
    assert f"step {fitted.selected_step} of 12" in fitted.notes[-1]


def test_worst_class_accuracy_is_that_of_the_worst_class_and_ties_go_to_the_loss():
    held_out = squares(30, seed=2).take(np.r_[0:30:2, 1:10:2])
    fitted = train(small_net(dropout=0), squares(), validation=held_out, select="worst-class", epochs=6)
    rows = [row for row in fitted.history if "validation_loss" in row]
    best = min(rows, key=lambda row: (-row["validation_worst_class"], row["validation_loss"]))
    assert fitted.selected_step == best["step"]
    predicted = predict_logits(fitted.model, held_out).argmax(1)
    labels = torch.tensor(held_out.frame["label"].to_numpy())
    worst = min(float((predicted[labels == k] == k).double().mean()) for k in (0, 1))
    assert worst == pytest.approx(best["validation_worst_class"])


def test_training_stops_when_patience_is_over():
    fitted = train(
        small_net(), squares(), steps=40, lr=0.5, warmup=0, validation=squares(20, seed=3), select="loss",
        validate_every=1, patience=2,
    )  # fmt: skip
    assert fitted.steps == fitted.selected_step + 2 < 40
    assert f"stopped after step {fitted.steps}" in fitted.notes[-1]


def test_the_moving_average_is_that_of_the_weights_and_is_returned():
    net = nn.Linear(1, 1, bias=False)
    values = [float(net.weight.detach())]
    average = MovingAverage(net, 0.5)
    expected = values[0]
    for step in range(1, 6):
        with torch.no_grad():
            net.weight.fill_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert float(average.tensors["weight"]) == pytest.approx(expected)
    with average.applied():
        assert float(net.weight.detach()) == pytest.approx(expected)
    assert float(net.weight.detach()) == 5
    fitted = train(small_net(), squares(), ema=0.9)
    assert not same(fitted.model, train(small_net(), squares()).model)
    assert "moving average, decay 0.9" in fitted.notes[-1]


# Interruptions


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"augmentation": "strong", "ema": 0.9, "select": "loss", "validate_every": 3, "log_every": 5},
    ],
)
def test_killed_and_resumed_is_the_same_as_uninterrupted_to_the_bit(tmp_path, options):
    options = {"steps": 12, "batch_size": 10, "checkpoint_every": 4, **options}
    held_out = squares(20, seed=4) if "select" in options else None
    whole, again = Probed(), Probed(fail_at=10)
    expected = train(small_net(), squares(), whole, held_out, **options)
    with pytest.raises(KeyboardInterrupt):
        train(small_net(), squares(), again, held_out, tmp_path, **options)
    again = Probed()
    resumed = train(small_net(), squares(), again, held_out, tmp_path, **options)
    assert "gone on from a checkpoint after step 8" in resumed.notes
    assert same(expected.model, resumed.model)
    assert same(whole, again)
    assert expected.history == resumed.history
    assert (expected.steps, expected.selected_step) == (resumed.steps, resumed.selected_step)
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert logged == list(resumed.history)
    finished = train(small_net(), squares(), Probed(fail_at=1), held_out, tmp_path, **options)
    assert same(expected.model, finished.model)
    assert finished.history == expected.history


def test_a_checkpoint_can_be_read_by_others_and_holds_no_pickle(tmp_path):
    model = small_net()
    train(model, squares(), out=tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / CHECKPOINT)
    for name, value in model.state_dict().items():
        assert torch.equal(tensors[f"weights/model.{name}"], value)
    assert {path.name for path in tmp_path.iterdir()} <= {CHECKPOINT, "log.jsonl", "events"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 1e-2}, "lr"),
        ({"table": squares(seed=9)}, "train"),
        ({"model": small_net(seed=5)}, "start"),
        ({"objective": CrossEntropy(weights=torch.ones(48))}, "objective"),
        ({"objective": Probed()}, "objective"),
    ],
)
def test_the_folder_of_another_training_is_refused(tmp_path, change, named):
    given = {"model": small_net(), "table": squares(), "objective": CrossEntropy()}
    train(*given.values(), out=tmp_path, steps=1)
    options = {"steps": 1, "lr": change.get("lr", 3e-3)}
    given |= {key: value for key, value in change.items() if key != "lr"}
    before = model_fingerprint(given["model"])
    with pytest.raises(StaleRunError, match=rf"[(; ]{named}: "):
        train(*given.values(), out=tmp_path, **options)
    assert model_fingerprint(given["model"]) == before


def test_what_an_objective_keeps_outside_of_its_state_counts():
    def digest(value):
        objective = CrossEntropy()
        objective.kept = value
        return settings_digest(objective)

    values = [
        lambda: 1,
        lambda: 1.5,
        lambda: "a",
        lambda: None,
        lambda: [1, 2],
        lambda: torch.ones(2),
        lambda: torch.zeros(2),
        lambda: np.ones(2),
        lambda: {"a": torch.ones(3)},
        lambda: (small_net(seed=1),),
        lambda: (small_net(seed=2),),
        lambda: squares(4),
        lambda: squares(6),
        lambda: Training(lr=1.0),
        lambda: Training(lr=2.0),
        lambda: nn.ReLU,
        lambda: {3, 4},
    ]
    digests = [digest(value()) for value in values]
    assert len(set(digests)) == len(values)
    assert digests == [digest(value()) for value in values]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        train(small_net(), squares(), out=tmp_path / "file")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"half of a fi")
    with pytest.raises(StaleRunError, match="delete it"):
        train(small_net(), squares(), out=tmp_path)


def test_a_loss_that_is_not_finite_stops_and_gives_the_last_good_weights_back(tmp_path):
    model = small_net()
    options = {"steps": 12, "checkpoint_every": 4, "precision": "fp32"}
    with pytest.raises(ModelError, match=r"became nan at step 7 \(its term 'ce'\).*step 4 back") as error:
        train(model, squares(), Probed(poison_at=7), out=tmp_path, **options)
    assert str(tmp_path / CHECKPOINT) in str(error.value)
    tensors = safetensors.torch.load_file(tmp_path / CHECKPOINT)
    for name, value in model.state_dict().items():
        assert torch.equal(tensors[f"weights/model.{name}"], value)
        assert bool(torch.isfinite(value).all())
    assert not any(module.training for module in model.modules())


def test_without_a_good_checkpoint_the_first_weights_come_back():
    model = small_net()
    before = model_fingerprint(model)
    with pytest.raises(ModelError, match="weights of step 0 back"):
        train(model, squares(), Probed(poison_at=2), steps=5, checkpoint_every=3)
    assert model_fingerprint(model) == before


def test_a_gradient_that_is_not_finite_is_never_kept(tmp_path):
    class Root(CrossEntropy):
        def terms(self, model, batch):
            return {"root": model(batch.images).sub(model(batch.images)).square().sum().sqrt()}

    model = small_net(dropout=0)
    before = model_fingerprint(model)
    with pytest.raises(ModelError, match="became NaN or infinite by step 1"):
        train(model, squares(), Root(), out=tmp_path, steps=1)
    assert model_fingerprint(model) == before
    assert not (tmp_path / CHECKPOINT).exists()


# What is refused


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0}, {"epochs": math.nan}, {"steps": 0}, {"batch_size": 1}, {"lr": 0.0}, {"lr": -1.0},
        {"weight_decay": -1.0}, {"warmup": 1.5}, {"clip_norm": 0.0}, {"ema": 1.0}, {"precision": "fp8"},
        {"augmentation": "mixup"}, {"select": "best"}, {"select": "loss", "patience": 0}, {"seed": -1},
        {"validate_every": 0}, {"checkpoint_every": 0}, {"workers": -1},
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="it must be"):
        Training(**options)


def test_patience_needs_a_rule():
    with pytest.raises(InputError, match="needs a rule"):
        Training(patience=3)


@pytest.mark.parametrize("options", [{"select": "loss"}, {"validate_every": 2}])
def test_selection_needs_validation_samples(options):
    with pytest.raises(InputError, match="needs validation samples"):
        train(small_net(), squares(), **options)


def test_what_cannot_be_trained_is_refused_before_the_first_step():
    def never(*_):
        raise AssertionError("trained")

    objective = CrossEntropy()
    objective.terms = never
    table = squares(8)
    with pytest.raises(InputError, match="unfreeze"):
        train(small_net().requires_grad_(False), table, objective)
    with pytest.raises(InputError, match="1 samples"):
        train(small_net(), table.take([0]), objective)
    with pytest.raises(InputError, match="label 2 lies outside the model's 2 classes"):
        train(small_net(), table.with_columns(label=np.arange(8) % 3), objective)
    bad = table.with_columns(label=np.arange(8) % 3)
    with pytest.raises(InputError, match="label 2 lies outside"):
        train(small_net(), table, objective, validation=bad, select="loss")
    for draws in (torch.zeros(8), torch.full((8,), -1.0), torch.full((8,), torch.nan), torch.ones(3)):
        with pytest.raises(InputError, match=r"sampling weights|draws from"):
            train(small_net(), table, CrossEntropy(draws=draws))


def test_terms_must_be_scalars_and_there_must_be_one():
    class Wrong(Objective):
        def __init__(self, returned):
            super().__init__()
            self._returned = returned

        def terms(self, model, batch):
            return self._returned

    with pytest.raises(InputError, match=r"term 'ce' of Wrong has the shape \(3,\)"):
        train(small_net(), squares(), Wrong({"ce": torch.zeros(3)}))
    with pytest.raises(InputError, match="no terms"):
        train(small_net(), squares(), Wrong({}))


# Architectures


def one_step(model, table, **options):
    before = {name: value.clone() for name, value in model.named_parameters()}
    fitted = train(model, table, steps=1, batch_size=2, augmentation="strong", **options)
    assert all(math.isfinite(value) for value in fitted.history[0].values())
    assert any(not torch.equal(before[name], value) for name, value in model.named_parameters())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 32),
        pytest.param("alexnet", 64, marks=pytest.mark.slow),
        ("densenet121", 32),
        pytest.param("vgg16", 32, marks=pytest.mark.slow),
        pytest.param("resnet50", 32, marks=pytest.mark.slow),
    ],
)
def test_torchvision_networks_take_a_step(name, size):
    with seeded(0):
        model = getattr(torchvision.models, name)(weights=None, num_classes=2)
    one_step(model, squares(4, size, channels=3))


def test_a_vision_transformer_takes_a_step():
    with seeded(0):
        model = timm.create_model(
            "vit_tiny_patch16_224", pretrained=False, img_size=32, patch_size=8, num_classes=2, depth=2
        )
    one_step(model, squares(4, 32, channels=3))


@pytest.mark.parametrize(("factory", "shape"), [(thin_cnn1d, (2, 40)), (thin_cnn3d, (1, 8, 8, 8))])
def test_signals_and_volumes_take_a_step(factory, shape):
    images = np.random.default_rng(0).random((8, *shape), np.float32)
    table = ImageTable.from_arrays(images, np.arange(8) % 2, dims=len(shape) - 1)
    one_step(factory(in_channels=shape[0], width=4), table)
