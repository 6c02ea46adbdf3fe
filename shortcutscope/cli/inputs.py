"""From the arguments of the command line to a table and a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortcutscope.cli.options import DataOptions, HeadOptions, ModelOptions
from shortcutscope.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from shortcutscope.data.manifests.labels import LabelChoice
    from shortcutscope.data.table import ImageTable
    from shortcutscope.models.heads.head import Head

MANIFESTS = (".csv", ".tsv", ".parquet")


#: Lowest and highest value of an image where nothing else is said.
VALUE_RANGE = (0.0, 1.0)

#: Options that name the parts of a manifest, which a data set knows for itself.
OF_MANIFESTS = (
    "image", "label", "group", "split", "sample_id", "mask", "root", "labels_in_cells", "uncertain", "blank",
)  # fmt: skip


def _reading(options: DataOptions) -> dict[str, Any]:
    """How images are read, whatever lists them."""
    reading: dict[str, Any] = {
        "size": options.size,
        "mode": options.mode,
        "transform": _normalization(options),
        "max_pixels": options.max_pixels,
    }
    if options.value_range is not None:
        reading["value_range"] = options.value_range
    if options.missing is not None:
        reading["missing"] = _names(options.missing)
    if options.window != "file":
        reading["window"] = window_choice(options.window)
    if options.dims is not None:
        reading["dims"] = options.dims
    if options.classes is not None:
        reading["classes"] = _names(options.classes)
    if options.preprocessing not in ("auto", "none", "own"):
        reading |= _as_a_model_does(options)
    return reading


def _as_a_model_does(options: DataOptions) -> dict[str, Any]:
    """How the library of a model reads images; what is said by other options takes its place."""
    from shortcutscope.models.loading import model_preprocessing

    own = model_preprocessing(options.preprocessing)
    if options.value_range not in (None, own.value_range):
        if options.mean is None and own.mean is not None:
            low, high = own.value_range
            raise InputError(
                f"--value-range: the mean and std of {own.origin} are those of values from {low:g} to "
                f"{high:g}; give --mean and --std too, or leave it out"
            )
        own = replace(own, value_range=options.value_range)
    said = _normalization(options)
    if said is not None:
        own = replace(own, mean=said.mean, std=said.std)
    if options.size is not None:
        own = replace(own, resize=None, crop=None)
    if options.mode is not None:
        own = replace(own, mode=options.mode)
    return own.options()


def resolved(options: DataOptions, model: str, weights: Path | None) -> DataOptions:
    """The same, with the name of the model whose preprocessing it is instead of ``own`` and ``auto``.

    Parameters
    ----------
    options
        As typed.
    model, weights
        MODEL, and what is loaded into it.

    Raises
    ------
    InputError
        Its preprocessing is not known, and nothing was said of how images are read.
    """
    from shortcutscope.models.loading import comes_with_preprocessing, model_preprocessing

    choice = published(weights)
    name = f"{model}@{choice}" if choice else model
    if options.preprocessing == "own":
        model_preprocessing(name)
        return replace(options, preprocessing=name)
    if options.preprocessing != "auto" or not comes_with_preprocessing(model, choice or weights):
        return options
    try:
        model_preprocessing(name)
    except InputError as error:
        said = (options.size, options.mode, options.mean)
        if said == (None, None, None):
            raise InputError(
                f"{error}; or, if images are to be given as they are, --preprocessing none"
            ) from error
        return replace(options, preprocessing="none")
    return replace(options, preprocessing=name)


def published(weights: Path | None) -> str | None:
    """What ``--weights`` says, where it names published weights and no file."""
    text = str(weights)
    return text if weights is not None and text.isidentifier() and not weights.exists() else None


def open_table(data: str | Path, options: DataOptions) -> ImageTable:
    """Open DATA: a manifest, an image folder, a MedMNIST npz, or a public data set.

    A data set is ``NAME:ROOT``, with a name of :data:`shortcutscope.data.medical.DATASETS` and the folder
    that it lies in: ``chexpert:/data/CheXpert-v1.0-small``.

    Raises
    ------
    InputError
        When DATA is none of them, or cannot be used as given.
    """
    table = _opened(data, options)
    return table if options.only_label is None else table.for_label(options.only_label)


def _opened(data: str | Path, options: DataOptions) -> ImageTable:
    """DATA with all its labels."""
    from shortcutscope.data.medical import DATASETS
    from shortcutscope.data.table import ImageTable

    reading = _reading(options)
    name, colon, root = str(data).partition(":")
    if colon and name in DATASETS:
        return _open_dataset(name, root, options, reading)
    if options.data_options:
        raise InputError(
            f"--data-option is for data sets, and {str(data)!r} is none; give NAME:ROOT, NAME one of "
            f"{', '.join(DATASETS)}"
        )
    data = Path(data)
    kind = data.suffix.lower()
    if not data.exists():
        raise InputError(f"no such file or folder: {str(data)!r}")
    if data.is_dir():
        return ImageTable.from_folder(data, **reading)
    if kind == ".npz":
        return ImageTable.from_medmnist(data, **reading)
    if kind in MANIFESTS:
        return ImageTable.from_csv(
            data,
            image=options.image,
            label=label_choice(options),
            sample_id=options.sample_id,
            group=options.group,
            split=options.split,
            mask=options.mask,
            root=options.root,
            **reading,
        )
    raise InputError(
        f"{str(data)!r} is no DATA that can be read; allowed are a manifest ({', '.join(MANIFESTS)}), "
        "a folder with one sub-folder of images per class, a MedMNIST .npz, and NAME:ROOT of a data set "
        f"({', '.join(DATASETS)})"
    )


def label_choice(options: DataOptions) -> LabelChoice:
    """One column of classes, or several labels.

    Raises
    ------
    InputError
        For an option that only several labels have.
    """
    from shortcutscope.data.manifests.labels import Labels

    conventions: dict[str, Any] = {"uncertain": options.uncertain, "blank": options.blank}
    if options.labels_in_cells is not None:
        names = None if options.labels_in_cells == "all" else _names(options.labels_in_cells)
        return Labels(options.label, names, **conventions)
    columns = _names(options.label)
    if len(columns) > 1:
        return Labels(columns, **conventions)
    idle = [name for name, word in conventions.items() if word != "ignore"]
    if idle:
        raise InputError(
            f"--{idle[0]} is for several labels, and --label names one column; leave it out, or name several "
            "columns, comma-separated (or --labels-in-cells)"
        )
    return options.label


def _open_dataset(name: str, root: str, options: DataOptions, reading: dict[str, Any]) -> ImageTable:
    from shortcutscope.data.medical import open_dataset

    default = {field.name: field.default for field in fields(options)}
    needless = [option for option in OF_MANIFESTS if getattr(options, option) != default[option]]
    if needless:
        raise InputError(
            f"--{needless[0].replace('_', '-')} is for manifests; {name} knows its own columns and files"
        )
    given = named_values(options.data_options or (), "--data-option")
    twice = sorted(set(given) & {*reading, "value_range"})
    if twice:
        raise InputError(f"--data-option {twice[0]}: give --{twice[0].replace('_', '-')} instead")
    chosen = {
        key: value
        for key, value in reading.items()
        if key == "window" or (value is not None and value != default.get(key))
    }
    # A shell does not know the ~ behind a colon.
    return open_dataset(name, Path(root).expanduser(), **given, **chosen)


def named_values(texts: Sequence[str], option: str) -> dict[str, Any]:
    """Values of a repeated option ``name=value``, each as JSON where it is such, and as text else.

    Parameters
    ----------
    texts
        As they are given.
    option
        Its name, for the error.

    Raises
    ------
    InputError
        For a text without ``=``, and a name given twice.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InputError(f"{option} {text!r}: give name=value, such as {option} seed=2")
        if name in values:
            raise InputError(f"{option} {name} is given twice")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return values


