"""A debiased network with what is known of how it came to be, on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file, save
from torch import nn

from shortcutscope._version import __version__
from shortcutscope.debias.clarc.projection import Projected
from shortcutscope.disk import checksum, inside, intact
from shortcutscope.errors import InputError
from shortcutscope.files import read_frame, read_object, slug, write_atomically, write_frame, write_json
from shortcutscope.models.copying import copied
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.show import parts
from shortcutscope.show.isolation import sheet
from shortcutscope.types import JSON, Record

MODEL, EDITS, METRICS = "model.safetensors", "edits.safetensors", "metrics.json"
GUIDED = "guided.parquet"


@dataclass(frozen=True, eq=False, repr=False)
class Student:
    """The result of a recipe.

    Attributes
    ----------
    recipe
        Its name, and of how many findings, where several were unlearnt together.
    model
        The network, in evaluation mode. Of recipes that train nothing it is a wrapper around the biased
        network, whose ``remove()`` gives that one back.
    notes
        Choices that were made on the way, and fallbacks with their reason.
    record
        What ``metrics.json`` holds: recipe, options, steps, samples, fingerprints, version, details.
    history
        One row per logged step of the last training.
    path
        Where it was saved; None if it was not.
    guided
        Samples that it was trained on and that guided it: ``role`` (``"train"``, ``"clean"``, ``"held_out"``,
        ``"validation"``), ``sample_id`` and ``group``, which is missing where patients are not known. None
        where that was not recorded.

    Examples
    --------
    >>> student = ss.debias(model, train, audit=audit["tag"], recipe="group-balanced-ce")  # doctest: +SKIP
    >>> student.details  # doctest: +SKIP
    >>> ss.Student.open(student.save("student"), make_network()).recipe  # doctest: +SKIP
    'group-balanced-ce'
    """

    recipe: str
    model: nn.Module
    notes: tuple[str, ...] = ()
    record: JSON = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    path: Path | None = None
    guided: pd.DataFrame | None = None

    def save(self, folder: str | Path) -> Path:
        """Write ``model.safetensors`` (of a wrapper ``edits.safetensors``), ``guided.parquet``,
        ``metrics.json``.

        The metrics are written last: a folder without them is not whole.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights_file = folder / (EDITS if isinstance(self.model, Projected) else MODEL)
        if isinstance(self.model, Projected):
            self.model.save(weights_file)
        else:
            tensors = {name: value.detach().cpu().contiguous() for name, value in self._tensors().items()}
            write_atomically(weights_file, lambda file: file.write(save(tensors)))
        checksums = {weights_file.name: checksum(weights_file)}
        if self.guided is not None:
            write_frame(folder / GUIDED, self.guided)
            checksums[GUIDED] = checksum(folder / GUIDED)
        about = {"recipe": self.recipe, "notes": list(self.notes), "history": list(self.history)}
        write_json(folder / METRICS, {**self.record, **about, "sha256": checksums})
        return folder

    def _tensors(self) -> Record:
        state = self.model.state_dict()
        # Shared tensors (tied weights) are written under each of their names.
        return {name: value.clone() for name, value in state.items()}

    @classmethod
    def open(cls, folder: str | Path, model: nn.Module) -> Student:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        folder
            Such as ``students/<recipe>`` of a run.
        model
            A network of the same architecture, which is copied; of a wrapper the very network around which
            it is put.

        Raises
        ------
        InputError
            When the folder is not whole, or the weights do not fit the network.
        """
        folder = Path(folder)
        record = read_object(folder / METRICS)
        checksums = dict(record.pop("sha256", None) or {})
        for name, digest in checksums.items():
            if not inside(folder, name).exists() or checksum(folder / name) != digest:
                raise InputError(
                    f"{folder / name} is missing or damaged: its checksum is not that of {METRICS}. Run the "
                    "same debias command again"
                )
        if (folder / EDITS).exists():
            if record.get("base") not in (None, model_fingerprint(model)):
                raise InputError(f"{folder} edits another network than this one: the weights differ")
            network: nn.Module = Projected.open(folder / EDITS, model)
        else:
            network = copied(model)
            with intact(folder / MODEL, "a network's weights", "run the same debias command again"):
                weights = load_file(folder / MODEL)
            try:
                network.load_state_dict(weights)
            except RuntimeError as error:
                raise InputError(
                    f"{folder / MODEL} does not fit {type(model).__name__}: {error}. Give a network of the "
                    "architecture that was trained"
                ) from error
            network.eval()
        with intact(folder / METRICS, "a student's record", "run the same debias command again"):
            notes, history = tuple(record.pop("notes", ())), tuple(record.pop("history", ()))
            guided = read_frame(folder / GUIDED) if GUIDED in checksums else None
            return cls(record.pop("recipe"), network, notes, record, history, folder, guided)

    @property
    def details(self) -> Record:
        """Figures of the recipe."""
        return dict(self.record.get("details", {}))

    def __repr__(self) -> str:
        where = f", {str(self.path)!r}" if self.path else ""
        return "\n".join([f"Student({self.recipe!r}{where})", *(f"  {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        facts = {
            "steps": self.record.get("steps"),
            "biased samples": self.record.get("n_train"),
            "clean samples": self.record.get("n_clean"),
            "saved in": self.path,
        }
        advice = self.record.get("recommendation") or {}
        reasons = {
            "why for this data": advice.get("why_for_this_data"),
            "what it rests on, measured on other data": advice.get("rests_on"),
        }
        plain_details = {
            name.replace("_", " "): f"{value:.3g}" if isinstance(value, float) else value
            for name, value in self.details.items()
            if isinstance(value, int | float | str)
        }
        return sheet(
            parts.heading(f"Student: {self.recipe}"),
            parts.facts(facts),
            parts.facts(reasons),
            parts.notes(self.notes),
            parts.curves(self.history, "step"),
            parts.facts(plain_details),
            plain=repr(self),
        )


def version() -> str:
    """Of the package, for the record."""
    return __version__


def student_folder(run: Path, recipe: str) -> Path:
    """Where a run keeps the student of a recipe."""
    return run / "students" / slug(recipe)
