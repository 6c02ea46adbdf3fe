import numpy as np
import pytest
import torch
from model_states import model_state
from sklearn.metrics import roc_auc_score
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.training import classifier as training
from shortcutscope.debias.training import images
from shortcutscope.debias.training.classifier import Optimizing, train_classifier
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import ThinResNet, thin_cnn1d, thin_cnn3d, thin_resnet18
from shortcutscope.scan.predictions import predict_logits


def squares(n=96, size=28, seed=0):
    """Class 1 has a bright square at a random place."""
    generator = np.random.default_rng(seed)
    images = generator.normal(0.3, 0.05, (n, size, size)).clip(0, 1).astype(np.float32)
    labels = np.arange(n) % 2
    for i in np.flatnonzero(labels):
        y, x = generator.integers(4, size - 10, 2)
        images[i, y : y + 6, x : x + 6] = 0.8
    return ImageTable.from_arrays(images, labels)


def small_net(num_classes=2, seed=0):
    with seeded(seed):
        return ThinResNet(4, (1, 1), 1, num_classes)


def train(model, table, *, epochs=4, seed=0, shifts=2, **step):
    optimizing = Optimizing(**{"batch_size": 16, **step})
    return train_classifier(
        model, table, epochs=epochs, seed=seed, shifts=shifts, optimizing=optimizing, progress=False
    )


def test_a_simple_task_is_learnt_and_the_model_comes_back_in_evaluation_mode():
    model = train(small_net(), squares(), epochs=10)
    assert not any(module.training for module in model.modules())
    held_out = squares(60, seed=1)
    logits = predict_logits(model, held_out)
    assert roc_auc_score(held_out.frame["label"], logits[:, 1] - logits[:, 0]) > 0.95


def test_one_logit_is_trained_as_a_binary_task():
    model = train(small_net(num_classes=1), squares(), epochs=10)
    logits = predict_logits(model, squares(60, seed=1))
    assert logits.shape == (60, 1)
    assert roc_auc_score(np.arange(60) % 2, logits[:, 0]) > 0.95


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_same_seed_same_weights(precision):
    first, second, other = (
        train(small_net(), squares(), epochs=2, seed=seed, precision=precision) for seed in (7, 7, 8)
    )
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert not torch.equal(first.fc.weight, other.fc.weight)


def test_the_recipe_to_the_bit():
    """Trained models are cached by the recipe's name, so that it must not drift."""
    table, model, slow = squares(56), small_net(), small_net().train()
    train(model, table, epochs=2, batch_size=16, precision="fp32", seed=3)
    generator = torch.Generator().manual_seed(3)
    optimizer = torch.optim.AdamW(slow.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=7, pct_start=0.2)
    for _ in range(2):
        order = torch.randperm(56, generator=generator)
        for rows in (order[:16], order[16:32], order[32:48]):
            padded = nn.functional.pad(
                torch.stack([table[int(i)][0] for i in rows]), (2, 2, 2, 2), "replicate"
            )
            y, x = torch.randint(0, 5, (2,), generator=generator).tolist()
            batch = padded[:, :, y : y + 28, x : x + 28]
            loss = nn.functional.cross_entropy(slow(batch), rows % 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, slow.state_dict()[name]), name


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_a_training_of_few_steps_has_a_schedule(steps):
    train(small_net(), squares(8), epochs=steps, batch_size=8)


def test_dropout_is_reproducible_and_the_global_generator_is_left_alone():
    def fit():
        with seeded(0):
            model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(28 * 28, 2))
        return train(model, squares(), epochs=1)[2].weight

    torch.manual_seed(1)
    first = fit()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = fit()
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_images_that_do_not_fit_into_memory_are_read_again_with_the_same_result(monkeypatch):
    kept = train(small_net(), squares(), epochs=2)
    monkeypatch.setattr(images, "PRELOAD_BYTES", 0)
    read = train(small_net(), squares(), epochs=2)
    assert torch.equal(kept.fc.weight, read.fc.weight)


@pytest.mark.parametrize(("factory", "shape"), [(thin_cnn1d, (2, 40)), (thin_cnn3d, (1, 8, 8, 8))])
def test_signals_and_volumes(factory, shape):
    generator = np.random.default_rng(0)
    images = generator.random((32, *shape), np.float32)
    table = ImageTable.from_arrays(images, np.arange(32) % 2, dims=len(shape) - 1)
    model = train(factory(in_channels=shape[0], width=4), table, epochs=1)
    assert predict_logits(model, table).shape == (32, 2)


def test_every_epoch_sees_other_full_batches():
    rows = list(training._epochs(10, 4, 2, torch.Generator().manual_seed(0)))
    assert [len(r) for r in rows] == [4] * 4
    assert len(torch.cat(rows[:2]).unique()) == 8
    assert rows[0].tolist() != rows[2].tolist()
    assert [len(r) for r in training._epochs(3, 64, 1, torch.Generator())] == [3]


def test_weights_come_back_contiguous_for_checkpoints():
    model = train(small_net(), squares(), epochs=1)
    assert all(value.is_contiguous() for value in model.state_dict().values())


def test_prediction_gives_the_model_back_as_it_was():
    model, table = small_net().train(), squares(20)
    before = model_state(model)
    logits = predict_logits(model, table, batch_size=7)
    assert model_state(model) == before
    model.eval()
    with torch.no_grad():
        slow = torch.cat([model(table[i][0][None]) for i in range(20)])
    torch.testing.assert_close(logits, slow)
    assert not logits.is_inference()


def test_a_diverging_training_is_reported():
    with pytest.raises(ModelError, match="lower the learning rate"):
        train(small_net(), squares(), lr=1e30, epochs=5, precision="fp32")


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"lr": 0.0},
        {"weight_decay": -1.0},
        {"shifts": -1},
        {"precision": "fp16"},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="allowed are"):
        train(small_net(), squares(8), **options)


def test_a_label_without_a_logit_is_refused_before_training():
    table = squares(8).with_columns(label=np.arange(8) % 3)
    with pytest.raises(InputError, match="label 2 lies outside the model's 2 classes"):
        train(small_net(), table)


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(InputError, match="unfreeze"):
        train(small_net().requires_grad_(False), squares(8))


@pytest.mark.slow
def test_the_thin_resnet_learns_the_phantoms_in_seconds():
    from shortcutscope.planting.phantoms import radiographs

    table = radiographs(2400, seed=0)
    model = train_classifier(thin_resnet18(), table.take(np.arange(1600)), progress=False)
    held_out = table.take(np.arange(1600, 2400))
    logits = predict_logits(model, held_out)
    assert roc_auc_score(held_out.frame["label"], logits[:, 1] - logits[:, 0]) > 0.96
