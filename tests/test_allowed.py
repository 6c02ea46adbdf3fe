"""What options may be."""

import math

import numpy as np
import pytest

from shortcutscope.allowed import NUMBERS, WORDS, check_options
from shortcutscope.errors import InputError


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("batch_size", 0, "a whole number of at least 1"),
        ("batch_size", 2.5, "whole number"),
        ("batch_size", True, "whole number"),
        ("workers", -1, "at least 0"),
        ("seed", -1, "from 0 to"),
        ("seed", 2**63, "from 0 to"),
        ("n_permutations", 10, "at least 50"),
        ("bootstrap", 0, "at least 20"),
        ("lr", math.nan, "a number above 0"),
        ("lr", math.inf, "a number above 0"),
        ("epochs", 0, "above 0"),
        ("k", 0, "at least 1"),
        ("start", "modle", "model, fresh"),
        ("task", "regression", "multiclass"),
        ("device", "banana", "there are cpu"),
        ("device", "cuda:99", "there are cpu"),
    ],
)
def test_r11_what_an_option_may_not_be_is_refused_with_what_it_may(name, value, allowed):
    with pytest.raises(InputError, match=rf"^{name}={value}.*{allowed}"):
        check_options({name: value})


def test_what_is_allowed_passes():
    check_options({"batch_size": np.int64(3), "seed": 0, "lr": 1e-4, "epochs": 0.5, "positive": None})
    check_options({"device": "cpu"})
    check_options({"start": "model", "threshold": "otsu", "unknown": -1})
    assert all(str(number) for number in NUMBERS.values())
    assert all(WORDS.values())
