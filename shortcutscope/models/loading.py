"""Models by name: ``torchvision:NAME``, ``hf:FOLDER``, ``package.module:factory``, ``file.py:factory``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from shortcutscope.errors import InputError
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.models.frozen import version
from shortcutscope.models.preprocessing import Preprocessing
from shortcutscope.models.sources import REFUSED, SOURCES
from shortcutscope.models.sources.source import Factory, suggestion
from shortcutscope.models.weights.checkpoints import LoadReport, class_count_in, copy_into, fitting
from shortcutscope.models.weights.files import Weights, read_checkpoint
from shortcutscope.types import Record

__all__ = [
    "LoadReport",
    "has_random_weights",
    "load_model",
    "load_report",
    "model_fingerprint",
    "model_preprocessing",
]

_log = logging.getLogger(__name__)

_reports: WeakKeyDictionary[nn.Module, LoadReport] = WeakKeyDictionary()


def load_model(
    spec: str,
    weights: str | Path | None = None,
    *,
    num_classes: int | None = None,
    trust: bool = False,
    weights_key: str | None = None,
    arguments: Mapping[str, object] | None = None,
) -> nn.Module:
    """Build a model and load its weights.

    Parameters
    ----------
    spec
        ``"torchvision:NAME"``, ``"timm:NAME"``, ``"hf:FOLDER"`` or another source of
        `shortcutscope.models.sources.SOURCES`; ``"package.module:factory"`` or ``"path/to/file.py:factory"``.
        A factory is called with `num_classes` and `arguments`, and returns a module; a module is taken as
        it is.
    weights
        A checkpoint file, see `read_checkpoint`: names are matched after stripping the prefixes of
        DataParallel, Lightning and torch.compile, losses and counters beside the network are left out, and
        what was done is logged and kept in `load_report`. Also the name of published weights to download
        (torchvision: ``"DEFAULT"``, ``"IMAGENET1K_V1"``, ...; timm: ``"DEFAULT"``). ``None`` takes what the
        name stands for (``"hf:FOLDER"``), and else leaves the model as its factory made it.
    num_classes
        Passed to the factory. When it is not given and the checkpoint's head has another number of classes
        than the factory's default, that number is taken.
    trust
        Allow unpickling of Python objects in the checkpoint.
    weights_key
        Which of several weights in the checkpoint, for instance ``"state_dict_ema"`` or the prefix of their
        names; by default those that were trained, and not their averages. A warning is logged where others
        lie beside.
    arguments
        Further keywords of the factory, for instance ``{"in_chans": 1}`` for timm.

    Returns
    -------
    model
        On the CPU, in evaluation mode.

    Raises
    ------
    InputError
        Unknown spec, a factory that fails, or a checkpoint that cannot be read or does not fit.

    Examples
    --------
    >>> network = ss.load_model("torchvision:resnet18", "net.safetensors", num_classes=2)  # doctest: +SKIP
    """
    source, name = _split(spec)
    published = _published(source, weights)
    factory = _factory(source, name, spec)
    weights = weights if weights is not None else _stored(source, name, spec)
    kwargs = _keywords(arguments, published, num_classes)
    if weights is not None and published is None:
        contents = read_checkpoint(weights, trust=trust)  # before building: cheaper to refuse
        model = _with_weights(factory, spec, contents, str(weights), weights_key, kwargs)
    else:
        _refuse_key(weights_key, weights)
        model = _build(factory, spec, kwargs).eval()
        if weights is None and _may_be_random(source) and not _asks_for_weights(kwargs):
            _RANDOM[model] = _writes(model)
    _NAMES[model] = spec if published is None else f"{spec}@{weights}"
    return model


def _keywords(
    arguments: Mapping[str, object] | None, published: Mapping[str, object] | None, num_classes: int | None
) -> Record:
    classes = {} if num_classes is None else {"num_classes": num_classes}
    return {**(arguments or {}), **(published or {}), **classes}


def _refuse_key(weights_key: str | None, weights: str | Path | None) -> None:
    if weights_key is not None:
        raise InputError(
            f"weights_key={weights_key!r} chooses within a checkpoint file, and weights={weights!r} is no "
            "such file"
        )


def _with_weights(
    factory: Factory,
    spec: str,
    contents: Sequence[Weights],
    name: str,
    weights_key: str | None,
    kwargs: Record,
) -> nn.Module:
    model = _build(factory, spec, kwargs)
    fit = fitting(model, contents, weights_key)
    takes_classes = "num_classes" not in kwargs and _takes_classes(factory)
    n_classes = class_count_in(fit.state, model) if takes_classes else None
    if n_classes is not None:
        model = _build(factory, spec, {**kwargs, "num_classes": n_classes})
        _log.info("%s: the checkpoint has %d classes", spec, n_classes)
    copy_into(model, fit)
    report = _reports[model] = fit.report
    _log.log(
        logging.WARNING if report.beside and weights_key is None else logging.INFO, "%s: %s", name, report
    )
    return model.eval()


#: What networks that were built here go by.
_NAMES: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def model_preprocessing(model: nn.Module | str) -> Preprocessing:
    """How the library that a model comes from makes its input of an image.

    Parameters
    ----------
    model
        One that `load_model` made, or its name, such as ``"hf:folder"``; ``"torchvision:resnet50"`` means
        the default published weights, ``"torchvision:resnet50@IMAGENET1K_V1"`` others.

    Returns
    -------
    preprocessing
        Also the transform of a table: ``ImageTable.from_csv(file, **model_preprocessing(model).options())``.
        Where weights of one's own were put into an architecture, they may have been trained on images that
        were read otherwise; see `shortcutscope.check_preprocessing`.

    Raises
    ------
    InputError
        Says why it is not known.

    Examples
    --------
    >>> own = model_preprocessing("torchvision:resnet18")
    >>> own.resize, own.crop, own.mean
    (256, (224, 224), (0.485, 0.456, 0.406))
    """
    spec = model if isinstance(model, str) else _NAMES.get(model)
    if spec is None:
        raise InputError(
            "the model was not made by load_model, so that no source knows its preprocessing; give its name, "
            'such as "timm:resnet18"'
        )
    source, name = _split(spec)
    name, _, weights = name.partition("@")
    known = SOURCES[source].preprocessing if source in SOURCES else None
    if known is None:
        raise InputError(
            f"{spec}: nothing is known of the preprocessing of models from {source}. Open the table with the "
            "size=, mode=, value_range= and transform that it was trained with"
        )
    return known(name, weights or None)


def comes_with_preprocessing(spec: str, weights: str | Path | None) -> bool:
    """Whether a name stands for trained weights whose source knows how images are to be read."""
    source, name = _split(spec)
    if source not in SOURCES or SOURCES[source].preprocessing is None:
        return False
    return _published(source, weights) is not None or SOURCES[source].has_weights(name)


def own_preprocessing(model: nn.Module) -> Preprocessing | None:
    """How the source of a model's weights reads images; None where the weights are not the source's own.

    Raises
    ------
    InputError
        The weights are, and how images are read for them is not known.
    """
    name, _, weights = _NAMES.get(model, "").partition("@")
    if not name or not comes_with_preprocessing(name, weights or None):
        return None
    return model_preprocessing(model)


#: Networks that were built here without weights, and how often theirs had been written to then.
_RANDOM: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def has_random_weights(model: nn.Module) -> bool:
    """Whether `load_model` built this network without weights, and none were put into it since."""
    return model in _RANDOM and _RANDOM[model] == _writes(model)


def _writes(model: nn.Module) -> int:
    return sum(version(parameter) or 0 for parameter in model.parameters())


def _asks_for_weights(kwargs: Record) -> bool:
    return any(kwargs.get(name) for name in ("weights", "pretrained", "checkpoint_path", "state_dict"))


def load_report(model: nn.Module) -> LoadReport | None:
    """What was done to the checkpoint of a model that `load_model` made; None of other models."""
    return _reports.get(model)


def _split(spec: str) -> tuple[str, str]:
    source, colon, name = spec.rpartition(":") if isinstance(spec, str) else ("", "", "")
    if not (source and colon and name):
        raise InputError(
            f"model is {spec!r}; give {', '.join(f'{n}:NAME' for n in SOURCES if n not in REFUSED)}, "
            "package.module:factory or path/to/file.py:factory"
        )
    return source, name


def _may_be_random(source: str) -> bool:
    return source in SOURCES and SOURCES[source].may_be_random


def _stored(source: str, name: str, spec: str) -> Path | None:
    """The checkpoint that a name stands for."""
    find = SOURCES[source].stored if source in SOURCES else None
    stored = None if find is None else find(name)
    if stored is None:
        return None
    if not stored.path.is_file():
        raise InputError(
            f"the weights of {spec} are not on this machine, and nothing is downloaded: get "
            f"{stored.from_where}, and name the file with weights= (--weights) or put it at {stored.path}"
        )
    return stored.path


def _published(source: str, weights: str | Path | None) -> Mapping[str, Any] | None:
    """How a source is asked for published weights; ``None`` when `weights` is a file."""
    if not isinstance(weights, str) or Path(weights).exists() or not weights.isidentifier():
        return None
    ask = SOURCES[source].published if source in SOURCES else None
    return None if ask is None else ask(weights)


def _factory(source: str, name: str, spec: str) -> Factory:
    if source in SOURCES:
        return SOURCES[source].factory(name)
    module = _import_file(Path(source)) if source.endswith(".py") else _import_module(source)
    factory = getattr(module, name, None)
    if isinstance(factory, nn.Module):
        return lambda: factory
    if not callable(factory):
        public = [n for n in vars(module) if not n.startswith("_") and callable(getattr(module, n))]
        raise InputError(f"{spec}: {source} has no factory {name!r}{suggestion(name, public)}")
    return factory  # type: ignore[no-any-return]


def _import_module(name: str) -> ModuleType:
    try:
        # A console script, unlike `python -m`, does not look into the folder that it runs in.
        with _own_generator(), _importable(Path.cwd()):
            return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"cannot import {name!r}: {error}; is its folder on PYTHONPATH?") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"no file {path}")
    name = f"shortcutscope_user_{path.stem}"
    loader = importlib.util.spec_from_file_location(name, path)
    if loader is None or loader.loader is None:
        raise InputError(f"{path} cannot be imported as Python code")
    module = importlib.util.module_from_spec(loader)
    sys.modules[name] = module  # dataclasses and pickling to loader workers look the module up
    try:
        with _own_generator(), _importable(path.resolve().parent):
            loader.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"{path} fails on import: {type(error).__name__}: {error}") from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def _own_generator() -> Iterator[None]:
    """Random initialisation draws from the global generator, which is not ours to move on."""
    with torch.random.fork_rng(devices=[]):
        yield


def _takes_classes(factory: Factory) -> bool:
    parameters = inspect.signature(factory).parameters.values()
    return any(p.name == "num_classes" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _build(factory: Factory, spec: str, kwargs: Record) -> nn.Module:
    try:
        with _own_generator():
            model = factory(**kwargs)
    except InputError:
        raise
    except Exception as error:  # the user's own code: anything may be raised
        arguments = ", ".join(f"{key}={value!r}" for key, value in kwargs.items()) or "no arguments"
        raise InputError(f"{spec} called with {arguments} fails: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{spec} returned a {type(model).__name__}; a factory returns a torch.nn.Module")
    return model
