"""Ranking beside the audited network by a representation of the user's choice."""

import numpy as np
import pandas as pd
import pytest
import torch

from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.retrieval import representation
from shortcutscope.retrieval.representation import Representation
from shortcutscope.retrieval.retrieval import Retrieval
from shortcutscope.stats.metrics import auroc

QUIET = Running(progress=False)


def telling(planted, noise=0.2):
    """Features, one of which tells carriers."""
    values = np.random.default_rng(0).normal(size=(len(planted.ids), 6)).astype(np.float32)
    values[:, 2] = planted.carries + noise * values[:, 2]
    return values


def ranked(planted, features, **options):
    return Retrieval.from_marks(
        planted.scanned, planted.rare[:10], features=features, running=QUIET, **options
    )


def unmarked_auroc(planted, found):
    unmarked = np.isnan(found.known)
    return auroc(planted.carries[unmarked].astype(float), found.scores[unmarked])


def test_features_that_tell_more_carry_the_ranking_and_say_so(planted):
    plain = Retrieval.from_marks(planted.scanned, planted.rare[:10])
    found = ranked(planted, telling(planted, 0.05))
    assert set(found.fusion.recoveries) == {"layers", "features"}
    assert found.fusion.recoveries["features"] > found.fusion.recoveries["layers"]
    assert found.fusion.carried_by == "features"
    assert unmarked_auroc(planted, found) >= unmarked_auroc(planted, plain) - 0.01
    assert any("features" in note for note in found.hits(5).notes)


def test_features_that_tell_nothing_are_left_out(planted):
    noise = np.random.default_rng(1).normal(size=(len(planted.ids), 6))
    found = ranked(planted, noise)
    assert found.fusion.weights["features"] == 0
    assert found.fusion.carried_by == "layers"


def test_features_alone_are_ranked_by_where_that_is_asked_for(planted):
    found = ranked(planted, telling(planted), view="features")
    assert found.fusion.weights == {"features": 1.0}
    with pytest.raises(InputError, match="give features= as a model"):
        found.score(planted.model, planted.table)


def test_rows_are_matched_by_id_from_a_frame_an_npz_and_a_parquet_file(planted, tmp_path):
    values = telling(planted)
    order = np.random.default_rng(2).permutation(len(values))
    frame = pd.DataFrame(values[order], columns=[f"f{k}" for k in range(values.shape[1])])
    frame["sample_id"] = np.asarray(planted.ids)[order]
    frame.to_parquet(tmp_path / "f.parquet")
    np.savez(tmp_path / "f.npz", features=values[order], sample_id=np.asarray(planted.ids).astype(str)[order])
    for source in (values, frame, tmp_path / "f.parquet", tmp_path / "f.npz", torch.from_numpy(values)):
        made = Representation.of(source, planted.ids, None)
        np.testing.assert_array_equal(made.views.features, values)


def test_an_encoder_is_shown_the_images_once_and_scores_new_ones(planted, tmp_path, monkeypatch):
    encoder = thin_resnet18(num_classes=7, width=4, seed=5)
    found = ranked(planted, encoder, images=planted.table, view="features", cache=tmp_path)
    assert len(found.fusion.recoveries) == 1
    assert any("as the audited network is" in note for note in found.hits(5).notes)
    scores = found.score(planted.model, planted.table.take(range(9)))
    assert scores.index.tolist() == list(planted.ids[:9])
    assert np.isfinite(scores).all()
    monkeypatch.setattr(representation, "blocks_of", lambda *_: pytest.fail("shown again"))
    again = ranked(planted, encoder, images=planted.table, view="features", cache=tmp_path)
    np.testing.assert_array_equal(again.scores, found.scores)


def test_an_encoder_reads_a_table_of_its_own(planted):
    encoder = thin_resnet18(width=4, seed=5)
    bright = planted.table.with_transform(lambda image: image + 1)
    own = ranked(planted, (encoder, bright), view="features")
    same = ranked(planted, encoder, images=planted.table, view="features")
    assert not np.allclose(own.scores, same.scores)
    # New images are shown to it as those were, whatever the audited network is shown.
    few = planted.table.take(range(9))
    expected = own.score(planted.model, bright.take(range(9)))
    np.testing.assert_array_equal(own.score(planted.model, few), expected)
    with pytest.raises(InputError, match="open them as the table of features="):
        own.score(planted.model, few.replaced(value_range=(0.0, 2.0)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f, ids: f[:-1], "rows without sample ids"),
        (lambda f, ids: pd.DataFrame(f).add_prefix("f").assign(sample_id=["x", *ids[1:]]), "features of 1"),
        (lambda f, ids: "nowhere.npz", "no such file"),
        (lambda f, ids: thin_resnet18(width=4), "has to be shown the images"),
    ],
)
def test_what_cannot_be_ranked_by_is_refused(planted, change, words):
    with pytest.raises(InputError, match=words):
        ranked(planted, change(telling(planted), list(planted.ids)))


def test_views_that_contradict_are_refused(planted):
    with pytest.raises(InputError, match="does not rank by features"):
        ranked(planted, telling(planted), view="layers")
    with pytest.raises(InputError, match="give features="):
        ranked(planted, None, view="features")
