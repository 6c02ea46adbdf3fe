"""What a comparison measures: the options of `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shortcutscope.compare.paired import MaskOf
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.models.layers import LayerChoice
from shortcutscope.options import OptionGroup
from shortcutscope.probes.concept import Concept

__all__ = ["Comparing"]


@dataclass(frozen=True)
class Comparing(OptionGroup):
    """What a comparison measures.

    Attributes
    ----------
    twins
        Whether to count the predictions that the artifact alone flips, where it is planted.
    transfer
        What the concept is made of in the pixels, a name of ``shortcutscope.pixels.transfers.TRANSFERS``: the
        networks are shown images that are alike in it. By default what a test on the pixels moved, where the
        audit's finding has one that was confirmed or supported.
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
    layers
        Of these audits, as in `shortcutscope.audit.stages.audit`.
    replacements
        Whether to search every student for shortcuts that took the place of the old one; with `refit`. It
        costs a search of the student's scan and two further passes over some of the samples.

    Examples
    --------
    >>> ss.Comparing(refit=False, others=["coin"]).refit
    False
    """

    twins: bool = True
    transfer: str | None = None
    masks: MaskSet | MaskOf | None = None
    attribution: str = "gradient_x_input"
    refit: bool = True
    others: bool | Sequence[str | Concept] = True
    layers: LayerChoice = "blocks"
    replacements: bool = True
