from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from shortcutscope import ImageTable
from shortcutscope.data.table import Normalize
from shortcutscope.errors import InputError

ROLES = ["sample_id", "label", "group", "split"]


def from_manifest(manifest, **options):
    return ImageTable.from_csv(
        manifest, label="diagnosis", group="patient", split="fold", **{"sample_id": "image", **options}
    )


# Constructors


def test_manifest_gives_roles_metadata_images_and_masks(manifest, pixels):
    table = ImageTable.from_csv(manifest, label="diagnosis", group="patient", split="fold")
    assert list(table.frame.columns) == [*ROLES, "age", "ruler"]
    assert table.metadata == ["age", "ruler"]
    assert table.classes == ("healthy", "sick")
    assert table.frame["label"].tolist() == [1, 0] * 6
    assert table.frame["group"].iloc[0] == "000"  # leading zeros survive
    assert table.files[table.frame["sample_id"].iloc[3]] == "images/03.png"
    assert table.has_groups
    image, label, row = table[3]
    assert (label, row) == (0, 3)
    assert image.dtype == torch.float32
    assert np.allclose(image.numpy(), pixels[3][None] / 255)
    assert np.array_equal(table.mask(0).numpy(), pixels[0] > 128)
    assert table.mask(1) is None
    assert table.shape == (1, 10, 8)
    assert len(list(table)) == 12


def test_parquet_and_frame_are_as_good_as_csv(manifest):
    frame = pd.read_csv(manifest, dtype={"patient": str})
    frame.to_parquet(manifest.with_suffix(".parquet"))
    tables = [
        ImageTable.from_csv(manifest, label="diagnosis", group="patient"),
        ImageTable.from_csv(manifest.with_suffix(".parquet"), label="diagnosis", group="patient"),
        ImageTable.from_frame(frame, label="diagnosis", group="patient", root=manifest.parent),
    ]
    assert len({table.fingerprint() for table in tables}) == 1
    pd.testing.assert_frame_equal(tables[0].frame, tables[1].frame, check_dtype=False)


def test_columns_named_as_roles_are_taken_for_them():
    frame = pd.DataFrame(
        {"sample_id": [5, 6], "label": [0, 1], "group": [1.0, 2.0], "split": ["a", None], "x": [1, 2]}
    )
    table = ImageTable.from_arrays(np.zeros((2, 4, 4)), frame)
    assert table.frame.values.tolist() == [["5", 0, "1", "a", 1], ["6", 1, "2", "", 2]]


