"""A model on another device than the images: all that is done after an audit, end to end.

Where there is no accelerator, one is pretended: tensors that say they are elsewhere, and are kept in the
CPU's memory. What mixes them with the host's tensors, and what reads their memory without a copy, fails as it
does on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import shortcutscope as ss
from shortcutscope.debias.training.fit import Training
from shortcutscope.errors import InputError
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import ThinResNet

#: A device that PyTorch knows, and that needs no driver; here its tensors have values.
DEVICE = torch.device("meta")

aten = torch.ops.aten
#: What a GPU, too, takes from the host.
_COPIES = {aten._to_copy.default, aten.copy_.default}
_INDEXED = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}

#: No bars.
QUIET = ss.Running(progress=False)


class Elsewhere(torch.Tensor):
    """A tensor on the pretended device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"Elsewhere({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Accelerated(TorchDispatchMode):
    """While it lasts, the device can be moved to."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    flat = tree_flatten((args, kwargs))[0]
    tensors = [t for t in flat if isinstance(t, Tensor)]
    there = [t for t in tensors if isinstance(t, Elsewhere)]
    here = [t for t in tensors if not isinstance(t, Elsewhere) and t.dim() > 0]
    if there and here and func not in _COPIES and func not in _INDEXED:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got {DEVICE} and cpu")
    asked = [value for value in flat if isinstance(value, torch.device)]
    goes = asked[0].type == DEVICE.type if asked else bool(there)
    if not there and not goes:
        return func(*args, **kwargs)
    known = {id(t.inner): t for t in there}

    def as_host(value: Any) -> Any:
        if isinstance(value, torch.device):
            return torch.device("cpu")
        return value.inner if isinstance(value, Elsewhere) else value

    given = tree_map(as_host, (args, kwargs))
    found = func(*given[0], **given[1])
    if func is aten.copy_.default:
        return args[0]

    def moved(value: Any) -> Any:
        if not isinstance(value, Tensor) or not goes:
            return value
        return known[id(value)] if id(value) in known else Elsewhere(value)

    return tree_map(moved, found)


def network() -> nn.Module:
    with seeded(3):
        return ThinResNet(width=8, blocks=(1, 1)).eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ss.ImageTable, ss.Audit]:
    """Radiographs with a training split, and an audit of the others."""
    table = ss.phantoms.plant(
        ss.phantoms.radiographs(160, size=32, seed=3, patients=False),
        ss.phantoms.get_artifact("tag"),
        prevalence={0: 0.5, 1: 0.5},
    )
    split = np.where(np.arange(len(table)) % 8 < 2, "train", "test")
    table = table.with_columns(split=split)
    audit = ss.audit(
        network(),
        table,
        tmp_path_factory.mktemp("accelerator") / "run",
        concepts=["tag"],
        statistics=ss.Statistics(n_permutations=100, n_bootstrap=20),
        running=QUIET,
    )
    return table, audit


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[nn.Module]:
    """The same network on a device that the images are not on, and that knows no mixed precision."""
    autocast = torch.autocast

    def on(kind: str, **options: Any) -> Any:
        return nullcontext() if kind == DEVICE.type else autocast(kind, **options)

    monkeypatch.setattr(torch, "autocast", on)
    with Accelerated():
        yield network().to(DEVICE)


def rows(table: ss.ImageTable, split: str) -> ss.ImageTable:
    return table.take(np.flatnonzero(table.frame["split"].to_numpy() == split))


def test_m18_the_pretended_device_is_one(elsewhere: nn.Module) -> None:
    x = torch.rand(2, 1, 32, 32)
    with pytest.raises(RuntimeError, match="same device"):
        elsewhere(x)
    with torch.no_grad():
        there = elsewhere(x.to(DEVICE))
        assert isinstance(there, Elsewhere)
        torch.testing.assert_close(there.cpu(), network()(x))
    with pytest.raises((RuntimeError, TypeError)):
        there.numpy()


@pytest.mark.parametrize("method", ["fusion", "clarc"])
def test_m18_masks_are_those_of_the_host(
    made: tuple[ss.ImageTable, ss.Audit], elsewhere: nn.Module, tmp_path: Path, method: str
) -> None:
    table, audit = made
    options: dict[str, Any] = {"drawing": ss.Drawing(method), "extent": None, "running": QUIET}
    here = audit["tag"].annotate(network(), table, out=tmp_path / "here", **options)
    there = audit["tag"].annotate(elsewhere, table, out=tmp_path / "there", **options)
    assert len(there) == 120
    assert all((there.mask(name) == mask).all() for name, mask in here)


LATER: dict[str, Callable[[ss.Audit, nn.Module, ss.ImageTable], Any]] = {
    "circuit": lambda audit, model, table: audit["tag"].circuit(
        model, table, judging=ss.Judging(samples=80), running=QUIET
    ),
    "label": lambda audit, model, table: (
        audit["tag"].retrieval(images=rows(table, "test")).score(model, rows(table, "train"))
    ),
    "compare": lambda audit, model, table: (
        ss.compare(
            audit,
            network(),
            rows(table, "test"),
            model=model,
            concept="tag",
            statistics=ss.Statistics(n_permutations=100, n_bootstrap=20),
            running=QUIET,
        ).frame
    ),
}


@pytest.mark.parametrize("what", LATER)
def test_m18_what_follows_an_audit_runs_where_the_model_is(
    made: tuple[ss.ImageTable, ss.Audit], elsewhere: nn.Module, what: str
) -> None:
    table, audit = made
    assert LATER[what](audit, elsewhere, table) is not None


@pytest.mark.parametrize("recipe", ["p-clarc", "reactive-p-clarc", "leace", "dfr"])
def test_m18_students_are_fitted_where_the_model_is(
    made: tuple[ss.ImageTable, ss.Audit], elsewhere: nn.Module, recipe: str
) -> None:
    table, _ = made
    student = ss.debias(
        elsewhere,
        rows(table, "test"),
        clean=rows(table, "train"),
        recipe=recipe,
        shortcut=ss.Shortcut(concept="tag"),
        training=Training(steps=2, batch_size=16, precision="fp32"),
        running=QUIET,
    )
    x = torch.stack([table[i][0] for i in range(4)])
    assert student.model(x.to(DEVICE)).device == DEVICE


def test_m18_a_circuit_takes_the_audited_rows_of_the_given_table(
    made: tuple[ss.ImageTable, ss.Audit],
) -> None:
    table, audit = made
    given: dict[str, Any] = {"judging": ss.Judging(samples=80), "running": QUIET}
    whole = audit["tag"].circuit(network(), table, **given)
    turned = rows(table, "test").take(np.arange(120)[::-1])
    assert repr(whole) == repr(audit["tag"].circuit(network(), turned, **given))
    with pytest.raises(InputError, match="lacks 80 of 120 scanned samples"):
        audit["tag"].circuit(network(), rows(table, "test").take(np.arange(40)), **given)
