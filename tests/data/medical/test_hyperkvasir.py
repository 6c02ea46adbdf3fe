import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope.data.medical import open_dataset
from shortcutscope.data.medical.hyperkvasir import hyperkvasir
from shortcutscope.data.medical.layout import LayoutError
from shortcutscope.errors import InputError

ROWS = [
    ("u0", "Lower GI", "polyps", "pathological-findings"),
    ("u1", "Lower GI", "polyps", "pathological-findings"),
    ("u2", "Lower GI", "hemorrhoids", "pathological-findings"),
    ("u3", "Lower GI", "cecum", "anatomical-landmarks"),
    ("u4", "Upper GI", "z-line", "anatomical-landmarks"),
]


@pytest.fixture
def tree(tmp_path):
    """Five labelled images, empty files in folders of which one is spelt otherwise than in the table."""
    base = tmp_path / "labeled-images"
    for name, organ, finding, kind in ROWS:
        folder = base / f"{organ[:5].lower()}-gi-tract" / kind / finding.replace("orrh", "orr")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").touch()
    columns = ["Video file", "Organ", "Finding", "Classification"]
    pd.DataFrame(ROWS, columns=columns).to_csv(base / "image-labels.csv", index=False)
    return tmp_path


@pytest.fixture
def segmented(tree):
    """The first polyp of the tree and another with masks, and their boxes."""
    folder = tree / "segmented-images"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    inside = np.zeros((16, 16), dtype=np.uint8)
    inside[:8] = 255
    for name in ("u0", "v9"):
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "images" / f"{name}.jpg")
        Image.fromarray(inside).save(folder / "masks" / f"{name}.jpg")
    box = {"label": "polyp", "xmin": 0, "ymin": 0, "xmax": 16, "ymax": 8}
    boxes = {"u0": {"height": 16, "width": 16, "bbox": [box]}, "v9": {"height": 16, "width": 16, "bbox": []}}
    (folder / "bounding-boxes.json").write_text(json.dumps(boxes))
    return tree


def test_a_finding_against_the_rest(tree):
    table = open_dataset("hyperkvasir", tree)
    assert table.frame["label"].tolist() == [1, 1, 0, 0, 0]
    assert table.classes == ("no polyps", "polyps")
    assert table.frame["group"].tolist() == ["u0", "u1", "u2", "u3", "u4"]
    assert not table.has_groups  # each image has a video file of its own, which says nothing
    assert table.metadata == ["Organ", "Finding", "Classification"]
    assert table.masks is None
    assert (
        list(table.files.values())[2]
        == "labeled-images/lower-gi-tract/pathological-findings/hemorroids/u2.jpg"
    )
    assert hyperkvasir(tree / "labeled-images").frame["label"].tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("options", "labels", "classes"),
    [
        (
            {"target": ["polyps", "hemorrhoids"]},
            [1, 1, 1, 0, 0],
            ("no hemorrhoids or polyps", "hemorrhoids or polyps"),
        ),
        ({"target": "Upper GI", "by": "Organ"}, [0, 0, 0, 0, 1], ("no Upper GI", "Upper GI")),
        (
            {"target": None, "by": "Classification"},
            [1, 1, 1, 0, 0],
            ("anatomical-landmarks", "pathological-findings"),
        ),
        ({"target": None}, [2, 2, 1, 0, 3], ("cecum", "hemorrhoids", "polyps", "z-line")),
    ],
)
def test_targets(tree, options, labels, classes):
    table = hyperkvasir(tree, **options)
    assert table.frame["label"].tolist() == labels
    assert table.classes == classes


def test_both_spellings_are_one(tree):
    path = tree / "labeled-images" / "image-labels.csv"
    path.write_text(path.read_text().replace("hemorrhoids", "hemorroids"))
    assert hyperkvasir(tree, target="hemorrhoids").frame["label"].tolist() == [0, 0, 1, 0, 0]


def test_an_image_of_two_rows_is_one_sample(tree):
    path = tree / "labeled-images" / "image-labels.csv"
    frame = pd.read_csv(path)
    pd.concat([frame, frame.iloc[:1]]).to_csv(path, index=False)
    table = hyperkvasir(tree)
    assert len(table) == len(frame)
    assert table.notes[0].startswith(f"1 of {len(frame) + 1} rows name an image that an earlier row names")


