"""The weights in a checkpoint that are a model's, in its own names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from shortcutscope.errors import InputError
from shortcutscope.models.weights.files import Weights
from shortcutscope.models.weights.names import (
    PREFIXES,
    StateDict,
    beside_the_network,
    match_names,
    normed_names,
    strip,
    whole_prefixes,
)

#: Keys under which a file keeps the weights that were trained (Lightning, PyTorch tutorials, timm, others),
#: in the order in which they are preferred.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "checkpoint", "module")
#: Averages of the weights over the training.
_AVERAGED = re.compile(r"(^|[_./])(ema|swa|averaged?|model_?ema)([_./]|$)", re.IGNORECASE)
_SHOWN = 5


@dataclass(frozen=True)
class LoadReport:
    """What had to be done to a checkpoint so that it fits.

    Attributes
    ----------
    unwrapped
        Keys under which the state dict lay, outermost first.
    stripped
        Prefixes taken off its names, in this order; one that starts with a dot was taken out of the middle.
    left_out
        Names that are no part of the network: a loss, a metric, a counter; or that `weights_key` left out.
    beside
        Other weights of the same network in the file, as `weights_key` names them.
    averaged
        Whether the weights that were taken are averages over the training (EMA, SWA).
    """

    unwrapped: tuple[str, ...] = ()
    stripped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    averaged: bool = False

    def __str__(self) -> str:
        parts = []
        if self.unwrapped:
            kind = "averaged weights" if self.averaged else "state dict"
            parts.append(f"took the {kind} from " + " > ".join(map(repr, self.unwrapped)))
        if self.stripped:
            parts.append("stripped " + ", then ".join(map(repr, self.stripped)) + " from its names")
        if self.left_out:
            parts.append(f"left out {_listed(self.left_out)}, which the network does not have")
        if self.beside:
            parts.append(
                f"the file also holds {', '.join(map(repr, self.beside))}: weights of the same network, "
                "which weights_key= (--weights-key) would take"
            )
        return "; ".join(parts) or "the checkpoint fitted as it was"


@dataclass(frozen=True)
class Fitting:
    """A state dict in a model's own names, and what had to be done to it."""

    state: StateDict
    report: LoadReport = field(default_factory=LoadReport)


def copy_into(model: nn.Module, fit: Fitting) -> None:
    """Copy weights whose names are a model's own into it.

    Raises
    ------
    InputError
        Names are missing or unexpected, or shapes differ: some of each are listed.
    """
    state_dict, state = model.state_dict(), fit.state
    mismatched = [
        f"{name}: {tuple(value.shape)} in the file, {tuple(state_dict[name].shape)} in the model"
        for name, value in state.items()
        if name in state_dict and value.shape != state_dict[name].shape
    ]
    missing, unexpected = _missing(model, state), [name for name in state if name not in state_dict]
    if mismatched or missing or unexpected:
        raise InputError(_misfit(model, missing, unexpected, mismatched, state))
    model.load_state_dict(state, strict=False)


def fitting(model: nn.Module, contents: Sequence[Weights], key: str | None = None) -> Fitting:
    """The weights of a file that are a model's.

    Parameters
    ----------
    model
        Of the architecture.
    found
        What the file holds.
    key
        Which of several: the keys in the file and the prefix of the names, joined by slashes, or the first
        or last of them (``"state_dict_ema"``, ``"state_dict/ema_model"``, ``"ema_model"``). By default those
        that were trained, not their averages.

    Returns
    -------
    fitting
        Where none is whole, the one that has most of the model's names.

    Raises
    ------
    InputError
        An unknown `key`, or several networks that might be meant.
    """
    whole = [one for weights in contents for one in _whole(model, weights)]
    if key is not None:
        whole, everything = [one for one in whole if _named(key, one.name)], whole
        parts = [w for w in contents if _named(key, "/".join(w.keys))]
        if not whole and not parts:
            names = [one.name for one in everything] + ["/".join(w.keys) for w in contents]
            listing = ", ".join(map(repr, dict.fromkeys(filter(None, names))))
            raise InputError(
                f"the checkpoint has no weights {key!r}; it has {listing}"
                if listing
                else f"the checkpoint is one state dict without keys, so weights_key={key!r} means nothing"
            )
        contents = parts or contents
    if not whole:
        return _best(model, contents)
    ranked = sorted(whole, key=lambda one: one.rank)
    best = ranked[0]
    rivals = [one for one in ranked[1:] if not one.averaged and not one.same(best)]
    if rivals and not best.averaged and not best.conventional:
        raise InputError(
            f"the checkpoint holds several networks that fit, {', '.join(repr(one.name) for one in ranked)}: "
            "say weights_key= (--weights-key), which"
        )
    beside = tuple(dict.fromkeys(one.name for one in ranked[1:] if not one.same(best)))
    is_by_key = key is not None and bool(best.prefix) and _named(key, best.name) and key != best.keys_text
    inside = {name for one in whole for name in one.names}
    extra = [name for name in best.rest if name not in inside]
    drop = extra if is_by_key else [name for name in extra if beside_the_network(name)]
    state = best.state | {name: best.all[name] for name in extra if name not in drop}
    report = LoadReport(best.keys, best.stripped, tuple(drop), beside, best.averaged)
    return Fitting(state, report)


