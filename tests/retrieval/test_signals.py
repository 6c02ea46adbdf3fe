"""Masks of signals: which leads, and when."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import median_filter

from shortcutscope.data.sample_geometry import mask_geometry
from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform import Normalize
from shortcutscope.errors import InputError
from shortcutscope.masks.annotation import annotate
from shortcutscope.masks.learning import Drawing
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_cnn1d
from shortcutscope.probes.concept import Concept
from shortcutscope.retrieval.signals import (
    beside,
    is_signal,
    loudness,
    pictured,
    running_median,
    spans,
    whole_spans,
)
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan

LEADS, LENGTH = 12, 320


def heart(rng, number):
    """Twelve leads of spikes at a rate of its own, over noise."""
    period, phase = rng.integers(36, 50), rng.integers(0, 36)
    beats = np.zeros(LENGTH)
    beats[phase::period] = 1
    shape = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    scale = rng.uniform(0.4, 1.2, LEADS) * np.where(np.arange(LEADS) % 4 == 3, -1, 1)
    return scale[:, None] * np.convolve(beats, shape, "same") + 0.02 * rng.standard_normal((LEADS, LENGTH))


def defective_lead(signal, rng):
    """One lead shows noise for a while."""
    lead, width = rng.integers(LEADS), rng.integers(80, 160)
    start = rng.integers(0, LENGTH - width)
    truth = np.zeros(signal.shape, bool)
    truth[lead, start : start + width] = True
    return np.where(truth, 0.4 * rng.standard_normal(signal.shape), signal), truth


def flat_lead(signal, rng):
    """One lead has fallen off."""
    truth = np.zeros(signal.shape, bool)
    truth[rng.integers(LEADS)] = True
    return np.where(truth, 0.002 * rng.standard_normal(signal.shape), signal), truth


def pulse(signal, rng):
    """A calibration pulse in all leads."""
    truth = np.zeros(signal.shape, bool)
    truth[:, 8:30] = True
    return signal + truth, truth


def problem(draw, folder, count=90):
    rng = np.random.default_rng(60)
    labels = rng.integers(0, 2, count)
    carries = (rng.random(count) < np.where(labels == 1, 0.8, 0.25)).astype(float)
    signals, truths = [], []
    for number in range(count):
        signal = heart(rng, number)
        changed, truth = draw(signal, rng)
        signals.append(changed if carries[number] else signal)
        truths.append(truth & bool(carries[number]))
    ids = np.array([f"ecg {k}" for k in range(count)])
    frame = pd.DataFrame({"sample_id": ids, "label": labels})
    table = ImageTable.from_arrays(np.float32(signals), frame, dims=1, value_range=(-5, 5))
    table = table.with_transform(Normalize(0.0, 0.5))
    model = thin_cnn1d(width=4, seed=1).eval()
    scanned = scan(
        model, table, folder / "scan", scanning=Scanning(relevance=False), running=Running(progress=False)
    )
    return model, scanned, table, Concept("artifact", carries, "planted", ids), np.array(truths)


@pytest.mark.parametrize(
    ("draw", "least"),
    [(defective_lead, 0.7), pytest.param(flat_lead, 0.7, marks=pytest.mark.slow), (pulse, 0.8)],
)
def test_masks_say_which_lead_and_when(draw, least, tmp_path):
    model, scanned, table, concept, truths = problem(draw, tmp_path)
    masks = annotate(model, scanned, table, concept, out=tmp_path / "m", running=Running(progress=False))
    overlaps, false = [], []
    for name, truth, carries in zip(concept.sample_ids, truths, concept.values, strict=True):
        mask = masks.mask(str(name))
        assert masks.entry(str(name)).kind == "signal"
        assert mask.shape == (LEADS, LENGTH)
        if carries:
            overlaps.append((mask & truth).sum() / (mask | truth).sum())
        else:
            false.append(mask.any())
    assert np.mean(overlaps) > least
    assert np.mean(false) <= 0.15  # of about forty
    if draw is defective_lead:
        some = [str(name) for name in concept.sample_ids[:3]]
        plain = annotate(
            model,
            scanned,
            table,
            concept,
            some,
            out=tmp_path / "c",
            drawing=Drawing(method="clarc"),
            running=Running(progress=False),
        )
        assert plain.size(some[0]) == (LEADS, LENGTH)
        with pytest.raises(InputError, match="is diffuse"):
            annotate(model, scanned, table, concept, out=tmp_path / "d", extent="diffuse")


def test_quiet_and_loud_keep_their_edges():
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((1, 2, 640)).astype(np.float32)
    signal[0, 0, 200:300] *= 0.01
    signal[0, 1, 200:300] *= 30
    quiet, loud = loudness(signal)[0]
    between = np.log(0.1), np.log(5)
    assert np.flatnonzero(quiet < between[0])[[0, -1]] == pytest.approx([200, 299], abs=3)
    assert np.flatnonzero(loud > between[1])[[0, -1]] == pytest.approx([200, 299], abs=3)


def test_a_running_median_is_scipys():
    values = np.random.default_rng(0).random((3, 2, 50)).astype(np.float32)
    assert np.array_equal(running_median(values, 7), median_filter(values, (1, 1, 7), mode="nearest"))


@settings(max_examples=50, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 40))))
def test_spans_are_the_mask(mask):
    again = np.zeros_like(mask)
    for lead, start, stop in spans(mask):
        assert not again[lead, start:stop].any()
        again[lead, start:stop] = True
    assert np.array_equal(again, mask)
    whole = whole_spans(mask)
    assert whole.any() == mask.any()
    assert not (whole & ~mask)[~mask.any(1)].any()  # a lead that had nothing has nothing


def test_short_spans_and_gaps_are_none():
    mask = np.zeros((2, 100), bool)
    mask[0, 10:50] = mask[0, 55:80] = mask[1, 20:23] = True
    whole = whole_spans(mask)
    assert spans(whole) == [(0, 10, 80)]


def test_layers_that_know_time_speak_of_all_leads():
    batch = torch.arange(8.0).reshape(2, 4)
    assert torch.equal(beside(batch, 3)[:, 1], batch)
    assert is_signal(torch.zeros(2, 3, 4))
    assert pictured(torch.zeros(2, 3, 4)).shape == (2, 1, 3, 4)
    assert pictured(torch.zeros(2, 3, 4, 5)).shape == (2, 3, 4, 5)


def test_geometry_of_leads_is_that_of_time():
    signals = np.zeros((2, 3, 50), np.float32)
    table = ImageTable.from_arrays(signals, np.array([0, 1]), dims=1)
    half = table.with_transform(Normalize(0.0, 1.0, size=25))
    geometry = mask_geometry(half, 0)
    assert (geometry.size, geometry.input_size) == ((3, 50), (3, 25))
    mask = np.zeros((3, 25), bool)
    mask[1, 5:9] = True
    assert spans(geometry.to_source(mask)) == [(1, 10, 18)]
    assert np.array_equal(geometry.from_source(geometry.to_source(mask)), mask)
    with pytest.raises(InputError, match="the number of leads"):
        mask_geometry(table.with_transform(lambda x: x.repeat(2, 1)), 0)
