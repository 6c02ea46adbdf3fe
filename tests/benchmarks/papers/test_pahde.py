"""The protocol of Pahde et al.: its cases, claims and data, and one step of each kind from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from shortcutscope.benchmarks.papers import pahde
from shortcutscope.benchmarks.papers.pahde import data as pahde_data
from shortcutscope.benchmarks.papers.pahde import steps as pahde_steps
from shortcutscope.benchmarks.papers.pahde.data import ARTIFACTS, make_cohort, masks_of
from shortcutscope.benchmarks.papers.pahde.networks import OF_IMAGES, OF_SIGNALS, network
from shortcutscope.benchmarks.papers.pahde.steps import MITIGATIONS, STEPS, artifact_relevance
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.data.medical.isic2019 import DIAGNOSES
from shortcutscope.errors import InputError

Case = dict[str, Any]


def settings(folder: Path, *, quick: bool = False, full: bool = False, data: Path | None = None) -> Settings:
    return Settings(quick, 50, data, folder, 1, full)


def made_up(gain: float, fall: float) -> list[Case]:
    """Cases in which every mitigation changes attacked accuracy and relevance by so much."""
    listed = []
    for architecture, artifact in pahde.pairs(Settings(False, 0, None, Path(), 1)):
        shared = {"architecture": architecture, "artifact": artifact, "seed": 0}
        localized = ARTIFACTS[artifact].localized
        listed += [
            {**shared, "step": "identify", "auroc": 0.9},
            {**shared, "step": "retrieve", "auroc": 0.95 if gain > 0 else 0.6, "ap": 0.9},
            {**shared, "step": "localize", **({"iou": 0.7} if localized else {"undefined": "diffuse"})},
        ]
        for step in ("vanilla", *MITIGATIONS):
            if step == "rrr" and not localized:
                listed.append({**shared, "step": step, "undefined": "diffuse"})
                continue
            here = 0.0 if step == "vanilla" else 1.0
            case = {**shared, "step": step, "clean": 0.9, "attacked": 0.6 + gain * here}
            case |= {"clean_before": 0.9, "attacked_before": 0.6}
            listed.append(case | ({"relevance": 0.5 - fall * here} if localized else {}))
    return listed


def test_cases_are_distinct_and_complete(tmp_path: Path) -> None:
    cases = pahde.cases(settings(tmp_path))
    assert len({tuple(sorted(case.items())) for case in cases}) == len(cases)
    assert len(cases) == len(STEPS) * (3 * len(OF_IMAGES) + 1)
    assert {case["artifact"] for case in cases if case["architecture"] == OF_SIGNALS} == {"defective_lead"}
    assert {case["seed"] for case in pahde.cases(settings(tmp_path, full=True))} == {50, 51, 52}
    quick = pahde.cases(settings(tmp_path, quick=True))
    assert {case["architecture"] for case in quick} == {"resnet50", OF_SIGNALS}
    # The first cases are of different networks, so that two processes do not both train the same one.
    assert (
        cases[0]["architecture"] != cases[3]["architecture"] or cases[0]["artifact"] != cases[1]["artifact"]
    )


def test_claims_hold_where_mitigation_helps_and_not_where_it_does_not() -> None:
    helped = {claim.what: claim for claim in pahde.claims(made_up(0.2, 0.3))}
    assert all(claim.holds for claim in helped.values())
    lost = pahde.claims(made_up(-0.1, 0.3))
    mitigation = [claim for claim in lost if "mitigation raises" in claim.what]
    assert len(mitigation) == 4
    assert not any(claim.holds for claim in mitigation)
    assert not next(claim for claim in lost if "rank the carriers" in claim.what).holds
    # A network that is right but still looks at the artifact has not unlearnt it.
    assert not any(c.holds for c in pahde.claims(made_up(0.2, -0.1)) if "mitigation raises" in c.what)
    assert all(claim.holds is None for claim in pahde.claims([]))


def test_the_summary_pairs_with_the_training_without_a_penalty() -> None:
    rows = pahde.summarize(made_up(0.2, 0.3))["gains"]
    assert {row["step"] for row in rows} == set(MITIGATIONS)
    row = next(row for row in rows if (row["architecture"], row["step"]) == ("vit", "rrr"))
    assert row["cases"] == 2  # the diffuse artifact has no mask
    assert row["attacked_gain"]["mean"] == pytest.approx(0.2)
    assert row["relevance_gain"]["mean"] == pytest.approx(-0.3)


def test_the_figure_shows_every_architecture() -> None:
    figure = pahde.draw(made_up(0.2, 0.3))
    assert isinstance(figure, Figure)
    assert [axis.get_title(loc="left") for axis in figure.axes][:4] == list(pahde.ARCHITECTURES)


@pytest.mark.parametrize("artifact", ["timestamp", "defective_lead"])
def test_the_artifact_is_in_one_class_and_parts_share_no_patient(
    artifact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pahde_data, "QUICK_SIZES", (60, 24, 24))
    cohort = make_cohort(artifact, "resnet50", 50, settings(tmp_path, quick=True))
    frame = cohort.train.frame
    share = frame.loc[frame["label"] == 1, artifact].mean()
    assert share == pytest.approx(ARTIFACTS[artifact].share, abs=0.05)
    assert not frame.loc[frame["label"] == 0, artifact].any()
    groups = [set(part.frame["group"]) for part in (cohort.train, cohort.validation, cohort.test)]
    assert len(set.union(*groups)) == sum(map(len, groups))
    assert cohort.attacked("test").frame[artifact].all()
    assert not cohort.clean("test").frame[artifact].any()
    halves = cohort.half().frame.groupby("label")[artifact].mean()
    assert halves.to_numpy() == pytest.approx([0.5, 0.5], abs=0.1)
    row = int(np.flatnonzero(frame[artifact])[0])
    mask = masks_of(cohort.train, artifact)(row)
    changed = cohort.train[row][0] != cohort.clean("train")[row][0]
    assert mask is not None
    assert bool(changed[mask if mask.ndim == changed.ndim else mask[None]].all())
    assert torch.equal(cohort.drawn[row][0], cohort.train[row][0])


def test_relevance_inside_the_mask_is_that_of_a_network_that_sees_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pahde_data, "QUICK_SIZES", (40, 16, 16))
    cohort = make_cohort("defective_lead", OF_SIGNALS, 50, settings(tmp_path, quick=True))
    table = cohort.attacked("test")

    class Corner(torch.nn.Module):
        """Reads the first quarter of all leads."""

        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(12 * 50, 2, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x[:, :, :50].flatten(1))

    torch.manual_seed(0)
    model = Corner()
    with torch.no_grad():
        weights = model.fc.weight.view(2, 12, 50)
        found = artifact_relevance(model, table, "defective_lead")
        assert 0 < found["relevance"] < 1
        weights.zero_()
        weights[1] = 1.0
        weights[0] = -1.0
    assert artifact_relevance(model, table, "defective_lead")["relevance"] > found["relevance"] - 0.2
    assert found["area"] < 0.03


@pytest.mark.parametrize("architecture", [*OF_IMAGES, OF_SIGNALS])
def test_thin_networks_take_their_inputs(architecture: str) -> None:
    shape = (12, 200) if architecture == OF_SIGNALS else (3, 48, 48)
    made = network(architecture, shape, 3, thin=True)
    again = network(architecture, shape, 3, thin=True)
    x = torch.randn(2, *shape)
    device = next(made.parameters()).device
    assert made.eval()(x.to(device)).shape == (2, 2)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="isic2019/, hyperkvasir/, chexpert/, ptbxl/"):
        pahde.check(tmp_path)
    (tmp_path / "isic2019").mkdir()
    with pytest.raises(InputError, match="ISIC 2019"):
        pahde.check(tmp_path)


@pytest.fixture
def isic(tmp_path: Path) -> Path:
    """A root with a miniature ISIC 2019: 80 images, every other one a melanoma."""
    root = tmp_path / "isic2019"
    folder = root / "ISIC_2019_Training_Input"
    folder.mkdir(parents=True)
    names = [f"ISIC_{i:07d}" for i in range(80)]
    generator = np.random.default_rng(0)
    for i, name in enumerate(names):
        pixels = generator.normal(150 - 40 * (i % 2), 12, (40, 52, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.jpg")
    truth = pd.DataFrame(np.eye(9)[[1 - i % 2 for i in range(80)]], columns=list(DIAGNOSES))
    truth.insert(0, "image", names)
    truth.to_csv(root / "ISIC_2019_Training_GroundTruth.csv", index=False)
    columns = ["age_approx", "anatom_site_general", "lesion_id", "sex"]
    extra = pd.DataFrame({"image": names, **dict.fromkeys(columns, "")})
    extra["lesion_id"] = [f"L{i}" for i in range(80)]
    extra.to_csv(root / "ISIC_2019_Training_Metadata.csv", index=False)
    return tmp_path


def test_a_miniature_of_the_real_data_is_mitigated(isic: Path, tmp_path: Path) -> None:
    given = settings(tmp_path / "cache", quick=True, data=isic)
    pahde.check(isic)
    cases = pahde.cases(given)
    assert {(c["architecture"], c["artifact"]) for c in cases} == {("resnet50", "dark_circle")}
    case = next(c for c in cases if c["step"] == "p-clarc")
    found = pahde_steps.run_case(case, given)
    assert {"clean", "attacked", "relevance", "chosen", "tried", "attacked_before"} <= set(found)
    assert 0 <= found["relevance"] <= 1
    kept = list((tmp_path / "cache" / "reproduce" / "pahde").iterdir())
    assert len(kept) == 1
    stamp = kept[0].stat().st_mtime_ns
    vanilla = pahde_steps.run_case({**case, "step": "vanilla"}, given)
    assert kept[0].stat().st_mtime_ns == stamp  # the trained network was taken up again
    assert vanilla["attacked_before"] == found["attacked_before"]


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_every_step_runs_on_small_signals(
    step: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pahde_data, "QUICK_SIZES", (200, 40, 60))
    cache = tmp_path_factory.getbasetemp() / "pahde"
    case = {"architecture": OF_SIGNALS, "artifact": "defective_lead", "seed": 50, "step": step}
    found = pahde_steps.run_case(case, settings(cache, quick=True))
    expected = {"identify": "auroc", "retrieve": "marks_auroc", "localize": "iou"}.get(step, "attacked")
    assert 0 <= found[expected] <= 1
