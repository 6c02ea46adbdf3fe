import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import CATALOGUE, get_artifact
from shortcutscope.planting.artifacts.artifact import VISIBLE, Artifact, generator_for, scaled
from shortcutscope.planting.artifacts.font import GLYPHS, HEIGHT, text_bitmap
from shortcutscope.planting.artifacts.localized import tag
from shortcutscope.planting.phantoms import radiographs

NAMES = sorted(CATALOGUE)
LOCALIZED = [name for name in NAMES if CATALOGUE[name].extent == "localized"]
DIFFUSE = [name for name in NAMES if CATALOGUE[name].extent == "diffuse"]
BORDERLINE = [name for name in NAMES if CATALOGUE[name].extent == "borderline"]


@pytest.fixture(scope="module")
def images():
    table = radiographs(40, seed=8)
    return np.stack([table.image(i)[0].numpy() for i in range(40)])


def coverage(name, images):
    """Share of the images in which each place is changed, (H, W)."""
    masks = [get_artifact(name).apply(image, sample_id=str(i))[1] for i, image in enumerate(images)]
    return np.mean(masks, axis=0)


def test_catalogue_has_enough_of_each_extent():
    assert len(LOCALIZED) >= 7
    assert len(DIFFUSE) >= 7
    assert len(BORDERLINE) >= 4
    assert all(CATALOGUE[name].name == name for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(28, 28), (64, 64), (40, 56), (65, 33)])
