import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.models import ResNet18_Weights
from torchvision.transforms import v2

from shortcutscope.data.sample_geometry import image_name
from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform import Normalize
from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.planting import plant

SIZE = (37, 52)


def table(**options):
    images = np.random.default_rng(0).integers(0, 255, (4, *SIZE), dtype=np.uint8)
    return ImageTable.from_arrays(images, [0, 1, 0, 1], **options)


def seen_by(transform, place):
    """Where a bright block of the image lies in the model's input."""
    image = torch.zeros(1, *SIZE)
    image[:, place[0] : place[0] + 5, place[1] : place[1] + 5] = 1
    out = transform(image)[0]
    return (out - out.min()) / (out.max() - out.min()) > 0.5


@pytest.mark.parametrize(
    "transform",
    [
        None,
        Normalize(0.5, 0.25),
        Normalize(0.5, 0.25, size=(64, 48)),
        transforms.Compose([transforms.Resize(60, antialias=True), transforms.CenterCrop(56)]),
        v2.Compose([v2.Resize((80, 70)), v2.CenterCrop((61, 44)), v2.Normalize([0.5], [0.2])]),
        v2.Compose([v2.Pad((3, 7)), v2.Resize(64)]),
        transforms.Compose([transforms.Pad([2, 9, 4, 1]), transforms.CenterCrop(35)]),
        transforms.CenterCrop(64),
        nn.Sequential(v2.Resize(48, max_size=60), transforms.Pad(2)),
        lambda x: (x - 0.3) / 0.2,
        lambda x: x.repeat(3, 1, 1),
    ],
)
def test_blocks_are_found_again_in_the_image(transform):
    samples = table(transform=transform)
    geometry = samples.geometry(0)
    assert geometry.size == SIZE
    assert geometry.input_size == tuple(samples[0][0].shape[1:])
    for place in ((12, 20), (18, 27)):
        found = geometry.to_source(seen_by(transform or (lambda x: x), place))
        rows, columns = np.nonzero(found)
        centre = (rows.mean(), columns.mean())
        assert np.allclose(centre, np.array(place) + 2, atol=0.75), (centre, place)


def test_presets_of_weights():
    images = np.random.default_rng(0).integers(0, 255, (2, 3, *SIZE), dtype=np.uint8)
    samples = ImageTable.from_arrays(images, [0, 1], transform=ResNet18_Weights.DEFAULT.transforms())
    geometry = samples.geometry(0)
    assert geometry.input_size == tuple(samples[0][0].shape[1:]) == (224, 224)
    seen = geometry.seen()
    assert seen[:, SIZE[1] // 2].sum() == pytest.approx(SIZE[0] * 224 / 256, abs=1)
    assert not seen[:, 0].any()


@pytest.mark.parametrize(
    "transform",
    [
        lambda x: x.flip(2),
        lambda x: x[:, 3:],
        lambda x: x.transpose(1, 2),
        lambda x: torch.roll(x, 1, 1),
        transforms.Compose([transforms.RandomHorizontalFlip(1.0)]),
        v2.RandomRotation((90, 90)),
    ],
)
def test_steps_that_move_pixels_are_refused_by_name(transform):
    with pytest.raises(InputError, match=r"moves pixels|Random|lambda"):
        table(transform=transform).geometry(0)


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_turned_photographs(tmp_path, number, suffix):
    stored = np.zeros((24, 40), dtype=np.uint8)
    stored[4:12, 20:36] = 255
    exif = Image.Exif()
    exif[0x0112] = number
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", exif=exif)
    frame = pd.DataFrame({"image": [f"a.{suffix}"], "label": [0]})
    samples = ImageTable.from_frame(frame, root=tmp_path, size=(48, 32))
    geometry = samples.geometry(0)
    assert geometry.stored_size == (24, 40)
    bright = samples.image(0)[0] > 0.5
    assert np.array_equal(geometry.to_source(bright, frame="stored"), stored > 0)
    own = ImageTable.from_frame(frame, root=tmp_path)
    assert np.array_equal(geometry.to_source(bright), own.image(0)[0].numpy() > 0.5)


def test_planted_tables_and_other_sources(tmp_path):
    planted = plant(table(size=32), get_artifact("patch"))
    assert planted.geometry(0).size == SIZE
    np.savez(
        tmp_path / "m.npz", train_images=np.zeros((2, 28, 20), np.uint8), train_labels=np.array([[0], [1]])
    )
    packed = ImageTable.from_medmnist(tmp_path / "m.npz", splits=("train",), size=14)
    assert packed.geometry(1).size == (28, 20)
    pairs = [(torch.zeros(1, 9, 7), 0), (torch.zeros(1, 9, 7), 1)]
    wrapped = ImageTable.from_dataset(pairs, pd.DataFrame({"label": [0, 1]}), size=5)
    assert wrapped.geometry(0).size == (9, 7)
    np.save(tmp_path / "a.npy", np.zeros((12, 500), np.float32))
    frame = pd.DataFrame({"image": ["a.npy"], "label": [0]})
    signal = ImageTable.from_frame(frame, root=tmp_path, dims=1, size=100)
    assert signal.geometry(0).size == (500,)
    deep = Image.fromarray(np.zeros((5, 6), np.uint16))
    deep.save(tmp_path / "v.tif", save_all=True, append_images=[deep])
    volume = ImageTable.from_frame(pd.DataFrame({"image": ["v.tif"], "label": [0]}), root=tmp_path)
    assert volume.geometry(0).size == (2, 5, 6)


def test_names_of_images(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / name)
    frame = pd.DataFrame({"image": ["sub/b.png", str(tmp_path / "a.png")], "label": [0, 1]})
    samples = ImageTable.from_frame(frame.assign(sample_id=["x", "y"]), root=tmp_path)
    assert [image_name(samples.take([1, 0]), i) for i in range(2)] == ["a.png", "sub/b.png"]
    assert image_name(plant(samples, get_artifact("patch")), 0) == "sub/b.png"
    assert image_name(table(), 2) == "2"
