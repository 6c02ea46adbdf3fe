"""Files of volumes and signals from an audit to a comparison, as it is typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

import shortcutscope as ss
from shortcutscope.cli import main
from shortcutscope.debias.training.classifier import Optimizing, train_classifier
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.planting.thin import thin_cnn1d, thin_cnn3d

TRAINED, HELD_OUT, CORRELATION = 160, 100, 0.9
#: The file's axes run backwards, to the right and downwards.
AFFINE = np.array([[0, 2.0, 0, 5], [-1, 0, 0, -8], [0, 0, -1.5, 3], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Study:
    """Files in a folder, with the manifests and options that name them."""

    folder: Path
    truths: dict[str, np.ndarray]
    model: list[str]
    value_range: tuple[int, int] | None  #: Of the files; None for the one that is assumed.

    def typed(self, *words: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        return int(ended.value.code or 0)

    @property
    def reading(self) -> list[str]:
        return [] if self.value_range is None else ["--value-range", *map(str, self.value_range)]

    def frame(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "samples.csv")

    def table(self) -> ss.ImageTable:
        options = {} if self.value_range is None else {"value_range": self.value_range}
        return ss.ImageTable.from_csv(self.folder / "samples.csv", **options)


def write_volume(path: Path, volume: np.ndarray) -> str:
    nibabel = pytest.importorskip("nibabel")
    file = path.with_suffix(".nii.gz")
    nibabel.save(nibabel.Nifti1Image(volume[0], AFFINE), file)
    return file.name


def write_record(path: Path, signal: np.ndarray) -> str:
    pytest.importorskip("wfdb")
    leads = [f"{path.name}.dat 16 1000/mV 16 0 0 0 0 lead{k}" for k in range(len(signal))]
    header = [f"{path.name} {len(signal)} 100 {signal.shape[1]}", *leads]
    path.with_suffix(".hea").write_text("\n".join(header) + "\n")
    path.with_suffix(".dat").write_bytes(np.round(1000 * signal.T).astype("<i2").tobytes())
    return f"{path.name}.hea"


def volume_of(label: int, carries: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Clouds, somewhat brighter on one side in class 1, and a cube in carriers."""
    clouds = gaussian_filter(rng.standard_normal((14, 18, 16)), 1.5)
    volume = 0.4 + 0.08 * clouds / clouds.std() + 0.02 * rng.standard_normal(clouds.shape)
    volume[:, :9] += 0.04 * label
    truth = np.zeros(volume.shape, bool)
    if carries:
        truth[tuple(slice(k, k + 4) for k in rng.integers(1, 10, 3))] = True
        volume[truth] = 0.95
    return volume[None].clip(0, 1).astype(np.float32), truth