def test_folder_reads_as_torchvision_does(tmp_path, pixels):
    from torchvision.datasets import ImageFolder

    for name, part in (("zebra", pixels[:3]), ("ape", pixels[3:5])):
        (tmp_path / name).mkdir()
        for i, image in enumerate(part):
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    (tmp_path / "ape" / "notes.txt").write_text("no image")
    table, theirs = ImageTable.from_folder(tmp_path), ImageFolder(tmp_path)
    assert table.classes == tuple(theirs.classes) == ("ape", "zebra")
    assert table.frame["label"].tolist() == theirs.targets
    assert next(iter(table.files.values())) == "ape/0.png"
    (tmp_path / "yak").mkdir()
    with pytest.raises(InputError, match="yak"):
        ImageTable.from_folder(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        ImageTable.from_folder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("item", "shape"), [((6, 6), (1, 6, 6)), ((6, 6, 3), (3, 6, 6)), ((6, 6, 6), (1, 6, 6, 6))]
)
def test_medmnist_layouts(tmp_path, item, shape):
    arrays = {}
    for split, n in (("train", 4), ("val", 2), ("test", 3)):
        arrays[f"{split}_images"] = np.full((n, *item), n * 10, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(n)[:, None] % 2
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    table = ImageTable.from_medmnist(tmp_path / "a.npz", splits=("test", "train"))
    assert table.shape == shape
    assert table.frame["sample_id"].tolist()[2:4] == ["test-00002", "train-00000"]
    assert torch.allclose(table.image(2), torch.tensor(30 / 255))
    assert torch.allclose(table.image(3), torch.tensor(40 / 255))
    with pytest.raises(InputError, match="no array 'extra_images'; it has train_images"):
        ImageTable.from_medmnist(tmp_path / "a.npz", splits=("extra",))


def test_medmnist_with_several_labels_asks_which(tmp_path):
    np.savez(
        tmp_path / "a.npz", test_images=np.zeros((3, 4, 4), np.uint8), test_labels=np.eye(3, 14, dtype=int)
    )
    with pytest.raises(InputError, match="14 labels"):
        ImageTable.from_medmnist(tmp_path / "a.npz", splits=("test",))
    table = ImageTable.from_medmnist(tmp_path / "a.npz", splits=("test",), finding=2)
    assert table.frame["label"].tolist() == [0, 0, 1]


def test_dataset_items_of_every_kind(pixels):
    frame = pd.DataFrame({"label": [0, 1], "site": ["a", "b"]})
    tensors = torch.from_numpy(pixels[:2, None].astype(np.float32) / 255)
    kinds = {
        "tuple of tensors": TensorDataset(tensors, torch.tensor([0, 1])),
        "tensors": list(tensors),
        "arrays": list(pixels[:2]),
        "pillow": [(Image.fromarray(image), 0) for image in pixels[:2]],
        "mapping": [{"image": image, "other": 1} for image in pixels[:2]],
    }
    for dataset in kinds.values():
        table = ImageTable.from_dataset(dataset, frame)
        assert np.allclose(table.image(1).numpy(), pixels[1][None] / 255)
    with pytest.raises(InputError, match="2 rows of metadata do not match 1"):
        ImageTable.from_dataset(list(tensors[:1]), frame)
    with pytest.raises(InputError, match="is str"):
        ImageTable.from_dataset(["a", "b"], frame).image(0)
    with pytest.raises(InputError, match="map-style"):
        ImageTable.from_dataset(iter([1]), frame)


@pytest.mark.parametrize(
    ("shape", "dims", "expected"),
    [
        ((2, 6, 5), None, (1, 6, 5)),
        ((2, 3, 6, 5), None, (3, 6, 5)),
        ((2, 12, 100), 1, (12, 100)),
        ((2, 100), None, (1, 100)),
        ((2, 4, 6, 5), 3, (1, 4, 6, 5)),
        ((2, 1, 4, 6, 5), None, (1, 4, 6, 5)),
    ],
)
def test_arrays_of_any_number_of_axes(shape, dims, expected):
    images = np.random.default_rng(0).random(shape, dtype=np.float32)
    for stored in (images, torch.from_numpy(images)):
        table = ImageTable.from_arrays(stored, [0, 1], dims=dims).verify(progress=False)
        assert table.shape == expected
        assert np.array_equal(table.image(1).numpy().ravel(), images[1].ravel())


def test_npy_volumes_from_a_manifest(tmp_path):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.full((3, 4, 5), i, dtype=np.int16))
    frame = pd.DataFrame({"image": ["0.npy", "1.npy"], "label": [0, 1]})
    table = ImageTable.from_frame(frame, root=tmp_path, dims=3, value_range=(-1000, 1000))
    assert table.shape == (1, 3, 4, 5)
    assert table.image(1).unique().tolist() == [1.0]


def test_masks_follow_the_size_and_the_selection(pixels):
    masks = pixels > 128
    table = ImageTable.from_arrays(pixels, [0, 1] * 6, masks=masks, size=(20, 16)).take([4, 2])
    assert table.shape == (1, 20, 16)
    assert np.array_equal(table.mask(1).numpy(), np.kron(masks[2], np.ones((2, 2), dtype=bool)))
    with pytest.raises(InputError, match="3 masks do not match 12 images"):
        ImageTable.from_arrays(pixels, [0, 1] * 6, masks=masks[:3])


def test_mode_and_size_are_applied_as_images_are_read(manifest):
    table = from_manifest(manifest, mode="RGB", size=16)
    assert table.shape == (3, 16, 16)


def test_integers_are_scaled_to_the_declared_range(pixels):
    table = ImageTable.from_arrays(pixels, [0, 1] * 6, value_range=(-1, 1))
    assert np.allclose(table.image(0).numpy()[0], pixels[0] / 127.5 - 1, atol=1e-6)