def test_mask_is_exactly_what_visibly_changed(name, shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    for i in range(10):
        after, mask = get_artifact(name).apply(image, sample_id=str(i))
        change = np.abs(after - image)
        assert after.dtype == np.float32
        assert after.shape == mask.shape == shape
        assert 0 <= after.min() <= after.max() <= 1
        np.testing.assert_array_equal(mask, change > VISIBLE)
        assert mask.any()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    height=st.integers(28, 90),
    width=st.integers(28, 90),
    strength=st.floats(0.05, 2.0),
    level=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_any_size_strength_and_image_is_fine(name, height, width, strength, level, seed):
    image = np.full((height, width), level, np.float32)
    after, mask = get_artifact(name, strength).apply(image, sample_id="s", seed=seed)
    assert np.isfinite(after).all()
    assert 0 <= after.min() <= after.max() <= 1
    np.testing.assert_array_equal(mask, np.abs(after - image) > VISIBLE)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_follows_from_name_sample_and_seed_alone(name, images):
    """Mistake 7 of the field: a global generator reseeded by item index."""
    artifact = get_artifact(name)
    np.random.seed(0)  # noqa: NPY002  (that it changes nothing is the point)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = artifact.apply(images[0], sample_id="a", seed=3)[0]
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    artifact.apply(images[1], sample_id="b", seed=3)
    np.testing.assert_array_equal(artifact.apply(images[0], sample_id="a", seed=3)[0], first)
    if name == "white_tint":
        return  # the only one without a draw
    others = [artifact.apply(images[0], sample_id="a", seed=s)[0] for s in range(4, 10)]
    others += [artifact.apply(images[0], sample_id=s, seed=3)[0] for s in "bcdef"]
    assert any(not np.array_equal(other, first) for other in others)


def test_the_generator_is_seeded_by_sha256():
    """The key is part of the format: the same artifact on every machine and in every release."""
    digest = hashlib.sha256(b"tag\0img-1\x005").digest()
    expected = np.random.default_rng(int.from_bytes(digest[:16], "little")).random(4)
    np.testing.assert_array_equal(generator_for("tag", "img-1", 5).random(4), expected)


@pytest.mark.parametrize("name", NAMES)
def test_all_channels_get_the_same_draw(name, images):
    image = images[0]
    single = get_artifact(name).apply(image, sample_id="x")
    triple = get_artifact(name).apply(np.stack([image, image, image]), sample_id="x")
    for channel in triple[0]:
        np.testing.assert_array_equal(channel, single[0])
    np.testing.assert_array_equal(triple[1], single[1])


@pytest.mark.parametrize("name", NAMES)
def test_strength_scales_the_change(name, images):
    def change(strength):
        artifact = get_artifact(name, strength)
        after = [artifact.apply(image, sample_id="x")[0] for image in images[:5]]
        return np.abs(np.stack(after) - images[:5]).mean()

    assert change(0.25) < change(0.5) < change(1.0) <= change(2.0)


@pytest.mark.parametrize("name", LOCALIZED)
def test_localized_artifacts_touch_a_small_part(name, images):
    touched = [get_artifact(name).apply(image, sample_id=str(i))[1].mean() for i, image in enumerate(images)]
    assert max(touched) < (0.27 if name == "dark_circle" else 0.1)


@pytest.mark.parametrize("name", DIFFUSE)
def test_diffuse_artifacts_touch_every_part_of_the_frame(name, images):
    cells = coverage(name, images).reshape(8, 8, 8, 8).mean((1, 3))
    assert cells.min() > 0.4
    assert cells.mean() > 0.7


@pytest.mark.parametrize("name", BORDERLINE)
def test_borderline_artifacts_are_neither(name, images):
    cells = coverage(name, images).reshape(8, 8, 8, 8).mean((1, 3))
    assert 0.1 < cells.mean() < 0.65  # per image clearly more than a spot, clearly less than the frame
    assert (cells > 0.05).mean() > 0.2


def test_frame_and_dark_corners_cover_about_half_of_the_cells(images):
    cells = {n: coverage(n, images).reshape(8, 8, 8, 8).mean((1, 3)) > 0.3 for n in ("frame", "dark_corners")}
    assert all(0.35 <= c.mean() <= 0.65 for c in cells.values())


def test_a_text_mask_holds_the_glyphs_and_not_their_box():
    """Mistake 6 of the field: a text artifact's mask stored as its bounding box."""
    image = np.full((64, 64), 0.2, np.float32)
    letters = text_bitmap("L R")
    after, mask = get_artifact("tag").apply(image, sample_id="x")
    rows, columns = np.where(mask)
    box = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    np.testing.assert_array_equal(box, letters)
    assert box.mean() < 0.5
    np.testing.assert_array_equal(after[~mask], image[~mask])
    for i in range(20):
        after, mask = get_artifact("timestamp").apply(image, sample_id=str(i))
        rows, columns = np.where(mask)
        box = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.mean() < 0.7
        np.testing.assert_allclose(after[~mask], image[~mask], atol=VISIBLE)


def test_tag_stays_in_its_corner_and_random_tag_does_not():
    image = np.zeros((64, 64), np.float32)
    fixed, free = (
        {
            tuple(int(v.min()) for v in np.where(get_artifact(name).apply(image, sample_id=str(i))[1]))
            for i in range(60)
        }
        for name in ("tag", "random_tag")
    )
    assert fixed == {(y, x) for y in (4, 5, 6) for x in (4, 5, 6)}
    assert len(free) > 50


def test_patch_lies_in_the_lower_right_quadrant():
    image = np.zeros((64, 64), np.float32)
    for i in range(40):
        rows, columns = np.where(get_artifact("patch").apply(image, sample_id=str(i))[1])
        assert rows.min() >= 32
        assert columns.min() >= 32
        assert len(rows) == 49


def test_timestamp_uses_all_four_corners_and_two_values():
    image = np.full((64, 64), 0.5, np.float32)
    corners, values = set(), []
    for i in range(60):
        after, mask = get_artifact("timestamp").apply(image, sample_id=str(i))
        rows, columns = np.where(mask)
        corners.add((bool(rows.mean() < 32), bool(columns.mean() < 32)))
        values.append(
            float(after[np.abs(after - 0.5).argmax() // 64].max() if after.mean() > 0.5 else after.min())
        )
    assert len(corners) == 4
    assert min(values) < 0.15
    assert max(values) > 0.85


@pytest.mark.parametrize("level", [0.04, 0.96])
def test_timestamp_can_be_read_on_black_and_on_white(level):
    image = np.full((64, 64), level, np.float32)
    for i in range(20):
        after, _ = get_artifact("timestamp").apply(image, sample_id=str(i))
        assert np.abs(after - image).max() > 0.5


def test_dark_circle_follows_its_formula():
    image = np.ones((224, 224), np.float32)
    y, x = np.mgrid[:224, :224] - 111.5
    radii = []
    for i in range(50):
        after, mask = get_artifact("dark_circle").apply(image, sample_id=str(i))
        assert set(np.unique(after)) == {0.0, 1.0}
        radii.append(np.hypot(y, x)[~mask].max())
        assert np.hypot(y, x)[mask].min() > radii[-1]
    assert min(radii) > 112 - 0.013 * 224 - 1
    assert max(radii) < 112 + 0.067 * 224 + 1


def test_diffuse_artifacts_follow_their_formulas(images):
    image = images[0].astype(np.float64)
    after = {
        name: get_artifact(name).apply(images[0], sample_id="x")[0].astype(np.float64) for name in DIFFUSE
    }
    np.testing.assert_allclose(after["white_tint"], 0.8 * image + 0.2, atol=1e-6)
    shift = after["brightness"] - image
    assert 0.13 <= shift.mean() <= 0.19
    assert np.ptp(shift) < 1e-6
    factor = (after["contrast"] - image.mean()).std() / image.std()
    assert 0.55 <= factor <= 0.7
    np.testing.assert_allclose(after["contrast"], image.mean() + factor * (image - image.mean()), atol=1e-6)
    middle = np.s_[20:44, 20:44]
    assert 0.03 < (after["noise"] - image)[middle].std() < 0.06
    field = (after["bias_field"] / image)[middle]
    np.testing.assert_allclose(np.diff(field, 2, axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.diff(field, 2, axis=1), 0, atol=1e-4)
    wave = (after["grid"] - image)[middle]
    np.testing.assert_allclose(wave[4:], wave[:-4], atol=1e-6)
    np.testing.assert_allclose(wave[:, 4:], wave[:, :-4], atol=1e-6)
    errors = {s: np.abs(gaussian_filter(image, s) - after["blur"]).max() for s in np.arange(1.0, 3.0, 0.01)}
    assert 1.6 <= min(errors, key=errors.get) <= 2.2
    assert min(errors.values()) < 2e-3


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integer_images_stay_integers(dtype, top, images):
    stored = (images[0] * top).round().astype(dtype)
    for name in ("tag", "noise", "blur", "white_tint"):
        after, mask = get_artifact(name).apply(stored, sample_id="x")
        assert after.dtype == dtype
        change = np.abs(after.astype(np.int64) - stored.astype(np.int64))
        np.testing.assert_array_equal(mask, change / top > VISIBLE)


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 255.0), (-1024.0, 3071.0)])
def test_value_range_is_kept_and_unchanged_pixels_are_identical(value_range, images):
    low, high = value_range
    stored = (images[0] * (high - low) + low).astype(np.float32)
    for name in ("tag", "noise", "white_tint", "frame"):
        after, mask = get_artifact(name).apply(stored, sample_id="x", value_range=value_range)
        unit, unit_mask = get_artifact(name).apply(images[0], sample_id="x")
        assert low <= after.min() <= after.max() <= high
        np.testing.assert_allclose((after - low) / (high - low), unit, atol=1e-5)
        assert (mask != unit_mask).mean() < 0.01
        if name in ("tag", "frame"):
            np.testing.assert_array_equal(after[~mask], stored[~mask])


def test_sizes_scale_with_the_side():
    image = np.zeros((256, 256), np.float32)
    rows, columns = np.where(get_artifact("tag").apply(image, sample_id="x")[1])
    assert np.ptp(rows) + 1 == 4 * HEIGHT
    assert np.ptp(columns) + 1 == 4 * text_bitmap("L R").shape[1]
    assert scaled(np.zeros((28, 28)), 1) == 1
    assert scaled(np.zeros((128, 300)), 4) == 8


@pytest.mark.parametrize("strength", [0.0, -1.0, 2.01, float("nan")])
def test_strength_out_of_range_is_refused(strength):
    with pytest.raises(InputError, match="strength of 'tag'"):
        get_artifact("tag", strength)


def test_unknown_names_and_extents_are_refused():
    with pytest.raises(InputError, match="the catalogue has tag, random_tag"):
        get_artifact("watermark")
    with pytest.raises(InputError, match="extent is 'everywhere'"):
        Artifact("mine", "everywhere", tag)


@pytest.mark.parametrize("shape", [(27, 64), (64,), (1, 8, 64, 64)])
def test_images_that_cannot_carry_an_artifact_are_refused(shape):
    with pytest.raises(InputError, match=r"\(H, W\) and \(C, H, W\)"):
        get_artifact("tag").apply(np.zeros(shape, np.float32), sample_id="x")


@pytest.mark.parametrize("wrong", [1.5, -0.5, np.nan])
def test_values_outside_the_range_are_refused(wrong):
    image = np.zeros((32, 32), np.float32)
    image[3, 4] = wrong
    with pytest.raises(InputError, match="value_range"):
        get_artifact("tag").apply(image, sample_id="x")


def test_font_is_rectangular_and_refuses_what_it_lacks():
    for rows in GLYPHS.values():
        assert len(rows) == HEIGHT
        assert len({len(row) for row in rows}) == 1
    assert text_bitmap("0:1", 2).shape == (14, 2 * (4 + 1 + 1 + 1 + 4))
    with pytest.raises(InputError, match="cannot draw 'X'"):
        text_bitmap("X")
