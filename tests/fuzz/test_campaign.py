"""Malformed command lines, manifests, run folders, marks and masks: a message or a right answer, never more.

Each case is made from a seed, run in this process through the command line's own entry, and must end with an
exit code of its own, without a traceback, in time; a run that was finished stays as it was, and no run is
left half-written where the command refused its input.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from shortcutscope.cli import main

World = Any  # of conftest.py

pytestmark = pytest.mark.slow

SEED = 20260711
#: Seconds after which a command that was given nonsense counts as hanging.
PATIENCE = 150
#: What a command may take beside what the process holds already, in bytes.
MEMORY = 6 * 2**30
CODES = (0, 1, 2, 3)

ODD = (
    "", " ", "-1", "0", "1", "2.5", "nan", "inf", "-inf", "1e400", "9" * 30, "None", "null", "..", "../..",
    "/", "/dev/null", ".", "a" * 300, "größe 漢字", "a,b,,c", "{", "[]", '{"a": 1}', "true", "--", "=", "a=b",
    "*", "label", "tag", "nope", "0,0,0", "1,2", "chexpert:", ":", "torchvision:", "timm:resnet18", "x:y",
)  # fmt: skip


class HangingError(Exception):
    """A command took longer than PATIENCE."""


@contextmanager
def bounded() -> Iterator[None]:
    """End a command that takes too long or too much memory."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise HangingError

    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    former = signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, hard))
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def fault(command: list[str]) -> tuple[int | None, str | None]:
    """Exit code of a command, and what is wrong with how it ended."""
    try:
        with bounded(), warnings.catch_warnings():
            # What the package warns of is told, as it is outside of pytest; others' warnings are faults.
            warnings.filterwarnings("default", category=UserWarning, module="shortcutscope")
            main(command)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
        return code, None if code in CODES else f"exit code {code}"
    except BaseException as error:  # whatever else is raised is what the campaign looks for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return None, f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
    return None, "did not exit"


def state(folder: Path) -> dict[str, bytes]:
    """Files whose content says whether a run is finished."""
    names = ("run.json", "findings.json", "profile.parquet", "concepts.parquet", "comparison.json")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def half_written(out: Path) -> str | None:
    """What a refused command left behind, where it left anything that is no run."""
    if not out.is_dir():
        return None
    loose = [p.name for p in out.rglob("*") if p.name.endswith(".tmp")]
    if loose:
        return f"{out.name} keeps temporary files: {loose[:3]}"
    if (out / "run.json").exists() and not (out / "findings.json").exists():
        return f"{out.name} holds a half-written run"
    return None


def judge(cases: list[tuple[str, list[str], Path | None]]) -> list[str]:
    """Run every case; what is wrong, in words."""
    wrong = []
    for name, command, out in cases:
        before = state(out) if out is not None and out.is_dir() else {}
        code, told = fault(command)
        if told is None and code == 1 and out is not None:
            told = half_written(out)
            if told is None and before and state(out) != before:
                told = "the refused command changed a finished run"
        if told is not None:
            wrong.append(f"{name}: {' '.join(command)}\n    {told}")
    return wrong


def report(wrong: list[str], n: int) -> None:
    assert not wrong, f"{len(wrong)} of {n} ended wrongly:\n" + "\n".join(wrong)


def generator(stream: int) -> np.random.Generator:
    return np.random.default_rng([SEED, stream])


# --- command lines ---


def commands(world: World, out: Path) -> dict[str, list[str]]:
    """A command of each kind that would work."""
    run, given = str(world.run), world.known
    return {
        "audit": world.audit(world.manifest, out),
        "layers": ["layers", "stranger_model:brightness", *world.model, "--shape", "1,32,32"],
        "retrieve": ["retrieve", run, "tag", "--csv", str(out.with_suffix(".csv")), "--k", "5"],
        "annotate": ["annotate", run, "sex=F", *given, "--out", str(out)],
        "debias": ["debias", run, *given, "--finding", "tag", "--recipe", "erm", "--epochs", "0.1"],
        "compare": ["compare", run, *given, "--out", str(out.with_suffix(".html"))],
        "report": ["report", run, "--out", str(out.with_suffix(".html"))],
        "bench": ["bench", "nope", "--quick", "--json", str(out.with_suffix(".json"))],
        "reproduce": ["reproduce", "nope"],
    }


EXTRA = (
    "--seed", "--permutations", "--bootstrap", "--batch-size", "--workers", "--device",
    "--precision", "--layers", "--target", "--task", "--positive", "--attribution", "--size",
    "--mode", "--dims", "--value-range", "--mean", "--std", "--group", "--split", "--sample-id",
    "--mask", "--root", "--label", "--image", "--weights", "--num-classes", "--model-kwargs",
    "--train-data", "--train-split", "--audit-split", "--on-unreadable", "--concepts",
    "--data-option", "--k", "--marks", "--marks-column", "--carrier", "--page", "--queries",
    "--method", "--threshold", "--export", "--format", "--clean", "--held-out", "--test",
    "--finding", "--recipe", "--concept", "--masks", "--option", "--start", "--epochs", "--lr",
    "--students", "--out", "--csv", "--shape", "--json", "--jobs", "--model", "--data",
    "--present", "--missing", "--label-output", "--output-names",
    "--output", "--link", "--classes", "--window", "--max-pixels", "--weights-key", "--keep-paths",
)  # fmt: skip


