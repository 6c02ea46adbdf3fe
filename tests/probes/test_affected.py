import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from shortcutscope.attribution.slope import Explained
from shortcutscope.data.table import ImageTable
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_cnn3d, thin_resnet1d, thin_resnet18
from shortcutscope.probes import affected
from shortcutscope.probes.affected import (
    draw_galleries,
    draw_gallery,
    gallery_layer,
    most_affected,
    most_relevant_slice,
)
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan

LAYOUTS = {1: "NCL", 2: "NCHW", 3: "NCDHW"}


def layer(name, grid, depth, prefix_tokens=0):
    layout, shape = ("tokens", (5, 8)) if prefix_tokens else (LAYOUTS[len(grid)], (8, *grid))
    return Layer(name, "Block", layout, shape, depth, prefix_tokens=prefix_tokens, grid=grid)


def test_most_affected_come_first_in_either_direction():
    indices, change = most_affected({"samples": [3, 5, 9], "change": [0.1, -2.0, 1.0]}, 2)
    assert indices.tolist() == [5, 9]
    assert change.tolist() == [-2.0, 1.0]


def test_the_deepest_layer_that_still_shows_where():
    layers = [layer("a", (28, 28), 0.2), layer("b", (14, 14), 0.6), layer("c", (7, 7), 1.0)]
    assert gallery_layer(layers).name == "b"
    assert gallery_layer(layers[2:]).name == "c"
    assert gallery_layer([]) is None
    of_volumes = [layer("a", (16, 16, 16), 0.2), layer("b", (8, 8, 8), 0.6), layer("c", (4, 4, 4), 1.0)]
    assert gallery_layer(of_volumes, 3).name == "b"
    assert gallery_layer(of_volumes) is None


def test_late_layers_of_a_transformer_have_nothing_on_their_patches():
    layers = [layer(str(k), (14, 14), k / 11, prefix_tokens=1) for k in range(12)]
    assert gallery_layer(layers).name == "5"
    assert gallery_layer(layers[8:]).name == "8"


@pytest.fixture
def table():
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(6)], "label": np.arange(6) % 2})
    images = np.random.default_rng(0).random((6, 1, 32, 32), dtype=np.float32)
    return ImageTable.from_arrays(images, frame)


@pytest.mark.parametrize(
    "attribution", ["gradient_x_activation", "lrp:epsilon_plus", "lrp:epsilon_plus_flat"]
)
def test_pictures_show_the_relevance_of_the_scan(table, tmp_path, attribution):
    model = thin_resnet18(width=4, seed=0).eval()
    scanned = scan(
        model,
        table,
        tmp_path / "scan",
        scanning=Scanning(attribution=attribution),
        running=Running(progress=False),
    )
    record = {"tag": {"samples": [1, 4, 5], "change": [0.5, -1.0, 0.2]}}
    with frozen(model):
        gallery = draw_galleries(model, table, scanned, record)["tag"]
    assert gallery.sample_ids == ["s4", "s1", "s5"]
    assert gallery.images.shape == gallery.maps.shape == (3, 32, 32)
    chosen = gallery_layer(scanned.layers)
    # Interpolation keeps sums up to the number of pixels a cell has, but at the border.
    sums = gallery.maps.astype(float).sum((1, 2))
    expected = scanned.relevance(chosen)[[4, 1, 5]].sum(1)
    assert np.corrcoef(sums, expected)[0, 1] > 0.95


