"""Masks of volumes come back in each file's own grid."""

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform import Normalize
from shortcutscope.masks.annotation import annotate
from shortcutscope.masks.formats.nifti import import_nifti
from shortcutscope.masks.learning import voxels_allow
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_cnn1d, thin_cnn3d
from shortcutscope.probes.concept import Concept
from shortcutscope.report.overlay import draw_overlays
from shortcutscope.retrieval.retrieval import Retrieval
from shortcutscope.review.mask_pictures import mask_pictures, outline
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan

#: Axes run down, to the left and to the front, aslant, at three spacings.
AFFINE = np.array([[0.1, -1.5, 0, 30], [0, 0.1, 2.0, -20], [-1.2, 0, 0.1, 40], [0, 0, 0, 1.0]])
SIZE, COUNT = (14, 18, 12), 44


def made_up(shape, side=4, seed=60):
    """Cloudy volumes (N, *shape), a bright cube in some, and where it is."""
    rng = np.random.default_rng(seed)
    labels = np.arange(COUNT) % 2
    carries = (rng.random(COUNT) < np.where(labels == 1, 0.75, 0.3)).astype(float)
    volumes, truths = [], []
    for with_it in carries:
        clouds = gaussian_filter(rng.standard_normal(shape), 2)
        volume = 0.4 + 0.1 * clouds / clouds.std() + 0.02 * rng.standard_normal(shape)
        truth = np.zeros(shape, bool)
        if with_it:
            truth[tuple(slice(k, k + side) for k in (rng.integers(1, n - side) for n in shape))] = True
            volume[truth] = 0.95
        volumes.append(volume.clip(0, 1).astype(np.float32))
        truths.append(truth)
    return np.array(volumes), np.array(truths), labels, carries


def drawn(table, carries, folder, channels=1):
    model = thin_cnn3d(width=4, in_channels=channels, seed=1).eval()
    scanned = scan(
        model, table, folder / "scan", scanning=Scanning(relevance=False), running=Running(progress=False)
    )
    ids = table.frame["sample_id"].to_numpy(np.str_)
    concept = Concept("cube", carries, "planted", ids)
    return annotate(model, scanned, table, concept, out=folder / "m", running=Running(progress=False))


def overlap(masks, truths, carries, turn=lambda truth: truth):
    found = []
    for name, truth, with_it in zip(masks_in_order(masks), truths, carries, strict=True):
        mask = masks.mask(name)
        if with_it:
            found.append((mask & turn(truth)).sum() / (mask | turn(truth)).sum())
    return np.mean(found)


def masks_in_order(masks):
    return sorted(masks.sample_ids)


