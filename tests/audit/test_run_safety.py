"""What a finished run goes through without harm: other versions, damage, interruptions, odd data."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from typing import Annotated

import numpy as np
import pytest
import small_study
import torch
import typer

import shortcutscope as ss
from shortcutscope import cli
from shortcutscope.audit import examination as examine_module
from shortcutscope.audit import layer_probing
from shortcutscope.audit.interventions import use_and_extent as use_module
from shortcutscope.debias.student import MODEL, Student
from shortcutscope.errors import InputError, StaleRunError
from shortcutscope.masks.mask_files import read_mask, write_mask
from shortcutscope.report.run_files import read_run
from shortcutscope.scan import plan as plan_module

OPTIONS = {"statistics": ss.Statistics(50, 20), "running": ss.Running(batch_size=8, progress=False)}
N = 120


def table(images=None, **columns):
    pictures, frame = small_study.pictures(N)
    pictures = pictures if images is None else images
    return ss.ImageTable.from_arrays(pictures, frame.drop(columns="image").assign(**columns))


def model():
    return small_study.tag_reader().eval()


def audited(out, **options):
    return ss.audit(model(), options.pop("data", table()), out, **({"concepts": ["tag"]} | OPTIONS | options))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return audited(tmp_path_factory.mktemp("safety") / "run").path


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# R1: versions


def test_r1_another_version_of_the_package_goes_on_with_the_run(run, monkeypatch):
    before = content(run)
    monkeypatch.setattr("shortcutscope.audit.provenance.__version__", "9.9.9")
    monkeypatch.setattr(layer_probing, "probe_layer", lambda *a, **k: pytest.fail("measured again"))
    monkeypatch.setattr(use_module, "use_result", lambda *a, **k: pytest.fail("measured again"))
    again = audited(run)
    assert again.findings == ss.Audit.open(run).findings
    assert content(run / "scan") == {
        name.removeprefix("scan/"): b for name, b in before.items() if name.startswith("scan/")
    }
    assert json.loads((run / "run.json").read_text())["version"] == "9.9.9"
    again["tag"].retrieve(5)
    again["tag"].annotate(model(), table(), ["s0-0001"], extent=None, running=ss.Running(progress=False))


@pytest.mark.parametrize("module_and_name", [(plan_module, "SCANNING"), (plan_module, "POOLING_VERSION")])
def test_r1_another_algorithm_is_refused_before_anything_is_written(run, monkeypatch, module_and_name):
    before = content(run)
    monkeypatch.setattr(*module_and_name, 99)
    with pytest.raises(StaleRunError, match=r"scanning|pooling"):
        audited(run)
    assert content(run) == before
    assert ss.Audit.open(run)["tag"].retrieve(3)


def test_r1_measurements_of_another_algorithm_are_made_anew(run, monkeypatch):
    from shortcutscope.audit import run_directory as rundir

    monkeypatch.setitem(rundir.MEASURING, "extent", 99)
    measured = []
    original = use_module.measure_extent
    monkeypatch.setattr(use_module, "measure_extent", lambda *a, **k: measured.append(1) or original(*a, **k))
    audited(run)
    assert measured


def test_r1_a_run_of_a_format_that_is_not_known_is_refused_by_all(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"format": 99, "version": "7.0"}))
    before = content(run)
    told = r"a run of format 99, .* reads format 1: use the version .*7\.0"
    for attempt in (audited, ss.Audit.open, read_run):
        with pytest.raises(InputError, match=told):
            attempt(run)
    assert content(run) == before


@pytest.mark.parametrize("options", [{}, {"seed": 3}, {"n_bootstrap": 40}])
def test_r1_an_interrupted_repetition_leaves_a_finished_run_as_it_was(run, monkeypatch, options):
    options = {"statistics": replace(OPTIONS["statistics"], **options)}
    before = {name: b for name, b in content(run).items() if not name.startswith("stages")}
    with monkeypatch.context() as patch:

        def stop(*_args, **_options):
            raise KeyboardInterrupt

        patch.setattr(examine_module, "measure_use_and_extent", stop)
        with pytest.raises(KeyboardInterrupt):
            audited(run, **options)
    assert {n: b for n, b in content(run).items() if not n.startswith("stages")} == before
    ss.Audit.open(run).report()
    assert audited(run, **options)["tag"].verdict == ss.Audit.open(run)["tag"].verdict


# R2: damage


def flip(path, at=-9):
    damaged = bytearray(path.read_bytes())
    damaged[at] ^= 4
    path.write_bytes(damaged)


@pytest.mark.parametrize("number", [0, 3, -1])
def test_r2_a_flipped_byte_of_a_shard_is_seen_by_every_stage(run, number):
    found = ss.Audit.open(run)["tag"]
    found.retrieve(3)  # which reads the shards whole
    flip(sorted((run / "scan").glob("shard-*"))[number])
    for attempt in (
        lambda: found.retrieve(3),
        lambda: found.annotate(model(), table(), extent=None, running=ss.Running(progress=False)),
        lambda: found.circuit(model(), table()),
        lambda: ss.Audit.open(run).scan,
    ):
        with pytest.raises(InputError, match=r"shard-.* is damaged: its checksum"):
            attempt()


@pytest.mark.parametrize("name", ["scan/samples", "scan/manifest.json", "concepts", "profile", "identity"])
def test_r2_a_flipped_byte_of_the_files_beside_them_is_seen(run, name):
    expected = ss.Audit.open(run)["tag"].retrieve(3, images=table(), running=ss.Running(progress=False)).frame
    if name.endswith("json"):
        told = json.loads((run / name).read_text())
        told["shards"][0]["exponents"] = {k: v + 1 for k, v in told["shards"][0]["exponents"].items()}
        (run / name).write_text(json.dumps(told))
    else:
        path = run / f"{name}.parquet"
        flip(path, path.stat().st_size // 3)
    refused, frame = "", None
    try:
        frame = (
            ss.Audit.open(run)["tag"].retrieve(3, images=table(), running=ss.Running(progress=False)).frame
        )
    except InputError as error:
        refused = str(error)
    if frame is None:
        assert "damaged" in refused or "cannot be read" in refused
    else:  # a page's header, such as its smallest value: what is read does not rest on it
        assert frame.equals(expected)


def test_r2_a_damaged_filter_bank_is_made_again(run):
    found = ss.Audit.open(run)["tag"]
    expected = found.retrieve(20, images=table(), running=ss.Running(progress=False)).frame
    flip(run / "annotate" / "input.safetensors", -200)
    assert found.retrieve(20, images=table(), running=ss.Running(progress=False)).frame.equals(expected)


@pytest.mark.parametrize("file", ["m.png", "m.npz"])
def test_r2_a_flipped_byte_of_a_mask_is_seen_wherever_it_is(tmp_path, file):
    mask = np.random.default_rng(0).random((12, 9) if file == "m.png" else (4, 12, 9)) > 0.5
    write_mask(tmp_path / file, mask, {"made": "by a test"})
    whole = (tmp_path / file).read_bytes()
    for at in range(0, len(whole), 7):
        (tmp_path / file).write_bytes(whole)
        flip(tmp_path / file, at)
        try:
            read = read_mask(tmp_path / file)
        except InputError:
            continue
        assert np.array_equal(read, mask), at


def test_r2_a_flipped_byte_of_a_student_is_seen(tmp_path):
    Student("erm", model()).save(tmp_path)
    assert Student.open(tmp_path, model()).recipe == "erm"
    flip(tmp_path / MODEL)
    with pytest.raises(InputError, match=r"model\.safetensors is missing or damaged"):
        Student.open(tmp_path, model())


# R8: interruptions


def leaving(command, capsys):
    """Exit code and standard error of the command line with one command in it."""
    app = typer.Typer()
    app.callback()(lambda: None)
    app.command("wait")(cli.guarded(command))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "_app", lambda _: app)
        with pytest.raises(SystemExit) as left:
            cli.main(["wait"])
    return left.value.code, capsys.readouterr().err


@pytest.fixture
def heard():
    """SIGINT as on a terminal: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_r8_a_signal_ends_a_command_with_one_line(capsys, number, heard):
    def wait() -> None:
        os.kill(os.getpid(), number)
        time.sleep(30)  # until the signal is here

    before = signal.getsignal(signal.SIGTERM)
    code, err = leaving(wait, capsys)
    assert code == 130
    assert err == "interrupted; run the same command again to go on: shortcutscope wait\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_r8_a_signal_during_parsing_ends_with_the_same_line(capsys, number, heard):
    def raised(text: str) -> str:
        os.kill(os.getpid(), number)
        time.sleep(30)
        return text

    def wait(*, value: Annotated[str, typer.Option(callback=raised)] = "x") -> None:
        pytest.fail("the command began")

    code, err = leaving(wait, capsys)
    assert code == 130
    assert err == "interrupted; run the same command again to go on: shortcutscope wait\n"


