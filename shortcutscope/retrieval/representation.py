"""A representation of the user's choice, such as a foundation model's, to rank by beside the network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import nn

from shortcutscope.data.features import Features
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.options import Running
from shortcutscope.retrieval.encoding import as_read_by, blocks_of
from shortcutscope.retrieval.kept import kept
from shortcutscope.retrieval.ranking import Ranking
from shortcutscope.retrieval.views import Views, ordered
from shortcutscope.types import Array

#: The name that a ranking by it goes by, and the only block of features that were given as numbers.
FEATURES = "features"
#: What may be given: an encoder, one with the table that it reads, or what `Features.of` reads.
FeatureSource = nn.Module | tuple[nn.Module, ImageTable] | Array | pd.DataFrame | str | Path | Features


@dataclass(frozen=True, eq=False)
class Representation:
    """Features of all samples by another model than the audited one.

    Attributes
    ----------
    views
        In the order of the samples: an encoder's layers, or what was given.
    offered
        Sets of views that marks choose from.
    encoder
        Where a model was given.
    notes
        What a reader should know.
    reading
        The table that came with the encoder: new images are shown to it as that gives them.
    """

    views: Views
    offered: Sequence[tuple[str, ...]]
    encoder: nn.Module | None = None
    notes: tuple[str, ...] = ()
    reading: ImageTable | None = None

    @classmethod
    def of(
        cls,
        source: FeatureSource,
        sample_ids: Sequence[str],
        images: ImageTable | None,
        *,
        cache: Path | None = None,
        running: Running | None = None,
    ) -> Representation:
        """Read or make the features of samples.

        Parameters
        ----------
        source
            A network, whose layers are ranked by: it is shown the images as the source of its weights says,
            or else as the audited network is. A pair of a network and the table that it reads. Or numbers
            ``(N, d)``: an array in the order of the scan, or a DataFrame or file with sample ids.
        sample_ids
            Of the scan.
        images
            The table that was scanned.
        cache
            Folder that keeps what an encoder made, so that it runs once.
        running
            How images are read.

        Raises
        ------
        InputError
            For an encoder without images, or one that reads them otherwise than the table gives them; for
            features that lack samples, or are another number.
        """
        ids = [str(name) for name in sample_ids]
        if isinstance(source, tuple):
            encoder, table = source
            made = cls._by_encoder(encoder, table, ids, cache, running or Running(), ())
            return replace(made, reading=table)
        if not isinstance(source, nn.Module):
            return cls(Views({FEATURES: _matched(source, ids)}), [(FEATURES,)])
        if images is None:
            raise InputError(
                "features= is a model, which has to be shown the images; give them, or features as numbers"
            )
        table, note = as_read_by(source, images)
        return cls._by_encoder(source, table, ids, cache, running or Running(), (note,))

    @classmethod
    def _by_encoder(
        cls,
        encoder: nn.Module,
        table: ImageTable,
        ids: list[str],
        cache: Path | None,
        running: Running,
        notes: tuple[str, ...],
    ) -> Representation:
        table = ordered(table, ids)
        reading = repr((table.shape, table.value_range))
        of = [*ids, model_fingerprint(encoder), table.transform_fingerprint(), reading]
        file = None if cache is None else cache / f"{FEATURES}.safetensors"
        views = Views(kept(file, of, partial(blocks_of, encoder, table, running)))
        n_early = (len(views.names) + 1) // 2
        offered = dict.fromkeys((views.names, views.names[:n_early], views.names[-1:]))
        return cls(views, list(offered), encoder, notes)

    def score(self, ranking: Ranking, data: ImageTable, running: Running | None) -> pd.Series[float]:
        """Scores of new images by sample id.

        Raises
        ------
        InputError
            Of features that were given as numbers: those of new images are not known. For images that cannot
        be shown as the others were.
        """
        if self.encoder is None:
            raise InputError(
                "the ranking is carried by features that were given as numbers, and those of new images are "
                'not known: give features= as a model, or rank with view="layers"'
            )
        table = self._shown(self.encoder, data)
        views = Views(blocks_of(self.encoder, table, running or Running())).only(ranking.views)
        scores = ranking.vector.score(views.features, views.quantity)
        return pd.Series(scores, index=pd.Index(data.frame["sample_id"].astype(str)), name="score")

    def _shown(self, encoder: nn.Module, data: ImageTable) -> ImageTable:
        """New images as the encoder read the others."""
        if self.reading is None:
            return as_read_by(encoder, data)[0]
        new, before = ((t.image(0).shape[0], t.value_range) for t in (data, self.reading))
        if new != before:
            raise InputError(
                f"the encoder was shown images of (channels, range of values) {before}, and the new ones are "
                f"{new}: open them as the table of features= was opened"
            )
        return data.with_transform(self.reading.transform)


def _matched(source: FeatureSource, ids: list[str]) -> npt.NDArray[np.float32]:
    """Features of samples, in their order."""
    features = Features.of(source, FEATURES)
    if features.ids is None:
        if features.shape[0] != len(ids):
            raise InputError(
                f"features= has {features.shape[0]} rows without sample ids for {len(ids)} samples; give one "
                "row per sample in the order of the scan, or a table with a column sample_id"
            )
        return np.asarray(features.values, np.float32)
    return np.asarray(features.values[features.rows_of(ids, FEATURES)], np.float32)
