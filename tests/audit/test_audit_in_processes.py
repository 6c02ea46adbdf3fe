"""An audit that several processes share is the audit of one."""

import json
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ranks
import small_study

from shortcutscope.scan.reading import Scan

#: Differs from run to run, whoever makes it.
CHANGING = ("created", "stages", "command")
COMMON = textwrap.dedent(
    """
    import os
    import signal
    from pathlib import Path
    import small_study
    import shortcutscope as ss  # whose rooms are opened when they are asked for
    from shortcutscope.data.table import ImageTable
    from shortcutscope.options import Running, Statistics
    from shortcutscope.scan.plan import Scanning
    from shortcutscope.scan.scanner import scan

    class TagReader(small_study.TagReader):
        "Does something at the second batch after so many shards are there."
        def __init__(self, shards, count, act):
            super().__init__()
            self.shards, self.count, self.act, self.calls = shards, count, act, 0

        def forward(self, x):
            self.calls += len(list(Path().glob(self.shards))) >= self.count
            if self.calls == 2:
                self.act()
            return super().forward(x)

    def audited(out, model=None, discover=False):
        return ss.audit(
            model or small_study.tag_reader(),
            ImageTable.from_csv("images.csv", mode="L"),
            out,
            concepts=["tag", "coin"],
            discover=discover,
            scanning=Scanning("all"),
            statistics=Statistics(n_permutations=50, n_bootstrap=50),
            running=Running(batch_size=4, progress=False),
        )

    def labelled(out):
        return ss.audit(
            small_study.tag_reader(),
            ImageTable.from_csv("images.csv", mode="L", label=["label", "tag"]),
            out,
            concepts=["coin"],
            head=ss.Head(labels={"label": 1, "tag": 0}),
            scanning=Scanning("all", measure=False),
            statistics=Statistics(n_permutations=50, n_bootstrap=50),
            running=Running(batch_size=4, progress=False),
        )

    def scanned(out, model=None):
        table = ImageTable.from_csv("images.csv", mode="L")
        running = Running(batch_size=4, progress=False)
        return scan(model or small_study.tag_reader(), table, out, scanning=Scanning("all"), running=running)

    def interrupt():
        raise KeyboardInterrupt

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)
    """
)
COMMAND = ("audit", small_study.FACTORY, "--random-weights", "--mode", "L", "--concepts", "tag")
#: An image that cannot be read.
BROKEN = "images/s0-0094.png"
#: An audit by all processes, one that a single process began, and one that is refused.
SHARED = COMMON + textwrap.dedent(
    f"""
    from shortcutscope.cli import main

    for out in ("two", "half"):
        number = len(audited(out).findings)
        os.write(1, b"%d\\n" % number)  # a line whole, which print would write in parts that interleave
    main([*{COMMAND}, "broken/images.csv", "--out", "refused"])
    """
)
#: An audit, and one of several labels, by all processes.
FOUR = COMMON + 'audited("four")\nlabelled("labels-by-four")'
#: Scans into folders of their own, which are refused, and a comparison by one of the processes.
APART = COMMON + textwrap.dedent(
    """
    from shortcutscope.errors import InputError

    rank = os.environ["RANK"]
    for work, name in ((scanned, "scan"), (audited, "audit")):
        try:
            work(f"{name}-apart-{rank}")
        except InputError as error:
            os.write(1, f"{error}\\n".encode())
    if rank == "0":
        table = ImageTable.from_csv("images.csv", mode="L")
        model, running = small_study.tag_reader(), Running(batch_size=16, progress=False)
        ss.compare(model, small_study.tag_reader(), table, concept="tag", out="compared", running=running)
    """
)
#: A scan, of which one of two processes is killed.
KILLED = COMMON + textwrap.dedent(
    """
    second = os.environ["RANK"] == "1"
    scanned("killed", TagReader("killed/shard-001-*", 3, kill) if second else None)
    """
)


