from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from shortcutscope.debias.baselines.erm import erm
from shortcutscope.debias.callables import Epoch, name_of
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.training.fit import fit
from shortcutscope.debias.training.settings import Training
from shortcutscope.errors import InputError

BASE = Training(steps=6, batch_size=16, augmentation="none", precision="fp32", log_every=1)


def trained(problem, training: Training, **options):
    return fit(problem.network(), problem.train, CrossEntropy(), training, progress=False, **options)


def weights(result) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in result.model.parameters()])


class TestOptimizer:
    def test_a_function_is_the_same_as_the_named_one_with_its_settings(self, problem) -> None:
        named = trained(problem, BASE.but(optimizer="sgd", lr=0.05, weight_decay=1e-3))
        own = trained(
            problem,
            BASE.but(optimizer=functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-3)),
        )
        assert torch.equal(weights(named), weights(own))
        assert [row["lr"] for row in own.history] == [row["lr"] for row in named.history]

    def test_a_class_is_given_the_rate_and_the_decay(self, problem) -> None:
        named, own = (trained(problem, BASE.but(optimizer=o, lr=0.01)) for o in ("adamw", torch.optim.AdamW))
        assert torch.equal(weights(named), weights(own))

    def test_groups_of_parameters_keep_their_shares_of_the_rate(self, problem) -> None:
        seen = []

        def two_rates(parameters):
            groups = [{"params": parameters[:-2], "lr": 0.001}, {"params": parameters[-2:], "lr": 0.1}]
            seen.append(torch.optim.SGD(groups))
            return seen[0]

        trained(problem, BASE.but(optimizer=two_rates, schedule="exponential", warmup=0.0))
        first, second = (group["lr"] for group in seen[0].param_groups)
        assert second == pytest.approx(100 * first)

    @pytest.mark.parametrize(
        ("optimizer", "message"),
        [
            (lambda parameters: None, r"returned NoneType; it must return a torch.optim.Optimizer"),
            (lambda parameters: torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1), "holds parameters that"),
            (torch.optim.LBFGS, "with a closure only"),
        ],
    )
    def test_what_is_no_optimizer_is_refused_before_training(self, optimizer, message, problem) -> None:
        with pytest.raises(InputError, match=message):
            trained(problem, BASE.but(optimizer=optimizer))

    def test_an_optimizer_instead_of_a_function_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"a function from parameters to a torch.optim.Optimizer"):
            Training(optimizer=torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1))
        with pytest.raises(InputError, match="left out where optimizer is a function"):
            Training(optimizer=lambda parameters: torch.optim.SGD(parameters), lr=0.1)


class TestSchedule:
    def test_it_makes_a_step_after_every_step(self, problem) -> None:
        def halved(optimizer):
            return torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)

        result = trained(problem, BASE.but(schedule=halved, lr=0.08))
        assert [row["lr"] for row in result.history] == [0.08, 0.08, 0.04, 0.04, 0.02, 0.02]

    def test_one_that_waits_for_a_measurement_is_refused(self, problem) -> None:
        for schedule in (torch.optim.lr_scheduler.ReduceLROnPlateau, lambda optimizer: 3):
            with pytest.raises(InputError, match="that steps without a measurement"):
                trained(problem, BASE.but(schedule=schedule))


class TestLoss:
    def test_cross_entropy_by_another_name_is_the_cross_entropy(self, problem) -> None:
        own = nn.CrossEntropyLoss(reduction="none")
        assert torch.equal(weights(trained(problem, BASE)), weights(trained(problem, BASE.but(loss=own))))

    def test_the_users_loss_is_what_is_minimised_and_selected_by(self, problem, tables) -> None:
        def doubled(scores, labels):
            return 2 * F.cross_entropy(scores, labels, reduction="none")

        training = BASE.but(select="loss", validate_every=6)
        one, two = (
            trained(problem, training.but(loss=loss), validation=tables["held_out"])
            for loss in (None, doubled)
        )
        assert two.history[0]["ce"] == pytest.approx(2 * one.history[0]["ce"], rel=1e-4)
        assert two.history[-1]["validation_loss"] > one.history[-1]["validation_loss"]

    @pytest.mark.parametrize(
        ("loss", "message"),
        [
            (nn.CrossEntropyLoss(), r"returned the shape \(\) .*reduction='none'"),
            (lambda scores, labels: 1.0, "returned float"),
            (lambda scores, labels: torch.zeros(len(labels)), "without a gradient"),
        ],
    )
    def test_what_gives_no_loss_of_each_sample_is_refused_before_training(
        self, loss, message, problem
    ) -> None:
        with pytest.raises(InputError, match=message):
            trained(problem, BASE.but(loss=loss))


