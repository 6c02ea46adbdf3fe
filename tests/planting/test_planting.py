import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.artifacts.artifact import VISIBLE, Artifact
from shortcutscope.planting.planting import PlantedSource, artifact_mask, clean_twin, everywhere, plant, triad

SIDE = 32


def make_table(n=40, n_classes=2, dtype=np.float32, value_range=(0.0, 1.0), seed=0):
    generator = np.random.default_rng(seed)
    unit = generator.uniform(0.2, 0.6, (n, SIDE, SIDE))
    low, high = value_range
    images = (unit * 255).astype(np.uint8) if dtype == np.uint8 else (unit * (high - low) + low).astype(dtype)
    frame = pd.DataFrame(
        {
            "sample_id": [f"img-{i:03d}" for i in range(n)],
            "label": np.arange(n) % n_classes,
            "group": [f"p{i // 2}" for i in range(n)],
            "site": generator.choice(["a", "b"], n),
        }
    )
    masks = generator.random((n, SIDE, SIDE)) < 0.1
    return ImageTable.from_arrays(images, frame, masks=masks, value_range=value_range)


@pytest.fixture
def table():
    return make_table()


def pixels(table):
    return np.stack([table.image(i).numpy() for i in range(len(table))])


def carriers_by_class(table, column="tag"):
    return table.frame.groupby("label")[column].sum().to_dict()


def same(first, second):
    np.testing.assert_array_equal(pixels(first), pixels(second))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(4, 60),
    n_classes=st.integers(2, 4),
    correlation=st.floats(0.5, 1),
    seed=st.integers(0, 10**6),
)
def test_the_number_of_carriers_is_exact_in_every_class(n, n_classes, correlation, seed):
    base = make_table(n, n_classes)
    planted = plant(base, get_artifact("tag"), correlation=correlation, seed=seed)
    counts = base.frame["label"].value_counts()
    expected = {
        label: round((correlation if label == 1 else 1 - correlation) * int(counts[label]))
        for label in range(n_classes)
    }
    assert carriers_by_class(planted) == expected


def test_exactly_the_carriers_are_changed_and_the_rest_of_the_table_stays(table):
    planted = plant(table, get_artifact("tag"), correlation=0.8)
    changed = (pixels(planted) != pixels(table)).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, planted.frame["tag"] == 1)
    assert planted.frame.drop(columns="tag").equals(table.frame)
    assert "tag" in planted.metadata
    for i in range(len(table)):
        assert torch.equal(planted.mask(i), table.mask(i))
    assert "tag" not in table.frame


def test_correlation_one_leaves_no_conflicting_sample(table):
    planted = plant(table, get_artifact("tag"), correlation=1.0)
    assert (planted.frame["tag"] == planted.frame["label"]).all()


def test_prevalence_overrides_the_correlation_for_the_labels_it_names(table):
    planted = plant(table, get_artifact("tag"), correlation=0.9, prevalence={0: 0.5})
    assert carriers_by_class(planted) == {0: 10, 1: 18}
    planted = plant(table, get_artifact("tag"), prevalence={0: 0.0, 1: 0.0})
    assert carriers_by_class(planted) == {0: 0, 1: 0}


def test_another_class_can_be_the_positive_one():
    planted = plant(make_table(60, 3), get_artifact("tag"), correlation=0.9, positive=2)
    assert carriers_by_class(planted) == {0: 2, 1: 2, 2: 18}


def test_the_seed_chooses_the_carriers(table):
    first, again, other = (plant(table, get_artifact("tag"), seed=seed) for seed in (1, 1, 2))
    assert first.frame.equals(again.frame)
    same(first, again)
    assert not first.frame["tag"].equals(other.frame["tag"])


@pytest.mark.parametrize("name", ["random_tag", "noise", "tube"])
def test_a_subset_has_the_same_artifacts_as_the_whole(table, name):
    """Mistake 7 of the field: in a subset, items get other artifacts than in the full set."""
    planted = plant(table, get_artifact(name), seed=4)
    whole = pixels(planted)
    rows = np.array([31, 2, 17, 5])
    subset = planted.take(rows)
    np.testing.assert_array_equal(pixels(subset), whole[rows])
    np.testing.assert_array_equal(pixels(subset)[::-1], [subset.image(i).numpy() for i in (3, 2, 1, 0)])
    # also when the subset comes first and all its samples are made carriers
    late = everywhere(plant(table.take(rows), get_artifact(name), seed=4), name)
    carried = planted.frame[name].to_numpy()[rows] == 1
    np.testing.assert_array_equal(pixels(late)[carried], whole[rows][carried])
    for k, row in enumerate(rows):
        assert torch.equal(artifact_mask(subset, k), artifact_mask(planted, int(row)))


