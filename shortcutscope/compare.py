"""Before and after: what a recipe changed in a network, for better and for worse.

Everything is measured on the same held-out samples, and every difference on the same resamples of their
patients. What is fitted (probes, directions, verdicts) is fitted anew in each network's own latent space.
What got worse stands first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from shortcutscope.annotate.maskset import MaskSet
from shortcutscope.audit import Audit
from shortcutscope.comparison.estimate import COLUMNS, Estimate, Key, paired_rows
from shortcutscope.comparison.paired import (
    MaskOf,
    artifact_relevance,
    chosen_masks,
    twin_flips,
    twins_of,
)
from shortcutscope.comparison.performance import Samples, Scores, logits_of, performance, subgroups
from shortcutscope.comparison.question import BEFORE, Question, check_networks, named_networks, pose
from shortcutscope.comparison.space import Space, matching_layers, measure_space
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.finding import Finding
from shortcutscope.models.frozen import frozen
from shortcutscope.models.loading import model_fingerprint
from shortcutscope.probes.concept import Concept
from shortcutscope.rundir import read_json, slug, to_json, write_json

FORMAT = 1
FILE = "comparison.json"
#: Verdicts that say that the output follows the concept, the graver one first.
GRAVE = ("shortcut", "encoded and used, not associated")


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """What changed from the biased network to each of the others.

    Attributes
    ----------
    concept
        Name of the concept that the networks are compared by.
    frame
        One row per network, table and metric, those that got worse first: ``value`` with its interval
        (``low``, ``high``; 95 %, by patient), ``change`` against the biased network with the interval of the
        paired difference, and ``better``: True or False where that interval leaves out zero, else None. Of a
        metric that is best at zero (``delta_tpr``, ``use``) the change is that of its distance from zero.
        ``availability`` has no better or worse: what is encoded need not be used. ``part`` and ``detail`` say
        what a row is about, ``note`` why something is not measurable.
    networks
        Per network its name, class, fingerprint, number of parameters, verdict on the concept, and layers.
    tables
        Per table its name, number of samples and patients, and samples per group of label and concept.
    settings
        What was asked for.
    notes
        Choices that a reader must know.
    """

    concept: str
    frame: pd.DataFrame = field(repr=False)
    networks: tuple[dict[str, Any], ...]
    tables: tuple[dict[str, Any], ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> pd.DataFrame:
        """The rows that got worse, the largest change first."""
        return self.frame[self.frame["better"].eq(False)].reset_index(drop=True)

    @property
    def better(self) -> pd.DataFrame:
        """The rows that got better, the largest change first."""
        rows = self.frame[self.frame["better"].eq(True)]
        return rows.sort_values("change", key=_size, ascending=False, kind="stable").reset_index(drop=True)

    @property
    def compared(self) -> int:
        """Changes that were tested: those with an interval and a direction."""
        judged = self.frame["change_low"].notna() & self.frame["metric"].ne("availability")
        return int(judged.sum())

    def to_frame(self) -> pd.DataFrame:
        """A copy of `frame`, what got worse first."""
        return self.frame.copy()

    def to_dict(self) -> dict[str, Any]:
        """The comparison as it stands in ``comparison.json``: one entry per network, with its rows."""
        rows = {n["name"]: self.frame[self.frame["network"] == n["name"]] for n in self.networks}
        kept = [c for c in COLUMNS if c != "network"]
        return {
            "format": FORMAT,
            "concept": self.concept,
            "networks": [n | {"rows": rows[n["name"]][kept].to_dict("records")} for n in self.networks],
            "tables": list(self.tables),
            "settings": dict(self.settings),
            "notes": list(self.notes),
        }

    def save(self, path: str | Path) -> Path:
        """Write ``comparison.json``, whole or not at all, to a file or into a folder."""
        goal = _file(path)
        write_json(goal, self.to_dict())
        return goal

    @classmethod
    def open(cls, path: str | Path) -> Comparison:
        """Read a comparison from its file or folder.

        Raises
        ------
        InputError
            When there is none, or it is not one of this version.
        """
        goal = _file(path)
        kept = read_json(goal)
        if not isinstance(kept, dict) or kept.get("format") != FORMAT:
            raise InputError(f"{goal} is no comparison of format {FORMAT}: compare the networks again")
        rows = [{"network": n["name"], **row} for n in kept["networks"] for row in n["rows"]]
        networks = tuple({k: v for k, v in n.items() if k != "rows"} for n in kept["networks"])
        notes = tuple(kept["notes"])
        return cls(kept["concept"], _tidy(rows), networks, tuple(kept["tables"]), kept["settings"], notes)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML file."""
        from shortcutscope.report.comparison import write_comparison

        return write_comparison(self, Path(path))

    def _repr_html_(self) -> str:
        from shortcutscope.report.comparison import render_comparison

        return render_comparison(self, page=False)

    def __repr__(self) -> str:
        lines = [
            f"Comparison by {self.concept!r}: {len(self.worse)} of {self.compared} changes for the worse"
        ]
        for row in self.worse.to_dict("records"):
            what = f"{row['metric']} {row['detail']}".strip()
            lines.append(f"  worse: {row['network']}, {row['table']}: {what} {row['change']:+.3f}")
        for network in self.networks:
            lines.append(f"  {network['name']}: {network['verdict'] or 'not audited'}")
        return "\n".join(lines)