def with_roles(table: ImageTable, train_split: str | None, audit_split: str | None) -> ImageTable:
    """Keep the splits that are audited, and the one that the model was trained on under the name ``train``.

    Parameters
    ----------
    table
        All rows.
    train_split
        Name of the split that the model was trained on, where it is not called train or training.
    audit_split
        Comma-separated names of the splits to audit; None for all but the training split.

    Raises
    ------
    InputError
        For a split that the table does not have.
    """
    present = sorted(set(table.frame["split"].astype(str)))
    audited = _names(audit_split)
    for name in [*audited, *([train_split] if train_split else [])]:
        if name not in present:
            raise InputError(f"no split {name!r}; the column has {', '.join(map(repr, present))}")
    training = {train_split} if train_split else {n for n in present if n.lower() in ("train", "training")}
    if train_split:
        if train_split in audited:
            raise InputError(
                f"split {train_split!r} is given as training and to audit; say --trained-on-these"
            )
        renamed = table.frame["split"].astype(str).replace({train_split: "train"})
        table = table.with_columns(split=renamed.to_numpy())
        training = {"train"}
    if audited:
        keep = table.frame["split"].astype(str).isin([*audited, *training]).to_numpy()
        table = table.take(keep)
    return table


def open_training_columns(
    path: Path, options: DataOptions, table: ImageTable, train_split: str | None = None
) -> ImageTable:
    """Open a manifest of the training samples for its columns; its images may be absent.

    Those that are there can be read as the audited ones are, for what is measured of pictures.

    Parameters
    ----------
    path
        The manifest.
    options
        How DATA is read.
    table
        The audited samples.
    train_split
        Name of the training split, where it is not called train or training.

    Raises
    ------
    InputError
        When the manifest cannot be read or lacks the label.
    """
    from shortcutscope.data.manifests.columns import Roles
    from shortcutscope.data.manifests.labels import as_labels
    from shortcutscope.data.sources import PathSource
    from shortcutscope.data.unread import unread_table

    reading = table.source.reading if isinstance(table.source, PathSource) else None
    value_range = options.value_range or VALUE_RANGE
    made = unread_table(
        path,
        image=options.image,
        roles=Roles(options.label, options.sample_id, options.group, options.split),
        mask=options.mask,
        root=options.root,
        classes=table.classes,
        value_range=value_range if reading is None else table.value_range,
        missing=_names(options.missing),
        labels=as_labels(label_choice(options)),
        reading=reading,
    )
    if options.only_label is not None:
        made = made.for_label(options.only_label)
    splits = made.frame["split"].astype(str)
    if train_split is None or train_split not in set(splits):
        return made
    return made.with_columns(split=splits.replace({train_split: "train"}).to_numpy())


