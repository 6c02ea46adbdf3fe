"""Pictures: one scale for the whole gallery, sign as colour, size as opacity."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from shortcutscope.errors import InputError
from shortcutscope.report.gallery import (
    MAX_PICTURES,
    behind,
    data_uri,
    fit,
    overlay,
    read_gallery,
    shared_limit,
)


def picture(side=8, value=128):
    return np.full((side, side, 3), value, np.uint8)


def opened(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_no_relevance_leaves_the_picture():
    assert (overlay(picture(), np.zeros((2, 2)), 1.0) == 128).all()


def test_positive_is_orange_and_negative_purple():
    red, _, blue = overlay(picture(), np.ones((2, 2)), 1.0)[4, 4].astype(int)
    assert red > blue
    red, _, blue = overlay(picture(), -np.ones((2, 2)), 1.0)[4, 4].astype(int)
    assert blue > red


def test_beyond_the_scale_is_as_strong_as_its_end():
    assert (overlay(picture(), np.full((2, 2), 9.0), 1.0) == overlay(picture(), np.ones((2, 2)), 1.0)).all()


def test_the_scale_is_shared_by_all_maps(tmp_path):
    maps = np.zeros((2, 4, 4), np.float16)
    maps[0], maps[1] = 1.0, 0.1
    np.savez(
        tmp_path / "g.npz",
        images=np.stack([picture()[..., 0]] * 2),
        maps=maps,
        sample_ids=np.array(["a", "b"]),
        captions=np.array(["", ""]),
    )
    gallery = read_gallery(tmp_path / "g.npz")
    strong, weak = (opened(p["overlay"]).astype(int) for p in gallery["pictures"])
    assert gallery["top"] == pytest.approx(1.0)
    assert np.abs(strong - 128).max() > 3 * np.abs(weak - 128).max()


def test_one_outlier_does_not_fade_the_rest():
    maps = np.ones((1, 100, 100))
    maps[0, 0, 0] = 1e6
    assert shared_limit(maps) == pytest.approx(1.0)
    assert shared_limit(np.zeros((1, 2, 2))) == 1.0


def test_large_pictures_are_made_smaller_and_small_ones_kept_exactly():
    assert fit(picture(512)).shape == (128, 128, 3)
    assert fit(np.zeros((64, 256), np.uint8)).shape == (32, 128, 3)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    assert (opened(data_uri(fit(noise))) == noise).all()


def test_more_pictures_than_fit_are_noted(tmp_path):
    k = MAX_PICTURES + 4
    np.savez(
        tmp_path / "g.npz",
        images=np.zeros((k, 8, 8, 3), np.uint8),
        maps=np.zeros((k, 2, 2), np.float16),
        sample_ids=np.arange(k).astype(str),
        captions=np.array([""] * k),
    )
    gallery = read_gallery(tmp_path / "g.npz")
    assert len(gallery["pictures"]) == MAX_PICTURES
    assert gallery["note"] == f"Showing the first {MAX_PICTURES} of {k} samples."


def test_a_file_that_is_no_gallery(tmp_path):
    np.savez(tmp_path / "g.npz", pictures=np.zeros(3))
    with pytest.raises(InputError, match="not a gallery"):
        read_gallery(tmp_path / "g.npz")


def test_relevance_of_signals_lies_behind_the_traces_by_lead(tmp_path):
    traces = np.full((2, 36, 100), 255, np.uint8)
    traces[:, 10] = 0
    maps = np.zeros((2, 2, 400), np.float16)
    maps[0, 1, 200:] = 1.0
    np.savez(
        tmp_path / "g.npz",
        images=traces,
        maps=maps,
        sample_ids=np.array(["a", "b"]),
        captions=np.array(["", ""]),
        kind=np.array("signal"),
    )
    gallery = read_gallery(tmp_path / "g.npz")
    assert gallery["kind"] == "signal"
    shown = opened(gallery["pictures"][0]["overlay"])
    coloured = np.ptp(shown.astype(int), axis=-1) > 50
    assert coloured[18:, 50:].all()
    assert not coloured[:18].any()
    assert not coloured[:, :50].any()
    assert (opened(gallery["pictures"][1]["overlay"]) == traces[1]).all()


def test_traces_stay_black_on_any_relevance():
    picture = np.full((4, 4, 3), 255, np.uint8)
    picture[1] = 0
    drawn = behind(picture, np.ones((1, 4)), 1.0)
    assert (drawn[1] == 0).all()
    assert (drawn[0, 0] == overlay(np.full((4, 4, 3), 255, np.uint8), np.ones((1, 4)), 1.0)[0, 0]).all()