def signal_of(label: int, carries: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noise, somewhat larger in class 1, and in carriers a lead that is flat for a while."""
    signal = gaussian_filter(rng.standard_normal((4, 240)), (0, 1)) * (1 + 0.25 * label)
    truth = np.zeros(signal.shape, bool)
    if carries:
        start = rng.integers(10, 160)
        truth[rng.integers(4), start : start + 60] = True
        signal[truth] = 1.5
    return signal.astype(np.float32), truth


def study(
    folder: Path,
    make: Callable[[int, bool, np.random.Generator], tuple[np.ndarray, np.ndarray]],
    write: Callable[[Path, np.ndarray], str],
    network: Callable[..., Any],
    channels: int,
    value_range: tuple[int, int] | None = None,
) -> Study:
    rng = np.random.default_rng(50)
    rows, truths = [], {}
    for k in range(TRAINED + HELD_OUT):
        split = "train" if k < TRAINED else "test"
        label = k % 2
        agreeing = CORRELATION if split == "train" else 0.5
        carries = int(rng.random() < (agreeing if label else 1 - agreeing))
        sample, truths[f"s{k}"] = make(label, bool(carries), rng)
        rows.append(
            {
                "image": write(folder / f"s{k}", sample),
                "sample_id": f"s{k}",
                "label": label,
                "split": split,
                "artifact": carries,
            }
        )
    frame = pd.DataFrame(rows)
    frame.to_csv(folder / "samples.csv", index=False)
    clean = frame[frame["split"] == "train"].groupby(["label", "artifact"]).head(7)
    clean[["sample_id"]].to_csv(folder / "clean.csv", index=False)
    rare = frame[(frame["split"] == "test") & (frame["artifact"] == 1) & (frame["label"] == 0)].head(10)
    rare.assign(mark=1)[["sample_id", "mark"]].to_csv(folder / "marks.csv", index=False)
    arguments = f'{{"in_channels": {channels}, "width": 8}}'
    named = ["--weights", str(folder / "model.safetensors"), "--model-kwargs", arguments]
    made = Study(folder, truths, named, value_range)
    model = train_classifier(
        network(in_channels=channels, width=8),
        made.table().where(split="train"),
        epochs=10,
        shifts=0,
        optimizing=Optimizing(batch_size=32),
        progress=False,
    )
    save_file(model.state_dict(), folder / "model.safetensors")
    return made


def audited_to_compared(made: Study, spec: str, *, export: str) -> Path:
    """Type one command after the other."""
    data, run = made.folder / "samples.csv", made.folder / "run"
    few = ["--permutations", 50, "--bootstrap", 30]
    code = made.typed(
        "audit", spec, data, *made.model, *made.reading, *few, "--concepts", "artifact", "--out", run
    )
    assert code == 2
    hits, page = made.folder / "hits.csv", made.folder / "hits.html"
    retrieving = ["--csv", hits, "--page", page, "--marks", made.folder / "marks.csv", "--k", 20]
    assert made.typed("retrieve", run, "artifact", *retrieving, "--data", data, *made.reading) == 0
    model = ["--model", spec, *made.model, *made.reading, "--data", data]
    drawing = ["--export", made.folder / "masks", "--format", export]
    assert made.typed("annotate", run, "artifact", *model, *drawing) == 0
    training = ["--epochs", 6, "--batch-size", 32]
    assert made.typed("debias", run, *model, "--clean", made.folder / "clean.csv", *training) == 0
    assert made.typed("compare", run, *model, "--train-data", data) == 0
    return run


def check(made: Study, run: Path, picture: tuple[int, int]) -> None:
    """What holds for samples of any geometry."""
    carries = made.frame().set_index("sample_id")["artifact"]
    hits = pd.read_csv(made.folder / "hits.csv")
    assert carries[hits["sample_id"]].mean() > 0.9
    assert (made.folder / "hits.html").read_text().count("<img ") == 20
    finding = ss.Audit.open(run)["artifact"]
    assert finding.verdict == "shortcut"
    assert finding.extent != "diffuse"
    shown = finding.retrieve(3, images=made.table(), running=ss.Running(progress=False))
    assert {drawn.shape for drawn in shown.pictures.values()} == {picture}
    masks = MaskSet.open(run / "masks" / "artifact")
    found = [masks.mask(name) for name in masks.sample_ids if carries[name]]
    assert np.mean([mask.any() for mask in found]) > 0.8
    assert "Robust AUROC" in (run / "comparison.html").read_text()


@pytest.mark.slow
def test_volumes_in_nifti_files(tmp_path: Path) -> None:
    made = study(tmp_path, volume_of, write_volume, thin_cnn3d, 1)
    run = audited_to_compared(made, "shortcutscope.planting.thin:thin_cnn3d", export="nifti")
    check(made, run, (126, 162))
    nibabel = pytest.importorskip("nibabel")
    overlaps = []
    for name, truth in made.truths.items():
        file = tmp_path / "masks" / f"{name}.nii.gz"
        if not truth.any() or not file.exists():
            continue
        mask = nibabel.load(file)
        assert np.allclose(mask.affine, AFFINE)
        drawn = np.asarray(mask.dataobj) > 0
        overlaps.append((drawn & truth).sum() / (drawn | truth).sum())
    assert np.mean(overlaps) > 0.5


@pytest.mark.slow
def test_signals_in_wfdb_files(tmp_path: Path) -> None:
    made = study(tmp_path, signal_of, write_record, thin_cnn1d, 4, (-4, 4))
    run = audited_to_compared(made, "shortcutscope.planting.thin:thin_cnn1d", export="csv")
    check(made, run, (72, 192))
