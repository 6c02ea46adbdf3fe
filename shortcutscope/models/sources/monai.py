"""``monai:NAME``, a network of MONAI, and ``monai:FOLDER``, a bundle, of which no code is run."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shortcutscope.errors import InputError
from shortcutscope.extras import require
from shortcutscope.models.preprocessing import Preprocessing
from shortcutscope.models.sources.source import Factory, ModelSource, Stored, suggestion

#: Where a bundle has its network, and under which name.
CONFIGS, NETWORK = ("configs/inference.json", "configs/train.json", "configs/evaluate.json"), "network_def"
METADATA, WEIGHTS = "configs/metadata.json", "models/model.pt"
_NETS = "monai.networks.nets"
#: How networks call the number of their scores.
_OUTPUTS = ("num_classes", "out_channels")
_MEND = (
    "Name the network and its arguments yourself: monai:DenseNet121 with arguments= (--model-kwargs "
    '\'{"spatial_dims": 3, "in_channels": 1}\') and weights='
)


def _networks() -> Any:
    return require(_NETS, "monai", "a model of MONAI")


def _is_bundle(name: str) -> bool:
    return (Path(name).expanduser() / "configs").is_dir()


def _factory(name: str) -> Factory:
    if _is_bundle(name):
        target, arguments = _definition(Path(name).expanduser())
        return _building(target, arguments, _class_names(Path(name).expanduser()))
    if "/" in name or Path(name).exists():
        raise InputError(
            f"{name} is no bundle of MONAI: it has no configs. Give a bundle's folder, or the name of "
            "a network, such as monai:DenseNet121"
        )
    return _building(name, {}, None)


def _building(name: str, own: Mapping[str, Any], names: tuple[str, ...] | None) -> Factory:
    networks = _networks()
    make = getattr(networks, name, None)
    if not callable(make):
        there = [n for n in dir(networks) if callable(getattr(networks, n)) and not n.startswith("_")]
        raise InputError(f"MONAI has no network {name!r}{suggestion(name, there)}")
    parameters = inspect.signature(make).parameters
    outputs = next((n for n in _OUTPUTS if n in parameters), _OUTPUTS[0])

    def build(num_classes: int | None = None, **arguments: object) -> Any:
        given = {**own, **({} if num_classes is None else {outputs: num_classes}), **arguments}
        if "pretrained" in parameters and "pretrained" not in given:
            given["pretrained"] = False  # some would download unasked
        plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        lacking = [
            n for n, p in parameters.items() if p.default is p.empty and p.kind in plain and n not in given
        ]
        if lacking:
            example = json.dumps(dict.fromkeys(lacking, 2))
            raise InputError(
                f"monai:{name} needs {', '.join(lacking)}: arguments= (--model-kwargs '{example}')"
            )
        model = make(**given)
        if names is not None and given.get(outputs) == len(names):
            model.class_names = names
        return model

    return build


def _definition(folder: Path) -> tuple[str, dict[str, Any]]:
    """Class and arguments of a bundle's network, where they are plain values."""
    for file in CONFIGS:
        config = _read(folder / file)
        if NETWORK not in config:
            continue
        found = config[NETWORK]
        where = f"{NETWORK} in {folder / file}"
        if not isinstance(found, Mapping) or not isinstance(found.get("_target_"), str):
            raise InputError(f"{where} names no class of MONAI. {_MEND}")
        target = found["_target_"].removeprefix(f"{_NETS}.")
        if "." in target:
            raise InputError(f"{where} is {target}, code of its own, which is not run. {_MEND}")
        plain = {k: _plain(v, config, where) for k, v in found.items() if not k.startswith("_")}
        return target, plain
    raise InputError(
        f"{folder} has no {' or '.join(CONFIGS)} with a {NETWORK}: configurations in YAML, and bundles whose "
        f"network is made by code, are not read. {_MEND}"
    )


def _plain(value: Any, config: Mapping[str, Any], where: str, depth: int = 0) -> Any:
    """A value, references to other plain values followed; refused where code would have to be run."""
    if isinstance(value, str) and value.startswith(("$", "%")):
        raise InputError(f"{where} has an expression, {value!r}, which is code and is not run. {_MEND}")
    if isinstance(value, str) and value.startswith("@"):
        name = value[1:]
        if name not in config or depth > 8:
            raise InputError(f"{where} refers to {value!r}, which is no plain value. {_MEND}")
        return _plain(config[name], config, where, depth + 1)
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise InputError(f"{where} makes an object, {value['_target_']!r}, which is not run. {_MEND}")
        return {k: _plain(v, config, where, depth) for k, v in value.items()}
    return [_plain(v, config, where, depth) for v in value] if isinstance(value, list) else value


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    return content if isinstance(content, Mapping) else {}


def _stored(name: str) -> Stored | None:
    if not _is_bundle(name):
        return None
    path = Path(name).expanduser() / WEIGHTS
    return Stored(path, f"{WEIGHTS} of the bundle")


def _formats(folder: Path) -> Mapping[str, Any]:
    formats: Any = _read(folder / METADATA).get("network_data_format", {})
    return formats if isinstance(formats, Mapping) else {}


def _class_names(folder: Path) -> tuple[str, ...] | None:
    """Of the bundle's metadata."""
    outputs = _formats(folder).get("outputs", {})
    definition = next((v.get("channel_def") for v in outputs.values() if isinstance(v, Mapping)), None)
    if not isinstance(definition, Mapping) or not all(str(k).isdigit() for k in definition):
        return None
    return tuple(str(definition[k]) for k in sorted(definition, key=int)) or None


def _preprocessing(name: str, weights: str | None) -> Preprocessing:
    """Refused: of an architecture nothing is known, and a bundle's transforms are not read."""
    if not _is_bundle(name):
        raise InputError(f"monai:{name} is an architecture: MONAI knows no preprocessing of it")
    folder = Path(name).expanduser()
    raise InputError(
        f"the preprocessing of the bundle {folder} is made of MONAI's transforms, which are not read here: "
        f"see {folder / CONFIGS[0]}, and open the table with a transform that does the same (--size, "
        "--value-range, --mean, --std)"
    )


SOURCE = ModelSource(_factory, preprocessing=_preprocessing, stored=_stored)