def alike(one: object, two: object, where: str) -> None:
    """The same values in the same order, numbers to 1e-6."""
    assert type(one) is type(two), where
    if isinstance(one, dict):
        assert list(one) == list(two), where
        for key in one:
            alike(one[key], two[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), where
        for k, (x, y) in enumerate(zip(one, two, strict=True)):
            alike(x, y, f"{where}[{k}]")
    elif isinstance(one, float):
        assert one == pytest.approx(two, abs=1e-6), where
    else:
        assert one == two, where


def assert_same_run(one: Path, two: Path) -> None:
    for name in ("findings.json", "run.json"):
        first, second = (json.loads((run / name).read_text()) for run in (one, two))
        if name == "run.json":
            assert first["stages"].keys() == second["stages"].keys()
            assert {stage["state"] for stage in second["stages"].values()} == {"done"}
            for record in (first, second):  # the tests' own process may have run notebooks before
                record["environment"].pop("interpreter")
            first, second = ({k: v for k, v in x.items() if k not in CHANGING} for x in (first, second))
        alike(first, second, name)
    for name in ("profile.parquet", "concepts.parquet", "identity.parquet"):
        if name == "concepts.parquet" and (one / "outputs").exists():  # those of several labels are of each
            continue
        first, second = (pd.read_parquet(run / name) for run in (one, two))
        pd.testing.assert_frame_equal(first, second, rtol=0, atol=1e-6)
    assert_same_scan(one / "scan", two / "scan")
    left = [
        str(p) for p in two.rglob("*") if p.name.startswith((".", "part-")) or p.name == "pending.safetensors"
    ]
    assert not left
    files = [{str(p.relative_to(run)) for p in run.rglob("*") if "shard" not in p.name} for run in (one, two)]
    assert files[0] == files[1]


def assert_same_scan(one: Path, two: Path) -> None:
    first, second = Scan.open(one), Scan.open(two)
    shared = [
        name for name in first.samples if name in second.samples
    ]  # an audit adds those that it measures
    assert first.samples[shared].equals(second.samples[shared])
    assert [x.name for x in first.layers] == [x.name for x in second.layers]
    for layer in first.layers:
        for stat in ("mean", "max", "std"):
            np.testing.assert_allclose(
                first.activation(layer, stat), second.activation(layer, stat), atol=1e-6
            )
        for stat in ("sum", "max", "gradient") if first.has_relevance else ():
            np.testing.assert_allclose(first.relevance(layer, stat), second.relevance(layer, stat), atol=1e-6)
    np.testing.assert_allclose(first.logits, second.logits, rtol=0, atol=1e-6)


def shards(scan: Path) -> dict[str, int]:
    """Names of the files, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in scan.glob("shard-*")}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Works in a folder with images, the audit by one process, and one that was interrupted."""
    folder = tmp_path_factory.mktemp("study")
    small_study.write_files(folder, 96)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("WORLD_SIZE", raising=False)
        known = {}
        exec(COMMON, known)
        known["audited"]("one")
        with pytest.raises(KeyboardInterrupt):
            known["audited"]("half", known["TagReader"]("half/scan/shard-*", 5, known["interrupt"]))
        yield folder, known


@pytest.fixture(scope="module")
def shared(study):
    """How two processes ended that made a run, went on with one, and were given an image that is broken."""
    folder, _ = study
    begun = shards(folder / "half" / "scan")
    assert len(begun) == 5
    assert (folder / "half" / "scan" / "pending.safetensors").exists()
    shutil.copytree(folder / "images", folder / "broken" / "images")
    shutil.copy(folder / "images.csv", folder / "broken")
    (folder / "broken" / BROKEN).write_bytes(b"none")  # of the second process's part
    (folder / "shared.py").write_text(SHARED)
    return ranks.torchrun(["shared.py"], folder), begun


def test_two_processes_make_the_run_of_one(study, shared):
    folder, (ended, _) = study[0], shared
    assert ended.out.split() == ["2"] * 4, ended.err
    assert_same_run(folder / "one", folder / "two")
    assert {file[:9] for file in shards(folder / "two" / "scan")} == {"shard-000", "shard-001"}


def test_two_processes_go_on_where_one_was_interrupted(study, shared):
    folder, (_, begun) = study[0], shared
    assert_same_run(folder / "one", folder / "half")
    made = shards(folder / "half" / "scan")
    assert begun.items() <= made.items()
    assert {file[:9] for file in made.keys() - begun.keys()} == {"shard-000", "shard-001"}


def test_image_that_one_process_cannot_read_ends_all_with_one_message(study, shared):
    folder, (ended, _) = study[0], shared
    assert ended.code == 1
    assert ended.err.count("error: ") == ended.err.count("1 image(s) cannot be read: ") == 1
    assert BROKEN in ended.err
    assert "interrupted" not in ended.err
    assert "exitcode  : 1 " in ended.err
    assert not (folder / "refused").exists()


def test_one_process_goes_on_where_two_were_killed(study):
    folder, known = study
    first, second = ranks.by_hand(["-c", KILLED], folder)
    assert second.code == -9
    assert "one of the 2 processes ended without a word" in first.err
    killed = folder / "killed"
    begun = shards(killed)
    # The first of them has done its part, and what the other did is known from a file of its own.
    assert sum(name.startswith("shard-000") for name in begun) == 12
    assert sum(name.startswith("shard-001") for name in begun) >= 3
    assert (killed / "part-001.json").exists()
    known["scanned"]("killed")
    assert_same_scan(folder / "one" / "scan", killed)
    assert begun.items() <= shards(killed).items()
    assert not (killed / "part-001.json").exists()


@pytest.mark.slow
def test_four_processes_make_the_runs_of_one_also_of_several_labels(study):
    folder, known = study
    known["labelled"]("labels")
    (folder / "four.py").write_text(FOUR)
    ended = ranks.torchrun(["four.py"], folder, count=4)
    assert ended.code == 0, ended.err
    assert_same_run(folder / "one", folder / "four")
    assert_same_run(folder / "labels", folder / "labels-by-four")
    for output in ("label", "tag"):
        assert_same_run(folder / "labels/outputs" / output, folder / "labels-by-four/outputs" / output)


@pytest.mark.slow
def test_what_one_process_searches_all_test(study):
    folder, known = study
    known["audited"]("searched", discover=True)
    (folder / "searching.py").write_text(COMMON + 'audited("searched-by-three", discover=True)')
    ended = ranks.torchrun(["searching.py"], folder, count=3)
    assert ended.code == 0, ended.err
    assert_same_run(folder / "searched", folder / "searched-by-three")


@pytest.mark.slow
def test_processes_write_into_one_folder_and_what_one_of_them_compares_waits_for_none(study):
    folder, _ = study
    (folder / "apart.py").write_text(APART)
    ended = ranks.torchrun(["apart.py"], folder)
    assert ended.code == 0, ended.err
    texts = ended.out.splitlines()
    assert len(texts) == 4
    assert all("process 1 of 2 was given the folder " in text for text in texts)
    assert (folder / "compared" / "comparison.json").exists()
    assert not (folder / "audit-apart-0").exists()


@pytest.mark.slow
def test_first_process_alone_speaks_and_gives_the_exit_code(study):
    folder, _ = study
    ended = ranks.torchrun(["-m", "shortcutscope", *COMMAND, "images.csv", "--out", "run"], folder)
    assert ended.out.count("Verdicts, by cost") == ended.out.count("report:") == 1
    assert (folder / "run" / "report.html").exists()
    assert ended.code == 1  # torchrun's, of a process that leaves with another than 0
    assert "exit code 3: the audit is finished" in ended.err


@pytest.mark.slow
def test_command_for_one_process_is_refused_by_several(study):
    folder, _ = study
    ended = ranks.by_hand(["-m", "shortcutscope", "report", "one"], folder)
    assert [one.code for one in ended] == [1, 1]
    assert "shortcutscope report runs in one process, and 2 were started" in ended[0].err
    assert (ended[1].out, ended[1].err) == ("", "")
