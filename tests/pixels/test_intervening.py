from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from small_study import pictures, tag_reader
from torch import nn

import shortcutscope as ss
from shortcutscope.errors import InputError
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.pixels.pairs import MANIFEST

FEW = ss.Intervening(per_label=24, pictures=1)
QUIET = {"running": ss.Running(progress=False), "statistics": ss.Statistics(n_bootstrap=60)}


class Reader(nn.Module):
    """Scores a number that is read of the image."""

    def __init__(self, read):
        super().__init__()
        self.read = read
        self.weight = nn.Parameter(torch.tensor([-1.0, 1.0]))

    def forward(self, x):
        return self.read(x)[:, None] * self.weight


def middle_of(x):
    return 10 * (x[:, 0, 9:15, 9:15].mean((1, 2)) - 0.42)


def table(n=120, agree=0.8, **options):
    images, frame = pictures(n, agree=agree)
    return ss.ImageTable.from_arrays(images, frame.drop(columns="image"), **options)


def mask_of(data):
    corner = np.zeros((24, 24), bool)
    corner[1:7, 1:7] = True
    return lambda row: corner if data.frame["tag"].iloc[row] else None


def test_a_tag_that_is_read_is_confirmed_and_one_that_is_not_is_not():
    data = table()
    model = tag_reader()
    before = model_fingerprint(model)
    used = ss.intervene(model, data, "tag", masks=mask_of(data), **QUIET)
    assert (used.word, used.way, used.how) == ("confirmed", "erase", "convolution")
    assert {r.direction for r in used.responses} == {"without", "with"}
    assert model_fingerprint(model) == before
    idle = ss.intervene(Reader(middle_of), data, "tag", masks=mask_of(data), **QUIET)
    assert idle.word == "not confirmed"
    assert all(abs(r.excess) < 0.05 for r in idle.responses)


def test_levels_are_as_on_the_images_without_the_tag():
    data = table()
    test = ss.intervene(tag_reader(), data, "tag", masks=mask_of(data), **QUIET)
    (levelled,) = test.levelled
    assert levelled.auroc["all without"][0] > levelled.auroc["as they are"][0]
    assert levelled.flips[0] > 0.3
    rows = test.samples[test.samples["direction"] == "without"]
    assert (rows["change"] > 0).mean() > 0.95
    assert set(rows["sample_id"]) <= set(data.frame["sample_id"][data.frame["tag"] == 1])


@pytest.mark.parametrize("transform", [lambda x: x.flip(-1), ss.Normalize(0.4, 0.2, size=32)])
def test_any_transform_and_colours_will_do(transform):
    images, frame = pictures(120, agree=0.8)
    colours = np.repeat(images[:, None], 3, 1)
    data = ss.ImageTable.from_arrays(colours, frame.drop(columns="image"), transform=transform)

    def corners(x):
        return x[:, 0, :8, :8].mean((1, 2)) + x[:, 0, :8, -8:].mean((1, 2))

    test = ss.intervene(Reader(corners), data, "tag", masks=mask_of(data), **QUIET)
    assert test.confirmed


@pytest.mark.parametrize("bright", [True, False])
def test_a_diffuse_concept_is_transferred(bright):
    images, frame = pictures(160, agree=0.75)
    images[:, 1:7, 1:7] = images[:, 17:23, 1:7]
    glow = np.where(frame["tag"] == 1, 40, 0)[:, None, None]
    images = (images.astype(int) + glow).clip(0, 255).astype(np.uint8)
    data = ss.ImageTable.from_arrays(images, frame.drop(columns="image").rename(columns={"tag": "glow"}))
    read = (
        (lambda x: 8 * (x.mean((1, 2, 3)) - 0.4))
        if bright
        else (lambda x: middle_of(x - x.mean((2, 3), True) + 0.4))
    )
    test = ss.intervene(Reader(read), data, "glow", intervening=FEW, **QUIET)
    assert test.way == "transfer"
    assert test.how in ("exposure", "offset", "affine", "histogram"), pd.DataFrame(test.candidates)
    assert test.word == ("confirmed" if bright else "not confirmed")
    exposure = test.levelled[0]
    assert exposure.what == "mean grey"
    assert exposure.n == 4 * FEW.per_label  # twice as many of each label


