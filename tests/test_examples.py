"""The examples of the reference run, and few public names are without one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_study
import torch

import shortcutscope as ss
from shortcutscope.masks.writer import MaskWriter

#: Names that may be without an example.
MOST_WITHOUT = 20


def public_names() -> list[str]:
    return [name for name in ss.__all__ if name not in ("__version__", "phantoms")]


def thing(name: str) -> Any:
    value = getattr(ss, name)
    return value._function if inspect.ismodule(value) else value


def members(name: str) -> Iterator[tuple[str, object]]:
    of = thing(name)
    for member, value in vars(of).items() if inspect.isclass(of) else ():
        if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            yield member, value


def examples(of: object) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.getdoc(of) or "")


def test_at_most_20_public_names_are_without_an_example() -> None:
    """A member has one where its own text or that of its class has code that uses it."""
    without = []
    for name in public_names():
        code = "".join(example.source for example in examples(thing(name)))
        if not code:
            without.append(name)
        without += [
            f"{name}.{member}"
            for member, value in members(name)
            if not examples(value) and not re.search(rf"\.{member}\b", code)
        ]
    assert len(without) <= MOST_WITHOUT, without


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the examples take for given: a run in a folder, its model, images, and masks."""
    folder = tmp_path_factory.mktemp("examples")
    audit = small_study.audit(folder / "run")
    data, train = small_study.tables()
    with MaskWriter(folder / "masks", "tag", {}) as writer:
        for name in "ab":
            mask = np.zeros((6, 8), bool)
            mask[1:3, 2:4] = name == "a"
            writer.append(name, mask, image=f"{name}.png")
    return {
        "folder": folder, "ss": ss, "np": np, "pd": pd, "torch": torch, "audit": audit, "scan": audit.scan,
        "data": data, "train": train, "model": small_study.tag_reader(), "rng": np.random.default_rng(0),
        "images": torch.stack([data[row][0] for row in range(4)]),
        "few": ss.Statistics(50, 20), "quiet": ss.Running(progress=False),
    }  # fmt: skip


NAMED = [name for name in public_names() if any(map(examples, (thing(name), *dict(members(name)).values())))]


@pytest.mark.parametrize("name", NAMED)
def test_examples_run(name: str, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world["folder"])
    of = thing(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for what, value in ((name, of), *members(name)):
        home = importlib.import_module(inspect.getmodule(of).__name__)  # type: ignore[union-attr]
        found = doctest.DocTest(examples(value), {**vars(home), **world}, what, None, None, None)
        report: list[str] = []
        failed = doctest.DocTestRunner(optionflags=flags).run(found, out=report.append).failed
        assert not failed, "".join(report)
