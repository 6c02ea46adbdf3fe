import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import CATALOGUE, SIGNALS, get_artifact
from shortcutscope.planting.artifacts.artifact import VISIBLE, Artifact, signal_height
from shortcutscope.planting.artifacts.signals import r_peaks, static_noise
from shortcutscope.planting.phantoms import ecgs

NAMES = sorted(SIGNALS)
RANGE = (-5.0, 5.0)


@pytest.fixture(scope="module")
def signals():
    table = ecgs(40, seed=8)
    return np.stack([table.image(i).numpy() for i in range(40)])


def applied(name, signal, sample_id="x", strength=1.0, **options):
    return get_artifact(name, strength).apply(signal, sample_id=sample_id, value_range=RANGE, **options)


def test_the_catalogue_of_images_has_none_of_signals():
    assert set(SIGNALS) == {"defective_lead", "amplified_beat", "baseline_drift", "static_noise"}
    assert not set(SIGNALS) & set(CATALOGUE)
    assert {artifact.dims for artifact in CATALOGUE.values()} == {2}
    assert {artifact.dims for artifact in SIGNALS.values()} == {1}
    with pytest.raises(InputError, match=r"for signals defective_lead, .*static_noise"):
        get_artifact("missing_lead")


@pytest.mark.parametrize("name", NAMES)
def test_mask_is_exactly_what_visibly_changed_by_lead_and_time(name, signals):
    for i, signal in enumerate(signals):
        after, mask = applied(name, signal, str(i))
        assert after.dtype == np.float32
        assert after.shape == mask.shape == (12, 400)
        change = np.abs(after.astype(np.float64) - signal)
        limit = VISIBLE * signal_height(signal)
        assert mask[change > limit + 1e-6].all()
        assert not mask[change < limit - 1e-6].any()
        assert mask.any()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    leads=st.integers(1, 14),
    length=st.integers(40, 700),
    strength=st.floats(0.05, 2.0),
    spread=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_any_length_strength_and_signal_is_fine(name, leads, length, strength, spread, seed):
    signal = np.random.default_rng(seed).normal(0, spread, (leads, length)).clip(-5, 5).astype(np.float32)
    after, mask = applied(name, signal, strength=strength, seed=seed)
    assert np.isfinite(after).all()
    assert -5 <= after.min() <= after.max() <= 5
    assert mask.shape == signal.shape
    assert (np.abs(after - signal)[~mask] <= VISIBLE * signal_height(signal) + 1e-5).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_follows_from_name_sample_and_seed_alone(name, signals):
    state = np.random.get_state()[1].copy()  # noqa: NPY002  (that it is not used is the point)
    first = applied(name, signals[0], "a", seed=3)[0]
    applied(name, signals[1], "b", seed=3)
    np.testing.assert_array_equal(applied(name, signals[0], "a", seed=3)[0], first)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    if name != "amplified_beat":  # the only one without a draw
        others = [applied(name, signals[0], s, seed=3)[0] for s in "bcdef"]
        assert any(not np.array_equal(other, first) for other in others)


def test_a_defective_lead_is_flat_for_a_quarter_at_twice_its_largest_deviation(signals):
    leads = set()
    for i, signal in enumerate(signals):
        after, mask = applied("defective_lead", signal, str(i))
        (lead,) = np.unique(np.argwhere(after != signal)[:, 0])
        leads.add(int(lead))
        zero = np.median(signal[lead])
        level = zero + 2 * np.abs(signal[lead, :100] - zero).max()
        np.testing.assert_allclose(after[lead, :100], level, atol=1e-5)
        np.testing.assert_array_equal(after[:, 100:], signal[:, 100:])
        assert mask[lead, :100].all()
        assert mask.sum() == 100
    assert len(leads) > 8


def test_the_amplified_beat_is_the_second_of_the_third_lead(signals):
    for signal in signals:
        after, mask = applied("amplified_beat", signal)
        peaks = r_peaks(signal)
        rows, times = np.nonzero(after != signal)
        assert set(rows) == {2}
        assert peaks[0] < times.min() <= peaks[1] <= times.max()
        assert len(peaks) < 3 or times.max() < peaks[2]
        zero = np.median(signal[2])
        part = slice(times.min(), times.max() + 1)
        np.testing.assert_allclose(after[2, part] - zero, 3 * (signal[2, part] - zero), atol=1e-5)
        assert mask.any()


def test_beats_are_found_at_any_rate_and_in_one_lead():
    for rate, length in ((100, 1000), (250, 1000), (500, 5000)):
        table = ecgs(10, rate=rate, length=length, seed=3)
        for i in range(10):
            found = len(r_peaks(table.image(i).numpy())) / (length / rate)
            assert found * 60 == pytest.approx(table.frame["heart_rate"][i], abs=60 / (length / rate) + 2)
    assert len(r_peaks(np.zeros((3, 100), np.float32))) == 0


@pytest.mark.parametrize("name", ["baseline_drift", "static_noise"])
def test_diffuse_artifacts_are_everywhere(name, signals):
    masks = [applied(name, signal, str(i))[1] for i, signal in enumerate(signals)]
    cells = np.mean(masks, axis=0).reshape(12, 20, 20).mean(2)
    assert cells.min() > 0.7


def test_drift_is_slow_and_noise_is_white(signals):
    drift = applied("baseline_drift", signals[0])[0].astype(np.float64) - signals[0]
    power = np.abs(np.fft.rfft(drift * np.hanning(400), axis=1)) ** 2
    assert power[:, :6].sum() > 0.999 * power.sum()
    noise = applied("static_noise", signals[0])[0].astype(np.float64) - signals[0]
    assert noise.std() / signal_height(signals[0]) + 0.003 >= 0.05
    assert noise.std() / signal_height(signals[0]) <= 0.083
    assert np.abs(np.corrcoef(noise) - np.eye(12)).max() < 0.25
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_strength_scales_the_change(name, signals):
    def change(strength):
        return np.mean([np.abs(applied(name, s, strength=strength)[0] - s).mean() for s in signals[:5]])

    assert change(0.25) < change(0.5) < change(1.0) < change(2.0)


def test_one_lead_without_a_channel_axis_keeps_its_shape(signals):
    after, mask = applied("static_noise", signals[0][1])
    assert after.shape == (400,)
    assert mask.shape == (1, 400)


def test_sixteen_bit_signals_stay_sixteen_bit(signals):
    stored = ((signals[0] + 5) / 10 * 65535).round().astype(np.uint16)
    after, mask = applied("amplified_beat", stored)
    assert after.dtype == np.uint16
    assert mask.any()
    np.testing.assert_array_equal(after[[0, 1, *range(3, 12)]], stored[[0, 1, *range(3, 12)]])


@pytest.mark.parametrize("shape", [(12, 39), (1, 64, 64), ()])
def test_what_is_no_signal_is_refused(shape):
    with pytest.raises(InputError, match=r"\(L,\) and \(C, L\)"):
        applied("static_noise", np.zeros(shape, np.float32))


def test_other_dimensions_are_refused():
    with pytest.raises(InputError, match="dims of 'mine' is 3"):
        Artifact("mine", "diffuse", static_noise, dims=3)
