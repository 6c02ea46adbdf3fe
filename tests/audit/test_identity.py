"""A run knows its data: other images, labels, transforms and weights are refused, and named."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from shortcutscope.audit.identity import FILE, PROBED, Sketch, keep_identity, refuse_other_data
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.data.table import ImageTable, Normalize
from shortcutscope.errors import InputError

N = 40
RNG = np.random.default_rng(0)
IMAGES = RNG.random((N, 1, 20, 20)).astype(np.float32) ** 2
FRAME = pd.DataFrame({"sample_id": [f"s{k:02d}" for k in range(N)], "label": RNG.integers(0, 2, N)})
USUAL = Normalize(0.3, 0.2)


def table(images=IMAGES, frame=FRAME, transform=USUAL, **options):
    return ImageTable.from_arrays(images, frame, transform=transform, **options)


@pytest.fixture
def run(tmp_path):
    """A run that audited the second half and was told of the first, on which the model was trained."""
    everything = table(classes=["sick", "well"])
    made = RunDirectory(tmp_path / "run", {})
    keep_identity(made, everything.take(np.arange(N // 2, N)), everything.take(np.arange(N // 2)))
    return made.path


AUDITED = slice(N // 2, N)


def audited(images=IMAGES, frame=FRAME, **options):
    return table(images[AUDITED], frame.iloc[AUDITED], **options)


def mixed(x: torch.Tensor) -> torch.Tensor:
    """Another code that does what USUAL does."""
    return (x - 0.3) * 5.0


def test_the_same_data_pass_however_they_are_given(run):
    refuse_other_data(run, audited())
    refuse_other_data(run, table())  # with the training samples
    refuse_other_data(run, audited().take(np.arange(5)[::-1]))
    refuse_other_data(run, audited(transform=mixed))
    # Stored in another type, and read at the size that they have: other contents, the same pixels.
    refuse_other_data(run, audited(IMAGES.astype(np.float64), size=20))
    refuse_other_data(run, table(1 - IMAGES, FRAME.assign(sample_id=[f"n{k}" for k in range(N)])))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": 1 - IMAGES}, "images: 16 of 16"),
        ({"images": IMAGES[..., ::-1].copy()}, "images"),
        ({"images": np.roll(IMAGES, 1, axis=0)}, "images"),
        ({"images": 0.98 * IMAGES}, "images"),
        ({"size": 10}, "images.*1 x 10 x 10.*1 x 20 x 20"),
        ({"mode": "RGB"}, "images.*3 x 20 x 20"),
        ({"images": 255 * IMAGES, "value_range": (0, 255)}, "images: their range is 0 to 255 now, 0 to 1 in"),
        ({"frame": FRAME.assign(label=1 - FRAME["label"])}, "labels: 20 of 20"),
        ({"frame": FRAME.assign(label=FRAME["label"].where(FRAME.index != 30, 5))}, "labels: 1 of 20"),
        ({"classes": ["well", "sick"]}, "labels: class 0 is 'well' now, 'sick' in the run"),
        ({"transform": None}, "transform: None now, Normalize"),
        ({"transform": Normalize(0.3, 0.21)}, r"transform: Normalize\(.*0.21.*Normalize\(.*0.2.* in the run"),
        ({"transform": Normalize(0.3, 0.2, size=10)}, "transform"),
    ],
)  # fmt: skip
def test_r3_what_differs_is_refused_by_name(run, change, named):
    with pytest.raises(InputError, match=rf"(?s)were audited in .*run.*- {named}") as error:
        refuse_other_data(run, audited(**change))
    kinds = {line.split(":")[0] for line in str(error.value).splitlines() if line.startswith("- ")}
    assert kinds == {f"- {named.split(':')[0].split('.')[0]}"}


def test_r3_all_that_differs_is_named_at_once(run):
    other = audited(1 - IMAGES, FRAME.assign(label=1 - FRAME["label"]))
    with pytest.raises(InputError, match=r"(?s)- labels.*- images"):
        refuse_other_data(run, other)


def test_r3_one_file_that_changed_is_seen_although_nobody_looked_at_its_pixels(run):
    images = IMAGES.copy()
    images[N // 2 + 2] = 0.5  # one that is not looked at
    with pytest.raises(InputError, match="images: the files of 1 of 20 have changed since, such as 's22'"):
        refuse_other_data(run, audited(images))


def test_r3_training_samples_are_known_too(run):
    half = np.arange(N // 2)
    refuse_other_data(run, table().take(half))
    for other in (table(1 - IMAGES), table(frame=FRAME.assign(label=1 - FRAME["label"]))):
        with pytest.raises(InputError, match=r"images|labels"):
            refuse_other_data(run, other.take(half))


def test_r3_of_strangers_the_transform_is_compared_by_what_it_does(run):
    new = FRAME.assign(sample_id=[f"n{k}" for k in range(N)])
    refuse_other_data(run, table(frame=new, transform=mixed))
    for transform in (Normalize(0.4, 0.2), None, Normalize(0.3, 0.2, size=10)):
        with pytest.raises(InputError, match=r"transform: .*the same image becomes"):
            refuse_other_data(run, table(frame=new, transform=transform))
    with pytest.raises(InputError, match="labels: class 0"):
        refuse_other_data(run, table(frame=new, classes=["well", "sick"]))


def test_planted_twins_may_have_other_pixels(run):
    refuse_other_data(run, audited(np.clip(IMAGES + 0.2, 0, 1)), others=True)
    with pytest.raises(InputError, match="transform"):
        refuse_other_data(run, audited(transform=None), others=True)


def test_training_samples_without_images_keep_their_labels(tmp_path):
    made = RunDirectory(tmp_path / "run", {})
    blank = table(np.broadcast_to(np.float32(0), (N, 1, 1, 1)))
    keep_identity(made, audited(), blank.take(np.arange(N // 2)))
    refuse_other_data(made.path, table().take(np.arange(N // 2)))
    with pytest.raises(InputError, match="labels: 20 of 20"):
        refuse_other_data(
            made.path, table(frame=FRAME.assign(label=1 - FRAME["label"])).take(np.arange(N // 2))
        )


def test_r9_images_that_are_all_the_same_are_refused_before_anything_is_written(tmp_path):
    made = RunDirectory(tmp_path / "run", {})
    with pytest.raises(InputError, match="the same input for all of the 16 images"):
        keep_identity(made, table(np.ones_like(IMAGES)), None)
    with pytest.raises(InputError, match="the transform makes them one"):
        keep_identity(made, table(transform=lambda x: 0 * x), None)
    assert not (tmp_path / "run").exists()


def test_a_run_without_an_identity_says_what_to_do(run):
    (run / FILE).unlink()
    with pytest.raises(InputError, match="run the same audit again"):
        refuse_other_data(run, table())


@pytest.mark.parametrize("shape", [(3, 11), (1, 4, 5), (2, 9, 8, 7), (5,), (1, 2, 2, 2, 2)])
def test_a_sketch_tells_pictures_of_any_kind_apart(shape):
    picture = torch.from_numpy(RNG.random(shape, np.float32))
    own = Sketch.of(picture)
    assert own.shape == shape
    assert own.like(Sketch.of(picture.double()), 1.0)
    assert not own.like(Sketch.of(1 - picture), 1.0)
    assert not own.like(replace(own, shape=(*shape, 1)), 1.0)


def test_a_grey_level_here_and_there_is_no_other_picture():
    """As decoders of JPEG differ."""
    picture = torch.from_numpy(RNG.random((1, 64, 64), np.float32))
    noise = torch.from_numpy(RNG.integers(-1, 2, picture.shape).astype(np.float32)) / 255
    assert Sketch.of(picture).like(Sketch.of(picture + noise), 1.0)
    assert PROBED == 16
