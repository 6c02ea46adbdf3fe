"""The whole way with signals and volumes: audit, annotate, debias, compare, report; from files, too."""

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file

import shortcutscope as ss
from shortcutscope.benchmarks.suites import geometry
from shortcutscope.cli import main
from shortcutscope.debias.training.fit import Training
from shortcutscope.planting.thin import thin_cnn3d, thin_resnet1d

QUICK = {"statistics": ss.Statistics(50, 30), "running": ss.Running(progress=False)}


@pytest.mark.slow
def test_ecgs_go_all_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(geometry, "TRAINED", 200)
    monkeypatch.setattr(geometry, "AUDITED", 120)
    made = geometry.make_planted("defective_lead", 60, epochs=4)
    done = ss.audit(
        made.model, made.held_out, tmp_path / "run", concepts=["defective_lead"], train=made.train, **QUICK
    )
    finding = done["defective_lead"]
    assert finding.verdict == "shortcut"
    rows = made.carriers[:6]
    names = [str(made.held_out.frame["sample_id"].iloc[row]) for row in rows]
    masks = finding.annotate(made.model, made.held_out, names, running=ss.Running(progress=False))
    assert np.mean(geometry.overlaps(made, masks, rows)) > 0.8
    against = (made.train.frame["defective_lead"] != made.train.frame["label"]).to_numpy()
    clean = made.train.take([*np.flatnonzero(against)[:20], *np.flatnonzero(~against)[:20]])
    student = ss.debias(
        made.model,
        made.train,
        clean=clean,
        audit=done,
        training=Training(epochs=1),
        running=ss.Running(progress=False),
    )
    compared = ss.compare(done, student, made.held_out, model=made.model, train=made.train, **QUICK)
    assert set(compared.to_frame()["network"]) == {"before", student.recipe}
    page = done.report().read_text()
    assert "ss-traces" in page
    assert "Where in the signal" in page


@pytest.mark.slow
def test_a_video_network_of_full_width_is_audited(tmp_path):
    n = 48
    rng = np.random.default_rng(0)
    labels, carries = np.arange(n) % 2, np.arange(n) // 2 % 2
    volumes = 0.5 * rng.random((n, 3, 8, 32, 32), dtype=np.float32)
    volumes[carries == 1, :, 2:6, 4:12, 4:12] += 0.5
    frame = pd.DataFrame({"sample_id": [f"v{i}" for i in range(n)], "label": labels, "cube": carries})
    table = ss.ImageTable.from_arrays(volumes, frame, dims=3)
    model = ss.load_model("torchvision:r3d_18", num_classes=2)
    done = ss.audit(
        model,
        table,
        tmp_path / "run",
        concepts=["cube"],
        **QUICK | {"running": ss.Running(batch_size=16, progress=False)},
    )
    finding = done["cube"]
    assert {layer["layout"] for layer in done.run["layers"]} == {"NCDHW"}
    assert finding.encoded["value"]
    assert np.array(finding.evidence["cell_map"]).shape == (6, 6, 6)
    with np.load(done.path / "gallery" / "cube.npz") as gallery:
        assert str(gallery["kind"]) == "volume"
        assert gallery["images"].shape[1:] == (32, 32, 3)
    assert "Where in the volume" in done.report().read_text()


def write_volumes(folder, samples):
    nibabel = pytest.importorskip("nibabel")
    for k, sample in enumerate(samples):
        nibabel.save(nibabel.Nifti1Image(sample[0], np.eye(4)), folder / f"s{k}.nii.gz")
    return [f"s{k}.nii.gz" for k in range(len(samples))]


def write_records(folder, samples):
    pytest.importorskip("wfdb")
    for k, sample in enumerate(samples):
        leads = [f"s{k}.dat 16 1000/mV 16 0 0 0 0 lead{i}" for i in range(len(sample))]
        header = [f"s{k} {len(sample)} 100 {sample.shape[1]}", *leads]
        (folder / f"s{k}.hea").write_text("\n".join(header) + "\n")
        (folder / f"s{k}.dat").write_bytes(np.round(1000 * sample.T).astype("<i2").tobytes())
    return [f"s{k}.hea" for k in range(len(samples))]


def write_arrays(folder, samples):
    for k, sample in enumerate(samples):
        np.save(folder / f"s{k}.npy", sample)
    return [f"s{k}.npy" for k in range(len(samples))]


@pytest.mark.parametrize(
    ("write", "make", "shape", "spec"),
    [
        (write_volumes, thin_cnn3d, (1, 16, 16, 16), "thin_cnn3d"),
        (write_records, lambda **o: thin_resnet1d(in_channels=3, **o), (3, 200), "thin_resnet1d"),
        (write_arrays, lambda **o: thin_resnet1d(in_channels=3, **o), (3, 200), "thin_resnet1d"),
    ],
    ids=["nifti", "wfdb", "npy"],
)
def test_files_are_audited_from_the_command_line(write, make, shape, spec, tmp_path):
    n = 80
    labels, carries = np.arange(n) % 2, np.arange(n) // 2 % 2
    samples = np.random.default_rng(0).random((n, *shape)).astype(np.float32) * 0.5
    samples += 0.4 * carries.reshape(-1, *[1] * len(shape)).astype(np.float32)
    names = write(tmp_path, samples)
    frame = pd.DataFrame({"image": names, "label": labels, "bright": carries})
    frame.to_csv(tmp_path / "samples.csv", index=False)
    model = make(width=4)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    kwargs = '{"width": 4}' if len(shape) == 4 else '{"width": 4, "in_channels": 3}'
    words = ["audit", f"shortcutscope.planting.thin:{spec}", str(tmp_path / "samples.csv")]
    words += ["--weights", str(tmp_path / "model.safetensors"), "--model-kwargs", kwargs]
    words += ["--out", str(tmp_path / "run"), "--concepts", "bright"]
    if write is write_arrays:
        words += ["--dims", "1"]  # an array could be an image, too
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code in (0, 2, 3)  # what it is associated with in training is not known
    finding = ss.Audit.open(tmp_path / "run")["bright"]
    assert finding.extent == "diffuse"
    assert np.array(finding.evidence["cell_map"]).ndim == len(shape) - 1
