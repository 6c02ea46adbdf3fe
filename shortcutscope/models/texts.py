"""Texts to name findings by, and a model that reads images and texts into one space, such as CLIP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.failures import first_line
from shortcutscope.models.frozen import device_of, frozen
from shortcutscope.models.sources.hugging_face import open_image_text_model

#: What shortcuts in medical images were found to be, and neighbours that a name has to be told from.
TEXTS = (
    "a ruler", "a scale bar", "printed letters", "a date or time", "a logo", "an arrow",
    "a marker of the side", "a chest tube", "a catheter", "a pacemaker", "electrodes and wires", "a needle",
    "surgical clips", "a bandage", "jewellery", "a ring", "a coin", "a hand", "hair", "gel bubbles",
    "ink marks", "a coloured patch",
    "a black border", "a white border", "a frame", "dark corners", "a dark image", "a bright image",
    "low contrast", "high contrast", "noise", "blur", "stripes", "a grid", "compression artifacts",
    "a colour cast", "nothing unusual",
)  # fmt: skip
#: Sentences that a text is read in; the mean of them stands for it (Radford et al. 2021).
TEMPLATES = ("{}", "an image with {}", "a medical image with {}")
#: Longest text that a tokenizer pads to; one that says more knows no length.
LONGEST = 512


@dataclass(frozen=True, eq=False)
class TextNaming:
    """Texts to name findings by, and the model that tells how near an image is to each.

    Attributes
    ----------
    model
        With ``get_image_features`` and ``get_text_features`` (transformers), or ``encode_image`` and
        ``encode_text`` (open_clip and others).
    processor
        Of transformers, for images and texts; or a tokenizer, which makes the model's input of texts.
    texts
        What carriers may show; the names are chosen from these, so they should include what is likely and
        what it may be taken for.
    preprocess
        Makes the model's input ``(C, H, W)`` of an RGB picture (PIL); the processor's own where it has one.
    templates
        Sentences with ``{}`` where the text goes.

    Raises
    ------
    InputError
        A model or processor that cannot do this, fewer than two texts, a text twice, a template that has no
        place for it.

    Examples
    --------
    >>> texts = ss.TextNaming(clip, processor, texts=["a ruler", "hair"])  # doctest: +SKIP
    >>> ss.audit(model, data, "run", scanning=ss.Scanning(texts=texts))  # doctest: +SKIP
    """

    model: nn.Module
    processor: Callable[..., Any]
    texts: Sequence[str] = TEXTS
    preprocess: Callable[[Image.Image], Tensor] | None = None
    templates: Sequence[str] = TEMPLATES

    def __post_init__(self) -> None:
        _methods(self.model)
        if not callable(self.processor):
            raise InputError(
                "TextNaming: processor has to be callable: a tokenizer, or a processor of transformers"
            )
        if self.preprocess is None and not hasattr(self.processor, "image_processor"):
            raise InputError(
                "TextNaming: a tokenizer reads no images: give preprocess=, which makes the model's input of "
                "a picture, or a processor of transformers that does both"
            )
        texts = list(self.texts)
        if isinstance(self.texts, str) or len(texts) < 2 or len(set(texts)) < len(texts):
            raise InputError("TextNaming: texts has to list at least two different texts")
        if (
            isinstance(self.templates, str)
            or not self.templates
            or any("{}" not in t for t in self.templates)
        ):
            raise InputError(
                'TextNaming: every template needs a place for the text, as in "an image with {}"'
            )

    @classmethod
    def open(cls, folder: str | Path, texts: Sequence[str] = TEXTS) -> Self:
        """Open a model of transformers and its processor from the folder that ``save_pretrained`` wrote.

        Raises
        ------
        InputError
            For another folder, or one without the processor.

        Examples
        --------
        >>> texts = ss.TextNaming.open("clip-vit-base-patch32", ["a ruler", "hair"])  # doctest: +SKIP
        """
        return cls(*open_image_text_model(str(folder)), texts)

    @property
    def _who(self) -> str:
        return type(self.model).__name__

    def prepared(self, picture: Image.Image) -> Tensor:
        """The model's input of a picture ``(C, H, W)``."""
        if self.preprocess is not None:
            return self.preprocess(picture)
        made: Any = self.processor.image_processor(images=[picture], return_tensors="pt")  # type: ignore[attr-defined]
        return torch.as_tensor(made["pixel_values"][0])

    def reader(self) -> TextReader:
        """The texts as the model reads them; tried on one picture.

        Raises
        ------
        ModelError
            The model fails, or reads images and texts into different spaces.
        """
        try:
            with frozen(self.model):
                of_texts = self._of_texts()
                picture = self._of_images(self.prepared(Image.new("RGB", (64, 64), (128, 128, 128)))[None])
        except Exception as error:  # another library's code
            raise ModelError(
                f"TextNaming: {self._who} fails on a picture or on the texts: {first_line(error)}"
            ) from error
        if picture.ndim != 2 or of_texts.ndim != 2 or picture.shape[1] != of_texts.shape[1]:
            raise ModelError(
                f"TextNaming: {self._who} gives an image {tuple(picture.shape)} and the texts "
                f"{tuple(of_texts.shape)}: they have to lie in one space"
            )
        return TextReader(self, of_texts)

    def _of_texts(self) -> Tensor:
        """``(texts, D)`` of length 1, the mean over the templates, by the frozen model."""
        sentences = [template.replace("{}", text) for text in self.texts for template in self.templates]
        device, read = device_of(self.model), getattr(self.model, _methods(self.model)[1])
        tokens = self._tokens(sentences)
        with torch.no_grad():
            if isinstance(tokens, Mapping):
                made = read(**{name: values.to(device) for name, values in tokens.items()})
            else:
                made = read(tokens.to(device))
        each = normalize(_tensor_of(made).float(), dim=-1)
        return normalize(each.reshape(len(self.texts), len(self.templates), -1).mean(1), dim=-1)

    def _tokens(self, sentences: list[str]) -> Any:
        own = getattr(self.processor, "tokenizer", self.processor)
        longest = getattr(own, "model_max_length", None)
        if longest is None:
            return own(sentences)
        # Some models were trained on texts of full length, and no other is harmed by it.
        padding = "max_length" if longest <= LONGEST else True
        tokens = own(sentences, padding=padding, truncation=longest <= LONGEST, return_tensors="pt")
        return dict(tokens)

    def _of_images(self, batch: Tensor) -> Tensor:
        """``(N, D)`` of length 1 of prepared images, by the frozen model."""
        with torch.no_grad():
            made = getattr(self.model, _methods(self.model)[0])(batch.to(device_of(self.model)))
        return normalize(_tensor_of(made).float(), dim=-1)


