"""What is computed in one step, as one module: the model and what is minimised."""

from __future__ import annotations

from torch import Tensor, nn

from shortcutscope.debias.objective import Batch, Objective
from shortcutscope.debias.training.hardware import autocast
from shortcutscope.debias.training.settings import Precision
from shortcutscope.errors import InputError

__all__ = ["Step", "set_training_mode"]


class Step(nn.Module):
    """Model and objective as one module, so that several processes average the gradients of both."""

    def __init__(self, model: nn.Module, objective: Objective, precision: Precision) -> None:
        super().__init__()
        self.model, self.objective, self._precision = model, objective, precision

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's terms, in the precision asked for."""
        # Not accelerate's autocast: it fixes one precision for all that a process ever trains.
        with autocast(batch.images.device, self._precision):
            terms: dict[str, Tensor] = self.objective(self.model, batch)
        if not terms:
            raise InputError(f"{type(self.objective).__name__} returned no terms; nothing can be minimised")
        for name, value in terms.items():
            if value.dim():
                raise InputError(
                    f"term {name!r} of {type(self.objective).__name__} has the shape {tuple(value.shape)}; "
                    "it must be a scalar, such as a mean over the batch"
                )
        return terms


def set_training_mode(module: nn.Module) -> None:
    """Training mode, but for parts all of whose parameters are frozen.

    Else dropout would act inside of a frozen teacher, and batch norm of a frozen trunk would go on counting.
    """
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            part.eval()
