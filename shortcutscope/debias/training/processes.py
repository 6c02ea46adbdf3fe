"""The processes that train together: which device each has, its share of a batch, and sums over them."""

from __future__ import annotations

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import DistributedType, broadcast
from torch import Tensor, distributed, nn

from shortcutscope.errors import InputError
from shortcutscope.models.frozen import device_of
from shortcutscope.processes import end_at_exit, share

_REPLICATED = ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU")


class Processes:
    """One process, alone or among those that ``torchrun`` or ``accelerate launch`` started.

    Parameters
    ----------
    model
        Trained where it is by a single process; each of several takes a device of its own.

    Attributes
    ----------
    index, count, main
        This process's number, how many there are, and whether this one writes and shows.
    device
        Where it trains.

    Raises
    ------
    InputError
        When accelerate was set up to divide a model among processes.
    """

    def __init__(self, model: nn.Module) -> None:
        device = device_of(model)
        began_before = distributed.is_available() and distributed.is_initialized()
        self._accelerator = Accelerator(
            cpu=device.type == "cpu" and not torch.accelerator.is_available(),
            # An objective may leave a part of the model out of its loss, or take one in later on.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        kind = DistributedType(self._accelerator.distributed_type).value
        if kind not in _REPLICATED:
            raise InputError(
                f"accelerate is set up for {kind}; training needs whole copies of the model (plain "
                "torchrun, or accelerate launch without DeepSpeed and FSDP)"
            )
        if not began_before and distributed.is_available() and distributed.is_initialized():
            end_at_exit()
        self.index: int = self._accelerator.process_index
        self.count: int = self._accelerator.num_processes
        self.main: bool = self._accelerator.is_main_process
        self.device: torch.device = device if self.count == 1 else self._accelerator.device

    def share(self, n: int) -> slice:
        """Which rows of a batch of `n` are this process's."""
        return share(n, self.index, self.count)

    def total(self, tensor: Tensor) -> Tensor:
        """Sum over all processes."""
        summed: Tensor = self._accelerator.reduce(tensor, "sum")
        return summed

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module, averaging its gradients over the processes; to be called, and then thrown away."""
        if self.count == 1:
            return module
        parallel: nn.Module = self._accelerator.prepare_model(module, device_placement=False)
        return parallel

    def unwrapped(self, module: nn.Module) -> None:
        """Forget a wrapped module and take off it whatever was put on it."""
        if self.count > 1:
            self._accelerator.unwrap_model(module, keep_fp32_wrapper=False)
            self._accelerator.free_memory()

    def same_buffers(self, module: nn.Module) -> None:
        """Give all processes the first one's buffers, since each saw other samples (batch norm)."""
        if self.count > 1:
            for buffer in module.buffers():
                buffer.copy_(broadcast(buffer.detach().clone(), from_process=0))

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()
