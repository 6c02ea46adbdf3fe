"""Before and after: what a recipe changed in a network, for better and for worse.

Everything is measured on the same held-out samples, and every difference on the same resamples of their
patients. What is fitted (probes, directions, verdicts) is fitted anew in each network's own latent space.
What got worse stands first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from shortcutscope.audit.audited_data import TrainingData
from shortcutscope.audit.identity import refuse_other_data
from shortcutscope.audit.record import AuditRecord
from shortcutscope.compare.choosing import GroupSides, choice_among
from shortcutscope.compare.describing import describe_network, describe_table, verdict_rows
from shortcutscope.compare.development import apart_from_development, students_of
from shortcutscope.compare.estimate import Estimate, Key, paired_rows
from shortcutscope.compare.networks import BEFORE, After, biased_network, check_networks, named_networks
from shortcutscope.compare.on_pixels import LevelledImages
from shortcutscope.compare.options import Comparing
from shortcutscope.compare.paired import (
    CarrierMasks,
    artifact_relevance,
    select_masks,
    twin_flips,
    twins_of,
)
from shortcutscope.compare.performance import (
    ComparedSamples,
    NetworkScores,
    logits_of,
    performance,
    subgroups,
)
from shortcutscope.compare.replacements import ReplacementSearch, search_replacements
from shortcutscope.compare.result import FILE, ComparisonRecord, tidy
from shortcutscope.compare.setup import ComparisonSetup, comparison_setup
from shortcutscope.compare.space import Space, matching_layers, measure_space
from shortcutscope.data.decoding.decoded import DecodedImages
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.files import slug, to_json
from shortcutscope.locking import locked
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Head, Output, as_head
from shortcutscope.options import READING, Running, Statistics
from shortcutscope.pixels.of_findings import confirmed_transfer
from shortcutscope.planting.planting import PlantedSource
from shortcutscope.probes.concept import Concept
from shortcutscope.processes import alone
from shortcutscope.progress import progress_bar
from shortcutscope.types import Floats, Record

__all__ = ["compare"]


def compare(
    before: nn.Module | AuditRecord,
    after: After,
    data: ImageTable | Mapping[str, ImageTable],
    *,
    model: nn.Module | None = None,
    concept: str | Concept | None = None,
    present: Mapping[str, Any] | None = None,
    train: ImageTable | None = None,
    head: Output = None,
    comparing: Comparing | None = None,
    statistics: Statistics | None = None,
    running: Running | None = None,
    out: str | Path | None = None,
) -> ComparisonRecord:
    """Compare networks with the biased one they come from.

    Parameters
    ----------
    before
        The biased network, or its audit; then give the network as `model`.
    after
        The new network or `Student`, students, or several by name. All are given back as they were.
    data
        Held-out samples: one table, or several by name, as `shortcutscope.planting.planting.triad` makes
        them. Rows of the training split are left out.
    concept
        A column, a finding of the audit, which is read from its column exactly as the audit read it, or a
        Concept by sample id. By default the audit's costliest shortcut, or the only column of 0 and 1.
    present
        Column to the value that means that the artifact is there, where its words do not tell.
    train
        Training samples: for the association, and to refuse samples and patients that are trained on.
    head
        Which scores are compared: a `Head`, or the part of what the models return. By default those that the
        audit read.
    comparing
        What is measured; by default all that can be.
    statistics
        Permutations of the audits, resamples of the patients, the seed of everything drawn, and the class
        that margins refer to; by default as in an audit.
    running
        Device, batch size, bars, and how images are read: once for all networks, as far as they are kept.
    out
        Folder for ``comparison.json`` and the audits; by default nothing is kept but the result.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError, ModelError, StaleRunError
        Before any long work, with what was given, what is allowed and what to do.

    Examples
    --------
    >>> ss.compare(audit, student, test, model=model, concept="tag")  # doctest: +SKIP
    """
    comparing, statistics = comparing or Comparing(), statistics or Statistics()
    running = running or Running()
    running.require_only("a comparison", "device", "batch_size", "progress", *READING)
    biased, finding = biased_network(before, model, concept)
    asked = as_head(head)
    if isinstance(before, AuditRecord):
        asked = before.asked_head(asked)
    networks = {BEFORE: biased, **named_networks(after)}
    question = comparison_setup(
        data,
        concept,
        finding,
        train=train,
        positive=statistics.positive,
        others=comparing.others,
        present=present,
        known=[f.name for f in before.findings] if isinstance(before, AuditRecord) else (),
    )
    question, development = apart_from_development(question, students_of(after))
    images = DecodedImages(running.cache, running.cache_gb)  # of all tables and for all networks
    tables = {name: table.keeping(running, images) for name, table in question.tables.items()}
    question = replace(question, tables=tables)
    if isinstance(before, AuditRecord):
        for name, table in question.tables.items():
            planted = isinstance(table.source, PlantedSource)
            refuse_other_data(before.path, table, f"the samples of {name!r}", others=planted)
    if comparing.transfer is None:
        comparing = replace(comparing, transfer=confirmed_transfer(finding))
    course = _course(question, networks, asked, comparing, statistics, running, _associations(before, train))
    rows, about, choice, searches = _measure_all(course, networks, out, _known_concepts(before, comparing))
    made = ComparisonRecord(
        question.name,
        tidy(rows),
        tuple(to_json(about)),
        tuple(to_json([describe_table(course.samples[t]) for t in question.tables])),
        to_json(course.settings()),
        (
            *question.notes,
            *filter(None, [choice]),
            *[text for name, s in searches.items() for text in s.sentences(name)],
        ),
        tuple(to_json([asdict(r) | {"text": r.text()} for s in searches.values() for r in s.found])),
        tuple(to_json(list(development))),
    )
    if out is not None:
        made.save(Path(out) / FILE)
    return made


def _measure_all(
    course: _Course,
    networks: Mapping[str, nn.Module],
    out: str | Path | None,
    findings: Sequence[Concept],
) -> tuple[list[Record], list[Record], str, dict[str, ReplacementSearch]]:
    """The rows of all networks, each beside the biased one; what is known of each; the best; replacements."""
    question = course.question
    rows: list[Record] = []
    about: list[Record] = []
    references: dict[str, dict[Key, Estimate]] = {}
    margins: dict[str, Floats] = {}
    first: Space | None = None
    spaces: dict[str, Space] = {}
    searches: dict[str, ReplacementSearch] = {}
    # One process compares, also where several were started: nothing here waits for the others.
    with alone(), _workplace(out) as folder:
        bar = progress_bar(
            networks.items(), desc="comparing", unit="network", progress=course.running.progress
        )
        for name, network in bar:
            measured, space, margin = course.measure(name, network, folder / slug(name))
            first = first or space
            spaces |= {} if space is None else {name: space}
            renamed = matching_layers(first.layers, space.layers) if space and first else {}
            for place, estimates in measured.items():
                rows += paired_rows(name, place, estimates, references.get(place), renamed)
            if space is not None and first is not None:
                rows += verdict_rows(name, question.main, space, first)
            about.append(describe_network(name, network, question, space, renamed))
            if name == BEFORE:
                references = {place: {e.key: e for e in some} for place, some in measured.items()}
            else:
                margins[name] = margin
        if course.comparing.replacements and spaces:
            folders = {name: folder / slug(name) for name in spaces}
            searches = search_replacements(
                question, networks, spaces, folders, findings,
                train=course.training, statistics=course.statistics, running=course.running,
            )  # fmt: skip
    main = course.samples[question.main]
    sides = GroupSides.of(main.truth, main.aligned, main.groups)
    choice = choice_among(margins, sides)
    return rows, about, "" if choice is None else choice.text(sides.n_conflicting), searches


def _known_concepts(before: nn.Module | AuditRecord, comparing: Comparing) -> list[Concept]:
    """Findings of the audit, which may take the place of the one that is unlearnt."""
    if not isinstance(before, AuditRecord) or not comparing.replacements:
        return []
    return [f.concept for f in before.findings if f.verdict != "not testable"]


def _associations(
    before: nn.Module | AuditRecord, train: ImageTable | None
) -> Mapping[str, Mapping[str, Any]] | None:
    """Of the training data, which a balanced table cannot tell; given training samples tell it anew."""
    return (
        {f.name: f.association for f in before.findings}
        if isinstance(before, AuditRecord) and train is None
        else None
    )


def _course(
    question: ComparisonSetup,
    networks: Mapping[str, nn.Module],
    head: Head,
    comparing: Comparing,
    statistics: Statistics,
    running: Running,
    associations: Mapping[str, Mapping[str, Any]] | None,
) -> _Course:
    """Draw samples and masks, and look at the networks, before any long work."""
    n, seed = statistics.n_bootstrap, statistics.seed
    tables, positive, against = question.tables, question.positive, question.against
    samples = {
        name: ComparedSamples.of(
            name, table, question.concept[name], positive, against=against, n=n, seed=seed
        )
        for name, table in tables.items()
    }
    drawn = {
        name: select_masks(table, samples[name], comparing.masks, seed) for name, table in tables.items()
    }
    heads = check_networks(
        networks,
        tables[question.main],
        device=running.device,
        head=head,
        layers=comparing.layers if comparing.refit else None,
        attribution=comparing.attribution if any(part.by_row for part in drawn.values()) else None,
    )
    twins = {name: twins_of(table, question.name) for name, table in tables.items() if comparing.twins}
    return _Course(
        question,
        samples,
        drawn,
        twins if comparing.twins else None,
        _levelled(question, comparing.transfer, seed),
        heads[BEFORE].read_task,
        heads,
        comparing,
        statistics,
        running,
        TrainingData(question.train, associations),
    )


def _levelled(question: ComparisonSetup, transfer: str | None, seed: int) -> LevelledImages | None:
    if transfer is None:
        return None
    return LevelledImages.of(
        question.tables[question.main], question.concept[question.main], transfer, seed=seed
    )


@dataclass(frozen=True)
class _Course:
    """What every network goes through.

    Attributes
    ----------
    samples, masks
        Per table.
    twins
        Per table without and with the artifact on all samples, where it is planted; None where not asked for.
    levelled
        Images of the main table that are alike in what the concept is made of; None where that is not known.
    heads
        How the scores of each network are read.
    training
        What is known of the biased network's training data.
    """

    question: ComparisonSetup
    samples: Mapping[str, ComparedSamples]
    masks: Mapping[str, CarrierMasks]
    twins: Mapping[str, tuple[ImageTable, ImageTable] | None] | None
    levelled: LevelledImages | None
    task: str
    heads: Mapping[str, Head]
    comparing: Comparing
    statistics: Statistics
    running: Running
    training: TrainingData

    def settings(self) -> Record:
        """What was compared, and how."""
        question = self.question
        return {
            "positive": question.positive,
            "positive_name": self.samples[question.main].class_name(question.positive),
            "against": question.against,
            "main": question.main,
            "others": [c.name for c in question.others],
            "attribution": self.comparing.attribution,
            "transfer": self.comparing.transfer,
            "n_bootstrap": self.statistics.n_bootstrap,
            "seed": self.statistics.seed,
            "refit": self.comparing.refit,
            "replacements": self.comparing.refit and self.comparing.replacements,
        }

    def measure(
        self, name: str, network: nn.Module, folder: Path
    ) -> tuple[dict[str, list[Estimate]], Space | None, Floats]:
        """All estimates per table, the network's own space, and its margins on the main table."""
        question, space, head = self.question, None, self.heads[name]
        if self.comparing.refit:
            space = measure_space(
                network,
                question,
                folder,
                head=head,
                layers=self.comparing.layers,
                train=self.training,
                statistics=self.statistics,
                running=self.running,
            )
        seen: dict[str, Tensor] = {}
        measured = {place: list(self._on(network, head, place, seen)) for place in question.tables}
        if space is not None:
            measured[question.main] += space.estimates
        logits = self._logits(network, head, question.tables[question.main], seen)
        return measured, space, NetworkScores.of(logits, self.task, question.positive).margin

    def _on(self, network: nn.Module, head: Head, name: str, seen: dict[str, Tensor]) -> Iterator[Estimate]:
        table, samples = self.question.tables[name], self.samples[name]
        scores = NetworkScores.of(self._logits(network, head, table, seen), self.task, self.question.positive)
        yield from performance(samples, scores)
        if self.twins is not None:
            pair = self.twins[name]
            both = None if pair is None else [self._logits(network, head, twin, seen) for twin in pair]
            yield twin_flips(samples, both, self.task)
        with frozen(network, self.running.device) as borrowed:
            yield artifact_relevance(
                borrowed,
                table,
                samples,
                self.masks[name],
                method=self.comparing.attribution,
                task=self.task,
                output=head,
                batch_size=self.running.batch_size,
            )
            if name == self.question.main and self.levelled is not None:
                size = self.running.batch_size
                yield from self.levelled.estimates(borrowed, head, samples, batch_size=size)
        if name == self.question.main:
            yield from subgroups(samples, scores, self.question.others, table.frame["sample_id"])

    def _logits(self, network: nn.Module, head: Head, table: ImageTable, seen: dict[str, Tensor]) -> Tensor:
        """Scores of a table, run once where several tables have the same images (twins of a triad)."""
        key = f"{table.fingerprint()}-{table.transform_fingerprint()}"
        if key not in seen:
            seen[key] = logits_of(
                network, table, device=self.running.device, output=head, batch_size=self.running.batch_size
            )
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
    workplace = path / "comparison"
    with locked(workplace):
        yield workplace
