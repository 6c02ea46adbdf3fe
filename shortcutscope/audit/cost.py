"""What an audit will cost in time, disk and memory, before it begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shortcutscope.audit.interventions.use_and_extent import ELSEWHERE_LAYERS, ELSEWHERE_SAMPLES, USE_SAMPLES
from shortcutscope.errors import InputError
from shortcutscope.machine import available_memory
from shortcutscope.models.layers import Layer
from shortcutscope.probes.crossfit import MOST_KEPT
from shortcutscope.probes.ridge import ridge_bytes
from shortcutscope.scan.scanner import ScanEstimate

#: Bytes that probing holds for each sample and concept: its values and scores, and copies that are ranked.
BYTES_PER_VALUE = 80
#: Bytes of what is ranked and resampled at a time, and for each sample beside.
BYTES_RANKED, BYTES_PER_SAMPLE = 64 * 2**20, 200
#: Samples per class on which taking a concept out is measured: at some of the layers, and at the last one.
EDITED, EDITED_LAST = 4 * ELSEWHERE_SAMPLES, 4 * USE_SAMPLES[True]
#: Images, maps, and cells of a map, of the extent of one concept.
EXTENT_IMAGES, EXTENT_MAPS, EXTENT_CELLS = 480, 10, 256
#: Concepts that are discovered, or measured of files and pictures, most often.
LIKELY_MORE = 3
#: Directions of the effective rank of a concept at a layer, at most, and resamples of an interval.
RANK_DIRECTIONS, RESAMPLES = 17, 300


@dataclass(frozen=True)
class AuditEstimate:
    """What an audit will cost at most: where the network encodes every concept.

    Attributes
    ----------
    scan
        Of the scan alone.
    stages
        Seconds of each stage, measured on a batch of images and on small matrices of this machine. What is
        discovered comes on top, at the same price for each concept.
    n_concepts
        Concepts that are examined.
    memory
        Bytes that the statistics hold at once.
    """

    scan: ScanEstimate
    stages: Mapping[str, float]
    n_concepts: int
    memory: int

    @property
    def n_samples(self) -> int:
        """Images to scan."""
        return self.scan.n_samples

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Layers to record."""
        return self.scan.layers

    @property
    def bytes(self) -> int:
        """On the disk."""
        return self.scan.bytes

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(self.stages.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.stages.items())
        return f"{self.scan}; with {self.n_concepts} concepts at most about {self.seconds:.0f} s ({parts})"


def audit_cost(
    scan: ScanEstimate,
    *,
    n_concepts: int,
    n_classes: int,
    n_permutations: int,
    checked: tuple[int, float] = (0, 0.0),
) -> AuditEstimate:
    """What an audit costs, from what its scan does.

    Parameters
    ----------
    scan
        Measured, see `shortcutscope.scan.scanner.estimate`.
    n_concepts, n_classes, n_permutations
        Of the audit.
    checked
        Images on which the preprocessing is checked, and passes of the network for that.
    """
    n, n_layers, k = scan.n_samples, len(scan.layers), n_concepts
    image = scan.forward + scan.reading
    ordering = _timed(lambda: np.argsort(_VALUES)) * n / len(_VALUES)
    widths, channels = [features(layer) for layer in scan.layers], [layer.channels for layer in scan.layers]
    product = _timed(lambda: _SQUARE @ _SQUARE) / len(_SQUARE) ** 3
    ridge = _timed(lambda: np.linalg.lstsq(_TALL, _TALL[:, 0], rcond=None))
    fits, ranks = (sum(product * n * d * min(n, d) for d in of) for of in (widths, channels))
    targets = 2 * product * n * k * n_permutations * sum(widths)
    erased = product * n * sum(channels) + n_layers * ordering
    edited = EDITED * n_classes * min(n_layers - 1, ELSEWHERE_LAYERS) + EDITED_LAST * n_classes
    stages = {
        "reading": n * scan.reading,
        "scan": scan.seconds,
        "probing": fits + targets + n_layers * k * (n_permutations + RESAMPLES) * ordering,
        "use": k * (edited * scan.forward + EDITED_LAST * n_classes * scan.reading),
        "extent": k * (min(n, EXTENT_IMAGES) * image + EXTENT_MAPS * EXTENT_CELLS * ridge),
        "rank": ranks + k * (RANK_DIRECTIONS * erased + n_layers * RESAMPLES * ordering),
    }
    if checked[0]:
        stages["preprocessing"] = checked[0] * scan.reading + checked[1] * scan.forward
    return AuditEstimate(scan, stages, k, statistics_bytes(n, scan.layers, k, n_permutations))


def stage_weights(n_samples: int, n_layers: int, n_concepts: int, *, discovering: bool) -> dict[str, float]:
    """What the stages of an audit cost relative to each other, in passes of an image, in their order.

    Known before anything is measured: the time that is told to be left rests on what was done so far, too.
    """
    n, k = float(n_samples), float(n_concepts)
    edited = EDITED * min(n_layers - 1, ELSEWHERE_LAYERS) + EDITED_LAST
    return {
        "verify": 0.5 * n,
        "preprocessing": 0.1 * n,
        "scan": 2.5 * n,
        **({"discover": 5.0 * n} if discovering else {}),
        "probe": 0.02 * n * n_layers * (1 + 0.3 * k),
        "usage, extent": 0.2 * k * min(edited, n * min(n_layers, ELSEWHERE_LAYERS))
        + 0.5 * k * min(n, EXTENT_IMAGES),
        "rank": 0.01 * n * n_layers * k,
        "gallery": 10.0 * k,
        "appearance": 1.2 * n,
        "subgroups": 0.1 * n,
    }


def features(layer: Layer) -> int:
    """What is recorded of a layer for probes: three statistics of each channel, and a class token."""
    return layer.channels * (4 if layer.prefix_tokens else 3)


def statistics_bytes(n: int, layers: Sequence[Layer], n_concepts: int, n_permutations: int) -> int:
    """Bytes that probing holds at once, at most: Gram matrices of a layer, and scores of a concept's null.

    Examples
    --------
    >>> layer = Layer("layer4", "Block", "NCHW", (2048, 7, 7), 0.9, grid=(7, 7))
    >>> round(statistics_bytes(200_000, [layer], 20, 200) / 1e9, 1)
    2.6
    """
    ridge = max(ridge_bytes(n, features(layer), n_concepts, n_permutations) for layer in layers)
    return ridge + n * (BYTES_PER_VALUE * n_concepts + BYTES_PER_SAMPLE) + BYTES_RANKED + MOST_KEPT


def require_memory(needed: int) -> None:
    """Refuse an audit whose statistics this machine cannot hold.

    Raises
    ------
    InputError
        Says how much is needed, how much there is, and what needs less.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise InputError(
            f"the statistics of this audit hold about {needed / 2**30:.1f} GiB at once, and "
            f"{available / 2**30:.1f} GiB of memory are free: audit fewer samples, fewer concepts "
            f"(--concepts), "
            "layers with fewer channels (--layers) or fewer permutations (--permutations), or use a machine "
            "with more memory"
        )


_VALUES = np.random.default_rng(0).random(4096)
_SQUARE = _VALUES[:, None][:384] * _VALUES[None, :384]
_TALL = np.random.default_rng(1).random((EXTENT_IMAGES, 32))


def _timed(work: Callable[[], object]) -> float:
    """Seconds of the fastest of three runs."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
