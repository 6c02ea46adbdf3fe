"""Volumes of NIfTI files are shown in axial slices, the front on top."""

import numpy as np
import pandas as pd
import pytest

from shortcutscope.data.axial import axial_first, knows_axial
from shortcutscope.data.pictures import slices_picture
from shortcutscope.data.table import ImageTable
from shortcutscope.retrieval.hits import pictures_of

nibabel = pytest.importorskip("nibabel")


def test_the_top_comes_last_the_front_on_top_and_the_left_on_the_left():
    volume = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # channels, right, front, top
    shown = axial_first(volume)
    assert shown.shape == (2, 5, 4, 3)
    assert (shown[:, 1, 0, 0] == volume[:, 0, -1, 1]).all()
    assert (shown[:, -1, -1, -1] == volume[:, -1, 0, -1]).all()


def table_of(folder, volumes, affine):
    for k, volume in enumerate(volumes):
        nibabel.save(nibabel.Nifti1Image(volume, affine), folder / f"v{k}.nii.gz")
        np.save(folder / f"v{k}.npy", volume)
    names = [f"v{k}" for k in range(len(volumes))]
    return {
        kind: ImageTable.from_frame(
            pd.DataFrame({"sample_id": names, "image": [f"{n}{kind}" for n in names], "label": 0}),
            root=folder,
            dims=3,
        )
        for kind in (".nii.gz", ".npy")
    }


def test_slices_are_axial_where_the_files_say_which_way_is_up(tmp_path):
    volumes = np.random.default_rng(0).random((2, 9, 10, 11)).astype(np.float32)
    tables = table_of(tmp_path, volumes, np.diag([-1.0, 1, 1, 1]))  # stored from right to left
    assert knows_axial(tables[".nii.gz"])
    assert not knows_axial(tables[".npy"])
    assert not knows_axial(ImageTable.from_arrays(volumes[:, None], np.zeros(2, int)))
    axial = pictures_of(tables[".nii.gz"], ["v1"], 48)["v1"]
    upright = volumes[1][::-1].transpose(2, 1, 0)[:, ::-1]
    assert np.array_equal(axial, slices_picture(upright[None], (0, 1), 32))
    plain = pictures_of(tables[".npy"], ["v1"], 48)["v1"]
    assert np.array_equal(plain, slices_picture(volumes[1][None], (0, 1), 32))
