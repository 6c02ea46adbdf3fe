"""What a user meets first: the import, the version, the help; all of it before torch is loaded."""

from __future__ import annotations

import ast
import builtins
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import shortcutscope as ss

ROOT = Path(__file__).parents[1]
HEAVY = (
    "numpy", "torch", "torchvision", "sklearn", "scipy", "pandas", "matplotlib", "captum", "zennit", "timm",
)  # fmt: skip


def loaded_after(code: str) -> set[str]:
    """Heavy modules that are loaded after running code in a new interpreter."""
    check = f"{code}\nimport sys; print('loaded', *(m for m in {HEAVY!r} if m in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines()[-1].split()[1:])


def test_import_loads_nothing_heavy() -> None:
    assert loaded_after("import shortcutscope") == set()


def test_a_table_is_there_without_what_statistics_need() -> None:
    loaded = loaded_after("import shortcutscope as ss\nss.ImageTable")
    assert loaded.isdisjoint({"torchvision", "scipy", "sklearn", "matplotlib", "captum", "zennit", "timm"})


def test_an_audit_is_there_without_numba_which_maps_alone_need() -> None:
    code = "import shortcutscope.facade, sys\nassert not {'numba', 'umap', 'pynndescent'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("arguments", [["--help"], ["audit", "--help"], ["bench", "--help"], ["--version"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "from shortcutscope.cli import main\n"
        f"try:\n    main({arguments!r})\n"
        "except SystemExit as leaving:\n    assert not leaving.code"
    )
    assert loaded_after(code) == set()


def test_help_says_of_a_command_what_the_command_says() -> None:
    from shortcutscope.cli import COMMANDS

    for name, entry in COMMANDS.built_in.items():
        assert entry.doc == (COMMANDS[name].__doc__ or "").partition("\n")[0], name
        assert COMMANDS[name].__name__ == name


ROOMS = ("audit", "compare", "debias")


@pytest.mark.parametrize("name", [n for n in ss.__all__ if n != "__version__"])
def test_every_exported_name_is_there(name: str) -> None:
    named = "planting" if name == "phantoms" else name
    assert getattr(ss, name).__name__.removeprefix("shortcutscope.") == named
    assert name in dir(ss)


def test_rooms_are_modules_and_are_called_like_the_functions_in_them() -> None:
    code = (
        "import importlib, inspect, shortcutscope as ss\n"
        "from types import ModuleType\n"
        f"for name in {ROOMS!r}:\n"
        "    room = importlib.import_module(f'shortcutscope.{name}')\n"
        "    assert isinstance(room, ModuleType) and getattr(ss, name) is room\n"
        "    function = room._function\n"
        "    assert inspect.signature(room) == inspect.signature(function)\n"
        "    assert inspect.getdoc(room) == inspect.getdoc(function)\n"
        "    assert function.__name__ == name\n"
        "    try:\n        room()\n    except TypeError as error:\n"
        "        assert f'{name}() missing' in str(error)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = ss.nothing_of_the_kind


def test_version_is_that_of_the_distribution_and_the_citation() -> None:
    assert importlib.metadata.version("shortcutscope") == ss.__version__
    assert f"version: {ss.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{ss.__version__}] - " in (ROOT / "CHANGELOG.md").read_text()


def test_ci_runs_the_command_that_the_readme_gives() -> None:
    command = 'pip install -e ".[dev]" && pytest'
    for file in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        assert command in (ROOT / file).read_text(), file


def test_every_requirement_has_a_tested_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert all(">=" in requirement for requirement in project["dependencies"])


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(ss.__file__).parent / "py.typed").exists()


def test_documented_thresholds_are_those_of_the_code() -> None:
    from shortcutscope.probes.extent.cells import CELLS
    from shortcutscope.probes.extent.measuring import ExtentRule
    from shortcutscope.probes.usage import EFFECT_THRESHOLD
    from shortcutscope.probes.verdict import VerdictRule

    text = " ".join((ROOT / "docs" / "how_it_decides.md").read_text().split())
    extent, verdict = ExtentRule(), VerdictRule()
    for statement in (
        f"| held out | {EFFECT_THRESHOLD['held-out']:.2f} |",
        f"| the training images | {EFFECT_THRESHOLD['training']:.2f} |",
        f"is at least {extent.lit_above:.2f}",
        f"| up to {extent.localized_below:.2f} | localized |",
        f"| from {extent.diffuse_above:.2f} | diffuse |",
        f"AUROC below {extent.strong_above:.2f} leaves",
        f"divided into {' x '.join(map(str, CELLS[2]))} cells",
        f"≥ {verdict.smallest_phi:.2f} and q ≤ {verdict.level:.2f}".replace(" 0.", " ."),
        f"fewer than {verdict.smallest_side} samples or fewer than {verdict.smallest_groups} patients",
        f"at least {verdict.smallest_conflict} samples of both values",
    ):
        assert statement in text, statement


