"""What the user's own model raises, said in words: which case it is, and what mends it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from shortcutscope.errors import InputError, ModelError, ShortcutscopeError
from shortcutscope.types import Arguments

_CALLS = ("forward", "__call__", "_call_impl", "_wrapped_call_impl")
_CHANNELS = re.compile(r"expected input\[.*\] to have (\d+) channels?, but got (\d+) channels?")
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
_WRAP = (
    "put it into a small module whose forward takes a batch of images (N, C, H, W) alone and passes on what "
    "the model expects"
)

REENTRANT = (
    "Its checkpointing is re-entrant, which gives no gradients of single tensors: use checkpoint(..., "
    "use_reentrant=False), or switch checkpointing off (model.gradient_checkpointing_disable(), "
    "set_grad_checkpointing(False)): nothing is trained here"
)


@contextmanager
def model_errors(model: nn.Module) -> Iterator[None]:
    """Turn whatever a user's model raises into an error that names the case and what mends it.

    Only what comes out of the model's forward pass, or of a backward pass through it, is touched: errors of
    images, of files and of this package stay what they are, and so does an interruption. `frozen` runs in
    this, so that it holds wherever a model is lent.

    Parameters
    ----------
    model
        Whose calls are watched.

    Raises
    ------
    ModelError
        With the error of the model as its cause.
    InputError
        The images have another number of channels than the model takes, or do not fit into memory.
    """
    try:
        yield
    except ShortcutscopeError:
        raise
    except Exception as error:
        failure = _failure(model, error)
        if failure is None:
            raise
        raise _explained(model, error, failure) from error


@dataclass(frozen=True)
class _Failure:
    """What failed: a call of the model with these arguments, or (None) something else that is the model's."""

    arguments: Arguments | None

    @property
    def images(self) -> Tensor | None:
        return next((a for a in self.arguments or () if isinstance(a, Tensor)), None)


def first_line(error: BaseException) -> str:
    """The first line of an error, which in torch can run over pages; its type where it says nothing."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _frames(error: BaseException) -> list[FrameType]:
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    return frames


def _failure(model: nn.Module, error: Exception) -> _Failure | None:
    """Where the model failed, None where something else did."""
    frames = _frames(error)
    for index, frame in enumerate(frames):
        names = frame.f_locals
        called = frame.f_code.co_name in _CALLS and names.get("self") is model
        if called or frame.f_globals.get("__name__") == "torch.autograd":
            if _is_ours(frames[index:]):
                return None
            arguments = names.get("args", tuple(v for k, v in names.items() if k != "self"))
            return _Failure(tuple(arguments) if called else None)
    return _Failure(None) if isinstance(error, torch.OutOfMemoryError) else None


def _is_ours(frames: list[FrameType]) -> bool:
    """Whether a hook of this package failed within the model's call: a defect of the package."""
    user_frames = [f for f in frames if not str(f.f_globals.get("__name__", "")).startswith("torch.")]
    if not user_frames or not str(user_frames[-1].f_globals.get("__name__", "")).startswith("shortcutscope."):
        return False
    return not isinstance(user_frames[-1].f_locals.get("self"), nn.Module)


def _explained(model: nn.Module, error: Exception, failure: _Failure) -> ShortcutscopeError:
    images = failure.images
    batch = "" if images is None else f" on a batch of {_described(images)}"
    text = f"{type(error).__name__}: {first_line(error)}"
    if isinstance(error, torch.OutOfMemoryError) or any(s in str(error).lower() for s in _NO_MEMORY):
        return InputError(
            f"the model runs out of memory{batch}; choose a smaller batch (--batch-size, batch_size=), "
            "smaller images, or another device"
        )
    channels = _CHANNELS.search(str(error))
    if channels and images is not None and int(channels[2]) == images.shape[1]:
        return InputError(_wrong_channels(model, int(channels[2]), int(channels[1])))
    what = "the model's backward pass fails" if failure.arguments is None else "the model fails"
    return ModelError(f"{what}{batch}: {text.rstrip('.')}. {_mend(model, error, images)}")


def _described(images: Tensor) -> str:
    """Shape, type and range of a batch."""
    text = f"shape {tuple(images.shape)}, {str(images.dtype).removeprefix('torch.')}"
    if images.numel() and not images.is_complex():
        low, high = (float(v) for v in torch.aminmax(images.detach().float()))
        text += f", values {low:.3g} to {high:.3g}"
    return text


def _wrong_channels(model: nn.Module, n_given: int, n_taken: int) -> str:
    convolutions = (n for n, m in model.named_modules() if getattr(m, "in_channels", None) == n_taken)
    where = next((f" {name!r}" for name in convolutions if name), "")
    mode = {1: " (--mode L, mode='L')", 3: " (--mode RGB, mode='RGB')"}.get(n_taken, "")
    return (
        f"the images have {n_given} channel(s), but the model's first convolution{where} takes {n_taken}: "
        f"read the images in another mode{mode}, or build the model for {n_given} input channel(s)"
    )


def _mend(model: nn.Module, error: Exception, images: Tensor | None) -> str:
    text = str(error)
    if isinstance(error, CheckpointError) or "use_reentrant" in text or "Checkpointing is not" in text:
        return REENTRANT
    if isinstance(error, ImportError):
        return "Install what it imports in this environment"
    if isinstance(error, NotImplementedError):
        return "Give a module whose forward is written, which takes a batch of images and returns scores"
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if images is not None and dtype is not None and dtype != images.dtype:
        return (
            f"Its weights are {str(dtype).removeprefix('torch.')}: convert it with model.float() (reduced "
            "precision is asked for with --precision bf16, precision='bf16')"
        )
    if isinstance(error, TypeError) and "argument" in text:
        return f"Its forward takes ({_signature(model)}), but is given images alone: {_WRAP}"
    if isinstance(error, KeyError) or "'Tensor' object" in text or "Tensor' object" in text:
        return f"If it expects something else than a tensor of images (a dictionary, an object): {_WRAP}"
    if "same device" in text:
        return (
            "Some of its tensors are neither parameters nor buffers, so that they stay behind when it is "
            "moved: register them with register_buffer"
        )
    if "view size is not compatible" in text:
        return "Write .reshape(...) or .flatten(1) for .view(...)"
    if "more than 1 value per channel" in text:
        return "A batch norm in training cannot work on one sample: choose a larger batch size"
    return (
        "Check that image size, channels, value range and transform are those it was trained with "
        "(--size, --mode, --mean and --std, or the table's transform=)"
    )


def _signature(model: nn.Module) -> str:
    try:
        return ", ".join(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        return "..."