def test_masks_of_the_segmented_images_belong_to_the_labelled_ones(segmented):
    table = hyperkvasir(segmented)
    assert table.mask(0).sum() == 8 * 16
    assert [table.mask(i) for i in range(1, 5)] == [None] * 4


def test_the_segmented_images_alone(segmented):
    table = hyperkvasir(segmented, part="segmented").verify(progress=False)
    assert table.frame["label"].tolist() == [1, 1]
    assert table.frame["boxes"].tolist() == [1, 0]
    assert json.loads(table.frame["bounding_boxes"].iloc[0])[0]["ymax"] == 8
    assert table.mask(1)[:8].all()
    assert not table.mask(1)[8:].any()
    assert table.shape == (3, 16, 16)
    assert len(hyperkvasir(segmented / "segmented-images", part="segmented")) == 2


def test_the_authors_folds_are_splits(tree, tmp_path):
    folds = tmp_path / "2_fold_split.csv"
    lines = "u0.jpg;polyps;0\nu1.jpg;polyps;1\nu2.jpg;hemorrhoids;0\nu3.jpg;cecum;1\n"
    folds.write_text("file-name;class-name;split-index\n" + lines)
    frame = hyperkvasir(tree, folds=folds).frame
    assert frame["split"].tolist() == ["train", "test", "train", "test", ""]
    assert frame["fold"].tolist()[:4] == [0, 1, 0, 1]
    assert hyperkvasir(tree, folds=folds, test_fold=0).frame["split"].iloc[0] == "test"
    with pytest.raises(InputError, match=r"test_fold must be one of \[0, 1\], not 4"):
        hyperkvasir(tree, folds=folds, test_fold=4)
    folds.write_text("a,b\n1,2\n")
    with pytest.raises(LayoutError, match="no table file-name"):
        hyperkvasir(tree, folds=folds)
    with pytest.raises(InputError, match="no such file of folds"):
        hyperkvasir(tree, folds=tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "polyp"}, "no Finding 'polyp' in HyperKvasir; there are 'cecum'"),
        ({"target": []}, "no Finding given"),
        ({"by": "Colour"}, "by must be"),
        ({"part": "videos"}, "part must be"),
        ({"part": "segmented"}, "no folder 'segmented-images'"),
    ],
)
def test_options_that_cannot_be(tree, options, said):
    with pytest.raises(InputError, match=said):
        hyperkvasir(tree, **options)


def test_other_layouts_are_refused(segmented):
    masks = segmented / "segmented-images" / "masks"
    (masks / "v9.jpg").unlink()
    with pytest.raises(LayoutError, match="1 segmented images have no mask: 'v9'"):
        hyperkvasir(segmented, part="segmented")
    (masks / "v9.jpg").touch()
    (segmented / "segmented-images" / "bounding-boxes.json").write_text("[]")
    with pytest.raises(LayoutError, match="no object of images"):
        hyperkvasir(segmented, part="segmented")
    for path in (segmented / "labeled-images").rglob("u[34].jpg"):
        path.unlink()
    with pytest.raises(LayoutError, match=r"2 of 5 images of image-labels\.csv are missing: 'u3', 'u4'"):
        hyperkvasir(segmented)
    (segmented / "labeled-images" / "image-labels.csv").write_text("Video file,Organ\nu0,Lower GI\n")
    with pytest.raises(LayoutError, match="lacks the column 'Finding', 'Classification'"):
        hyperkvasir(segmented)
    with pytest.raises(LayoutError, match=r"(?s)image-labels\.csv.*datasets\.simula\.no"):
        hyperkvasir(segmented / "segmented-images")


def test_ten_thousand_images_are_not_opened(tree):
    folder = tree / "labeled-images" / "lower-gi-tract" / "anatomical-landmarks" / "cecum"
    for k in range(10_000):
        (folder / f"n{k}.jpg").touch()
    path = tree / "labeled-images" / "image-labels.csv"
    with path.open("a") as file:
        file.writelines(f"n{k},Lower GI,cecum,anatomical-landmarks\n" for k in range(10_000))
    assert len(hyperkvasir(tree)) == 10_005
