import numpy as np
import pytest
from scipy.stats import chi2_contingency
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts.signals import r_peaks
from shortcutscope.planting.phantoms import ecgs
from shortcutscope.planting.phantoms.ecgs import LEADS, EcgRecording
from shortcutscope.planting.phantoms.people import visits


@pytest.fixture(scope="module")
def table():
    return ecgs(400, seed=5)


def signals(table):
    return np.stack([table.image(i).numpy() for i in range(len(table))])


def test_table_has_the_promised_roles(table):
    assert table.image(0).shape == (12, 400)
    assert table.value_range == (-5.0, 5.0)
    assert table.metadata == ["sex", "age", "room", "heart_rate"]
    assert table.frame["label"].value_counts().to_dict() == {0: 200, 1: 200}
    assert (table.frame.groupby("group")["label"].nunique() == 1).all()
    assert table.frame["group"].nunique() < 300
    assert table.verify(progress=False).skipped == ()
    inputs, label, _ = table[1]
    np.testing.assert_allclose(inputs.numpy(), table.image(1).numpy() / 0.3, rtol=1e-5)
    assert label == 1


def test_limb_leads_obey_einthoven_and_goldberger():
    """III = II - I; aVR, aVL and aVF follow from I and II."""
    x = signals(ecgs(20, noise=False)).astype(np.float64)
    one, two, three, right, left, foot = (x[:, k] for k in range(6))
    np.testing.assert_allclose(three, two - one, atol=1e-6)
    np.testing.assert_allclose(right, -(one + two) / 2, atol=1e-6)
    np.testing.assert_allclose(left, one - two / 2, atol=1e-6)
    np.testing.assert_allclose(foot, two - one / 2, atol=1e-6)


def test_hypertrophy_has_its_signs(table):
    x, label = signals(table), table.frame["label"].to_numpy()

    def mean(values, lead, k):
        return values[label == k, LEADS.index(lead)].mean()

    for lead in ("aVL", "V5", "V6"):
        assert mean(x.max(2), lead, 1) > mean(x.max(2), lead, 0) + 0.15
    for lead in ("V1", "V2"):
        assert mean(x.min(2), lead, 1) < mean(x.min(2), lead, 0) - 0.25
    t = np.stack([y[:, _t_wave(recording)] for y, recording in zip(x, recordings(400, 5), strict=True)])
    assert mean(t, "V6", 1) < 0.02 < 0.1 < mean(t, "V6", 0)


def _t_wave(recording):
    times = 100 * (recording.beats + 0.29 * np.sqrt(recording.intervals))
    return round(float(times[(times > 5) & (times < 395)][0]))


def recordings(n, seed):
    patient = visits(n, seed, True)
    return [EcgRecording.draw(i, int(patient[i]), 4.0, 1.0, seed) for i in range(n)]


def test_beats_are_where_they_are_said_to_be(table):
    for recording, signal, rate in zip(
        recordings(400, 5), signals(table), table.frame["heart_rate"], strict=True
    ):
        true = 100 * recording.beats
        found = r_peaks(signal)
        inside = true[(true > 5) & (true < 395)]
        assert np.abs(inside[:, None] - found).min(1).max() <= 4
        assert np.abs(found[:, None] - true).min(1).max() <= 4
        assert 44 <= rate <= 125
        assert np.diff(true).mean() == pytest.approx(6000 / rate, rel=0.06)


def test_difficulty_makes_the_classes_more_alike():
    def score(difficulty):
        made = ecgs(700, seed=2, difficulty=difficulty, patients=False)
        x, label = signals(made), made.frame["label"].to_numpy()
        features = np.c_[x.max(2), x.min(2), np.quantile(x, 0.8, 2)]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        model.fit(features[:450], label[:450])
        return roc_auc_score(label[450:], model.decision_function(features[450:]))

    easy, hard = score(1.0), score(4.0)
    assert easy > 0.97
    assert 0.6 < hard < 0.87


def test_noise_is_optional_and_of_the_stated_size():
    noisy, plain = signals(ecgs(30, seed=1)), signals(ecgs(30, seed=1, noise=False))
    steps = np.diff(noisy - plain, axis=2).std(2) / np.sqrt(2)  # without the slow drift
    assert steps.min() > 0.008
    assert steps.max() < 0.023


def test_the_first_recordings_do_not_depend_on_their_number(table):
    few = ecgs(33, seed=5)
    assert few.frame.equals(table.frame.iloc[:33])
    np.testing.assert_array_equal(signals(few), signals(table)[:33])
    assert not np.array_equal(signals(ecgs(33, seed=6)), signals(few))


def test_metadata_are_unrelated_to_the_label():
    frame = ecgs(1500, length=100, leads=1, patients=False, seed=4).frame
    assert chi2_contingency(np.histogram2d(frame["label"], frame["sex"] == "F", 2)[0]).pvalue > 0.001
    assert abs(roc_auc_score(frame["label"], frame["age"]) - 0.5) < 0.05
    assert abs(roc_auc_score(frame["label"], frame["heart_rate"]) - 0.5) < 0.05


def test_rate_length_and_leads_can_be_chosen():
    fine, coarse = ecgs(4, rate=500, length=2000, noise=False), ecgs(4, leads=3, noise=False)
    np.testing.assert_allclose(signals(fine)[:, :3, ::5], signals(coarse), atol=1e-6)


def test_the_global_generator_is_left_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002  (that it is not used is the point)
    ecgs(4)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    "options",
    [{"n": 1}, {"leads": 13}, {"leads": 0}, {"length": 99}, {"rate": 20}, {"difficulty": 0.0}],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="allowed are"):
        ecgs(**{"n": 4, **options})
