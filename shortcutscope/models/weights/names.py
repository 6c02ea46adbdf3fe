"""The names in a state dict, matched to those of a model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping

from torch import Tensor

StateDict = dict[str, Tensor]

PREFIXES = ("module.", "model.", "net.", "_orig_mod.")  # DataParallel, Lightning, plain habit, torch.compile
_INFIXES = (".module.", "._orig_mod.")  # the same where only a part of the model was wrapped

#: What stands beside a network in the state dict of its training, and is no part of it: losses with weights
#: of their own, metrics, how many networks were averaged, what profilers count.
_BESIDE = re.compile(
    r"(^|[._])(criterions?|criteria|loss|losses|metrics?)([._]|$)|(^|\.)(class|pos|ce)_weights?$"
    r"|(^|\.)(n_averaged|total_ops|total_params)$"
)

#: Names under weight and spectral normalisation: by ``torch.nn.utils``, and by its parametrizations.
_NORMS = (
    ("weight_g", "parametrizations.weight.original0"),
    ("weight_v", "parametrizations.weight.original1"),
    ("weight_orig", "parametrizations.weight.original"),
    ("weight_u", "parametrizations.weight.0._u"),
    ("weight_v", "parametrizations.weight.0._v"),
)


def match_names(state: StateDict, expected: set[str]) -> tuple[StateDict, tuple[str, ...]]:
    """Strip wrappers' prefixes from the names, as far as that makes more of them match.

    Returns
    -------
    state
        With the names that match best.
    stripped
        What was taken off; empty when the names match as they are, or when stripping does not help.
    """
    best, best_count = state, len(expected & state.keys())
    best_stripped: tuple[str, ...] = ()
    for length in range(1, 4):
        for sequence in itertools.product(PREFIXES + _INFIXES, repeat=length):
            if best_count == len(expected):
                return best, best_stripped
            names = {name: strip(name, sequence) for name in state}
            if len(set(names.values())) < len(names):
                continue
            count = len(expected.intersection(names.values()))
            if count > best_count:
                best = {names[name]: value for name, value in state.items()}
                best_count, best_stripped = count, sequence
    return best, best_stripped


def strip(name: str, sequence: Iterable[str]) -> str:
    """A name without some prefixes; those that start with a dot are taken out of its middle."""
    for part in sequence:
        name = name.replace(part, ".") if part.startswith(".") else name.removeprefix(part)
    return name


def whole_prefixes(names: Iterable[str], expected: set[str]) -> list[str]:
    """Prefixes, each ending with a dot, under which all of the expected names are there."""
    present = set(names)
    if not expected:
        return []
    rarest = max(expected, key=lambda name: (name.count("."), len(name)))
    prefixes = [name.removesuffix(rarest) for name in present if name.endswith("." + rarest)]
    return sorted(p for p in prefixes if all(p + name in present for name in expected))


def beside_the_network(name: str) -> bool:
    """Whether a name that a model lacks is a loss's, a metric's or a counter's."""
    return _BESIDE.search(name) is not None


def normed_names(state: Mapping[str, Tensor], expected: set[str]) -> StateDict:
    """The names of weight and spectral normalisation as the model has them, old ones or parametrizations."""
    new = any(".parametrizations." in f".{name}" for name in expected)
    old = any(name.rpartition(".")[2] in ("weight_g", "weight_orig") for name in expected)
    if new == old:  # neither, or a model with both: names are taken as they are
        return dict(state)
    spectral = {
        name.removesuffix(end)
        for name in state
        for end in ("weight_orig", "parametrizations.weight.original")
        if name.endswith(end)
    }
    return {_renamed(name, spectral, to_new=new): value for name, value in state.items()}


def _renamed(name: str, spectral: set[str], *, to_new: bool) -> str:
    for pair in _NORMS:
        ending, other = pair if to_new else pair[::-1]
        module = name.removesuffix(ending)
        if module == name or (module and not module.endswith(".")):
            continue
        if ending == "weight_v" and (module in spectral) != other.endswith("_v"):
            continue
        return module + other
    return name