def test_signals_are_erased_and_moved():
    rng = np.random.default_rng(0)
    label = np.arange(120) % 2
    tag = np.where(rng.random(120) < 0.75, label, 1 - label)
    signals = rng.normal(0, 0.1, (120, 3, 64)).astype(np.float32)
    signals[tag == 1, 1, 20:30] += 0.8
    data = ss.ImageTable.from_arrays(
        signals, pd.DataFrame({"label": label, "tag": tag}), dims=1, value_range=(-2, 2)
    )
    beat = np.zeros((3, 64), bool)
    beat[1, 20:30] = True
    model = Reader(lambda x: x[:, 1, 18:32].mean(1))
    test = ss.intervene(model, data, "tag", masks=lambda row: beat if tag[row] else None, **QUIET)
    assert test.confirmed
    noisy = signals + np.where(tag == 1, 0.2, 0)[:, None, None] * rng.standard_normal(signals.shape)
    data = ss.ImageTable.from_arrays(
        noisy.clip(-2, 2).astype(np.float32), data.frame[["label", "tag"]], dims=1, value_range=(-2, 2)
    )
    test = ss.intervene(Reader(lambda x: 5 * x.std((1, 2))), data, "tag", intervening=FEW, **QUIET)
    assert test.word in ("confirmed", "supported")
    with pytest.raises(InputError, match="cannot be done to signals"):
        ss.intervene(model, data, "tag", intervening=ss.Intervening(transfer="frame"), **QUIET)


def test_volumes_are_erased():
    rng = np.random.default_rng(0)
    label = np.arange(60) % 2
    tag = np.where(rng.random(60) < 0.75, label, 1 - label)
    volumes = rng.normal(0.3, 0.05, (60, 1, 8, 10, 10)).astype(np.float32)
    volumes[tag == 1, :, 2:4, 2:5, 2:5] = 0.9
    data = ss.ImageTable.from_arrays(volumes, pd.DataFrame({"label": label, "tag": tag}), dims=3)
    inside = np.zeros((8, 10, 10), bool)
    inside[2:4, 2:5, 2:5] = True
    model = Reader(lambda x: x[:, 0, 2:4].mean((1, 2, 3)))
    test = ss.intervene(model, data, "tag", masks=lambda row: inside if tag[row] else None, **QUIET)
    assert test.confirmed


def test_where_no_label_has_both_sides_it_is_supported_at_most():
    data = table(agree=1.0)
    used = ss.intervene(tag_reader(), data, "tag", masks=mask_of(data), **QUIET)
    assert used.word == "supported"
    assert "no label has images with and without it" in used.reason
    assert "other places" in used.responses[0].null_of
    idle = ss.intervene(Reader(middle_of), data, "tag", masks=mask_of(data), **QUIET)
    assert idle.word == "not confirmed"


def test_what_is_too_little_is_said():
    data = table()
    few = ss.intervene(
        tag_reader(), data, "tag", masks=lambda row: mask_of(data)(row) if row < 10 else None, **QUIET
    )
    assert few.word == "could not be tested"
    assert "10 are needed" in few.reason
    one_patient = data.with_columns(group=np.where(data.frame["tag"] == 1, "a", data.frame["sample_id"]))
    assert "1 patients" in ss.intervene(tag_reader(), one_patient, "tag", masks=mask_of(data), **QUIET).reason
    coin = ss.intervene(tag_reader(), data.take(np.arange(60)), "coin", intervening=FEW, **QUIET)
    assert coin.word == "could not be tested"
    assert "plain features of the image do not show" in coin.reason


def test_masks_of_a_folder_lie_in_the_files_own_geometry(tmp_path):
    images, frame = pictures(120, agree=0.8)
    data = ss.ImageTable.from_arrays(images.repeat(2, 1).repeat(2, 2), frame.drop(columns="image"), size=24)
    corner = np.zeros((48, 48), bool)
    corner[2:14, 2:14] = True
    with MaskWriter(tmp_path / "masks", "tag") as writer:
        for name in frame["sample_id"][frame["tag"] == 1]:
            writer.append(name, corner)
    test = ss.intervene(tag_reader(), data, "tag", masks=tmp_path / "masks", **QUIET)
    assert test.confirmed
    with pytest.raises(InputError, match="none of the"):
        ss.intervene(tag_reader(), data, "tag", masks=_others(tmp_path), **QUIET)


