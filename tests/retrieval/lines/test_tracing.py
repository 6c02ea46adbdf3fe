import numpy as np
import pytest

from shortcutscope.retrieval.lines.tracing import between, lines_of, ridges_of


def picture(*, thick=1.0, curve=0.0):
    """A thin line from left to right over a slope, and a wide step."""
    y, x = np.mgrid[:96, :96].astype(float)
    middle = 30 + 0.3 * x + curve * (x - 48) ** 2
    image = 0.3 + 0.002 * x + 0.2 * (y > 80)
    return image + 0.2 * np.exp(-((y - middle) ** 2) / (2 * thick**2)), middle


@pytest.mark.parametrize("curve", [0.0, 0.006])
def test_a_thin_line_is_traced_as_one(curve):
    image, middle = picture(curve=curve)
    lines = lines_of(ridges_of(image), 0.2, 30)
    longest = int(lines.length.argmax())
    own = lines.number == longest
    assert lines.length[longest] >= 80
    assert np.abs(lines.y[own] - middle[lines.y[own], lines.x[own]]).max() < 1.5


def test_lines_that_cross_stay_apart():
    y, x = np.mgrid[:96, :96].astype(float)
    image = 0.3 + 0.2 * (np.exp(-((y - x) ** 2) / 4) + np.exp(-((y + x - 95) ** 2) / 4))
    lines = lines_of(ridges_of(image), 0.2, 25)
    for number in range(len(lines)):
        own = lines.number == number
        assert between(lines.across[own], lines.across[own][0]).max() < 0.5


def test_a_flat_picture_has_no_lines():
    assert len(lines_of(ridges_of(np.full((20, 33), 0.4)), 0.1, 8)) == 0


def test_angles_between_lines_have_no_direction():
    assert between(0.1, np.pi + 0.1) == pytest.approx(0, abs=1e-9)
    assert between(0.1, np.pi - 0.1) == pytest.approx(0.2)
