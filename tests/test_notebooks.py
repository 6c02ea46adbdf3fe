"""The notebooks run from top to bottom, and are kept without outputs."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import shortcutscope as ss

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
DATA = Path(os.environ.get("SHORTCUTSCOPE_DATA") or Path(__file__).parents[2] / "shared" / "data")
TIMEOUT = 600  # seconds for one cell, also on a busy machine


def outputs(notebook: nbformat.NotebookNode) -> str:
    """Everything that the cells printed or showed as text."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(texts)


def execute(path: Path, folder: Path) -> str:
    """Run a notebook in a folder of its own and return what it printed."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    # In a thread of its own: the client leaves its event loop behind, which tests with a browser refuse.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(client.execute).result()
    return outputs(notebook)


@pytest.fixture
def quiet_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("SHORTCUTSCOPE_DATA", raising=False)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.usefixtures("quiet_kernel")
def test_audit_notebook_reaches_the_verdicts_its_text_speaks_of(tmp_path: Path) -> None:
    (path,) = (p for p in NOTEBOOKS if p.stem == "01_audit_a_model")
    text = execute(path, tmp_path)
    assert "shortcut - " in text
    assert "localized - " in text
    assert "report.html" in text
    assert "encoded, not used" in text or "encoded and used, not associated" in text


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_kernel")
def test_search_notebook_finds_what_was_planted(tmp_path: Path) -> None:
    (path,) = (p for p in NOTEBOOKS if p.stem == "02_find_and_mark")
    text = execute(path, tmp_path)
    assert "discovered 1 - shortcut - localized" in text
    agreement = re.search(r"agrees with what was planted on ([\d.]+)%", text)
    assert agreement is not None
    assert float(agreement[1]) > 95
    highest = re.search(r"highest .* (\d+)% carry the tag", text)
    assert highest is not None
    assert int(highest[1]) > 90
    assert "ablating them removes" in text


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_kernel")
def test_mask_notebook_draws_the_letters_and_refuses_the_noise(tmp_path: Path) -> None:
    (path,) = (p for p in NOTEBOOKS if p.stem == "03_make_masks")
    text = execute(path, tmp_path)
    assert "'noise' is diffuse" in text
    overlap = re.search(r"mean IoU on carriers: ([\d.]+)", text)
    assert overlap is not None
    assert float(overlap[1]) > 0.6
    false = re.search(r"that got a mask: ([\d.]+)%", text)
    assert false is not None
    assert float(false[1]) <= 5
    assert "equal to the pixel: True" in text


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_kernel")
def test_debias_notebook_unlearns_the_tag(tmp_path: Path) -> None:
    (path,) = (p for p in NOTEBOOKS if p.stem == "04_debias")
    text = execute(path, tmp_path)
    assert "was recommended" in text
    assert "Why for this data: " in text
    assert "tag: shortcut, localized" in text
    networks = "before|balanced-finetune|balanced-distillation"
    robust = dict(re.findall(rf"^({networks}) +[\d.]+ +([\d.]+) ", text, re.MULTILINE))
    for recipe in ("balanced-finetune", "balanced-distillation"):
        assert float(robust[recipe]) > float(robust["before"]) + 0.3
    assert "report.html" in text


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_kernel")
def test_audit_notebook_on_real_radiographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (DATA / "pneumoniamnist.npz").exists():
        pytest.skip("no real radiographs: set SHORTCUTSCOPE_DATA to a folder with pneumoniamnist.npz")
    monkeypatch.setenv("SHORTCUTSCOPE_DATA", str(DATA.resolve()))
    (path,) = (p for p in NOTEBOOKS if p.stem == "01_audit_a_model")
    assert "shortcut - " in execute(path, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_kernel")
def test_film_notebook_confirms_the_exposure_on_the_pixels(tmp_path: Path) -> None:
    (path,) = (p for p in NOTEBOOKS if p.stem == "05_nih_films")
    text = execute(path, tmp_path)
    assert "picture_mean_grey high - encoded and used, a picture property" in text
    assert "confirmed - taken out" in text
    assert "report.html" in text


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_kernel")
@pytest.mark.parametrize(
    ("stem", "file", "said"),
    [
        ("02_find_and_mark", "pneumoniamnist.npz", "highest among the samples that nobody marked"),
        ("03_make_masks", "pneumoniamnist.npz", "equal to the pixel: True"),
        ("04_debias", "pneumoniamnist.npz", "report.html"),
        ("05_nih_films", "nih_cxr", "confirmed - taken out"),
    ],
)
def test_notebook_runs_on_real_images(
    stem: str, file: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (DATA / file).exists():
        pytest.skip(f"no real images: set SHORTCUTSCOPE_DATA to a folder with {file}")
    monkeypatch.setenv("SHORTCUTSCOPE_DATA", str(DATA.resolve()))
    (path,) = (p for p in NOTEBOOKS if p.stem == stem)
    assert said in execute(path, tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_uses_public_names_alone(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert not re.search(
        r"shortcutscope\.\w|from shortcutscope", code.replace("import shortcutscope as ss", "")
    )
    names = set(re.findall(r"\bss\.(\w+)", code))
    assert names <= set(ss.__all__), names - set(ss.__all__)