# Bad input


def test_missing_column_lists_the_columns(manifest):
    with pytest.raises(
        InputError, match=r"no column 'malignant'; the columns are 'image', 'diagnosis', 'patient'"
    ):
        ImageTable.from_csv(manifest, label="malignant")
    with pytest.raises(InputError, match="no column 'lesion'"):
        ImageTable.from_csv(manifest, label="diagnosis", group="lesion")
    with pytest.raises(InputError, match="no column 'path'"):
        ImageTable.from_csv(manifest, label="diagnosis", image="path")


def test_duplicate_ids_are_shown(manifest):
    with pytest.raises(
        InputError, match=r"4 sample_id\(s\) occur more than once, on different images: '000'"
    ):
        ImageTable.from_csv(manifest, label="diagnosis", sample_id="patient")


def test_missing_files_are_named_before_any_reading(manifest):
    (manifest.parent / "images" / "05.png").unlink()
    with pytest.raises(InputError, match=r"1 image file\(s\) do not exist .*'images/05.png'.*root"):
        ImageTable.from_csv(manifest, label="diagnosis")
    (manifest.parent / "mask.png").unlink()
    with pytest.raises(InputError, match="12 image"):
        ImageTable.from_csv(manifest, label="diagnosis", root=manifest.parent / "images")