class TestTransform:
    def test_it_changes_what_is_trained_on_the_same_for_a_seed(self, problem) -> None:
        def noisy(images):
            return images + 0.1 * torch.randn_like(images)

        first, second = (trained(problem, BASE.but(augmentation=noisy)) for _ in range(2))
        assert torch.equal(weights(first), weights(second))
        assert not torch.equal(weights(first), weights(trained(problem, BASE)))

    @pytest.mark.parametrize(
        ("transform", "message"),
        [
            (lambda images: images[:1], r"makes \(1, 1, 32, 32\) of a batch of the shape \(2, 1, 32, 32\)"),
            (lambda images: None, "makes NoneType"),
            (lambda images: images / 0, "not finite"),
        ],
    )
    def test_what_makes_no_batch_is_refused_before_training(self, transform, message, problem) -> None:
        with pytest.raises(InputError, match=message):
            trained(problem, BASE.but(augmentation=transform))


class TestCallbacks:
    def test_they_are_told_of_every_epoch_and_may_end_the_training(self, problem) -> None:
        epochs: list[Epoch] = []

        def until_two(epoch: Epoch) -> bool:
            epochs.append(epoch)
            epoch.model.eval()  # a training goes on in training mode all the same
            return epoch.number == 2

        training = BASE.but(steps=None, epochs=5, callbacks=(until_two,))
        result = trained(problem, training)
        assert [(e.number, e.step, e.steps) for e in epochs] == [(1, 6, 30), (2, 12, 30)]
        assert result.steps == 12
        assert any("stopped after step 12 of 30 by the callback" in note for note in result.notes)
        without = trained(problem, training.but(callbacks=(lambda epoch: epoch.number == 2,)))
        assert torch.equal(weights(result), weights(without))

    def test_scores_of_the_last_validation_are_told(self, problem, tables) -> None:
        scores = []
        training = BASE.but(validate_every=3, callbacks=(lambda epoch: scores.append(epoch.scores),))
        trained(problem, training, validation=tables["held_out"])
        assert set(scores[-1]) == {"validation_loss", "validation_accuracy", "validation_worst_class"}

    def test_one_that_ends_before_a_validation_leaves_weights_that_were_scored(self, problem, tables) -> None:
        training = BASE.but(
            steps=40, select="loss", validate_every=30, callbacks=(lambda epoch: epoch.number == 1,)
        )
        result = trained(problem, training, validation=tables["held_out"])
        assert (result.steps, result.selected_step) == (6, 6)
        assert "validation_loss" in result.history[-1]

    def test_another_answer_is_refused(self, problem) -> None:
        with pytest.raises(InputError, match=r"returned 0.5; return True to end the training"):
            trained(problem, BASE.but(callbacks=(lambda epoch: 0.5,)))
        with pytest.raises(InputError, match="a tuple of functions"):
            Training(callbacks=[print])


def test_a_training_of_the_users_own_resumes_to_the_bit(problem, tmp_path: Path) -> None:
    def decaying(optimizer):
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    training = BASE.but(
        optimizer=functools.partial(torch.optim.NAdam, lr=0.01),
        schedule=decaying,
        loss=nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1),
        checkpoint_every=2,
    )
    calls: list[int] = []

    def once(epoch: Epoch) -> None:
        calls.append(epoch.step)
        if len(calls) == 1:
            raise KeyboardInterrupt

    long = training.but(steps=12, callbacks=(once,))
    with pytest.raises(KeyboardInterrupt):
        trained(problem, long, out=tmp_path)
    resumed = trained(problem, long, out=tmp_path)
    assert any("gone on from a checkpoint after step" in note for note in resumed.notes)
    assert torch.equal(weights(resumed), weights(trained(problem, training.but(steps=12))))


def test_names_are_those_that_the_record_gives(problem) -> None:
    training = Training(
        optimizer=torch.optim.RMSprop, loss=nn.CrossEntropyLoss(reduction="none"), callbacks=(print,)
    )
    assert training.said() == {
        "optimizer": "torch.optim.rmsprop.RMSprop",
        "schedule": "cosine",
        "augmentation": "shifts",
        "loss": "torch.nn.modules.loss.CrossEntropyLoss",
        "callbacks": ["builtins.print"],
    }
    assert training.own == ("optimizer", "loss", "callbacks")
    assert name_of(functools.partial(F.cross_entropy, reduction="none")).endswith("(reduction='none')")
    outcome = erm(replace(problem, training=training.but(steps=2, batch_size=16, precision="fp32")))
    assert outcome.steps == 2