def session_of_the_readme(section: str = "A session") -> str:
    """The Python of a section of the README."""
    section = (ROOT / "README.md").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    return section.split("```python\n")[1].split("```")[0]


def test_u4_the_session_of_the_readme_defines_what_it_uses() -> None:
    tree = ast.parse(session_of_the_readme())
    nodes = list(ast.walk(tree))
    made = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    made |= {a.asname or a.name for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    made |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)} | {
        n.arg for n in nodes if isinstance(n, ast.arg)
    }
    used = {n.id for n in nodes if isinstance(n, ast.Name)}
    assert used <= made | set(dir(builtins))
    assert not any(isinstance(n, ast.Constant) and str(n.value).startswith("discovered") for n in nodes)


def test_the_whole_loop_takes_twelve_lines() -> None:
    lines = [line for line in session_of_the_readme("In twelve lines").splitlines() if line.strip()]
    assert len(lines) <= 13  # the import, and twelve
    assert not any(isinstance(node, ast.Import) for node in ast.walk(ast.parse("\n".join(lines[1:]))))


@pytest.mark.slow
def test_u4_the_session_of_the_readme_runs_on_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import pandas as pd
    from PIL import Image
    from safetensors.torch import save_file

    from shortcutscope.debias.training.classifier import train_classifier
    from shortcutscope.planting.thin import thin_resnet18

    monkeypatch.chdir(tmp_path)
    pool, ruler, half = (
        ss.phantoms.radiographs(900, size=64, seed=7, patients=False),
        ss.phantoms.get_artifact("ruler"),
        {0: 0.5, 1: 0.5},
    )
    parts = {"train": (0, 400), "clean": (400, 500), "val": (500, 740), "test": (740, 900)}
    for name, (first, last) in parts.items():
        how = {"correlation": 0.95} if name == "train" else {"prevalence": half}
        table = ss.phantoms.plant(pool.take(np.arange(first, last)), ruler, **how)  # type: ignore[arg-type]
        frame = table.frame.assign(malignant=table.frame["label"], patient_id=table.frame["group"])
        frame["site"] = np.where(np.arange(len(frame)) % 2, "Vienna", "Graz")
        frame["path"] = [f"{name}-{i}.png" for i in range(len(frame))]
        for i, path in enumerate(frame["path"]):
            Image.fromarray((table.image(i).numpy()[0].clip(0, 1) * 255).astype(np.uint8)).convert(
                "RGB"
            ).save(path)
        frame[["path", "malignant", "patient_id", "ruler", "site"]].to_csv(f"{name}.csv", index=False)
    embeddings = np.random.default_rng(0).normal(size=(240, 8))
    np.savez("ours.npz", features=embeddings)
    pd.DataFrame(embeddings, columns=[f"f{k}" for k in range(8)]).to_parquet("theirs.parquet")
    text = session_of_the_readme().replace("size=224", "size=64")
    text = text.replace("torchvision:resnet18", "shortcutscope.planting.thin:thin_resnet18")
    text = text.replace("num_classes=2", 'arguments={"in_channels": 3}')
    first, rest = text.split("model = ss.load_model")
    namespace: dict[str, object] = {}
    exec(first, namespace)
    read = namespace["table"]
    model = thin_resnet18(in_channels=3)
    train_classifier(model, read("train.csv"), epochs=3, progress=False)  # type: ignore[operator]
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, "checkpoint.safetensors")
    exec("model = ss.load_model" + rest, namespace)
    assert (tmp_path / "runs/derm/report.html").exists()
    loop = session_of_the_readme("In twelve lines").replace(": 224", ": 64")
    loop = loop.replace("num_classes=2", 'arguments={"in_channels": 3}')
    exec(loop.replace("torchvision:resnet18", "shortcutscope.planting.thin:thin_resnet18"), {})
    assert (tmp_path / "hazards.md").read_text().startswith("# Limitations and hazards")
    assert "panel-compared" in (tmp_path / "runs/all/report.html").read_text()
    assert namespace["found"].maps().shape == (8, 64, 64)  # type: ignore[attr-defined]