def compare(
    before: nn.Module | Audit,
    after: nn.Module | Mapping[str, nn.Module],
    data: ImageTable | Mapping[str, ImageTable],
    *,
    model: nn.Module | None = None,
    concept: str | Concept | None = None,
    positive: int | None = None,
    train: ImageTable | None = None,
    twins: bool = True,
    masks: MaskSet | MaskOf | None = None,
    attribution: str = "gradient_x_input",
    refit: bool = True,
    others: bool | Sequence[str | Concept] = True,
    layers: Any = "blocks",
    task: str = "auto",
    output: str | int | None = None,
    n_permutations: int = 200,
    n_bootstrap: int = 300,
    seed: int = 0,
    out: str | Path | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> Comparison:
    """Compare networks with the biased one they come from.

    Parameters
    ----------
    before
        The biased network, or its audit; then give the network as `model`.
    after
        The new network, or several by name (recipe to network). All are given back as they were.
    data
        Held-out samples: one table, or several by name, as `shortcutscope.data.planting.triad` makes them.
        Rows of the training split are left out.
    concept
        A column of 0, 1 and missing, or a Concept by sample id. By default the audit's costliest shortcut, or
        the only column that can be one.
    positive
        Class that margins refer to; by default as in an audit.
    train
        Training samples: for the association, and to refuse samples and patients that are trained on.
    twins
        Whether to count the predictions that the artifact alone flips, where it is planted.
    masks
        Masks of the artifact in the size of the images, for the relevance inside them: a MaskSet, or a
        function from a sample's id to its mask or None. By default those of planted artifacts.
    attribution
        Method of that relevance, see `shortcutscope.attribution.attribute.attribute`.
    refit
        Whether to audit every network in its own latent space: availability, use, verdicts.
    others
        Whether to follow every other metadata column, or which: accuracy and AUROC of its subgroups, and the
        verdict on it.
    layers, task, output, n_permutations, device, batch_size
        As in `shortcutscope.audit.audit`.
    n_bootstrap, seed
        Resamples of the patients; seed of them and of everything drawn.
    out
        Folder for ``comparison.json`` and the audits; by default nothing is kept but the result.
    progress
        Show bars.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError, ModelError, StaleRunError
        Before any long work, with what was given, what is allowed and what to do.
    """
    biased, finding = _biased(before, model, concept)
    networks = {BEFORE: biased, **named_networks(after)}
    if n_bootstrap < 1:
        raise InputError(f"n_bootstrap={n_bootstrap}; at least 1 resample is needed, 300 are usual")
    question = pose(data, concept, finding, train=train, positive=positive, others=others)
    first = next(iter(question.tables.values()))
    check_networks(networks, first, device=device, output=output, task=task)
    running: dict[str, Any] = {"device": device, "output": output, "batch_size": batch_size}
    samples = {
        name: Samples.of(
            name,
            table,
            question.concept[name],
            question.positive,
            against=question.against,
            n=n_bootstrap,
            seed=seed,
        )
        for name, table in question.tables.items()
    }
    found_masks = {n: chosen_masks(t, samples[n], masks, seed) for n, t in question.tables.items()}
    rows: list[dict[str, Any]] = []
    about: list[dict[str, Any]] = []
    references: dict[str, dict[Key, Estimate]] = {}
    first_space: Space | None = None
    with _workplace(out) as folder:
        bar = tqdm(networks.items(), desc="comparing", unit="network", disable=not progress)
        for name, network in bar:
            seen: dict[str, Tensor] = {}
            space = None
            if refit:
                space = _refit(
                    network, question, folder / slug(name), layers, task, n_permutations, n_bootstrap, seed,
                    progress, running,
                )  # fmt: skip
                first_space = first_space or space
            renamed = matching_layers(first_space.layers, space.layers) if space and first_space else {}
            for place, table in question.tables.items():
                here = samples[place]
                scores = Scores.of(_logits(seen, network, table, running), task, question.positive)
                measured = list(performance(here, scores))
                if twins:
                    pair = twins_of(table, question.name)
                    both = pair and tuple(_logits(seen, network, twin, running) for twin in pair)
                    measured.append(twin_flips(here, both or None, task))  # type: ignore[arg-type]
                with frozen(network, device) as borrowed:
                    measured.append(
                        artifact_relevance(
                            borrowed, table, here, *found_masks[place],
                            method=attribution, batch_size=batch_size, task=task, output=output,
                        )
                    )  # fmt: skip
                if place == question.main:
                    measured += subgroups(here, scores, list(question.others), table.frame["sample_id"])
                    measured += space.estimates if space else ()
                reference = references.get(place) if name != BEFORE else None
                rows += paired_rows(name, place, measured, reference, renamed)
                if name == BEFORE:
                    references[place] = {one.key: one for one in measured}
            if space is not None and first_space is not None:
                rows += _verdict_rows(name, question.main, space, first_space)
            about.append(_describe(name, network, question, space, renamed))
        made = Comparison(
            question.name,
            _tidy(rows),
            tuple(to_json(about)),
            tuple(to_json([_describe_table(samples[t]) for t in question.tables])),
            to_json(
                {
                    "positive": question.positive,
                    "against": question.against,
                    "main": question.main,
                    "others": [c.name for c in question.others],
                    "attribution": attribution,
                    "n_bootstrap": n_bootstrap,
                    "seed": seed,
                    "refit": refit,
                }
            ),
            question.notes,
        )
        if out is not None:
            made.save(Path(out) / FILE)
    return made


def _biased(
    before: nn.Module | Audit, model: nn.Module | None, concept: str | Concept | None
) -> tuple[nn.Module, Finding | None]:
    """The biased network, and the finding that its audit has on the concept."""
    if isinstance(before, nn.Module):
        if model is not None:
            raise InputError("before is a network already; model= goes with an audit")
        return before, None
    if not isinstance(before, Audit):
        raise InputError(f"before is {type(before).__name__}; give the biased network or its Audit")
    if model is None:
        raise InputError("before is an audit, which holds no network: give the audited network as model=")
    audited = before.run.get("model", {}).get("fingerprint")
    if audited != model_fingerprint(model):
        raise InputError(
            f"model= is not the network that was audited in {before.path}: its weights have another "
            "fingerprint. Give that one, or the network itself as before"
        )
    if isinstance(concept, Concept):
        return model, None
    if concept is None:
        if not before.shortcuts:
            raise InputError(
                f"the audit in {before.path} found no shortcut; name the concept with concept=..."
            )
        return model, before.shortcuts[0]
    return model, next((f for f in before.findings if f.name == concept), None)


def _refit(
    network: nn.Module,
    question: Question,
    folder: Path,
    layers: Any,
    task: str,
    n_permutations: int,
    n_bootstrap: int,
    seed: int,
    progress: bool,
    running: Mapping[str, Any],
) -> Space:
    return measure_space(
        network,
        question,
        folder,
        n_bootstrap=n_bootstrap,
        seed=seed,
        layers=layers,
        task=task,
        n_permutations=n_permutations,
        progress=progress,
        **running,
    )


def _logits(
    seen: dict[str, Tensor], network: nn.Module, table: ImageTable, running: Mapping[str, Any]
) -> Tensor:
    """Scores of a table, run once where several tables have the same images (twins of a triad)."""
    key = f"{table.fingerprint()}-{table.transform_fingerprint()}"
    if key not in seen:
        seen[key] = logits_of(network, table, **running)
    return seen[key]


@contextmanager
def _workplace(out: str | Path | None) -> Iterator[Path]:
    """Where the audits of the networks are written."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="shortcutscope-") as folder:
            yield Path(folder)
        return
    path = Path(out)
    if path.is_file():
        raise InputError(f"out={path} is a file: give a folder")
    yield path / "comparison"


def _verdict_rows(name: str, table: str, space: Space, first: Space) -> Iterator[dict[str, Any]]:
    """The verdict on every concept; worse where the output follows it now and did not before."""
    nan = float("nan")
    for finding in space.audit.findings:
        old, new = first.audit[finding.name].verdict, finding.verdict
        tested = "not testable" not in (old, new)
        gravity = [GRAVE.index(v) if v in GRAVE else len(GRAVE) for v in (old, new)]
        better = None if not tested or gravity[0] == gravity[1] else gravity[1] > gravity[0]
        row = dict.fromkeys(("value", "low", "high", "change", "change_low", "change_high"), nan)
        note = new if old == new or space is first else f"{old} → {new}"
        yield {
            "network": name, "table": table, "metric": "verdict", **row, "better": better,
            "part": "verdict", "detail": finding.name, "note": note,
        }  # fmt: skip


def _describe(
    name: str, network: nn.Module, question: Question, space: Space | None, renamed: Mapping[str, str]
) -> dict[str, Any]:
    finding = None if space is None else space.audit[question.name]
    layers = [] if space is None else list(zip(space.layers, space.depths, strict=True))
    return {
        "name": name,
        "class": type(network).__qualname__,
        "fingerprint": model_fingerprint(network),
        "parameters": sum(p.numel() for p in network.parameters()),
        "verdict": None if finding is None else finding.verdict,
        "reason": None if finding is None else finding.reason,
        "extent": None if finding is None else finding.extent,
        "layers": [{"name": n, "depth": d, "before": renamed.get(n)} for n, d in layers],
    }


def _describe_table(samples: Samples) -> dict[str, Any]:
    cells = {
        f"{samples.class_name(int(y))}, {'with' if t else 'without'} {samples.concept}": int(
            ((samples.labels == y) & (samples.carries == t)).sum()
        )
        for y in np.unique(samples.labels)
        for t in (0, 1)
    }
    return {
        "name": samples.name,
        "n_samples": len(samples.labels),
        "n_groups": len(np.unique(samples.groups)),
        "unknown": int(np.isnan(samples.carries).sum()),
        "groups": cells,
    }


def _tidy(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame, those that got worse first and among them the largest change first."""
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    numeric = [c for c in COLUMNS if c in ("value", "low", "high") or c.startswith("change")]
    frame[numeric] = frame[numeric].astype(np.float64)
    frame["better"] = frame["better"].astype(object).where(frame["better"].notna(), None)
    worse = frame["better"].eq(False)
    first = frame[worse].sort_values("change", key=_size, ascending=False, kind="stable", na_position="first")
    return pd.concat([first, frame[~worse]], ignore_index=True)


def _size(values: pd.Series[float]) -> pd.Series[float]:
    return values.abs()


def _file(path: str | Path) -> Path:
    goal = Path(path)
    return goal if goal.suffix == ".json" else goal / FILE