def mutated(command: list[str], rng: np.random.Generator, odd: tuple[str, ...]) -> list[str]:
    """Another command: a value replaced, a word dropped or doubled, or an option added."""
    words, value = list(command), odd[rng.integers(len(odd))]
    place = int(rng.integers(1, len(words)))
    kind = rng.choice(["value", "value", "option", "option", "drop", "double"])
    if kind == "value":
        values = [i for i, w in enumerate(words) if i and not w.startswith("--")]
        words[values[rng.integers(len(values))]] = value
    elif kind == "option":
        words += [str(rng.choice(EXTRA)), value]
    elif kind == "drop":
        del words[place]
    else:
        words.insert(place, words[place])
    return words


def test_r12_malformed_command_lines(world: World, tmp_path: Path) -> None:
    rng = generator(0)
    spare = [tmp_path / path.name for path in (world.manifest, world.weights)]  # may be written over
    for path, source in zip(spare, (world.manifest, world.weights), strict=True):
        shutil.copy(source, path)
    odd = (*ODD, *map(str, spare), str(world.folder))
    cases = []
    for number in range(300):
        out = tmp_path / f"case-{number:03d}"
        base = commands(world, out)
        name = str(rng.choice(list(base)))
        cases.append((f"{number} {name}", mutated(base[name], rng, odd), out))
    report(judge(cases), len(cases))


# --- manifests ---