def _others(folder):
    with MaskWriter(folder / "others", "tag") as writer:
        writer.append("somebody else", np.ones((4, 4), bool))
    return folder / "others"


def test_pairs_can_be_opened_as_a_table(tmp_path):
    data = table()
    some = ss.Intervening(per_label=10, pictures=2)
    test = ss.intervene(
        tag_reader(), data, "tag", masks=mask_of(data), intervening=some, pairs=tmp_path / "pairs", **QUIET
    )
    pairs = ss.ImageTable.from_csv(tmp_path / "pairs" / MANIFEST)
    edited = pairs.frame["edited"] == 1
    assert edited.sum() == len(test.samples)
    scores = ss.predict_logits(tag_reader(), pairs)
    after = (scores[:, 1] - scores[:, 0]).numpy()[edited]
    np.testing.assert_allclose(np.sort(after), np.sort(test.samples["after"]), atol=2e-2)
    with pytest.raises(InputError, match="not empty"):
        ss.intervene(tag_reader(), data, "tag", masks=mask_of(data), pairs=tmp_path / "pairs", **QUIET)


def test_a_test_is_saved_and_opened(tmp_path):
    data = table()
    test = ss.intervene(tag_reader(), data, "tag", masks=mask_of(data), **QUIET)
    again = ss.PixelTest.open(test.save(tmp_path))
    assert again.to_dict() == test.to_dict()
    pd.testing.assert_frame_equal(again.samples, test.samples)
    assert again.pictures["before"].shape == test.pictures["before"].shape
    assert "confirmed" in repr(again)
    assert "tag" in again._repr_html_()


def test_what_cannot_be_done_is_refused():
    data = table()
    with pytest.raises(InputError, match="needs masks="):
        ss.intervene(tag_reader(), data, "tag", intervening=ss.Intervening(way="erase"), **QUIET)
    with pytest.raises(InputError, match="allowed are"):
        ss.Intervening(transfer="magic")
    with pytest.raises(InputError, match="belongs to way='transfer'"):
        ss.Intervening(way="erase", transfer="noise")
    with pytest.raises(InputError, match="does not read it"):
        ss.intervene(tag_reader(), data, "tag", running=ss.Running(precision="bf16"))


def test_a_single_image_is_compared_with_its_own_other_places():
    data = table().take([np.flatnonzero(table().frame["tag"] == 1)[0]])
    concept = ss.Concept("tag", np.ones(1), "marked", sample_ids=data.frame["sample_id"].to_numpy())
    test = ss.intervene(tag_reader(), data, concept, masks=mask_of(data), **QUIET)
    assert test.word == "could not be tested"
    (row,) = test.samples.to_dict("records")
    assert row["shift"] < row["null"] - 3 * row["null_sd"]
    assert np.isnan(row["change"])


def test_images_of_several_sizes_are_moved_as_far_as_that_goes():
    rng = np.random.default_rng(0)
    label = np.arange(80) % 2
    dark = np.where(rng.random(80) < 0.75, label, 1 - label)
    sizes = [(20 + k % 3, 24 - k % 2) for k in range(80)]
    images = [
        torch.tensor(rng.normal(0.6 - 0.2 * d, 0.1, (1, *size)).clip(0, 1), dtype=torch.float32)
        for d, size in zip(dark, sizes, strict=True)
    ]

    def resized(x):
        return nn.functional.interpolate(x[None], (16, 16))[0]

    data = ss.ImageTable.from_dataset(images, pd.DataFrame({"label": label, "dark": dark}), transform=resized)
    test = ss.intervene(Reader(lambda x: -x.mean((1, 2, 3))), data, "dark", intervening=FEW, **QUIET)
    assert test.confirmed
    assert {"field", "periodic"}.isdisjoint(c["name"] for c in test.candidates)