class Named(nn.Module):
    """The scores stand under a name, behind others."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        scores = self.model(x)
        return {"auxiliary": -scores, "scores": scores}


def test_the_chosen_output_is_explained(table):
    model = thin_resnet18(width=4, seed=0).eval()
    named = Named(model)
    x = torch.stack([table[i][0] for i in range(2)])
    pictures = []
    for network, output in ((model, None), (named, "scores"), (named, "auxiliary")):
        with frozen(network):
            where = gallery_layer(find_layers(network, x, output=output))
            explained = Explained(torch.tensor([1, 1]), None, "multiclass", output)
            indices = np.array([0, 1])
            pictures.append(draw_gallery(network, table, where, indices, ["", ""], explained).maps)
    plain, same, opposite = (maps.astype(float) for maps in pictures)
    np.testing.assert_allclose(same, plain, atol=1e-3)
    np.testing.assert_allclose(opposite, -plain, atol=1e-3)


def test_pictures_by_another_attribution_than_the_scans_say_so(table, monkeypatch):
    model = thin_resnet18(width=4, seed=0).eval()
    original = affected.attribute

    def falling_back(*arguments, **options):
        found = original(*arguments, **{**options, "method": "gradient_x_activation"})
        return dataclasses.replace(found, reason="lrp gives NaN")

    monkeypatch.setattr(affected, "attribute", falling_back)
    with frozen(model):
        where = gallery_layer(find_layers(model, table[0][0][None]))
        explained = Explained(torch.tensor([1]), None, "multiclass")
        gallery = draw_gallery(
            model, table, where, np.array([0]), ["label 0"], explained, method="lrp:epsilon_plus"
        )
    assert gallery.captions == ["label 0, relevance by gradient x activation"]


def test_the_slice_that_is_shown_holds_most_relevance():
    relevance = np.zeros((5, 4, 4))
    assert most_relevant_slice(relevance) == 2
    relevance[1, 0, 0], relevance[4] = 3.0, -1.0
    assert most_relevant_slice(relevance) == 4


def drawn_of(model, samples, tmp_path):
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(6)], "label": np.arange(6) % 2})
    return gallery_of(model, ImageTable.from_arrays(samples, frame, dims=samples.ndim - 2), tmp_path)


def gallery_of(model, table, tmp_path):
    scanned = scan(model.eval(), table, tmp_path / "scan", running=Running(progress=False))
    record = {"tag": {"samples": [1, 4], "change": [0.5, -1.0]}}
    with frozen(model):
        return draw_galleries(model, table, scanned, record)["tag"]


def test_of_volumes_a_slice_is_shown_with_the_relevance_in_it(tmp_path):
    volumes = np.random.default_rng(0).random((6, 1, 24, 20, 16), dtype=np.float32)
    gallery = drawn_of(thin_cnn3d(width=4), volumes, tmp_path)
    assert gallery.kind == "volume"
    assert gallery.images.shape == gallery.maps.shape == (2, 20, 16)
    for image, caption, row in zip(gallery.images, gallery.captions, (4, 1), strict=True):
        plane = int(caption.split("slice ")[1].split(" of 24")[0]) - 1
        assert (image == np.round(volumes[row, 0, plane] * 255)).all()
    assert np.abs(gallery.maps.astype(float)).max() == pytest.approx(1, abs=1e-3)


def test_of_nifti_files_the_slice_is_an_axial_one(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volumes = np.random.default_rng(0).random((6, 16, 20, 24), dtype=np.float32)
    frame = pd.DataFrame({"image": [f"v{k}.nii.gz" for k in range(6)], "label": np.arange(6) % 2})
    for name, volume in zip(frame["image"], volumes, strict=True):
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / name)
    gallery = gallery_of(thin_cnn3d(width=4), ImageTable.from_frame(frame, root=tmp_path), tmp_path)
    assert gallery.images.shape == gallery.maps.shape == (2, 20, 16)
    for image, caption, row in zip(gallery.images, gallery.captions, (4, 1), strict=True):
        plane = int(caption.split("axial slice ")[1].split(" of 24")[0]) - 1
        assert (image == np.round(volumes[row, :, ::-1, plane].T * 255)).all()


def test_of_signals_traces_are_shown_with_the_relevance_of_every_lead(tmp_path):
    signals = np.random.default_rng(0).random((6, 4, 128), dtype=np.float32)
    model = thin_resnet1d(in_channels=4, width=4)
    with torch.no_grad():
        model.stem[0].weight[:, 2] = 0  # the network does not look at the third lead
    gallery = drawn_of(model, signals, tmp_path)
    assert gallery.kind == "signal"
    assert gallery.images.shape == (2, 4 * 18, 480)
    assert gallery.maps.shape == (2, 4, 128)
    held = np.abs(gallery.maps.astype(float)).sum((0, 2))
    assert held[2] == 0
    assert (held[[0, 1, 3]] > 0).all()