def test_nifti_volumes_of_another_orientation_and_size_than_the_model_takes(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volumes, truths, labels, carries = made_up(SIZE)
    names = [f"v{k:02d}.nii.gz" for k in range(COUNT)]
    for name, volume in zip(names, volumes, strict=True):
        nibabel.save(nibabel.Nifti1Image(volume, AFFINE), tmp_path / name)
    frame = pd.DataFrame({"sample_id": names, "image": names, "label": labels})
    table = ImageTable.from_frame(frame, root=tmp_path, transform=Normalize(0.4, 0.2, size=(16, 16, 16)))
    masks = drawn(table, carries, tmp_path)
    assert {entry.kind for entry in masks.entries} == {"volume"}
    assert {entry.size for entry in masks.entries} == {(18, 12, 14)}  # to the right, the front and the top
    masks.export(tmp_path / "nii", "nifti", sources=table)
    stored, overlaps = masks.in_frame("stored"), []
    for name, truth, with_it in zip(names, truths, carries, strict=True):
        back = nibabel.load(tmp_path / "nii" / name)
        assert np.allclose(back.affine, AFFINE)
        mask = np.asarray(back.dataobj) > 0
        assert np.array_equal(mask, stored.mask(name))
        if with_it:
            overlaps.append((mask & truth).sum() / (mask | truth).sum())
    assert np.mean(overlaps) > 0.6
    again = import_nifti(tmp_path / "nii", tmp_path / "again", like=masks)
    assert all(np.array_equal(again.mask(name), masks.mask(name)) for name in names)
    some = [name for name, with_it in zip(names, carries, strict=True) if with_it][:3]
    assert "axial slice" in draw_overlays(masks, table, some).axes[0].get_title()
    shown = next(iter(mask_pictures(masks, table, some)))
    plane = masks.mask(some[0])[:, ::-1, shown.plane[0]].T  # the front on top
    assert shown.size == plane.shape
    assert all(map(np.array_equal, shown.outline, outline(plane)))


def test_frames_of_a_dicom_file(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    shape = (8, 16, 12)
    volumes, truths, labels, carries = made_up(shape)
    names = [f"v{k:02d}.dcm" for k in range(COUNT)]
    for name, volume in zip(names, volumes, strict=True):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = pydicom.uid.generate_uid(
            entropy_srcs=[name]
        )
        data.NumberOfFrames, data.Rows, data.Columns = shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 0
        data.PixelData = (volume * 65535).astype(np.uint16).tobytes()
        data.save_as(tmp_path / name, enforce_file_format=True)
    frame = pd.DataFrame({"sample_id": names, "image": names, "label": labels})
    table = ImageTable.from_frame(frame, root=tmp_path)
    masks = drawn(table, carries, tmp_path)
    assert {entry.size for entry in masks.entries} == {shape}
    assert overlap(masks, truths, carries) > 0.6


def test_colour_volumes(tmp_path):
    shape = (10, 12, 11)
    volumes, truths, labels, carries = made_up(shape)
    coloured = np.repeat(volumes[:, None], 3, axis=1)
    coloured[:, 1:] = np.where(truths[:, None], 0.3, coloured[:, 1:])  # the cube is red
    frame = pd.DataFrame({"sample_id": [f"v{k:02d}" for k in range(COUNT)], "label": labels})
    masks = drawn(ImageTable.from_arrays(coloured, frame), carries, tmp_path, channels=3)
    assert overlap(masks, truths, carries) > 0.6


def test_large_volumes_are_looked_at_in_smaller_numbers():
    assert voxels_allow(240, (64, 64)) == 240
    assert voxels_allow(240, (512, 512)) == 240
    assert 40 <= voxels_allow(240, (128, 128, 128)) < 100
    assert voxels_allow(240, (512, 512, 512)) == 40


@pytest.mark.parametrize("shape", [(1, 16, 16, 16), (2, 120)], ids=["volumes", "signals"])
def test_samples_without_a_filter_bank_are_retrieved_by_layers_and_shown(shape, tmp_path):
    rng = np.random.default_rng(60)
    labels, carries = np.arange(COUNT) % 2, np.arange(COUNT) // 2 % 2
    samples = rng.random((COUNT, *shape), dtype=np.float32) * 0.5
    samples[carries == 1, ..., 2:8] += 0.5
    table = ImageTable.from_arrays(samples, labels, dims=len(shape) - 1)
    network = thin_cnn3d if len(shape) == 4 else thin_cnn1d
    model = network(width=4, in_channels=shape[0], seed=1).eval()
    scanned = scan(
        model, table, tmp_path / "scan", scanning=Scanning(relevance=False), running=Running(progress=False)
    )
    names = table.frame["sample_id"].to_numpy(np.str_)
    marked = names[(carries == 1) & (labels == 1)][:6]
    found = Retrieval.from_marks(scanned, list(marked), images=table, running=Running(progress=False))
    assert "input" not in found.views
    hits = found.hits(10)
    assert carries[np.isin(names, hits.ids)].mean() >= 0.9
    assert set(hits.pictures) == set(hits.ids)
    assert min(picture.std() for picture in hits.pictures.values()) > 0