def class_count_in(state: StateDict, model: nn.Module) -> int | None:
    """How many classes a checkpoint's head has, if that is all in which it differs from a model.

    Parameters
    ----------
    state
        From a file, in the model's names.
    model
        The same architecture, with any number of classes.

    Returns
    -------
    n_classes
        ``None`` when every shape agrees, or when they differ in more than one size of the first axis.
    """
    state_dict = model.state_dict()
    pairs = [
        (state_dict[name].shape, v.shape)
        for name, v in state.items()
        if name in state_dict and state_dict[name].shape != v.shape
    ]
    sizes = {(a[:1], b[:1]) for a, b in pairs}
    if len(sizes) != 1 or any(a[1:] != b[1:] for a, b in pairs):
        return None
    return int(pairs[0][1][0])


@dataclass(frozen=True)
class _Whole:
    """Weights in which a model is complete: in its names, and the other names of the same state dict."""

    keys: tuple[str, ...]
    prefix: str
    stripped: tuple[str, ...]
    state: StateDict
    names: tuple[str, ...]
    all: StateDict

    @property
    def rest(self) -> list[str]:
        return [name for name in self.all if name not in set(self.names)]

    @property
    def keys_text(self) -> str:
        return "/".join(self.keys)

    @property
    def name(self) -> str:
        return "/".join([*self.keys, *filter(None, [self.prefix.rstrip(".")])])

    @property
    def averaged(self) -> bool:
        return _AVERAGED.search(self.name) is not None or "n_averaged" in self.all

    @property
    def conventional(self) -> bool:
        """Whether its place says that it is the network that was trained."""
        return set(self.keys) <= set(WRAPPERS) and strip(self.prefix, PREFIXES * 3) == ""

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        place = WRAPPERS.index(self.keys[0]) if self.keys and self.keys[0] in WRAPPERS else len(WRAPPERS)
        return self.averaged, not self.conventional, place, len(self.keys) + self.prefix.count(".")

    def same(self, other: _Whole) -> bool:
        return self.state.keys() == other.state.keys() and all(
            value is other.state[name] or torch.equal(value, other.state[name])
            for name, value in self.state.items()
        )


def _whole(model: nn.Module, weights: Weights) -> Iterator[_Whole]:
    """Every place in a state dict where all of a model's names are."""
    expected = set(model.state_dict())
    every = normed_names(weights.state, expected)
    state, stripped = match_names(every, expected)
    rest = list(every)
    if expected and not _missing(model, state):
        names = [name for name in every if strip(name, stripped) in expected]
        prefix = "" if any(part.startswith(".") for part in stripped) else "".join(stripped)
        fitting_state = {strip(name, stripped): every[name] for name in names}
        yield _Whole(weights.keys, prefix, stripped, fitting_state, tuple(names), every)
        rest = [name for name in every if name not in set(names)]
    for prefix in whole_prefixes(rest, expected):
        fitting_state = {name: every[prefix + name] for name in expected}
        yield _Whole(
            weights.keys,
            prefix,
            (prefix,),
            fitting_state,
            tuple(prefix + name for name in expected),
            every,
        )


def _best(model: nn.Module, contents: Sequence[Weights]) -> Fitting:
    """The state dict that has most of a model's names; of several, that under the most usual key."""
    expected = set(model.state_dict())

    def order(weights: Weights) -> tuple[int, int, int]:
        key = weights.keys[0] if weights.keys else ""
        place = WRAPPERS.index(key) if key in WRAPPERS else len(WRAPPERS)
        return (
            -len(expected & match_names(normed_names(weights.state, expected), expected)[0].keys()),
            place,
            0,
        )

    best = min(contents, key=order)
    state, stripped = match_names(normed_names(best.state, expected), expected)
    return Fitting(state, LoadReport(best.keys, stripped))


def _named(key: str, name: str) -> bool:
    return f"/{name}/".startswith(f"/{key}/") or name.endswith(f"/{key}")


def _missing(model: nn.Module, state: StateDict) -> list[str]:
    """Names of a model that a state dict lacks, but for what is not needed.

    Tied weights are stored once by safetensors: where another name has the same memory, none is missing. How
    many batches a batch norm has seen is not stored by old versions, and is not used in evaluation mode.
    """
    state_dict = model.state_dict()
    missing = [n for n in state_dict if n not in state and not n.endswith("num_batches_tracked")]
    if not missing:
        return []
    filled = {state_dict[name].data_ptr() for name in state if name in state_dict}
    return [name for name in missing if state_dict[name].data_ptr() not in filled]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _misfit(
    model: nn.Module, missing: list[str], unexpected: list[str], mismatched: list[str], state: StateDict
) -> str:
    parts = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (
            ("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched)
        )
        if names
    ]  # fmt: skip
    mend = "Choose the architecture, number of classes and input channels that it was trained with"
    if unexpected and not missing and not mismatched:
        mend = (
            f"All that {type(model).__name__} needs is there, and more: build the network that has these "
            "parts too; if they are of another network in the same file, say which one is meant by the "
            "prefix of its names, with weights_key= (--weights-key)"
        )
    elif any(re.search(r"(weight_g|weight_orig|original[01]?)$", name) for name in unexpected):
        mend = (
            "The weights in the file are normalised (weight_norm or spectral_norm), those of the model are "
            "not: build it with the normalisation that it was trained with"
        )
    return f"the checkpoint does not fit {type(model).__name__}. " + "; ".join(parts) + f". {mend}"
