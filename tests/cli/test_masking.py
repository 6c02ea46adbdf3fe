"""The command that draws masks: its arguments."""

import pytest

from shortcutscope.cli.masking import threshold_choice
from shortcutscope.errors import InputError


def test_thresholds_on_the_command_line():
    assert threshold_choice("otsu") == "otsu"
    assert threshold_choice("quantile") == "quantile"
    assert threshold_choice("0.4") == 0.4
    with pytest.raises(InputError, match="--threshold 'mean'"):
        threshold_choice("mean")