def test_worker_processes_and_pickles_see_the_same_images(table):
    planted = plant(table, get_artifact("noise"))
    copied = pickle.loads(pickle.dumps(planted))
    same(planted, copied)
    assert copied.fingerprint() == planted.fingerprint()
    loader = DataLoader(planted, batch_size=16, num_workers=1, multiprocessing_context="fork")
    loaded = torch.cat([images for images, _, _ in loader])
    np.testing.assert_array_equal(loaded.numpy(), pixels(planted))


@pytest.mark.parametrize("name", ["tag", "timestamp", "noise", "dark_circle"])
def test_the_mask_is_exactly_what_visibly_changed(table, name):
    """Mistake 6 of the field: masks that are bounding boxes."""
    planted = plant(table, get_artifact(name), correlation=0.7)
    clean = clean_twin(planted)
    for i in range(len(table)):
        mask = artifact_mask(planted, i)
        assert mask.dtype == torch.bool
        assert mask.shape == (SIDE, SIDE)
        change = (planted.image(i) - clean.image(i)).abs()[0]
        assert torch.equal(mask, change > VISIBLE)
        assert mask.any() == bool(planted.frame[name][i])


def test_the_clean_twin_is_the_table_before(table):
    planted = plant(table, get_artifact("blur"))
    twin = clean_twin(planted)
    same(twin, table)
    assert twin.fingerprint() == table.fingerprint() != planted.fingerprint()
    assert (twin.frame["blur"] == 0).all()
    assert twin.frame.drop(columns="blur").equals(table.frame)


def test_everywhere_gives_all_samples_the_artifact_and_carriers_keep_theirs(table):
    planted = plant(table, get_artifact("random_tag"))
    full = everywhere(planted, "random_tag")
    assert (full.frame["random_tag"] == 1).all()
    carriers = planted.frame["random_tag"] == 1
    np.testing.assert_array_equal(pixels(full)[carriers], pixels(planted)[carriers])
    assert all(artifact_mask(full, i).any() for i in range(len(full)))
    rebuilt = everywhere(planted.take([3, 8]), "random_tag")
    np.testing.assert_array_equal(pixels(rebuilt), pixels(full)[[3, 8]])


def test_artifacts_can_be_stacked_and_removed_one_by_one(table):
    first = plant(table, get_artifact("tag"), seed=1)
    both = plant(first.take(np.arange(39, -1, -1)), get_artifact("noise"), seed=2)
    assert isinstance(both.source, PlantedSource)
    assert not isinstance(both.source.base, PlantedSource)
    same(clean_twin(both, "noise").take(np.arange(39, -1, -1)), first)
    only_noise = plant(table.take(np.arange(39, -1, -1)), get_artifact("noise"), seed=2)
    same(clean_twin(both, "tag"), only_noise)
    same(clean_twin(both).take(np.arange(39, -1, -1)), table)
    assert (clean_twin(both).frame[["tag", "noise"]] == 0).all(axis=None)
    assert clean_twin(both, "tag").frame["noise"].equals(both.frame["noise"])
    carries = both.frame.eval("tag == 1 and noise == 1").to_numpy().nonzero()[0][0]
    tag, noise = (artifact_mask(both, carries, column) for column in ("tag", "noise"))
    assert torch.equal(artifact_mask(both, carries), tag | noise)
    assert tag.sum() < 60 < noise.sum()


def test_stacked_artifacts_choose_their_carriers_apart(table):
    both = plant(plant(table, get_artifact("tag"), correlation=0.5), get_artifact("noise"), correlation=0.5)
    assert not both.frame["tag"].equals(both.frame["noise"])


def test_one_artifact_can_be_planted_under_two_names(table):
    both = plant(
        plant(table, get_artifact("random_tag")), get_artifact("random_tag"), column="second", seed=9
    )
    assert {"random_tag", "second"} <= set(both.metadata)
    assert both.fingerprint() != clean_twin(both, "second").fingerprint()


def test_fingerprints_tell_what_was_planted(table):
    options = [
        {},
        {"seed": 1},
        {"correlation": 0.6},
        {"artifact": get_artifact("tag", 0.5)},
        {"artifact": get_artifact("ruler")},
    ]
    seen = {plant(table, **{"artifact": get_artifact("tag"), **option}).fingerprint() for option in options}
    assert len({*seen, table.fingerprint()}) == len(options) + 1
    assert plant(table, get_artifact("tag")).fingerprint() in seen


