"""``hf:FOLDER``: classifiers that ``save_pretrained`` of transformers wrote, from the folder alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shortcutscope.errors import InputError
from shortcutscope.extras import require
from shortcutscope.models.failures import first_line
from shortcutscope.models.preprocessing import MEND, Preprocessing, require_same
from shortcutscope.models.sources.source import Factory, ModelSource

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
#: Of Pillow's numbers of its filters.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
#: Nothing is asked of a hub, and no code of a folder is run.
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def _transformers() -> Any:
    return require("transformers", "hf", "a model of Hugging Face")


def _folder(name: str, *needed: str) -> Path:
    """The folder that a name is, with one of the files that are needed."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"hf:{name}: no such folder. Give one that save_pretrained of transformers wrote; nothing is "
            "downloaded"
        )
    if not any((folder / file).is_file() for file in needed):
        pickled = (folder / "pytorch_model.bin").is_file() and needed == WEIGHTS
        raise InputError(
            f"{folder} has no {needed[0]}"
            + (
                ": its weights are pickled (pytorch_model.bin), and unpickling can run any code. Load them "
                "with transformers where you trust them, and save_pretrained() into a new folder"
                if pickled
                else "; give the folder that save_pretrained of transformers wrote"
            )
        )
    return folder


def _factory(name: str) -> Factory:
    folder = _folder(name, "config.json")

    def build(num_classes: int | None = None, **arguments: object) -> Any:
        if "trust_remote_code" in arguments:
            raise InputError("trust_remote_code: code that lies in a folder of a model is not run")
        _folder(name, *WEIGHTS)
        auto = _transformers().AutoModelForImageClassification
        with _quiet():
            model, report = auto.from_pretrained(
                str(folder),
                **_LOCAL,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **arguments,
            )
        _require_all(folder, report)
        if num_classes not in (None, model.config.num_labels):
            raise InputError(
                f"{folder} holds a classifier of {model.config.num_labels} classes, not {num_classes}: leave "
                "num_classes (--num-classes) out"
            )
        return model

    return build


def open_image_text_model(name: str) -> tuple[nn.Module, Callable[..., Any]]:
    """A model of images and texts, such as CLIP or SigLIP, and its processor, from the folder alone.

    Raises
    ------
    InputError
        No folder that ``save_pretrained`` wrote, without its processor, or with pickled weights.
    """
    folder = _folder(name, *WEIGHTS)
    transformers = _transformers()
    try:
        with _quiet():
            processor = transformers.AutoProcessor.from_pretrained(str(folder), **_LOCAL)
            model, report = transformers.AutoModel.from_pretrained(
                str(folder), **_LOCAL, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # another library's code
        raise InputError(
            f"{folder} cannot be opened as a model of images and texts: {first_line(error)}. Give the folder "
            "into which save_pretrained() wrote the model and its processor"
        ) from error
    _require_all(folder, report, "model of images and texts")
    return model, processor


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no advice of transformers while it loads: what matters is checked here."""
    logging = _transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _require_all(folder: Path, report: Mapping[str, Any], kind: str = "...ForImageClassification") -> None:
    """Refuse a folder whose weights are not all of the network: the others would be random."""
    lacking = [*map(str, report["missing_keys"]), *(str(key[0]) for key in report["mismatched_keys"])]
    if lacking:
        raise InputError(
            f"{folder} lacks {len(lacking)} weights of the network, such as {sorted(lacking)[0]}, which "
            "would be random: it was saved without its last layer, or as another kind of model. Give the "
            f"folder of a trained {kind}"
        )


def _preprocessing(name: str, weights: str | None) -> Preprocessing:
    """As the folder's image processor does it."""
    folder = _folder(name, "preprocessor_config.json", "processor_config.json")
    transformers = _transformers()
    try:
        with _quiet():
            processor = transformers.AutoImageProcessor.from_pretrained(str(folder), **_LOCAL)
    except Exception as error:  # another library's code
        raise InputError(f"the image processor of {folder} cannot be loaded: {error}. {MEND}") from error

    def theirs(picture: Any) -> Tensor:
        made: Tensor = processor(images=picture, return_tensors="pt")["pixel_values"][0]
        return made

    refused = InputError()
    for own in _meanings(f"hf:{folder.name}", processor):
        try:
            return require_same(own, theirs)
        except InputError as error:
            refused = error if not refused.args else refused
    raise refused


def _meanings(origin: str, processor: Any) -> Iterator[Preprocessing]:
    """What the settings of a processor may mean, the plain meaning first; the caller tries which does."""

    def setting(name: str, default: Any = None) -> Any:
        return getattr(processor, name, default)

    scale = 255 * float(setting("rescale_factor", 1 / 255)) if setting("do_rescale") else 255.0
    low = -1.0 if setting("rescale_offset") else 0.0
    size = dict(setting("size") or {}) if setting("do_resize") else {}
    cut = dict(setting("crop_size") or {}) if setting("do_center_crop") else {}
    mean, std = setting("image_mean"), setting("image_std")
    normalized = bool(setting("do_normalize")) and mean is not None and std is not None
    own = Preprocessing(
        origin,
        "RGB",
        (low, low + scale),
        size.get("shortest_edge") or _pair(size),
        _FILTERS.get(int(setting("resample") if setting("resample") is not None else 2), "bilinear"),
        _pair(cut),
        crop_rounded=False,
        mean=_channels(mean) if normalized else None,
        std=_channels(std) if normalized else None,
        bgr=bool(setting("do_flip_channel_order")),
    )
    yield own
    yield replace(own, mode="L")
    if isinstance(own.resize, int):
        side = own.resize
        yield replace(own, resize=int(side * 256 / 224))  # LeViT
        share = setting("crop_pct")  # ConvNeXt
        if share is not None and side < 384:
            yield replace(own, resize=int(side / share), crop=(side, side))
        yield replace(own, resize=(side, side))
    if own.std is not None and setting("include_top"):  # EfficientNet divides twice
        yield replace(own, std=tuple(value**2 for value in own.std))


def _channels(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values)) if isinstance(values, list | tuple) else (float(values),)


def _pair(size: Mapping[str, int | None]) -> tuple[int, int] | None:
    height, width = size.get("height"), size.get("width")
    return None if height is None or width is None else (int(height), int(width))


SOURCE = ModelSource(_factory, preprocessing=_preprocessing, complete=True)