@dataclass(frozen=True, eq=False)
class TextReader:
    """Tells how near images are to texts.

    Attributes
    ----------
    naming
        The texts and the model.
    features
        ``(texts, D)`` of the texts.
    """

    naming: TextNaming
    features: Tensor

    @contextmanager
    def reading(self) -> Iterator[Callable[[Tensor], list[dict[str, float]]]]:
        """Read any number of batches, the model frozen once for all of them.

        Yields
        ------
        callable
            From prepared images ``(N, C, H, W)`` to the cosine with every text of each, less their mean: to
            be near to texts at all says nothing.
        """
        with frozen(self.naming.model):
            yield self._nearness

    def _nearness(self, prepared: Tensor) -> list[dict[str, float]]:
        cosines = self.naming._of_images(prepared) @ self.features.T
        rows = (cosines - cosines.mean(1, keepdim=True)).cpu().tolist()
        return [dict(zip(self.naming.texts, row, strict=True)) for row in rows]


def _methods(model: nn.Module) -> tuple[str, str]:
    """What reads images, and what texts."""
    for pair in (("get_image_features", "get_text_features"), ("encode_image", "encode_text")):
        if all(hasattr(model, name) for name in pair):
            return pair
    raise InputError(
        f"TextNaming: {type(model).__name__} has neither get_image_features and get_text_features "
        "(transformers) nor encode_image and encode_text (open_clip): give a model that reads images and "
        "texts, such as CLIP or SigLIP"
    )


def _tensor_of(made: Any) -> Tensor:
    """What a model returns, or the pooled output in it."""
    if isinstance(made, Tensor):
        return made
    pooled = getattr(made, "pooler_output", None)
    if not isinstance(pooled, Tensor):
        raise ModelError(f"{type(made).__name__} holds no tensor of features")
    return pooled
