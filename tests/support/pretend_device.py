"""A device that is pretended: its tensors lie in the CPU's memory behind a wall.

PyTorch takes it for an accelerator of its own kind (the hook for back ends that are written in Python). What
mixes its tensors with the host's, and what reads their memory without a copy, fails as it does on a GPU.
Every operation runs on the CPU, so that results can be compared with the CPU's. Where the host waits for
the device is counted by the line of the package that asks for it.

To import this module registers the device for the whole process, and must come before the first backward
pass: autograd starts one thread a device when it starts. A process with such a thread may fork no child that
runs a backward pass. So tests on the device run in a process of their own, tests/device/test_own_process.py.

Two things are not as on a GPU: tensors say that they are contiguous whatever their layout, and no operation
takes longer than its line.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import backend_registration
from torch.utils._pytree import tree_flatten, tree_map

import shortcutscope

NAME = "pretend"
PACKAGE = str(Path(shortcutscope.__file__).parent) + "/"

#: What the host cannot go on without: it waits until the device has done all that it was told.
WAITS = {
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
}
#: What a GPU, too, is given from the host: copies, and indices.
_TAKES_HOST = {"aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put_", "aten::_index_put_impl_"}
#: What mixed precision computes in its own type; the others in that of their arguments.
_MIXED = ("conv1d", "conv2d", "conv3d", "linear", "matmul", "bmm", "addmm", "mm")
#: What torch would do in parts that its own storages, which are empty, cannot take: views by their strides
#: and in place, and results that get another shape.
_WHOLE = (
    *(
        "select.int",
        "slice.Tensor",
        "expand",
        "unsqueeze",
        "squeeze",
        "squeeze.dim",
        "squeeze.dims",
        "permute",
    ),
    *("transpose.int", "t", "diagonal", "split.Tensor", "split_with_sizes", "unbind.int", "unfold"),
    *("affine_grid_generator", "affine_grid_generator_backward", "mse_loss"),
)


@dataclass
class Traffic:
    """What passed between host and device.

    Attributes
    ----------
    waits
        Line of the package -> how often the host waited there for the device: for values, for a copy to the
        host, for indices whose number is not known.
    sent
        Line -> copies to the device that the host waited for, since it did not ask for another kind.
    """

    waits: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)


_watching: list[Traffic] = []


@contextmanager
def traffic() -> Iterator[Traffic]:
    """Count waits and copies while it lasts."""
    counted = Traffic()
    _watching.append(counted)
    try:
        yield counted
    finally:
        _watching.remove(counted)


@contextmanager
def generators() -> Iterator[None]:
    """While it lasts, ``torch.Generator(DEVICE)`` gives one of the host's, which the device takes."""
    kind = torch.Generator

    class Generator:
        def __new__(cls, device: torch.device | str = "cpu") -> torch.Generator:  # type: ignore[misc]
            return kind("cpu" if torch.device(device).type == NAME else device)

    torch.Generator = Generator  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        torch.Generator = kind  # type: ignore[misc]


def _note(what: str) -> None:
    if _watching:
        lines = [frame for frame in traceback.extract_stack() if frame.filename.startswith(PACKAGE)]
        place = f"{lines[-1].filename.removeprefix(PACKAGE)}: {lines[-1].line}" if lines else "elsewhere"
        for counted in _watching:
            getattr(counted, what)[place] += 1


class _Module(backend_registration._DummyBackendModule):
    """What torch asks of ``torch.pretend``."""

    def synchronize(self, *device: object) -> None:
        _note("waits")

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16, torch.float32]

    def get_rng_state(self, *device: object) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, *device: object) -> None:
        torch.set_rng_state(state)

    def manual_seed(self, seed: int) -> None:
        pass

    def empty_cache(self) -> None:
        pass


class _Memory:
    """What the device's tensors hold, by the address of their storage."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[StorageWeakRef, Tensor]] = {}
        self._made = 0

    def tensor(self, data: Tensor) -> Tensor:
        """A tensor on the device that holds `data`."""
        # Never an inference tensor, since a view of a tensor that is none must not be one either.
        with torch.inference_mode(False):
            made: Tensor = torch._C._acc.create_empty_tensor(tuple(data.shape), data.dtype)
        storage = made.untyped_storage()
        self._held[storage._cdata] = (StorageWeakRef(storage), data)
        self._made += 1
        if self._made % 256 == 0:
            self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        return made

    def behind(self, tensor: Tensor) -> Tensor:
        """What a tensor holds; of the host's, itself."""
        return self.of_storage(tensor.untyped_storage()) if tensor.device.type == NAME else tensor

    def of_storage(self, storage: torch.UntypedStorage) -> Tensor:
        """What the tensor with this storage holds."""
        reference, data = self._held[storage._cdata]
        assert not reference.expired()
        return data


_memory = _Memory()


