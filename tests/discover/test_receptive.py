import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.receptive import covering_box, crops
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import model_state
from shortcutscope.models.layers import find_layers


def table_of(images, **options):
    frame = pd.DataFrame({"label": np.arange(len(images)) % 2})
    frame.insert(0, "sample_id", [f"s{i}" for i in range(len(images))])
    return ImageTable.from_arrays(images.astype(np.float32), frame, **options)


def stack(axes, *kernels):
    """Convolutions (kernel, stride, padding) of positive weights, then a score for each class."""
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    layers = [conv(1 if k == 0 else 2, 2, *kernel) for k, kernel in enumerate(kernels)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(1, 1, *(16,) * axes))
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 0.3, generator=torch.Generator().manual_seed(0))
    return model.eval()


def analytic(position, kernels, size):
    """Receptive field of a position along one axis (Araujo et al. 2019), within the image."""
    first = last = position
    for kernel, stride, padding in reversed(kernels):
        first, last = first * stride - padding, last * stride - padding + kernel - 1
    return max(first, 0), min(last + 1, size)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kernels", [[(3, 1, 1), (3, 2, 1)], [(5, 2, 2), (3, 1, 0), (2, 1, 0)]])
def test_the_field_of_convolutions_is_the_analytic_one(axes, kernels):
    images = np.random.default_rng(0).uniform(0, 0.2, (6, 1, *(16,) * axes))
    for i in range(6):
        images[(i, 0, *(2 * i + 3,) * axes)] = 1.0
    model, table = stack(axes, *kernels), table_of(images, dims=axes)
    name = str(len(kernels) - 1)
    fields = crops(model, table, name, 1, range(6), coverage=1.0, batch_size=4)
    with torch.no_grad():
        maps = model[: len(kernels)](torch.from_numpy(images).float())[:, 1]
    for i, field in enumerate(fields):
        assert field.activation == pytest.approx(maps[i].max().item(), rel=1e-6)
        assert maps[i][field.position] == maps[i].max()
        assert field.box == tuple(analytic(p, kernels, 16) for p in field.position)
        assert field.crop.shape == (1, *(stop - start for start, stop in field.box))
        assert field.heat_crop.sum() == pytest.approx(1, rel=1e-5)
        np.testing.assert_array_equal(field.image, images[i].astype(np.float32))
    assert [field.sample_id for field in fields] == table.frame["sample_id"].tolist()


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("shape", [(40,), (12, 9), (5, 6, 4)])
def test_a_box_covers_as_much_as_asked_for_and_no_face_is_to_spare(shape, coverage):
    mass = np.random.default_rng(1).exponential(size=shape) ** 3
    mass[0] = 0
    box = covering_box(mass, coverage)
    inside = mass[tuple(slice(*side) for side in box)]
    spare = inside.sum() - coverage * mass.sum()
    assert spare > -1e-9
    for axis in range(mass.ndim):
        faces = inside.sum(tuple(k for k in range(mass.ndim) if k != axis))
        assert len(faces) == 1 or min(faces[0], faces[-1]) > spare
    assert covering_box(np.zeros(shape)) == tuple((0, size) for size in shape)


def test_the_effective_field_lies_within_the_whole_one():
    images = np.random.default_rng(2).uniform(0, 1, (3, 1, 16, 16))
    model, table = stack(2, (3, 1, 1), (3, 1, 1), (3, 1, 1)), table_of(images)
    for part, whole in zip(
        *(crops(model, table, "2", 0, ["s2", "s0"], coverage=c) for c in (0.8, 1.0)), strict=True
    ):
        assert all(a <= c < d <= b for (a, b), (c, d) in zip(whole.box, part.box, strict=True))
        assert part.crop.size < whole.crop.size
        assert part.heat_crop.sum() >= 0.8
    assert part.sample_id == "s0"


class LookingRight(nn.Module):
    """The right half of the map speaks for the class, the left half against it."""

    def __init__(self):
        super().__init__()
        self.map = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.ones_(self.map.weight)

    def forward(self, x):
        values = self.map(x)[:, 0]
        score = values[..., 8:].sum((1, 2)) - 0.1 * values[..., :8].sum((1, 2))
        return torch.stack([-score, score], 1)