def test_the_triad_correlates_balances_and_inverts(table):
    sets = triad(table, get_artifact("tag"), correlation=0.9, seed=3)
    assert list(sets) == ["correlated", "balanced", "inverted"]
    assert carriers_by_class(sets["correlated"]) == {0: 2, 1: 18}
    assert carriers_by_class(sets["balanced"]) == {0: 10, 1: 10}
    assert carriers_by_class(sets["inverted"]) == {0: 18, 1: 2}
    full = everywhere(sets["balanced"], "tag")
    for planted in sets.values():
        same(clean_twin(planted), table)
        same(everywhere(planted, "tag"), full)


def test_the_triad_of_several_classes_inverts_every_share():
    sets = triad(make_table(60, 3), get_artifact("tag"), correlation=1.0, positive=0, column="mark")
    assert carriers_by_class(sets["correlated"], "mark") == {0: 20, 1: 0, 2: 0}
    assert carriers_by_class(sets["inverted"], "mark") == {0: 0, 1: 20, 2: 20}


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (-1000.0, 2000.0)])
def test_the_value_range_is_kept(value_range):
    low, high = value_range
    planted = plant(make_table(value_range=value_range), get_artifact("white_tint"), correlation=1.0)
    assert planted.value_range == value_range
    clean = clean_twin(planted)
    for i in np.flatnonzero(planted.frame["white_tint"]):
        unit = (clean.image(i) - low) / (high - low)
        torch.testing.assert_close(
            (planted.image(i) - low) / (high - low), 0.8 * unit + 0.2, atol=1e-5, rtol=0
        )
    planted.verify(progress=False)


def test_eight_bit_images_stay_eight_bit():
    planted = plant(make_table(dtype=np.uint8), get_artifact("noise"))
    assert planted.source.read(1).dtype == np.uint8
    levels = pixels(planted) * 255
    np.testing.assert_allclose(levels, levels.round(), atol=1e-4)


def test_colour_images_get_one_artifact_in_all_channels():
    images = np.random.default_rng(0).random((6, 3, SIDE, SIDE), np.float32) * 0.5
    planted = plant(ImageTable.from_arrays(images, np.arange(6) % 2), get_artifact("patch"), correlation=1.0)
    mask = artifact_mask(planted, 1)
    values = planted.image(1)[:, mask]
    torch.testing.assert_close(values, values[:1, :1].expand_as(values), atol=1e-6, rtol=0)


def test_artifacts_of_ones_own_can_be_planted(table):
    def halved(image, generator, strength):
        after = image * np.float32(1 - 0.5 * strength)
        return after, np.abs(after - image) > VISIBLE

    planted = plant(table, Artifact("halved", "diffuse", halved), correlation=1.0)
    torch.testing.assert_close(planted.image(1), table.image(1) / 2)
    assert artifact_mask(planted, 1).all()


def refused(match, call, *args, **options):
    with pytest.raises(InputError, match=match):
        call(*args, **options)


def test_impossible_requests_are_refused(table):
    tag = get_artifact("tag")
    planted = plant(table, tag)
    refused("has a column 'tag' already", plant, planted, tag)
    refused("has a column 'site' already", plant, table, tag, column="site")
    for correlation in (0.49, 1.01, float("nan")):
        refused("correlation is", plant, table, tag, correlation=correlation)
        refused("correlation is", triad, table, tag, correlation=correlation)
    refused("label\\(s\\) 2 have no samples", plant, table, tag, positive=2)
    refused("label\\(s\\) 7 have no samples", plant, table, tag, prevalence={7: 0.1})
    refused("prevalence {0: 1.2}", plant, table, tag, prevalence={0: 1.2})
    refused("no planted artifact|no artifact is planted", clean_twin, table)
    refused("planted as 'noise' in the table; planted: 'tag'", everywhere, planted, "noise")
    refused("planted as 'noise'", artifact_mask, planted, 0, "noise")


def test_a_wrong_value_range_or_a_volume_is_refused_before_any_training():
    tag = get_artifact("tag")
    images = np.full((4, SIDE, SIDE), 200.0, np.float32)
    refused("value_range", plant, ImageTable.from_arrays(images, [0, 1, 0, 1]), tag)
    volumes = ImageTable.from_arrays(np.zeros((4, 1, 8, SIDE, SIDE), np.float32), [0, 1, 0, 1])
    refused(r"\(H, W\) and \(C, H, W\)", plant, volumes, tag)


def test_a_table_that_lists_an_image_twice_is_refused(table):
    frame = table.frame.iloc[:4].assign(sample_id=list("abcd"))
    doubled = ImageTable(frame, table.source, rows=[0, 1, 1, 2])
    refused("lists an image twice", plant, doubled, get_artifact("tag"))


def test_an_artifact_goes_by_its_name_too(table):
    by_name, given = plant(table, "tag", seed=3), plant(table, get_artifact("tag"), seed=3)
    assert by_name.fingerprint() == given.fingerprint()
    with pytest.raises(InputError, match="the catalogue has"):
        plant(table, "taggg")
