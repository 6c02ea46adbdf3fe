"""What all measurements of an audit share: network, scan, samples, run directory and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property, lru_cache, partial
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.audit.associations import training_values
from shortcutscope.audit.audited_data import AuditedData, Role
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.data.table import ImageTable
from shortcutscope.models.frozen import device_of
from shortcutscope.models.heads.head import Head, Output
from shortcutscope.models.layers import Layer
from shortcutscope.models.memory_format import MemoryFormat
from shortcutscope.models.texts import TextReader
from shortcutscope.options import Running, Statistics
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.extent.measuring import ExtentRule
from shortcutscope.probes.usage import EFFECT_THRESHOLD, drawn_order
from shortcutscope.probes.verdict import VerdictRule
from shortcutscope.scan.batches import batches, on_device
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Array, Floats, Ints, Record

#: Layers, from the input, at which the participation ratio is read: later ones have seen too much of
#: the image at every position.
EARLY_LAYERS = 3


@dataclass(frozen=True)
class ExamineSettings:
    """How the concepts of an audit are examined.

    Attributes
    ----------
    texts
        By which findings are named, too: no measurement depends on it.
    """

    n_permutations: int = 200
    n_bootstrap: int = 300
    seed: int = 0
    positive: int | None = None
    operating: float | str = 0.5
    batch_size: int = 64
    workers: int | None = None
    output: Output = None
    gallery: int = 12
    progress: bool = True
    verdict: VerdictRule = field(default_factory=VerdictRule)
    extent: ExtentRule = field(default_factory=ExtentRule)
    texts: TextReader | None = None

    @classmethod
    def of(
        cls, statistics: Statistics, running: Running, head: Head, texts: TextReader | None = None
    ) -> Self:
        """From the options of an audit, and the scores that its scan read."""
        return cls(
            n_permutations=statistics.n_permutations,
            n_bootstrap=statistics.n_bootstrap,
            seed=statistics.seed,
            positive=statistics.positive,
            operating=statistics.operating,
            batch_size=running.batch_size,
            workers=running.workers,
            output=head,
            progress=running.progress,
            texts=texts,
        )

    def to_dict(self, role: Role) -> Record:
        """What the report shows of the settings, thresholds included."""
        return {**self._plain(), "use_threshold": EFFECT_THRESHOLD[role], "role": role}

    def depends(self) -> Record:
        """What measurements depend on; kept results with other values are not used."""
        of_the_run = ("progress", "batch_size", "workers", "gallery", "operating")
        return {k: v for k, v in self._plain().items() if k not in of_the_run}

    def _plain(self) -> Record:
        plain = asdict(replace(self, texts=None))
        del plain["texts"]
        return plain


@dataclass(frozen=True)
class Context:
    """What all measurements share.

    Attributes
    ----------
    whole
        Of one output of several what all of them share: the samples are run again for all outputs at once.
    reference_rows
        Of one output of several the training samples of which its label is known, among all.
    """

    model: nn.Module
    scan: Scan
    table: ImageTable
    audited: AuditedData
    run: RunDirectory
    settings: ExamineSettings
    device: torch.device
    memory_format: MemoryFormat
    whole: Context | None = None
    reference_rows: Ints | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        scan: Scan,
        table: ImageTable,
        audited: AuditedData,
        run: RunDirectory,
        settings: ExamineSettings,
    ) -> Self:
        """For a network lent out by `frozen`, which gets the memory format that the scan had."""
        device = device_of(model)
        memory_format = MemoryFormat.named(scan.remarks.get("memory_format"))
        memory_format.apply(model)
        return cls(model, scan, table, audited, run, settings, device, memory_format)

    def of_output(
        self,
        scan: Scan,
        table: ImageTable,
        audited: AuditedData,
        run: RunDirectory,
        settings: ExamineSettings,
        reference_rows: Ints | None,
    ) -> Self:
        """The same network and samples for one output of several."""
        return replace(
            self,
            scan=scan,
            table=table,
            audited=audited,
            run=run,
            settings=settings,
            whole=self,
            reference_rows=reference_rows,
        )

    def aligned(self, concept: Concept) -> Concept:
        """The concept over the samples; of several outputs it is looked up once for all of them."""
        if self.whole is None:
            return concept.aligned_to(self.scan.samples["sample_id"])
        return self.whole._aligned(concept).take(self.shared_rows(np.arange(len(self.scan))))

    def in_training(self, concept: Concept) -> Floats | None:
        """Values of the concept in the training samples; None where there are none, or it knows none."""
        if self.audited.reference is None:
            return None
        if self.whole is None or self.reference_rows is None:
            return self._in_training(concept)
        everywhere = self.whole._in_training(concept)
        return None if everywhere is None else everywhere[self.reference_rows]

    @cached_property
    def _aligned(self) -> Callable[[Concept], Concept]:
        return cache(self.aligned)

    @cached_property
    def _in_training(self) -> Callable[[Concept], Floats | None]:
        return cache(partial(training_values, audited=self.audited))

    @property
    def shared(self) -> Context:
        """Where samples are run again."""
        return self.whole or self

    def shared_rows(self, rows: Ints) -> Ints:
        """Some samples, by their numbers in `shared`."""
        own = self.scan.rows_in_whole
        return rows if self.whole is None or own is None else own[rows]

    def own_numbers(self, rows: Ints) -> Ints:
        """What `shared_rows` makes of some samples, undone."""
        own = self.scan.rows_in_whole
        return rows if self.whole is None or own is None else np.searchsorted(own, rows)

    def own_rows(self, values: Array) -> Array:
        """Of what is known of all samples in `shared`, that of the own ones."""
        own = self.scan.rows_in_whole
        return values if self.whole is None or own is None else values[own]

    def own_logits(self, logits: Tensor) -> Tensor:
        """Of the scores that running samples again gives, the own ones."""
        head = self.settings.output
        if self.whole is None or not isinstance(head, Head) or head.index is None:
            return logits
        return logits[:, head.index : head.index + 1]

    @cached_property
    def labels(self) -> Ints:
        """Class (N,) of each sample."""
        return self.scan.samples["label"].to_numpy().astype(np.int64)

    @cached_property
    def groups(self) -> Ints:
        """Patient (N,) of each sample, as a number."""
        return np.unique(self.scan.samples["group"].to_numpy(), return_inverse=True)[1]

    @cached_property
    def order(self) -> Ints:
        """Rank of each sample, by which those are chosen that are run again."""
        if self.whole is not None:  # so that outputs have most samples in common
            return self.own_rows(self.whole.order)
        return drawn_order(len(self.scan), self.settings.seed)

    def activation(self, layer: Layer) -> Floats:
        """Pooled activation (N, C) of a layer; those of the last layers asked for are still there."""
        return self.own_rows(self.shared._activations(layer.name))

    @cached_property
    def _activations(self) -> Callable[[str], Floats]:
        return lru_cache(maxsize=EARLY_LAYERS)(self.scan.activation)

    def depends(self, concept: Concept) -> Record:
        """What the measurements of a concept depend on besides the run's inputs."""
        return {"concept": concept.fingerprint(), "settings": self.settings.depends()}

    def inputs(self, indices: Ints, size: int) -> Iterator[Tensor]:
        """Model inputs of some samples, in batches of a size and in their order."""
        table, workers = self.table.take(indices), self.settings.workers
        pinned = self.device.type == "cuda"
        for batch in batches(table, size, workers=workers, pin_memory=pinned):
            yield on_device(batch, self.device, self.memory_format)