def damaged_table(text: str, rng: np.random.Generator) -> bytes:
    """A manifest with something wrong in it."""
    rows = [line.split(",") for line in text.splitlines()]
    kind = int(rng.integers(14))
    column, row = int(rng.integers(len(rows[0]))), int(rng.integers(1, len(rows)))
    if kind == 0:
        rows = [[cell for i, cell in enumerate(r) if i != column] for r in rows]
    elif kind == 1:
        rows[0][column] = rows[0][0]
    elif kind == 2:
        rows = rows[: int(rng.integers(0, 3))]
    elif kind == 3:
        rows = [*rows, *rows[1:20]]
    elif kind == 4:
        for r in rows[1:]:
            r[column] = str(ODD[rng.integers(len(ODD))]).replace(",", ";")
    elif kind == 5:
        rows[row][column] = '"unclosed'
    elif kind == 6:
        rows[row] = rows[row][: len(rows[row]) // 2]
    elif kind == 7:
        rows[row] = [*rows[row], "more", "still more"]
    elif kind == 8:
        for r in rows[1:]:
            r[column] = "same"
    elif kind == 9:
        for r in rows[1::2]:
            r[column] = ""
    elif kind == 10:
        return rng.bytes(500)
    elif kind == 11:
        return "\n".join(",".join(r) for r in rows).encode("utf-16")
    elif kind == 12:
        return "\n".join(";".join(r) for r in rows).replace(".", ",").encode()
    raw = bytearray("\n".join(",".join(r) for r in rows).encode())
    if kind == 13:
        for position in rng.integers(0, len(raw), 30):
            raw[position] = int(rng.integers(256))
    return bytes(raw)


def test_r12_malformed_manifests(world: World, tmp_path: Path) -> None:
    rng, text = generator(1), world.manifest.read_text()
    (tmp_path / "images").symlink_to(world.folder / "images")
    cases = []
    for number in range(120):
        manifest = tmp_path / f"case-{number:03d}{rng.choice(['.csv', '.csv', '.csv', '.tsv', '.parquet'])}"
        manifest.write_bytes(damaged_table(text, rng))
        out = tmp_path / f"run-{number:03d}"
        cases.append((f"{number}", world.audit(manifest, out), out))
    report(judge(cases), len(cases))


# --- run folders ---


def damaged_json(text: str, rng: np.random.Generator) -> str:
    """JSON with another value, or without one, somewhere in it."""
    value = json.loads(text)
    odd: list[Any] = [None, [], {}, "text", -1, 1e300, True, [None], {"a": None}]
    at: Any = value
    for _ in range(int(rng.integers(0, 5))):
        keys = list(at) if isinstance(at, dict) else list(range(len(at))) if isinstance(at, list) else []
        below = [k for k in keys if isinstance(at[k], dict | list) and at[k]]
        if not below:
            break
        at = at[below[rng.integers(len(below))]]
    keys = list(at) if isinstance(at, dict) else list(range(len(at)))
    key = keys[rng.integers(len(keys))]
    if rng.random() < 0.4:
        del at[key]
    else:
        at[key] = odd[rng.integers(len(odd))]
    return json.dumps(value)


def damage(path: Path, rng: np.random.Generator) -> None:
    """Spoil a file of a run."""
    content = path.read_bytes()
    kind = int(rng.integers(8 if path.suffix == ".json" else 5))
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.write_bytes(b"")
    elif kind == 2:
        path.write_bytes(content[: len(content) // 2])
    elif kind == 3:
        spoilt = bytearray(content)
        for position in rng.integers(0, len(spoilt), max(3, len(spoilt) // 50)):
            spoilt[position] = int(rng.integers(256))
        path.write_bytes(spoilt)
    elif kind == 4:
        path.unlink()
        path.mkdir()
    else:
        path.write_text(damaged_json(content.decode(), rng))


def test_r12_damaged_run_folders(world: World, tmp_path: Path) -> None:
    rng, given = generator(2), world.known
    files = [p.relative_to(world.run) for p in sorted(world.run.rglob("*")) if p.is_file()]
    files = [p for p in files if p.suffix != ".html" and not (p.suffix == ".png" and rng.random() < 0.95)]
    wrong, n = [], 160
    for number in range(n):
        run = tmp_path / f"run-{number:03d}"
        shutil.copytree(world.run, run)
        spoilt = run / files[rng.integers(len(files))]
        damage(spoilt, rng)
        calls: dict[str, list[str]] = {
            "report": ["report", str(run)],
            "retrieve": ["retrieve", str(run), "tag", "--csv", str(tmp_path / "hits.csv"), "--k", "5"],
            "annotate": ["annotate", str(run), "tag", *given, "--out", str(run / "masks" / "tag")],
            "compare": ["compare", str(run), *given],
            "audit": world.audit(world.manifest, run, "tag,sex"),
        }
        name = str(rng.choice(["report", "report", "retrieve", "retrieve", "compare", "audit", "annotate"]))
        before = state(run)
        code, told = fault(calls[name])
        if told is None and code == 1 and {k: v for k, v in state(run).items() if k in before} != before:
            told = "the refused command changed the run"
        if told is not None:
            wrong.append(f"{number} {name} with {spoilt.relative_to(run)} damaged\n    {told}")
        shutil.rmtree(run)
    report(wrong, n)


# --- marks and masks ---

Maker = Callable[[list[str], np.random.Generator], tuple[str, str]]


def marks_csv(ids: list[str], rng: np.random.Generator) -> tuple[str, str]:
    return ".csv", "sample_id,mark\n" + "\n".join(f"{i},{rng.integers(2)}" for i in ids[:20])


def marks_fiftyone(ids: list[str], rng: np.random.Generator) -> tuple[str, str]:
    return ".json", json.dumps({"samples": [{"sample_id": i, "tags": ["tag"]} for i in ids[:20]]})


def marks_cvat(ids: list[str], rng: np.random.Generator) -> tuple[str, str]:
    images = "".join(f'<image id="{k}" name="{i}"><tag label="tag"/></image>' for k, i in enumerate(ids[:20]))
    return ".xml", f"<annotations>{images}</annotations>"


def masks_coco(ids: list[str], rng: np.random.Generator) -> tuple[str, str]:
    images = [{"id": k, "file_name": f"{i}.png", "width": 32, "height": 32} for k, i in enumerate(ids[:5])]
    shapes = [
        {"id": k, "image_id": k, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]], "bbox": [1, 1, 8, 8]}
        for k in range(5)
    ]
    content = {"images": images, "annotations": shapes, "categories": [{"id": 1, "name": "tag"}]}
    return ".json", json.dumps(content)


MAKERS: tuple[Maker, ...] = (marks_csv, marks_fiftyone, marks_cvat, masks_coco)


def test_r12_malformed_marks(world: World, tmp_path: Path) -> None:
    rng = generator(3)
    ids = [line.split(",")[1] for line in world.manifest.read_text().splitlines()[61:]]
    cases = []
    for number in range(80):
        suffix, text = MAKERS[rng.integers(len(MAKERS))](ids, rng)
        raw = bytearray(text.encode())
        kind = int(rng.integers(5))
        if kind == 0:
            raw = raw[: int(rng.integers(len(raw)))]
        elif kind == 1:
            for position in rng.integers(0, len(raw), 10):
                raw[position] = int(rng.integers(256))
        elif kind == 2 and suffix == ".json":
            raw = bytearray(damaged_json(text, rng).encode())
        elif kind == 3:
            raw = bytearray(text.replace(ids[0], str(ODD[rng.integers(len(ODD))])).encode())
        elif kind == 4:
            raw = bytearray(rng.bytes(200))
        marks = tmp_path / f"marks-{number:02d}{suffix}"
        marks.write_bytes(raw)
        hits = tmp_path / f"hits-{number:02d}.csv"
        call = ["retrieve", str(world.run), "tag", "--csv", str(hits), "--k", "5", "--marks", str(marks)]
        cases.append((f"{number}", call, world.run))
    report(judge(cases), len(cases))