def test_manifests_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such table"):
        ImageTable.from_csv(tmp_path / "none.csv")
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(InputError, match="spreadsheet: save its sheet as CSV"):
        ImageTable.from_csv(tmp_path / "a.xlsx")
    (tmp_path / "a.doc").write_bytes(b"x")
    with pytest.raises(InputError, match=r"\.csv, \.tsv and \.parquet"):
        ImageTable.from_csv(tmp_path / "a.doc")
    (tmp_path / "b.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match="cannot read the table"):
        ImageTable.from_csv(tmp_path / "b.parquet")
    (tmp_path / "empty.csv").write_text("image,label\n")
    with pytest.raises(InputError, match="table is empty"):
        ImageTable.from_csv(tmp_path / "empty.csv")
    (tmp_path / "nothing.csv").write_text("")
    with pytest.raises(InputError, match=r"nothing.csv' is empty"):
        ImageTable.from_csv(tmp_path / "nothing.csv")


@pytest.mark.parametrize("value_range", ["uint8", (1, 0), (0, float("nan")), (0,), None, (0, 1, 2)])
def test_unknown_value_ranges(pixels, value_range):
    with pytest.raises(InputError, match="value_range"):
        ImageTable.from_arrays(pixels, [0, 1] * 6, value_range=value_range)


def test_other_options_are_checked_early(pixels):
    labels = [0, 1] * 6
    with pytest.raises(InputError, match="mode must be"):
        ImageTable.from_arrays(pixels, labels, mode="gray")
    with pytest.raises(InputError, match="size must be"):
        ImageTable.from_arrays(pixels, labels, size=0)
    with pytest.raises(InputError, match=r"unknown option.*sizes"):
        ImageTable.from_arrays(pixels, labels, sizes=3)
    with pytest.raises(InputError, match="callable"):
        ImageTable.from_arrays(pixels, labels, transform=3)
    with pytest.raises(InputError, match="12 images"):
        ImageTable.from_arrays(pixels, [0, 1])
    with pytest.raises(InputError, match="2 labels"):
        ImageTable.from_arrays(pixels, pd.DataFrame({"age": range(12)}), labels=[0, 1])
    with pytest.raises(InputError, match="must give a tensor"):
        ImageTable.from_arrays(pixels, labels, transform=lambda image: image.numpy())[0]


# Selecting


def test_take_and_where_share_the_images(manifest, pixels):
    table = from_manifest(manifest, sample_id="image")
    part = table.where(split="test", ruler=1).take([2, 0])
    assert part.source is table.source
    assert part.frame["age"].tolist() == [51, 47]
    assert part.frame.index.tolist() == [0, 1]
    assert np.allclose(part.image(0).numpy()[0], pixels[11] / 255)
    assert part[1][1:] == (0, 1)
    assert table.where(age=range(40, 43)).rows.tolist() == [0, 1, 2]
    assert len(table.take(np.arange(12) < 5)) == 5
    assert table.take([-1]).frame["age"].tolist() == [51]


def test_selections_that_cannot_be(manifest):
    table = from_manifest(manifest, sample_id="image")
    with pytest.raises(InputError, match="no row is left with split='val'; the column has 'train', 'test'"):
        table.where(split="val")
    with pytest.raises(InputError, match="no column 'sex'"):
        table.where(sex="f")
    with pytest.raises(InputError, match="empty"):
        table.take([])
    with pytest.raises(InputError, match="between 0 and 11"):
        table.take([12])
    with pytest.raises(InputError, match="occur more than once"):
        table.take([1, 1])
    with pytest.raises(IndexError):
        table[12]


def test_columns_are_added_and_roles_replaced(manifest):
    table = from_manifest(manifest, sample_id="image")
    other = table.with_columns(
        tube=np.arange(12) % 3, group=[f"p{i}" for i in range(12)], label=["sick"] * 12
    )
    assert other.metadata == ["age", "ruler", "tube"]
    assert other.frame["group"].tolist()[:2] == ["p0", "p1"]
    assert other.frame["label"].tolist() == [1] * 12
    assert list(other.frame.columns[:4]) == ROLES
    assert table.metadata == ["age", "ruler"]
    with pytest.raises(InputError, match="'tube' has 3 entries"):
        table.with_columns(tube=[1, 2, 3])
    with pytest.raises(InputError, match="sample_id cannot"):
        table.with_columns(sample_id=range(12))


def test_groups_are_known_only_where_they_were_given(pixels):
    table = ImageTable.from_arrays(pixels, [0, 1] * 6)
    assert not table.has_groups
    assert not table.take([3, 4]).has_groups
    assert table.frame["group"].equals(table.frame["sample_id"])
    assert table.with_columns(group=["a"] * 12).has_groups


def test_a_patient_in_two_splits_is_refused_on_request(manifest):
    table = from_manifest(manifest, sample_id="image")
    table.assert_groups_apart()
    torn = table.with_columns(split=["train"] * 4 + ["test"] * 8)
    with pytest.raises(InputError, match="'001' in test, train"):
        torn.assert_groups_apart()


# Fingerprints, pickling, workers


def test_fingerprint_sees_what_changes_results_and_nothing_else(manifest):
    table = from_manifest(manifest, sample_id="image")
    same = [
        table.with_columns(age=np.zeros(12)),
        table.with_transform(Normalize(0.5, 0.2)),
        table.take(np.arange(12)),
        pickle.loads(pickle.dumps(table)),
    ]
    other = [
        table.take(np.arange(12)[::-1]),
        table.take(np.arange(11)),
        table.with_columns(label=["sick"] * 12),
        table.with_columns(group=["a"] * 12),
        table.replaced(value_range=(0, 255)),
        from_manifest(manifest, size=4),
        from_manifest(manifest, mode="RGB"),
    ]
    assert {each.fingerprint() for each in same} == {table.fingerprint()}
    assert len({table.fingerprint(), *(each.fingerprint() for each in other)}) == 1 + len(other)
    path = manifest.parent / "images" / "04.png"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert from_manifest(manifest).fingerprint() != table.fingerprint()


def test_fingerprint_survives_a_move_and_another_process(manifest, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "data"
    code = (
        "import sys; from shortcutscope import ImageTable\n"
        "from shortcutscope.data.table import Normalize\n"
        "roles = {'label': 'diagnosis', 'group': 'patient'}\n"
        "t = ImageTable.from_csv(sys.argv[1], transform=Normalize(.5, .25), **roles)\n"
        "print(t.fingerprint(), t.transform_fingerprint())"
    )
    here = ImageTable.from_csv(manifest, label="diagnosis", group="patient", transform=Normalize(0.5, 0.25))
    expected = [here.fingerprint(), here.transform_fingerprint()]
    manifest.parent.rename(moved)
    out = subprocess.run(
        [sys.executable, "-c", code, str(moved / "table.csv")], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == expected


def test_array_and_dataset_fingerprints_see_the_pixels(pixels):
    changed = pixels.copy()
    changed[7, 3, 3] += 1
    labels = pd.DataFrame({"label": [0, 1] * 6})
    for make in (ImageTable.from_arrays, lambda images, frame: ImageTable.from_dataset(list(images), frame)):
        first, again, other = (
            make(images, labels).fingerprint() for images in (pixels, pixels.copy(), changed)
        )
        assert first == again != other


@given(name=st.sampled_from(["id", "label", "group"]), row=st.integers(0, 2))
def test_every_role_of_every_row_counts(name, row):
    frame = pd.DataFrame({"sample_id": list("abc"), "label": [0, 1, 0], "group": list("xyx")})
    images = np.zeros((3, 2, 2), np.uint8)
    column = {"id": "sample_id"}.get(name, name)
    other = frame.copy()
    other.loc[row, column] = 5 if name == "label" else "other"
    assert (
        ImageTable.from_arrays(images, frame).fingerprint()
        != ImageTable.from_arrays(images, other).fingerprint()
    )


def test_a_table_of_files_is_cheap_to_pickle(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "0.png")
    for i in range(1, 2000):
        (tmp_path / f"{i}.png").hardlink_to(tmp_path / "0.png")
    frame = pd.DataFrame({"image": [f"{i}.png" for i in range(2000)], "label": 0, "sample_id": range(2000)})
    table = ImageTable.from_frame(frame, root=tmp_path)
    table[0], table.fingerprint()
    assert len(pickle.dumps(table)) < 200 * len(table)  # an image alone has 65,536 bytes
    np.savez(tmp_path / "a.npz", test_images=np.stack([noise] * 20), test_labels=np.zeros((20, 1), int))
    table = ImageTable.from_medmnist(tmp_path / "a.npz", splits=("test",))
    table[0]
    assert len(pickle.dumps(table)) < noise.nbytes
    assert torch.equal(pickle.loads(pickle.dumps(table)).image(19), table.image(19))


def test_two_workers_read_what_one_process_reads(manifest, tmp_path, pixels):
    np.savez(tmp_path / "a.npz", test_images=pixels, test_labels=np.zeros((12, 1), int))
    tables = [
        from_manifest(manifest, sample_id="image", transform=Normalize(0.5, 0.25, size=6)),
        ImageTable.from_medmnist(tmp_path / "a.npz", splits=("test",)),
        ImageTable.from_arrays(pixels, [0, 1] * 6),
    ]
    for table in tables:
        alone = torch.stack([table[i][0] for i in range(12)])
        batches = list(DataLoader(table, batch_size=5, num_workers=2))
        assert torch.equal(torch.cat([images for images, _, _ in batches]), alone)
        assert torch.cat([labels for _, labels, _ in batches]).tolist() == table.frame["label"].tolist()
        assert torch.cat([rows for _, _, rows in batches]).tolist() == list(range(12))


# Showing


def test_representations_are_short_and_escaped(manifest):
    table = from_manifest(manifest, sample_id="image").with_columns(**{"<b>site</b>": ["<script>"] * 12})
    text, page = repr(table), table._repr_html_()
    assert text.startswith(
        "ImageTable(images: 12, labels: healthy 6, sick 6, groups: 4, splits: train 6, test 6"
    )
    assert page.count("<script>") == 1, "the one that shows it"
    assert "&lt;script&gt;" in page
    assert "<b>site" not in page
    assert len(page) < 7000


# Real data


def test_real_files(shared_data):
    table = ImageTable.from_medmnist(shared_data / "pneumoniamnist.npz", splits=("test",))
    assert len(table) == 624
    assert table.frame["label"].value_counts().to_dict() == {1: 390, 0: 234}
    assert table.take(np.arange(64)).verify(progress=False).shape == (1, 28, 28)
    folder = ImageTable.from_folder(shared_data / "mednist", mode="L")
    assert folder.classes == ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
    assert len(folder) == 5995
    part = folder.take(np.arange(0, len(folder), 50)).verify(workers=2, progress=False)
    assert part.shape == (1, 64, 64)
    assert len(pickle.dumps(folder)) < 200 * len(folder)
