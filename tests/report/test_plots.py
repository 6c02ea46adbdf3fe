"""Results draw themselves, on axes of one's own or as figures that a notebook shows."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

import shortcutscope as ss
from shortcutscope.errors import InputError

PNG = b"\x89PNG"


@pytest.fixture
def audit(finished_run):
    return ss.Audit.open(finished_run)


def test_an_audit_is_a_container_of_its_findings(audit):
    assert "tag" in audit
    assert "discovered 1" not in audit
    assert [f.name for f in audit] == [f.name for f in audit.findings]
    assert len(audit) == len(audit.findings) == len(list(audit))
    assert audit


def test_results_draw_themselves_without_pyplot(audit):
    for drawn in (audit.plot(), audit["tag"].plot(), audit.plot()):
        assert drawn._repr_png_().startswith(PNG)
    names = [text.get_text() for text in audit.plot().axes[0].get_yticklabels()]
    assert [name.split("\n")[0] for name in names] == [f.title for f in audit]
    assert audit["tag"].plot().axes[0].get_lines()[0].get_ydata()[-1] == pytest.approx(0.97, abs=0.05)


def test_they_draw_on_axes_of_ones_own(audit):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert audit.plot(ax=left) is figure
    assert audit["tag"].plot(ax=right) is figure
    assert left.get_lines()
    assert right.get_lines()


def test_what_was_not_measured_is_not_drawn(audit):
    with pytest.raises(InputError, match="nothing was measured of 'operator'"):
        audit["operator"].plot()
