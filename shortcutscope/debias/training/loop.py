"""The training loop: one step after another, with what is kept so that an interruption costs little."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.callables import Epoch, ends, name_of, try_losses, try_transform
from shortcutscope.debias.objective import Batch, Objective, cross_entropies
from shortcutscope.debias.training.augmentation import augmented
from shortcutscope.debias.training.averaging import MovingAverage
from shortcutscope.debias.training.checkpoint import (
    non_finite,
    prefixed,
    read_checkpoint,
    restore,
    settings_digest,
    snapshot,
    tensors_digest,
    with_prefix,
    write_checkpoint,
)
from shortcutscope.debias.training.hardware import usable_precision
from shortcutscope.debias.training.images import Images, Order, labels_of, require_logits_for, require_samples
from shortcutscope.debias.training.logs import Log, NonFiniteLossError, Terms
from shortcutscope.debias.training.processes import Processes
from shortcutscope.debias.training.randomness import (
    AUGMENTATION,
    MODULES,
    OBJECTIVE,
    derived_seed,
    generator_of,
)
from shortcutscope.debias.training.rate import LearningRate, load_moments, moments_of, optimizer_of
from shortcutscope.debias.training.selection import RULES, Best, Score, validate
from shortcutscope.debias.training.settings import Training
from shortcutscope.debias.training.step import Step, set_training_mode
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.failures import model_errors
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.memory_format import choose_memory_format
from shortcutscope.models.seeding import seeded
from shortcutscope.progress import progress_bar
from shortcutscope.types import Record

__all__ = ["CHECKPOINT", "TrainingLoop"]

CHECKPOINT = "checkpoint.safetensors"


class TrainingLoop:
    """One training, from its first step or from a checkpoint to its end.

    Everything random depends on the seed and the number of the step only, so that a checkpoint holds tensors
    and a position, and no states of generators. The parameters are those of
    :func:`shortcutscope.debias.training.fit.fit`.

    Attributes
    ----------
    done
        Optimiser steps taken.
    selected
        After how many of them the model had the weights that it is left with.
    log
        The history.
    notes
        What a reader should know.
    """

    def __init__(
        self,
        model: nn.Module,
        table: ImageTable,
        objective: Objective,
        training: Training,
        validation: ImageTable | None,
        out: Path | None,
    ) -> None:
        self.notes: list[str] = []
        if not objective.allows_augmentation and training.augmentation != "none":
            training = self._unaugmented(objective, training)
        if training.loss is not None:
            objective.take_loss(training.loss)
        require_samples(table, training, validation)
        if out is not None and out.is_file():
            raise InputError(f"out={out} is a file: give a folder for checkpoints and logs")
        self._training, self._out = training, out
        self._processes = Processes(model)
        self._device = self._processes.device
        precision, note = usable_precision(self._device, training.precision, model)
        self.notes += [note] if note else []
        self._step = Step(model, objective, precision).to(self._device)
        self._parameters = [p for p in self._step.parameters() if p.requires_grad]
        if not self._parameters:
            raise InputError("no parameter of the model requires a gradient; unfreeze what should be trained")
        if min(training.batch_size, len(table)) < self._processes.count:
            raise InputError(
                f"a batch of {min(training.batch_size, len(table))} samples cannot be divided among "
                f"{self._processes.count} processes; raise batch_size, or start fewer"
            )
        self._dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        self._images, self._labels = self._samples(table)
        validating = training.select != "last" or training.validate_every is not None
        self._held_out = self._samples(validation) if validating and validation is not None else None
        self._order = Order(len(table), training.batch_size, objective.draws(), training.seed)
        self._steps = training.n_steps(len(table))
        example = self._input(torch.cat([self._images.example] * 2))
        self._format = choose_memory_format(model, example, *objective.networks(), training=True)
        self.notes += [f"trained in {self._format}"] if self._format.reason else []
        self._try(example)
        self._optimizer = optimizer_of(training, self._parameters)
        self._rate = LearningRate(training, self._optimizer)
        self._scores: dict[str, float] = {}
        self._ended_by: str | None = None
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=precision == "fp16")
        self._average = None if training.ema is None else MovingAverage(model, training.ema)
        self._terms = Terms(self._processes.total)
        self._best, self._stopped = Best(), False
        self._good = snapshot(self._step)
        self._good_step = self.done = self.selected = 0
        self._identity = {} if out is None else self._described(table, validation)
        self.log = self._resumed()

    # The steps

    def run(self, name: str, progress: bool) -> None:
        """Train, and leave the chosen weights in the model, in evaluation mode."""
        self._format.apply(self._step)
        wrapped = self._processes.wrapped(self._step)
        visible = progress and self._processes.main
        bar = progress_bar(total=self._steps, initial=self.done, desc=name, unit="step", progress=visible)
        try:
            with seeded(self._training.seed), bar, model_errors(self._step.model):
                self._train(wrapped, bar)
            self._choose()
            self._processes.wait()
        except NonFiniteLossError as error:
            self._give_up(str(error), error)
        finally:
            self._processes.unwrapped(wrapped)
            self._optimizer.zero_grad()
            # Channels-last strides would follow the weights into files, which safetensors refuses.
            self._step.to(memory_format=torch.contiguous_format).eval()
            self.log.close()

    def _train(self, wrapped: nn.Module, bar: Any) -> None:
        if self._stopped or self.done == self._steps:
            return
        set_training_mode(self._step)
        now_and_then = max(self._order.steps_per_epoch, math.ceil(self._steps / 20))
        checkpoint_every = self._training.checkpoint_every or now_and_then
        validate_every = self._training.validate_every or now_and_then
        log_every = self._training.log_every or max(1, self._steps // 100)
        rows = (self._mine(self._order.rows(step)) for step in range(self.done, self._steps))
        for images in self._images.batches(rows, self._training.workers):
            self._take(wrapped, images)
            last = self.done == self._steps
            scores: dict[str, float] = {}
            if self._held_out is not None and (last or self.done % validate_every == 0):
                scores = self._validated()
            if self._training.callbacks and (last or self.done % self._order.steps_per_epoch == 0):
                scores = self._call_back(scores)
            last = last or self._stopped
            if last or scores or self.done % log_every == 0:
                self._note(scores, bar)
            if last or self.done % checkpoint_every == 0:
                self._keep()
            bar.update()
            if last:
                return

    def _take(self, wrapped: nn.Module, images: Tensor) -> None:
        """One optimiser step."""
        step, seed, processes = self.done, self._training.seed, self._processes
        whole = self._order.rows(step)
        part = processes.share(len(whole))
        rows = whole[part]
        generator = generator_of(seed, AUGMENTATION, step)
        torch.manual_seed(derived_seed(seed, AUGMENTATION, step, processes.index))  # of the user's transform
        inputs = augmented(self._input(images), self._training.augmentation, generator, part, len(whole))
        batch = Batch(
            self._format(inputs),
            self._labels[rows].to(self._device),
            rows,
            step / self._steps,
            generator_of(seed, OBJECTIVE, step, processes.index),
        )
        torch.manual_seed(derived_seed(seed, MODULES, step, processes.index))
        terms = wrapped(batch)
        share = len(rows) / len(whole)
        self._terms.add(step + 1, terms, share)
        if self._device.type == "cpu" and processes.count == 1:
            self._terms.settle()  # costs nothing here, and spares the weights
        self._rate.before(step, self._steps)
        # The processes' gradients are averaged; one with more samples counts for more.
        loss = functools.reduce(torch.add, terms.values()) * (share * processes.count)
        self._optimizer.zero_grad()
        torch.autograd.backward(self._scaler.scale(loss))
        if self._training.clip_norm is not None:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._parameters, self._training.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._rate.after()
        self.done += 1
        if self._average is not None:
            self._average.update(self.done)

    def _note(self, scores: Mapping[str, float], bar: Any) -> None:
        row = {"lr": self._rate.value, **self._terms.means(), **scores}
        self.log.add({"step": self.done, **row})
        bar.set_postfix({name: f"{value:.3g}" for name, value in row.items()}, refresh=False)

    def _call_back(self, scores: dict[str, float]) -> dict[str, float]:
        """Tell the user's callbacks of an epoch, and stop where one says so; scores of the last weights."""
        self._scores = scores or self._scores
        number = math.ceil(self.done / self._order.steps_per_epoch)
        epoch = Epoch(number, self.done, self._steps, self._rate.value, self._step.model, self._scores)
        ended_by = ends(self._training.callbacks, epoch)
        set_training_mode(self._step)
        one = torch.tensor([float(ended_by is not None)], device=self._device)
        if float(self._processes.total(one)) > 0:
            if self._held_out is not None and not scores:
                scores = self._validated()  # the last weights may be the best ones
            self._stopped, self._ended_by = True, ended_by or "that of another process"
        return scores

    # Choosing weights

    def _validated(self) -> dict[str, float]:
        """Score the weights, keep them if they are the best, and find out whether to stop."""
        assert self._held_out is not None
        self._terms.settle()
        images, labels = self._held_out
        with nullcontext() if self._average is None else self._average.applied():
            self._processes.same_buffers(self._step)
            self._step.eval()
            score = validate(
                self._step.model,
                lambda rows: self._format(self._input(images.batch(rows))),
                labels,
                batch_size=self._training.batch_size,
                share=self._processes.share(len(labels)),
                total=self._processes.total,
                losses=cross_entropies if self._training.loss is None else self._training.loss,
            )
            if not math.isfinite(score.loss):
                raise NonFiniteLossError(self.done, "validation loss", score.loss)
            if self._training.select != "last" and self._best.improves(score, self._training.select):
                self._best = Best(self.done, score, 0, snapshot(self._step))
            else:
                self._best.since += 1
        set_training_mode(self._step)
        patience = self._training.patience
        self._stopped = patience is not None and self._best.since >= patience
        return {
            "validation_loss": score.loss,
            "validation_accuracy": score.accuracy,
            "validation_worst_class": score.worst_class,
        }

    def _choose(self) -> None:
        """Put those weights into the model that the rule of selection names."""
        self.selected = self.done
        if self._average is not None:
            self.notes.append(f"the weights are an exponential moving average, decay {self._training.ema:g}")
        if self._training.select != "last":
            restore(self._step, self._best.tensors)
            self.selected = self._best.step
            self.notes.append(
                f"the weights after step {self.selected} of {self._steps} were chosen, of the "
                f"{RULES[self._training.select]} on the validation samples"
            )
        elif self._average is not None:
            restore(self._step.model, self._average.tensors)
        if self._ended_by is not None:
            ended_by = f"by the callback {self._ended_by}"
            self.notes.append(f"stopped after step {self.done} of {self._steps} {ended_by}")
        elif self._stopped:
            self.notes.append(
                f"stopped after step {self.done} of {self._steps}: {self._best.since} validations in a row "
                "were no better"
            )
        self._processes.same_buffers(self._step)

    # Keeping and giving back

    def _keep(self) -> None:
        """Note the weights as good, if they are, and write a checkpoint."""
        self._terms.settle()
        bad = non_finite(dict(self._step.named_parameters()))
        if bad is not None:
            self._give_up(f"{bad} became NaN or infinite by step {self.done}")
        self._good, self._good_step = snapshot(self._step), self.done
        if self._out is None or not self._processes.main:
            return
        best = self._best
        tensors = prefixed("weights", self._good) | prefixed("best", best.tensors)
        tensors |= prefixed("average", self._average.tensors if self._average else {})
        moments = moments_of(self._optimizer)
        if moments is None:
            self._note_no_checkpoints()
            return
        tensors |= moments[0]
        state = {
            "numbers": moments[1],
            "identity": self._identity,
            "step": self.done,
            "stopped": self._stopped,
            "ended_by": self._ended_by,
            "history": self.log.rows,
            "terms": self._terms.settled,
            "best": {"step": best.step, "since": best.since},
            "score": None if best.score is None else vars(best.score),
            "scaler": self._scaler.state_dict(),
        }
        write_checkpoint(self._out / CHECKPOINT, tensors, state)

    def _resumed(self) -> Log:
        """Go on from a checkpoint where there is one; the log from there on."""
        checkpoint = None if self._out is None else read_checkpoint(self._out / CHECKPOINT, self._identity)
        folder = self._out if self._processes.main else None
        if checkpoint is None:
            return Log(folder)
        tensors, state = checkpoint
        self.done, self._stopped = state["step"], state["stopped"]
        self._ended_by = state.get("ended_by")
        restore(self._step, with_prefix("weights", tensors))
        self._good, self._good_step = snapshot(self._step), self.done
        if self._average is not None:
            self._average.load(with_prefix("average", tensors))
        load_moments(self._optimizer, tensors, state.get("numbers", {}), len(self._parameters))
        self._rate.catch_up(self.done)
        self._scaler.load_state_dict(state["scaler"])
        score = None if state["score"] is None else Score(**state["score"])
        self._best = Best(**state["best"], score=score, tensors=with_prefix("best", tensors))
        self._terms.settled = [(name, value) for name, value in state["terms"]]
        self.notes.append(f"gone on from a checkpoint after step {self.done}")
        return Log(folder, state["history"])

    def _note_no_checkpoints(self) -> None:
        """Where the user's optimizer remembers what a checkpoint cannot hold."""
        name = type(self._optimizer).__name__
        note = f"no checkpoints: {name} remembers more than numbers and tensors; interrupted, it begins anew"
        if note not in self.notes:
            self.notes.append(note)

    def _give_up(self, reason: str, cause: Exception | None = None) -> NoReturn:
        """Restore the last good weights and say what happened."""
        restore(self._step, self._good)
        where = "" if self._out is None or not self._good_step else f", as in {self._out / CHECKPOINT}"
        raise ModelError(
            f"{reason}. Lower the learning rate (now {self._rate.value:g}), or check the images and the "
            f"initial weights for NaN. The model has its weights of step {self._good_step} back{where}"
        ) from cause

    # What the user brings

    def _unaugmented(self, objective: Objective, training: Training) -> Training:
        """For objectives that need the images as they are."""
        name, who = name_of(training.augmentation), type(objective).__name__
        if callable(training.augmentation):
            raise InputError(
                f"augmentation={name}: {who} needs the images as they are, since it knows something of their "
                "pixels; leave augmentation out, or choose another recipe"
            )
        self.notes.append(
            f"trained without augmentation ({name!r} was asked for): {who} needs the images as they are"
        )
        return training.but(augmentation="none")

    def _try(self, example: Tensor) -> None:
        """Refuse a transform or a loss of the user's that cannot be used."""
        training = self._training
        if callable(training.augmentation):
            with seeded(training.seed):
                try_transform(training.augmentation, example)
        if training.loss is not None:
            model = self._step.model
            with frozen(model), torch.no_grad():
                logits = find_logits(model(example))
            try_losses(training.loss, logits, self._labels[[0, 0]].to(self._device))

    # Samples

    def _samples(self, table: ImageTable) -> tuple[Images, Tensor]:
        images, labels = Images(table), labels_of(table)
        require_logits_for(self._step.model, self._input(images.example), labels)
        return images, labels

    def _mine(self, rows: Tensor) -> Tensor:
        return rows[self._processes.share(len(rows))]

    def _input(self, images: Tensor) -> Tensor:
        """Images as the model takes them."""
        return images.to(self._device, self._dtype)

    def _described(self, table: ImageTable, validation: ImageTable | None) -> Record:
        """What the trained weights depend on."""
        objective = self._step.objective
        return {
            **self._training.identity(),
            "train": [table.fingerprint(), table.transform_fingerprint()],
            "validation": validation and [validation.fingerprint(), validation.transform_fingerprint()],
            "start": tensors_digest(self._step),
            "objective": [type(objective).__qualname__, settings_digest(objective)],
            "processes": self._processes.count,
        }
