"""SpurBreast: what is run, what is claimed from it, and that a small run works on phantoms and on files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from shortcutscope.benchmarks.papers import spurbreast
from shortcutscope.benchmarks.papers.protocol import Claim
from shortcutscope.benchmarks.papers.spurbreast import PROTOCOL, cases, run_case, summarize
from shortcutscope.benchmarks.papers.spurbreast import data as spurbreast_data
from shortcutscope.benchmarks.papers.spurbreast import measures as spurbreast_measures
from shortcutscope.benchmarks.papers.spurbreast import networks as spurbreast_networks
from shortcutscope.benchmarks.papers.spurbreast.claims import claims
from shortcutscope.benchmarks.papers.spurbreast.data import Cohort, Feature, available, check
from shortcutscope.benchmarks.papers.spurbreast.figure import draw
from shortcutscope.benchmarks.papers.spurbreast.measures import attack, judge, screen, uncertainty
from shortcutscope.benchmarks.papers.spurbreast.networks import (
    ARCHITECTURES,
    FULL,
    THIN,
    Architecture,
    NetworkStore,
)
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.data.medical.layout import LayoutError
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.training.fit import Training
from shortcutscope.planting.phantoms import breast_mri

FIELD = Cohort("field_strength", 1.0, 3)


def settings(
    tmp_path: Path, data: Path | None = None, *, quick: bool = False, full: bool = False
) -> Settings:
    return Settings(quick, 3, data, tmp_path / "cache", 1, full)


class Bright(nn.Module):
    """Calls an image positive the more, the brighter it is above a level."""

    def __init__(self, level: float, sharpness: float = 100.0) -> None:
        super().__init__()
        self.level, self.sharpness = level, sharpness

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = self.sharpness * (x.mean((1, 2, 3)) - self.level)
        return torch.stack([-score, score], 1)


def bright_table(n: int = 40) -> ImageTable:
    """Grey images whose brightness tells the class, by a tenth of the range."""
    labels = np.arange(n) % 2
    images = np.broadcast_to((0.45 + 0.1 * labels)[:, None, None], (n, 8, 8)).astype(np.float32).copy()
    frame = pd.DataFrame({"label": labels, "field_strength": np.where(np.arange(n) % 4 < 2, 1.5, 3.0)})
    return ImageTable.from_arrays(images, frame, value_range=(0.0, 1.0))


def network_case(feature: str, architecture: str, val: float, test: float, **more: Any) -> dict[str, Any]:
    """A finished case with made-up numbers."""
    case = {
        "part": "network",
        "feature": feature,
        "correlation": 0.5 if feature == "none" else 1.0,
        "seed": 0,
        "architecture": architecture,
        "full": False,
        "train_accuracy": 1.0,
        "val_accuracy": val,
        "test_accuracy": test,
        "positive_with": 0.9,
        "positive_without": 0.1,
        "disagreement": 0.1,
        "error": None,
    }
    for split, accuracy, ece in (("val", val, 0.01), ("test", test, 0.45)):
        case |= {f"{split}_ece": ece, f"{split}_entropy": 0.1, f"{split}_error_auroc": 0.5}
        case |= {f"{split}_ensemble_accuracy": accuracy, f"{split}_ensemble_entropy": 0.1}
        case |= {f"{split}_disagreement": 0.1, f"{split}_clean": accuracy}
        for number in spurbreast_measures.EPSILONS:
            case |= {f"{split}_pgd_{number}": accuracy * 0.9**number, f"{split}_fgsm_{number}": accuracy}
    return case | more


def screen_case(feature: str, **more: Any) -> dict[str, Any]:
    rank, accuracy = (None, 0.5) if feature == "none" else (1, 1.0)
    found = {"screened": 114, "rank": rank, "found": 1, "proxies": 0, "false": []}
    told = {"part": "metadata", "feature": feature, "correlation": 1.0, "seed": 0, "architecture": None}
    return {**told, "full": False, **found, "metadata_accuracy": accuracy, **more}


def audit_case(feature: str, verdict: str) -> dict[str, Any]:
    told = {"part": "audit", "feature": feature, "correlation": 1.0, "seed": 0, "architecture": THIN[0]}
    return {**told, "full": False, "verdict": verdict, "encoded_auroc": 0.9, "use": 1.0, "extent": "diffuse"}


def finished() -> list[dict[str, Any]]:
    return [
        *(screen_case(name) for name in ("field_strength", "orientation", "none")),
        *(network_case(name, net, 0.99, 0.51) for name in ("field_strength", "orientation") for net in THIN),
        *(network_case("none", net, 0.8, 0.79, test_ece=0.05, val_pgd_1=0.4) for net in THIN),
        audit_case("field_strength", "shortcut"),
        audit_case("none", "encoded, not used"),
    ]


def claimed(rows: list[dict[str, Any]], start: str) -> Claim:
    (claim,) = [claim for claim in claims(rows) if claim.what.startswith(start)]
    return claim


def test_cases_are_distinct_and_complete(tmp_path: Path) -> None:
    usual, quick, full = (
        cases(settings(tmp_path, quick=quick, full=full))
        for quick, full in ((False, False), (True, False), (False, True))
    )
    for listed in (usual, quick, full):
        assert len({json.dumps(case, sort_keys=True) for case in listed}) == len(listed)
    assert {case["seed"] for case in usual} == {3, 4, 5}
    assert {case["seed"] for case in quick} == {3}
    networks = {(c["feature"], c["architecture"]) for c in usual if c["part"] == "network"}
    assert networks == {(f, a) for f in ("field_strength", "orientation", "none") for a in THIN}
    assert {c["architecture"] for c in full if c["full"]} == set(FULL)
    assert {c["correlation"] for c in full} > {0.5, 0.75, 1.0}
    # An audit waits for its network, which another process may be at.
    parts = [case["part"] for case in usual]
    assert parts == sorted(parts, key=["metadata", "network", "audit"].index)


def test_claims_hold_where_the_network_collapses() -> None:
    assert {claim.holds for claim in claims(finished())} == {True}
    assert "validation 0.99" in claimed(finished(), f"{THIN[0]} knows the label by the field").here


@pytest.mark.parametrize(
    ("start", "change"),
    [
        (f"{THIN[1]} knows the label by the orientation", {"test_accuracy": 0.7}),
        (f"{THIN[1]} knows the label by the orientation", {"val_accuracy": 0.9}),
        ("in test, the predictions go by the feature", {"positive_without": 0.8}),
        ("with the shortcut, probabilities are far off", {"test_ece": 0.1}),
        ("the entropy of the predictions gives no warning", {"test_entropy": 0.8}),
        ("an ensemble falls in test, too", {"test_ensemble_accuracy": 0.7}),
        ("nor does robustness: who goes by the orientation", {"val_pgd_1": 0.2}),
    ],
)
def test_claims_do_not_hold_where_it_does_not(start: str, change: dict[str, float]) -> None:
    rows = [case | change if case["feature"] != "none" else case for case in finished()]
    assert claimed(rows, start).holds is False


def test_claims_of_screens_and_audits_can_fail() -> None:
    rows = [*finished(), screen_case("field_strength", rank=2, false=["age"], found=2)]
    assert claimed(rows, "among over 100 columns").holds is False
    assert claimed(rows, "the screen finds nothing").holds is False
    rows = [*rows, audit_case("field_strength", "encoded, not used"), audit_case("none", "shortcut")]
    assert claimed(rows, "an audit of the network").holds is False
    assert claimed(rows, "and not in a network").holds is False
    rows = [case | {"test_accuracy": 0.5} for case in finished()]
    assert claimed(rows, f"without a shortcut, {THIN[0]}").holds is False


def test_what_was_not_run_is_not_claimed() -> None:
    assert {claim.holds for claim in claims([network_case("field_strength", THIN[0], 0.99, 0.5)])} == {
        True,
        None,
    }
    assert claimed([], "an audit of the network").holds is None


def test_the_summary_has_a_row_for_each_kind_of_case() -> None:
    rows = summarize([*finished(), network_case("none", THIN[0], 0.9, 0.79)])["means"]
    assert len(rows) == len(finished())
    (row,) = [r for r in rows if r["feature"] == "none" and r["part"] == "network" and r["cases"] == 2]
    assert row["val_accuracy"]["mean"] == pytest.approx(0.85)


def test_the_figure_has_a_column_for_each_feature() -> None:
    figure = draw(finished())
    assert len(figure.axes) == 6
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["training", "validation", "test"]
    assert not draw([screen_case("none")]).axes


@pytest.mark.parametrize(
    "feature",
    [
        "field_strength",
        pytest.param("orientation", marks=pytest.mark.slow),
        pytest.param("none", marks=pytest.mark.slow),
    ],
)
def test_the_screen_puts_the_planted_column_first(feature: Feature) -> None:
    cohort = Cohort(feature, 0.5 if feature == "none" else 1.0, 3)
    table = breast_mri(n_patients=112, slices=2, size=32, feature=feature, seed=3).where(split="train")
    found = screen(cohort, table, quick=True)
    assert found["screened"] > 100
    assert found["rank"] == (None if feature == "none" else 1)
    assert found["false"] == []
    assert (found["proxies"] > 0) == (feature == "field_strength")
    assert (found["metadata_accuracy"] > 0.95) == (feature != "none")


def test_uncertainty_is_that_of_the_formulas() -> None:
    one = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    other = np.array([[0.8, 0.2], [0.6, 0.4], [0.6, 0.4], [0.4, 0.6]])
    truth = np.array([0, 1, 1, 0])
    found = uncertainty(np.stack([one, other]), truth)
    entropies = [-sum(q * np.log2(q) for q in row) for row in one]
    assert found["accuracy"] == 0.75
    assert found["entropy"] == pytest.approx(np.mean(entropies))
    assert found["error_auroc"] == pytest.approx(2 / 3)
    assert found["ensemble_accuracy"] == pytest.approx(0.5)
    assert found["disagreement"] == 0.5
    sure = uncertainty(np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.array([0, 1]))
    assert (sure["entropy"], sure["ece"], sure["error_auroc"], sure["disagreement"]) == (0, 0, None, 0)


def test_judge_counts_by_split_and_by_feature() -> None:
    table = bright_table()
    found = judge(Bright(0.5), FIELD, {"val": table, "test": table})
    assert found["val_accuracy"] == found["test_ppv"] == found["test_npv"] == 1.0
    assert found["positive_with"] == found["positive_without"] == 0.5
    assert judge(Bright(0.0), FIELD, {"val": table})["val_npv"] is None
    assert "positive_with" not in judge(Bright(0.5), Cohort("orientation", 1.0, 3), {"test": table})


def test_attacks_turn_what_lies_within_their_reach() -> None:
    table = bright_table()
    near = attack(Bright(0.4501 + 2.5 / 255), table, seed=0)
    # The level lies 2.5 steps above the dark images, and far below the bright ones.
    assert near["clean"] == near["pgd_1"] == near["pgd_2"] == near["fgsm_2"] == 1.0
    assert near["pgd_4"] == near["fgsm_4"] == 0.5
    far = attack(Bright(0.5), table, seed=0)
    assert set(far.values()) == {1.0}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few patients, small images, and networks that see each twice."""
    for name, value in (("N_PATIENTS", 42), ("SLICES", 4), ("THIN_SIDE", 32), ("THIN_SIDE_READ", 32)):
        monkeypatch.setattr(spurbreast_data, name, value)
    monkeypatch.setattr(spurbreast, "N_ATTACKED", 8)
    for name in THIN:
        short = Architecture(ARCHITECTURES[name].build, Training(epochs=2, batch_size=16))
        monkeypatch.setitem(spurbreast_networks.ARCHITECTURES, name, short)
    spurbreast_networks._store.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_every_part_runs_on_phantoms(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    listed = [c for c in cases(chosen) if c["feature"] == "field_strength" and c["seed"] == 3]
    ran = [case | run_case(case, chosen) | {"error": None} for case in listed]
    assert {case["part"] for case in ran} == {"metadata", "network", "audit"}
    networks = [case for case in ran if case["part"] == "network"]
    assert [case["architecture"] for case in networks] == list(THIN)
    assert all(0 <= case["test_pgd_4"] <= case["test_clean"] <= 1 for case in networks)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 6
    assert all(isinstance(claim, Claim) for claim in claims(ran))
    json.dumps(ran)


@pytest.mark.usefixtures("tiny")
def test_networks_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = NetworkStore(FIELD, THIN[0], settings(tmp_path))
    first = store.member(0).state_dict()
    monkeypatch.setattr(spurbreast_networks, "fit", None)
    again = store.member(0).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    with pytest.raises(TypeError):
        store.member(1)


@pytest.mark.parametrize("name", [*THIN, "ResNet-50"])
def test_networks_take_grey_images_of_either_side(name: str) -> None:
    for side in (32, 64):
        network = ARCHITECTURES[name].build(side, False).eval()
        with torch.no_grad():
            assert network(torch.zeros(1, 1, side, side)).shape == (1, 2)


def write_published(root: Path, *, patients: bool) -> Path:
    """SpurBreast's layout, with 8 slices of 4 patients in every folder."""
    generator = np.random.default_rng(0)
    number, rows = 0, []
    for feature in ("field_strength", "vertical_flip"):
        for split in ("training", "validation", "test"):
            for label in (0, 1):
                folder = root / feature / split / str(label)
                folder.mkdir(parents=True)
                for patient in range(2 if split != "test" else 4):
                    # In test every patient has slices of both classes.
                    known = {"training": 0, "validation": 10, "test": 20}[split] + patient
                    name = known + (5 if label and split != "test" else 0)
                    for at in range(4):
                        pixels = generator.integers(0, 255, (40, 40), dtype=np.uint8)
                        Image.fromarray(pixels).save(folder / f"slice-{at}-{name:03d}.png")
                    if feature == "field_strength" and (split != "test" or label):
                        tesla = (1.5 if label else 3.0) if split != "test" else (1.5, 2.89)[patient % 2]
                        rows.append({"patient_id": name, "field_strength": tesla, "age": 50 + number})
                        number += 1
    if patients:
        pd.DataFrame(rows).to_csv(root / "patients.csv", index=False)
    return root


def test_published_folders_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LayoutError, match="vertical_flip"):
        check(tmp_path / "empty")
    root = write_published(tmp_path / "data", patients=False)
    check(root)
    assert available(root) == ("field_strength", "orientation")
    listed = cases(settings(tmp_path, root))
    assert {case["part"] for case in listed} == {"network"}
    (root / "field_strength" / "test" / "1" / "slice-0-020.png").rename(
        root / "field_strength" / "test" / "1" / "odd.png"
    )
    with pytest.raises(LayoutError, match=r"odd\.png"):
        check(root)


def test_published_patients_bring_screens_and_audits(tmp_path: Path) -> None:
    root = write_published(tmp_path / "data", patients=True)
    listed = cases(settings(tmp_path, root))
    for part in ("metadata", "audit"):
        assert {case["feature"] for case in listed if case["part"] == part} == {"field_strength"}
    table = FIELD.table(settings(tmp_path, root))
    assert table.image(0).shape == (1, 64, 64)
    assert "age" in table.metadata
    assert "slice" not in table.metadata
    carries = FIELD.carries(table.where(split="test"))
    assert carries is not None
    assert sorted(set(carries)) == [0, 1]


@pytest.mark.usefixtures("tiny")
def test_a_network_runs_on_published_images(tmp_path: Path) -> None:
    chosen = settings(tmp_path, write_published(tmp_path / "data", patients=False))
    (case, *_) = cases(chosen)
    found = run_case(case, chosen)
    assert 0 <= found["test_accuracy"] <= 1
    assert "positive_with" in found
    assert found["positive_with"] is None


def test_the_protocol_is_the_one_of_the_command() -> None:
    assert PROTOCOL.suite.name == "spurbreast"
    assert PROTOCOL.suite.command == "reproduce"
    assert PROTOCOL.check is check