def open_model(spec: str, options: ModelOptions, *, trained: bool = False) -> nn.Module:
    """Load MODEL; where a trained one is needed, one without weights only if that is asked for.

    Raises
    ------
    InputError, ModelError
        When the specification, the arguments or the weights cannot be used.
    """
    from shortcutscope.models.loading import has_random_weights, load_model

    keywords = options.model_kwargs
    try:
        arguments = json.loads(keywords) if keywords else {}
    except json.JSONDecodeError as error:
        raise InputError(
            f"--model-kwargs {keywords!r} is not JSON ({error}); for example '{{\"width\": 32}}'"
        ) from error
    if not isinstance(arguments, dict):
        raise InputError(
            f"--model-kwargs must be a JSON object, not {keywords!r}; for example '{{\"width\": 32}}'"
        )
    loaded = load_model(
        spec,
        published(options.weights) or options.weights,
        num_classes=options.num_classes,
        trust=options.trust,
        weights_key=options.weights_key,
        arguments=arguments,
    )
    if trained and has_random_weights(loaded) and not options.random_weights:
        raise InputError(
            f"no weights are given for {spec}, so that they are random: name a checkpoint with --weights, or "
            "published ones (--weights DEFAULT); --random-weights, if a network that was not trained is meant"
        )
    return loaded


def head_of(options: HeadOptions) -> Head:
    """The head that the options ask for."""
    from shortcutscope.models.heads.head import Head

    names = None if options.output_names is None else tuple(_names(options.output_names))
    link: Any = options.link
    ties = None
    if options.outputs is not None:
        pairs = named_texts(_names(options.outputs), "--outputs", "Edema=3,Mass=mass")
        ties = {label: _place(output) for label, output in pairs.items()}
    return Head(_place(options.output), _place(options.label_output), names, link, labels=ties)


def _place(text: str | None) -> str | int | None:
    """A position where it is a number, else a name."""
    return int(text) if text is not None and text.isdigit() else text


def layer_choice(text: str) -> str | list[str]:
    """``blocks``, ``all``, or a comma-separated list of names and patterns."""
    names = _names(text)
    return text if text in ("blocks", "all") or not names else names


def concept_choice(text: str | None) -> list[str] | None:
    """Comma-separated columns; None for all of them."""
    return _names(text) or None


def present_choice(texts: Sequence[str] | None) -> dict[str, str]:
    """Column to the value that means present, of ``--present COLUMN=VALUE``.

    Raises
    ------
    InputError
        For a text without ``=``, and a column given twice.
    """
    return named_texts(texts or (), "--present", "collimation=frame")


def named_texts(texts: Sequence[str], option: str, example: str) -> dict[str, str]:
    """Texts by name of ``name=text``.

    Raises
    ------
    InputError
        For a text without ``=``, and a name given twice.
    """
    said: dict[str, str] = {}
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not (sign and name and value):
            raise InputError(f"{option} {text!r}: give COLUMN=VALUE, such as {option} {example}")
        if name in said:
            raise InputError(f"{option} {name} is given twice; name one value")
        said[name] = value
    return said


def target_choice(text: str) -> str | int:
    """``predicted``, ``label`` or the number of a class."""
    return int(text) if text.lstrip("-").isdigit() else text


def window_choice(text: str) -> Any:
    """``file``, ``bits``, None for ``none``, or centre and width of ``40,400``."""
    from shortcutscope.data.readers.dicom_window import checked_window

    if text == "none":
        return None
    try:
        return checked_window(text if text in ("file", "bits") else _numbers(text, "--window"))
    except InputError as error:
        raise InputError(
            f"--window {text!r} is not allowed; give file, bits, none, or centre and width: 40,400"
        ) from error


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _normalization(options: DataOptions) -> Any:
    from shortcutscope.data.table import Normalize

    if options.mean is None and options.std is None:
        return None
    if options.mean is None or options.std is None:
        raise InputError(
            "--mean and --std go together; give both, one number or one per channel: .485,.456,.406"
        )
    return Normalize(_numbers(options.mean, "--mean"), _numbers(options.std, "--std"))


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in _names(text))
    except ValueError as error:
        raise InputError(f"{option} {text!r} is not a number or a comma-separated list of numbers") from error
