"""The suite of names: what is planted is named, and the summary counts what it should."""

from pathlib import Path

import numpy as np
import pytest

from shortcutscope.benchmarks.diffuse_changes import CHANGES, changed
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import names
from shortcutscope.discover.naming.words import WORDS


@pytest.fixture
def settings(tmp_path: Path, monkeypatch) -> Settings:
    monkeypatch.setattr(names, "QUICK_IMAGES", 90)
    names._pool.cache_clear()
    return Settings(quick=True, seed=0, data=None, cache=tmp_path, jobs=1)


def case(kind, **other):
    plain = {"background": "phantoms 64", "correlation": 0.9, "carriers": "true", "flipped": 0.0, "draw": 0}
    return {**plain, "kind": kind, **other}


def test_what_is_planted_is_named_and_nothing_is_not(settings):
    assert names.run_case(case("darker"), settings)["first"]
    assert names.run_case(case("warm"), settings)["first"]
    assert names.run_case(case("nothing"), settings)["words"] == []


def test_there_are_twenty_kinds_each_with_words_that_there_are():
    words = {word for one in WORDS.values() for word in (one.more, one.less)}
    assert len(CHANGES) >= 20
    for kind, change in CHANGES.items():
        assert change.words <= words, kind
        picture = np.full((3 if change.colours else 1, 48, 48), 0.4, np.float32)
        picture[:, 10:30, 10:30] = 0.6
        picture[0] += 0.1
        after = changed(picture, kind, np.random.default_rng(0))
        assert after.shape == picture.shape
        assert 0 <= after.min() <= after.max() <= 1
        if kind not in ("blur", "JPEG"):
            assert np.abs(after - picture).mean() > 0.003, kind


def test_that_share_of_either_side_is_flipped():
    labels = np.arange(100) % 2
    carries = names.drawn_carriers(labels, 0.8, np.random.default_rng(0))
    noisy = names.flipped(carries, labels, 0.2, np.random.default_rng(1))
    for label, side in ((0, 0), (0, 1), (1, 0), (1, 1)):
        own = (labels == label) & (carries == side)
        assert (noisy[own] != side).sum() == round(0.2 * own.sum())


def test_the_summary_tells_carriers_apart(settings):
    listed = names.cases(settings)
    done = [
        {**c, "first": True, "named": True, "words": [] if c["kind"] == "nothing" else ["x"]} for c in listed
    ]
    summary = names.summarize(done)
    assert summary["true"]["first"] == summary["noisy"]["named"] == 1
    assert summary["nothing"]["nothing_named"] == 1
    assert set(summary["first_by_kind"]) == set(CHANGES)
    assert "films" not in summary