def test_the_most_relevant_position_need_not_be_the_most_active():
    images = np.full((1, 1, 16, 16), 0.1)
    images[0, 0, 3, 3], images[0, 0, 10, 12] = 1.0, 0.7
    model, table = LookingRight().eval(), table_of(images)
    (active,) = crops(model, table, "map", 0, [0], coverage=1.0)
    (relevant,) = crops(model, table, "map", 0, [0], by="relevance", coverage=1.0)
    assert active.image[0][tuple(slice(*side) for side in active.box)].max() == 1
    assert relevant.crop.max() == np.float32(0.7)
    assert relevant.activation == pytest.approx(0.7 + 8 * 0.1, rel=1e-5)


class Patches(nn.Module):
    """A class token and patches that all see each other."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 4, 4)
        self.first = nn.Parameter(torch.zeros(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(x), -1, -1), tokens], 1)
        return self.last(self.block(tokens)[:, 0])


def test_the_field_of_a_token_is_its_patch():
    torch.manual_seed(0)
    model = Patches().eval()
    images = np.random.default_rng(3).uniform(0, 1, (4, 1, 16, 16))
    layer = find_layers(model, torch.from_numpy(images).float(), ["block"])[0]
    for field in crops(model, table_of(images), layer, 3, [0, 1, 2, 3]):
        assert field.box == tuple((4 * p, 4 * p + 4) for p in field.position)
        assert np.count_nonzero(field.heat) == 256


def test_a_neuron_without_positions_sees_what_it_depends_on_and_one_that_is_off_its_cell():
    images = np.random.default_rng(4).uniform(0.1, 1, (2, 1, 16, 16))
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 3), nn.Linear(3, 2)).eval()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight.view(3, 16, 16)[1, 2:5, 7:9] = 1
    (field, _) = crops(model, table_of(images), "1", 1, [0, 1])
    assert (field.position, field.box) == ((), ((2, 5), (7, 9)))
    off = nn.Sequential(nn.Conv2d(1, 2, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)).eval()
    with torch.no_grad():
        off[0].weight[0], off[0].bias[0] = -1, -1
    (field, _) = crops(off, table_of(images), "1", 0, [0, 1])
    assert (field.activation, field.box) == (0.0, ((0, 4), (0, 4)))
    assert not field.heat.any()


def test_the_image_is_what_the_model_takes_where_a_transform_changes_its_size():
    images = np.random.default_rng(5).uniform(0, 1, (2, 1, 32, 32))
    half = table_of(images).with_transform(lambda image: image[:, ::2, ::2])
    field = crops(stack(2, (3, 1, 1)), half, "0", 0, [1])[0]
    np.testing.assert_array_equal(field.image, images[1, :, ::2, ::2].astype(np.float32))
    scaled = table_of(images[:, :, :16, :16]).with_transform(lambda image: image * 2 - 1)
    field = crops(stack(2, (3, 1, 1)), scaled, "0", 0, [1])[0]
    np.testing.assert_array_equal(field.image, images[1, :, :16, :16].astype(np.float32))


class Overwriting(nn.Module):
    """Writes into its layer's output, and then puts what it wrote to zero."""

    def __init__(self):
        super().__init__()
        self.filters = nn.Conv2d(1, 6, 3)
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        x = self.filters(x)
        kept = x.mean((2, 3))
        x *= 0
        return self.last(kept + x.mean((2, 3)))


def test_the_model_is_as_it_was_and_what_it_overwrites_is_seen_before():
    model = Overwriting().train()
    images = np.random.default_rng(6).uniform(0, 1, (3, 1, 8, 8))
    before = model_state(model)
    expected = nn.functional.conv2d(
        torch.from_numpy(images).float(), model.filters.weight, model.filters.bias
    ).detach()
    fields = crops(model, table_of(images), "filters", 2, [0, 1, 2])
    assert model_state(model) == before
    for i, field in enumerate(fields):
        assert field.activation == pytest.approx(expected[i, 2].max().item(), rel=1e-5)
        assert all(stop - start <= 3 for start, stop in field.box)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel": 2}, "allowed are 0 to 1"),
        ({"channel": -1}, "allowed are 0 to 1"),
        ({"samples": []}, "no samples"),
        ({"samples": ["s9"]}, "no sample 's9'"),
        ({"samples": [4]}, "no sample 4"),
        ({"coverage": 0}, "a share above 0"),
        ({"by": "size"}, "'activation' and 'relevance'"),
        ({"layer": "nowhere"}, "nowhere"),
    ],
)
def test_bad_input_is_refused(change, message):
    table = table_of(np.random.default_rng(7).uniform(0, 1, (4, 1, 16, 16)))
    options = {"layer": "0", "channel": 0, "samples": [0]} | change
    with pytest.raises(InputError, match=message):
        crops(stack(2, (3, 1, 1)), table, **options)