def test_r8_a_scan_of_few_samples_is_kept_piece_by_piece(made):
    assert len(list((made / "scan").glob("shard-*"))) >= plan_module.FEWEST_SHARDS


# R9: odd data


def test_r9_one_image_many_times_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="the same input for all"):
        audited(tmp_path / "run", data=table(np.full((N, 24, 24), 90, np.uint8)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("sides", [(1, 1), (1, 24), (24, 1)])
def test_r9_sides_of_one_pixel_are_refused_before_anything_is_written(tmp_path, sides):
    images = small_study.pictures(N)[0][:, : sides[0], : sides[1]]
    spread = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 1), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    spread(torch.zeros(1, 1, *sides))
    with pytest.raises(InputError, match=r"have a side of one pixel \(1 x .*dims=1"):
        ss.audit(spread.eval(), table(images), tmp_path / "run", concepts=["tag"], **OPTIONS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("few", ["label", "group"])
def test_r9_one_sample_in_a_class_or_a_group_ends_in_an_answer(tmp_path, few):
    values = {"label": np.arange(N) == 5, "group": np.where(np.arange(N) == 5, "a", "b")}[few]
    done = audited(tmp_path / "run", data=table(**{few: values.astype(int if few == "label" else str)}))
    assert done["tag"].verdict != "shortcut"
    assert done.report().exists()
