"""Texts are read by models of images and texts as their libraries call them, and misuse is refused."""

import image_text_model
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import shortcutscope as ss
from shortcutscope.models import texts
from shortcutscope.models.sources.hugging_face import open_image_text_model

TEXTS = list(image_text_model.TEXTS)


def naming(**changed):
    given = {
        "model": image_text_model.SeesBrightness(),
        "processor": image_text_model.tokenize,
        "texts": TEXTS,
        "preprocess": image_text_model.prepare,
    }
    return ss.TextNaming(**{**given, **changed})


def grey(level, side=24):
    return Image.new("RGB", (side, side), (level,) * 3)


def nearness(own, pictures):
    """(N, texts) of some pictures, in one batch."""
    with own.reader().reading() as read:
        rows = read(torch.stack([own.prepared(picture) for picture in pictures]))
    assert all(list(row) == list(own.texts) for row in rows)
    return np.array([list(row.values()) for row in rows])


def test_a_brighter_picture_is_nearer_to_the_text_of_brightness():
    dark, bright = nearness(naming(), [grey(20), grey(240)])
    assert bright[0] > dark[0]
    assert bright[2] < dark[2]
    np.testing.assert_allclose([dark.sum(), bright.sum()], 0, atol=1e-6)


def test_the_model_is_frozen_once_for_all_batches_and_given_back_as_it_was(monkeypatch):
    loans = []
    frozen = texts.frozen

    def counted(model):
        loans.append(model)
        return frozen(model)

    monkeypatch.setattr(texts, "frozen", counted)
    own = naming(model=image_text_model.SeesBrightness().train())
    reader = own.reader()
    assert len(loans) == 1
    batch = torch.stack([own.prepared(grey(90))])
    with reader.reading() as read:
        assert read(batch) == read(batch)
        assert not own.model.training
        assert not own.model.scale.requires_grad
    assert len(loans) == 2
    assert own.model.training
    assert own.model.scale.requires_grad


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return image_text_model.save_clip(tmp_path_factory.mktemp("clip"))


def test_a_model_of_transformers_says_what_it_says_itself(clip_folder):
    own = ss.TextNaming.open(clip_folder, ["a ruler", "hair"])
    own = ss.TextNaming(own.model, own.processor, ["a ruler", "hair"], templates=["an image with {}"])
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (40, 30, 3), np.uint8)) for _ in range(3)]
    near = nearness(own, pictures)
    inputs = own.processor(
        text=["an image with a ruler", "an image with hair"],
        images=pictures,
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        theirs = own.model(**inputs)
        expected = theirs.logits_per_image / own.model.logit_scale.exp()
    np.testing.assert_allclose(near, expected - expected.mean(1, keepdim=True), atol=1e-5)


def test_a_folder_without_its_processor_is_refused(clip_folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((clip_folder / name).read_bytes())
    with pytest.raises(ss.InputError, match="wrote the model and its processor"):
        open_image_text_model(str(tmp_path))
    with pytest.raises(ss.InputError, match="no such folder"):
        ss.TextNaming.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"model": nn.Linear(2, 2)}, "reads images and texts, such as CLIP"),
        ({"preprocess": None}, "give preprocess="),
        ({"processor": "a tokenizer"}, "has to be callable"),
        ({"texts": ["hair"]}, "at least two different texts"),
        ({"texts": ["hair", "hair"]}, "at least two different texts"),
        ({"texts": "hair, noise"}, "at least two different texts"),
        ({"templates": ["an image"]}, "a place for the text"),
    ],
)
def test_misuse_is_refused_before_anything_runs(changed, match):
    with pytest.raises(ss.InputError, match=match):
        naming(**changed)


def test_a_model_that_fails_or_has_two_spaces_is_refused():
    with pytest.raises(ss.errors.ModelError, match="fails on a picture or on the texts"):
        naming(processor=lambda sentences: torch.full((len(sentences),), 99)).reader()

    class TwoSpaces(image_text_model.SeesBrightness):
        def encode_image(self, images):
            return images.mean((1, 2, 3))[:, None].expand(-1, 7)

    with pytest.raises(ss.errors.ModelError, match="lie in one space"):
        naming(model=TwoSpaces()).reader()
