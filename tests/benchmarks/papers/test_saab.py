"""Cases, claims, cohorts and measures of the protocol of Saab et al. 2022."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import mutual_info_score

from shortcutscope.benchmarks.papers import saab
from shortcutscope.benchmarks.papers.saab import PROTOCOL, cases
from shortcutscope.benchmarks.papers.saab import siim as saab_siim
from shortcutscope.benchmarks.papers.saab.claims import claims, draw
from shortcutscope.benchmarks.papers.saab.data import box, masks_of, phantoms, some_masks, taught_pixels
from shortcutscope.benchmarks.papers.saab.measures import positive_variance, spurious_information
from shortcutscope.benchmarks.papers.saab.networks import Arm, judge, train
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.training.fit import Training
from shortcutscope.errors import InputError
from shortcutscope.models.layers import find_layers

pydicom = pytest.importorskip("pydicom")


def settings(tmp_path, data=None, **options):
    return Settings(**{"quick": False, "seed": 0, "data": data, "cache": tmp_path, "jobs": 1} | options)


def made_up(level):
    """Cases of three seeds with these robust AUROCs, without training anything."""
    found = []
    for case in cases(Settings(False, 0, None, Path(), 1)):
        name = case["supervision"]
        value = level[name] if case["masks"] == "all" else level["few"] + 0.001 * case["masks"]
        value += 0.1 * (case["unmasked"] == "pseudo") + 0.01 * case["seed"]
        rank = ["classifier", "binary", "box", "segmentation"].index(name)
        measures = {"variance": 1 / (1 + rank), "information": 0.2 / (1 + rank)}
        kept = measures if case["masks"] == "all" and rank else {}
        found.append({**case, "robust_auroc": value, "balanced_auroc": value, **kept})
    return found


AS_PUBLISHED = {"classifier": 0.45, "binary": 0.46, "box": 0.72, "segmentation": 0.82, "few": 0.6}
THE_OTHER_WAY = {"classifier": 0.9, "binary": 0.9, "box": 0.7, "segmentation": 0.6, "few": 0.7}


def test_cases_are_distinct_and_complete(tmp_path):
    for options in ({}, {"quick": True}, {"full": True}):
        listed = cases(settings(tmp_path, **options))
        assert len({tuple(case.items()) for case in listed}) == len(listed)
    listed = cases(settings(tmp_path))
    assert {case["seed"] for case in listed} == {0, 1, 2}
    for place, kind in saab.COHORTS:
        own = [case for case in listed if (case["place"], case["kind"], case["seed"]) == (place, kind, 0)]
        assert {"binary", "segmentation"} <= {case["supervision"] for case in own}
    boxed = [case["kind"] for case in listed if (case["supervision"], case["seed"]) == ("box", 0)]
    assert boxed == ["tube", "tag"]
    few = {(case["masks"], case["unmasked"]) for case in listed if case["masks"] != "all"}
    assert few == {(number, rest) for number in saab.MASKS for rest in ("leave", "pseudo")}


def test_claims_hold_where_the_figures_are_the_published_ones():
    found = {claim.what: claim for claim in claims(made_up(AS_PUBLISHED))}
    held = {what: claim.holds for what, claim in found.items() if claim.holds is not None}
    assert all(held.values()), held
    assert len(held) >= 11
    gap = next(claim for what, claim in found.items() if what.startswith("masks gain"))
    assert gap.here.startswith("0.36")
    assert ".36" in gap.published


def test_claims_do_not_hold_where_labels_do_better():
    held = {claim.what: claim.holds for claim in claims(made_up(THE_OTHER_WAY))}
    assert not any(holds for what, holds in held.items() if "<" in what or "masks" in what), held
    assert not next(holds for what, holds in held.items() if "near chance" in what)
    # The measures are the same as before, and now they go with the opposite.
    assert [holds for what, holds in held.items() if "goes with robustness" in what] == [False, False]


def test_claims_of_a_quick_run_leave_open_what_was_not_run(tmp_path):
    quick = {tuple(case.items()) for case in cases(settings(tmp_path, quick=True))}
    keys = list(cases(settings(tmp_path, quick=True))[0])
    own = [case for case in made_up(AS_PUBLISHED) if tuple((key, case[key]) for key in keys) in quick]
    assert own
    assert any(claim.holds is None for claim in claims(own))
    assert saab.summarize(own)["networks"]


def test_the_figure_is_drawn():
    assert len(draw(made_up(AS_PUBLISHED)).axes) == 4


def test_worlds_plant_what_they_say(tmp_path):
    cohort = phantoms("one quadrant", "patch", 50, 80, 40, tmp_path)
    assert (len(cohort.train), len(cohort.test)) == (80, 40)
    table = pd.crosstab(cohort.train.frame["label"], cohort.train.frame["patch"])
    assert table.loc[1, 1] == 38
    assert table.loc[0, 1] == 2
    assert (
        pd.crosstab(cohort.test.frame["label"], cohort.test.frame["patch"]).to_numpy().tolist()
        == [[10, 10]] * 2
    )
    assert not set(cohort.train.frame["group"]) & set(cohort.test.frame["group"])
    masks = masks_of(cohort.train)
    assert not masks[:, :32].any()
    assert not masks[:, :, :32].any()
    labels = cohort.train.frame["label"].to_numpy()
    assert (masks.any(axis=(1, 2)) == (labels == 1)).all()
    assert (cohort.spurious.any(axis=(1, 2)) == (cohort.train.frame["patch"] == 1)).all()
    phantoms.cache_clear()
    again = phantoms("one quadrant", "patch", 50, 80, 40, tmp_path)
    assert again.train.fingerprint() == cohort.train.fingerprint()
    assert len(list(tmp_path.rglob("*.npz"))) == 1


def test_taught_pixels_and_numbers_of_masks():
    images = np.random.default_rng(0).random((4, 6, 6)).astype(np.float32)
    masks = np.zeros((4, 6, 6), bool)
    masks[0, 1, 1] = masks[0, 3, 4] = masks[1, 2, 2] = masks[2, 0, :2] = True
    table = ImageTable.from_arrays(images, np.array([1, 1, 1, 0]), masks=masks, value_range=(0, 1))
    whole, boxed, exact = (taught_pixels(table, name) for name in ("binary", "box", "segmentation"))
    assert whole.sum(axis=(1, 2)).tolist() == [36, 36, 36, 0]
    assert boxed.sum(axis=(1, 2)).tolist() == [12, 1, 2, 0]
    assert np.array_equal(exact, masks)
    assert not box(torch.zeros(3, 3, dtype=torch.bool)).any()

    def has(number):
        masks_of_rows = some_masks(table, number, "box", 3)
        return {row for row in range(4) if (mask := masks_of_rows(row)) is not None and mask.any()}

    assert len(has(1)) == 1
    assert has(1) < has(2) < has(3) == has(None) == {0, 1, 2}


def test_measures_by_hand():
    generator = np.random.default_rng(0)
    images, positive = generator.random((5, 4, 4)), generator.random((5, 4, 4)) < 0.3
    assert positive_variance(images, np.ones_like(positive)) == pytest.approx(1)
    assert positive_variance(images, positive) == pytest.approx(np.var(images[positive]) / np.var(images))
    spurious = positive ^ (generator.random(positive.shape) < 0.2)
    told = mutual_info_score(positive.ravel(), spurious.ravel())
    entropy = mutual_info_score(spurious.ravel(), spurious.ravel())
    assert spurious_information(positive, spurious) == pytest.approx(told / entropy)
    assert spurious_information(spurious, spurious) == pytest.approx(1)
    assert spurious_information(np.ones_like(spurious), spurious) == pytest.approx(0)


@pytest.mark.parametrize(
    "arm", [Arm("classifier"), Arm("binary"), Arm("box"), Arm("segmentation", 8, "pseudo")]
)
def test_every_arm_trains_and_is_judged(arm, tmp_path):
    cohort = phantoms("anywhere", "tag", 50, 64, 40, tmp_path)
    network = train(cohort, arm, 50, training=Training(steps=4, batch_size=16))
    judged = judge(network, cohort)
    assert set(judged) == {"robust_auroc", "aligned_auroc", "balanced_auroc"}
    assert all(0 <= value <= 1 for value in judged.values())


def test_the_unet_scores_pixels_and_images(tmp_path):
    pytest.importorskip("segmentation_models_pytorch")
    cohort = phantoms("anywhere", "tag", 50, 64, 40, tmp_path)
    arm = Arm("segmentation", architecture="unet")
    network = train(cohort, arm, 50, training=Training(steps=1, batch_size=4))
    images = torch.stack([cohort.test[row][0] for row in range(2)])
    assert network.maps(images).shape == (2, 2, 64, 64)
    assert network(images).shape == (2, 2)
    assert find_layers(network, images)


def write_dicom(path, patient, seed):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = (
        pydicom.uid.ComputedRadiographyImageStorage
    )
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.PatientID, dataset.Modality, dataset.PhotometricInterpretation = patient, "CR", "MONOCHROME2"
    dataset.Rows = dataset.Columns = 1024
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    small = np.random.default_rng(seed).integers(0, 255, (16, 16), np.uint8)
    dataset.PixelData = np.kron(small, np.ones((64, 64), np.uint8)).tobytes()
    path.parent.mkdir(parents=True)
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def siim_tree(tmp_path):
    """Twenty-four images of twelve patients, every other patient with a pneumothorax."""
    root, rows = tmp_path / "siim", ["ImageId, EncodedPixels"]
    for k in range(24):
        positive = (k // 2) % 2
        write_dicom(root / "dicom-images-train" / f"s{k}" / "1" / f"i{k}.dcm", f"p{k // 2}", k)
        runs = " ".join(f"{824 if column else 200_000} 200" for column in range(200))
        rows.append(f"i{k}, {runs}" if positive else f"i{k}, -1")
    (root / "train-rle.csv").write_text("\n".join(rows) + "\n")
    return root


def test_radiographs_with_a_planted_tube(siim_tree, tmp_path, monkeypatch):
    monkeypatch.setattr(saab_siim, "SIDE", 32)
    monkeypatch.setattr(saab_siim, "KEPT_NEGATIVES", 1.0)
    PROTOCOL.check(siim_tree)
    listed = cases(settings(tmp_path, siim_tree))
    assert {case["kind"] for case in listed} == {"tube"}
    cohort = saab_siim.radiographs(siim_tree, "tube", 0, None)
    assert cohort.train[0][0].shape == (1, 32, 32)
    assert not set(cohort.train.frame["group"]) & set(cohort.test.frame["group"])
    assert cohort.spurious is not None
    case = next(case for case in listed if case["supervision"] == "segmentation")
    monkeypatch.setattr(
        "shortcutscope.benchmarks.papers.saab.networks.TRAINING", Training(steps=1, batch_size=4)
    )
    saab_siim.radiographs.cache_clear()
    found = saab.run_case(case, settings(tmp_path, siim_tree))
    assert {"variance", "information", "robust_auroc"} <= set(found)
    saab_siim.radiographs.cache_clear()


def test_labelled_tubes_make_the_test(siim_tree, monkeypatch):
    monkeypatch.setattr(saab_siim, "SIDE", 32)
    (siim_tree / "tubes.csv").write_text("ImageId,tube\ni0,1\ni2,0\ni4,0\ni6,1\n")
    assert saab_siim.kinds(siim_tree) == ("chest_tube",)
    cohort = saab_siim.radiographs(siim_tree, "chest_tube", 0, 10)
    assert cohort.test.frame["sample_id"].tolist() == ["i0", "i2", "i4", "i6"]
    assert cohort.test.frame["chest_tube"].tolist() == [1, 0, 0, 1]
    # The other images of these patients are in neither part.
    assert not {"i1", "i3", "i5", "i7"} & set(cohort.train.frame["sample_id"])
    assert cohort.spurious is None
    assert len(cohort.train) <= 10
    saab_siim.radiographs.cache_clear()


def test_what_is_refused(siim_tree, tmp_path):
    with pytest.raises(InputError, match="SIIM"):
        PROTOCOL.check(tmp_path / "nothing")
    (siim_tree / "tubes.csv").write_text("ImageId,tube\ni0,2\n")
    with pytest.raises(InputError, match=r"tubes\.csv"):
        PROTOCOL.check(siim_tree)
    (siim_tree / "tubes.csv").unlink()
    with pytest.raises(InputError, match="chest_tube"):
        saab_siim.radiographs(siim_tree, "chest_tube", 0, None)
