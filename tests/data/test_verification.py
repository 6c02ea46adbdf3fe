from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from shortcutscope import ImageTable
from shortcutscope.data.table import Normalize
from shortcutscope.errors import InputError


@pytest.fixture
def photographs(tmp_path):
    """Ten JPEGs of 32 x 32 grey noise and the table of them."""
    generator = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(generator.integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / f"{i}.jpg")
    frame = pd.DataFrame({"image": [f"{i}.jpg" for i in range(10)], "label": [0, 1] * 5})
    return tmp_path, lambda **options: ImageTable.from_frame(frame, root=tmp_path, **options)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def floats(n=6):
    return np.random.default_rng(0).random((n, 8, 8), dtype=np.float32)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sound_table_comes_back_as_it_is(photographs, workers):
    table = photographs[1]()
    assert table.verify(workers=workers, progress=False) is table


@pytest.mark.parametrize("workers", [0, 2])
def test_truncated_images_are_named_or_left_out_and_counted(photographs, workers):
    folder, make = photographs
    truncate(folder / "3.jpg")
    (folder / "7.jpg").write_bytes(b"not an image")
    table = make()
    with pytest.raises(InputError, match=r"2 image\(s\) cannot be read: '3.jpg' .*truncated.*'7.jpg'.*skip"):
        table.verify(workers=workers, progress=False)
    kept = table.verify(on_unreadable="skip", workers=workers, progress=False)
    assert len(kept) == 8
    assert [table.files[name] for name, _ in kept.skipped] == ["3.jpg", "7.jpg"]
    assert "truncated" in kept.skipped[0][1]
    assert "3.jpg" not in kept.files.values()
    assert kept.take([0, 1]).skipped == kept.skipped
    assert "skipped: 2" in repr(kept)
    assert kept.fingerprint() != table.fingerprint()


def test_nothing_readable_is_an_error_even_when_skipping(photographs):
    folder, make = photographs
    for path in folder.glob("*.jpg"):
        truncate(path)
    with pytest.raises(InputError, match=r"10 image\(s\) cannot be read"):
        make().verify(on_unreadable="skip", progress=False)


def test_mixed_shapes_and_channels_are_named_with_the_remedy(photographs):
    folder, make = photographs
    Image.fromarray(np.zeros((16, 32), np.uint8)).save(folder / "2.jpg")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "5.jpg")
    with pytest.raises(InputError, match=r"(?s)'5.jpg' \(3\); pass mode=.*'2.jpg' \(16, 32\); pass size="):
        make().verify(progress=False)
    assert make(mode="L", size=32).verify(progress=False).shape == (1, 32, 32)


def test_a_transform_may_even_the_shapes_out(photographs):
    folder, make = photographs
    Image.fromarray(np.zeros((16, 32), np.uint8)).save(folder / "2.jpg")
    assert make(transform=Normalize(0.5, 0.5, size=24)).verify(progress=False).shape == (1, 24, 24)


def test_the_models_channel_count(photographs):
    table = photographs[1]()
    assert table.verify(channels=1, progress=False) is table
    with pytest.raises(InputError, match=r"10 .*wrong number of channels .the model takes 3"):
        table.verify(channels=3, progress=False)


def test_values_outside_the_range_and_not_finite():
    images = floats()
    images[1] *= 255
    images[4, 0, 0] = np.nan
    with pytest.raises(InputError) as caught:
        ImageTable.from_arrays(images, [0, 1] * 3).verify(progress=False)
    text = str(caught.value)
    assert "1 image(s) hold values that are not finite (NaN or infinity): '4'" in text
    assert "1 image(s) have values outside the declared range [0, 1]: '1' [" in text
    assert "value_range=(low, high)" in text


def test_unsuitable_axes_and_failing_transforms_name_the_sample():
    with pytest.raises(InputError, match=r"'0' \(2 channels cannot become mode 'RGB'"):
        ImageTable.from_arrays(np.zeros((2, 2, 4, 4)), [0, 1], mode="RGB").verify(progress=False)
    three = Normalize([0.5] * 3, [0.5] * 3)
    with pytest.raises(InputError, match=r"'0' \(the transform failed: InputError: Normalize has 3 channels"):
        ImageTable.from_arrays(floats(), [0, 1] * 3, transform=three).verify(workers=2, progress=False)
    with pytest.raises(InputError, match="finite, but not after the transform"):
        ImageTable.from_arrays(floats(), [0, 1] * 3, transform=lambda x: x / 0).verify(progress=False)


def test_masks_are_read_and_compared():
    table = ImageTable.from_arrays(floats(), [0, 1] * 3, masks=np.zeros((6, 8, 9)))
    with pytest.raises(InputError, match=r"6 mask\(s\) differ .* '0' \(mask \(8, 9\), image \(8, 8\)\)"):
        table.verify(progress=False)


def test_random_augmentation_is_found():
    generator = torch.Generator().manual_seed(0)

    def jitter(image):
        return image + torch.rand(1, generator=generator)

    with pytest.raises(InputError, match="random"):
        ImageTable.from_arrays(floats(), [0, 1] * 3, transform=jitter).verify(progress=False)


def test_global_generators_and_progress(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    table = ImageTable.from_arrays(floats(), [0, 1] * 3)
    table.verify(progress=True)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert "verify: 100%" in capsys.readouterr().err
    with pytest.raises(InputError, match="on_unreadable"):
        table.verify(on_unreadable="ignore")  # type: ignore[arg-type]


def test_a_dataset_that_fails_on_one_item():
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            if i == 2:
                raise RuntimeError("disk gone")
            return torch.full((1, 4, 4), i / 4)

    table = ImageTable.from_dataset(Broken(), pd.DataFrame({"label": [0, 1, 0, 1]}))
    with pytest.raises(InputError, match=r"'2' .*RuntimeError: disk gone"):
        table.verify(progress=False)
    assert table.verify("skip", progress=False).frame["sample_id"].tolist() == ["0", "1", "3"]