def _is_there(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == NAME


def _refuse_mixed(name: str, tensors: list[Tensor]) -> None:
    here = [tensor for tensor in tensors if not _is_there(tensor) and tensor.dim() > 0]
    if here:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found {NAME} and {here[0].device} ({name})"
        )


def _copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    if not _is_there(target):
        _note("waits")
    elif not _is_there(source) and source.dim() and not non_blocking:
        _note("sent")
    _memory.behind(target).copy_(_memory.behind(source))
    return target


def _run(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Any operation: on what lies behind the wall."""
    name: str = op._schema.name
    if name in ("aten::_copy_from", "aten::_copy_from_and_resize"):
        return _copy(*args, **kwargs)
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    if name not in _TAKES_HOST:
        _refuse_mixed(name, tensors)
    if name in WAITS:
        _note("waits")
    there: dict[int, Tensor] = {}

    def behind(value: Any) -> Any:
        if isinstance(value, torch.device):
            return torch.device("cpu")
        if not _is_there(value):
            return value
        data = _memory.behind(value)
        there[id(data)] = value
        return data

    args, kwargs = tree_map(behind, (args, kwargs))
    kwargs.pop("pin_memory", None)
    if name in ("aten::view", "aten::_unsafe_view", "aten::_reshape_alias"):
        result = args[0].reshape(args[1])  # the device's tensors say that they are contiguous
    elif name == "aten::as_strided":
        data = args[0].contiguous()
        result = data.as_strided(args[1], args[2], data.storage_offset() + (args[3] if len(args) > 3 else 0))
    else:
        result = op(*args, **kwargs)

    def moved(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) not in there:
            return _memory.tensor(value)
        same = there[id(value)]
        if same.shape != value.shape:  # an out= that was given a size
            same.data = _memory.tensor(value)
        return same

    return tree_map(moved, result)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    for tensor in (weight, bias):
        if tensor is not None and not _is_there(tensor):
            raise RuntimeError(f"Input type ({NAME}) and weight type ({tensor.device}) should be the same")
    given = [None if tensor is None else _memory.behind(tensor) for tensor in (x, weight, bias)]
    return _memory.tensor(torch.ops.aten.convolution(*given, *options))


def _convolve_back(gradient: Tensor, x: Tensor, weight: Tensor, *options: Any) -> tuple[Tensor | None, ...]:
    given = map(_memory.behind, (gradient, x, weight))
    sizes = [gradient.shape[1]]
    found = torch.ops.aten.convolution_backward(*given, sizes, *options)
    return tuple(None if tensor is None else _memory.tensor(tensor) for tensor in found)


_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)


def _in_mixed_precision(op: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        dtype = torch.get_autocast_dtype(NAME)

        def cast(value: Any) -> Any:
            narrow = _is_there(value) and value.is_floating_point() and value.dtype != torch.float64
            return value.to(dtype) if narrow else value

        with torch._C._ExcludeDispatchKeyGuard(
            torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
        ):
            return op(*tree_map(cast, args), **tree_map(cast, kwargs))

    return run


def _amend_storages() -> None:
    """What torch reads off a storage, of the device's is read off what lies behind the wall.

    Its own storages are empty: they have no address, and `copy.deepcopy` copies nothing of a buffer.
    """
    address, storage_address, copied = Tensor.data_ptr, torch.UntypedStorage.data_ptr, Tensor.__deepcopy__

    def data_ptr(tensor: Tensor) -> int:
        return address(_memory.behind(tensor))

    def storage_data_ptr(storage: torch.UntypedStorage) -> int:
        held = storage.device.type == NAME
        return storage_address(_memory.of_storage(storage).untyped_storage() if held else storage)

    def deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
        if _is_there(tensor) and tensor.is_leaf and id(tensor) not in memo:
            memo[id(tensor)] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
        found: Tensor = copied(tensor, memo)
        return found

    Tensor.data_ptr = data_ptr  # type: ignore[method-assign]
    torch.UntypedStorage.data_ptr = storage_data_ptr  # type: ignore[method-assign]
    Tensor.__deepcopy__ = deepcopy  # type: ignore[method-assign]


def _register() -> list[torch.library.Library]:
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    anything = torch.library.Library("_", "IMPL")
    anything.fallback(_run, "PrivateUse1")
    anything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    named = torch.library.Library("aten", "IMPL")
    named.impl("convolution_overrideable", _convolve, "PrivateUse1")
    named.impl("convolution_backward_overrideable", _convolve_back, "PrivateUse1")
    for name in _WHOLE:
        packet, _, overload = name.partition(".")
        op = getattr(getattr(torch.ops.aten, packet), overload or "default")
        named.impl(name, partial(_run, op), "PrivateUse1")
    for name in _MIXED:
        named.impl(name, _in_mixed_precision(getattr(torch.ops.aten, name)), "AutocastPrivateUse1")
    _amend_storages()
    return [anything, named]


#: Taken back when they are collected.
_registered = _register()

DEVICE = torch.device(NAME)
