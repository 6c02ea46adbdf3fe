"""A network whose one right reading is known: it sees greys between two values, and all others as those."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from model_states import model_state
from torch import Tensor, nn

import shortcutscope as ss
from shortcutscope.audit.preprocessing.batch_norms import BatchNorms
from shortcutscope.audit.preprocessing.check import PreprocessingCheck, affordable_images, chosen_images
from shortcutscope.audit.preprocessing.performance import (
    Judge,
    Performance,
    likelihood_bounds,
    lower_bounds,
)
from shortcutscope.models.frozen import frozen


class Brightness(nn.Module):
    """Bright within the window of values that it knows, 24 x 24 pixels at least."""

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.norm = nn.BatchNorm2d(1)
        self.norm.running_mean.fill_((low + high) / 2)
        self.norm.running_var.fill_(((high - low) / 4) ** 2)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x[:, :1])
        score = normed.clamp(-2, 2).mean((1, 2, 3))
        return torch.stack([-score, score], 1)


def table(n: int = 120, transform: object = None, seed: int = 0, **options: object) -> ss.ImageTable:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    mean = 118 + 18 * labels + 12 * rng.standard_normal(n)
    pixels = (mean[:, None, None] + 60 * rng.standard_normal((n, 24, 32))).clip(0, 255).astype(np.uint8)
    frame = pd.DataFrame({"label": labels, "group": (np.arange(n) // 2).astype(str)})
    return ss.ImageTable.from_arrays(pixels, frame, group="group", transform=transform, **options)


def test_a_right_reading_is_not_accused() -> None:
    model = Brightness()
    before = model_state(model)
    check = ss.check_preprocessing(model, table(), n_images=100)
    assert model_state(model) == before
    assert check.better == ()
    assert check.warnings == ()
    assert check.auroc > 0.8
    assert (check.n_images, check.met) == (100, None)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (lambda x: x * 255, "values 0 to 1"),
        (lambda x: 1 - x, "values 0 to 1, not inverted"),
        (lambda x: x * 4 - 20, "values 0 to 1"),
    ],
)
def test_a_wrong_one_is_named_with_the_right_one_first(wrong: object, right: str) -> None:
    check = ss.check_preprocessing(Brightness(), table(transform=wrong), n_images=100)
    assert check.better[0] == right
    assert f"with {right}" in check.warnings[0]
    assert check.readings["auroc"].iloc[0] > check.auroc + 0.02
    again = PreprocessingCheck.from_json(check.to_json())
    assert again.warnings == check.warnings
    assert repr(again) == repr(check)
    assert "<table" in check._repr_html_()


class Unnormed(Brightness):
    """The same without anything that remembers its training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Identity()  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        score = 12 * ((x[:, :1] - 0.5) * 4).clamp(-2, 2).mean((1, 2, 3))
        return torch.stack([-score, score], 1)


def test_without_batch_norms_readings_that_are_even_are_ranked_by_the_likelihood_of_the_labels() -> None:
    check = ss.check_preprocessing(Unnormed(), table(80, transform=lambda x: 2 * x), n_images=80)
    rows = check.readings.set_index("reading")
    assert rows.index[0] == "values 0 to 1"
    assert abs(rows["difference"]["values 0 to 1"]) < 0.02
    assert rows["log_loss"]["values 0 to 1"] < rows["log_loss"]["as given"] / 2
    assert check.better == (), "its AUROC is no better"


def test_likelihoods_tell_what_areas_leave_open() -> None:
    rng = np.random.default_rng(0)
    labels, groups = np.arange(100) % 2, np.arange(100)
    judge = Judge(labels, groups, "multiclass", 0)

    def performance(scores: np.ndarray) -> Performance:
        return judge.performance(torch.from_numpy(np.stack([-scores / 2, scores / 2], 1)))

    right = 4 * labels - 2 + 1.5 * rng.standard_normal(100)
    wrong = right + 3 + 0.6 * rng.standard_normal(100)
    others = {"right": performance(right)}
    assert lower_bounds(others, performance(wrong))["right"] < 0 < others["right"].gain(performance(wrong))[0]
    assert likelihood_bounds(others, performance(wrong))["right"] > 0
    assert likelihood_bounds({"wrong": performance(wrong)}, performance(right))["wrong"] < 0


def test_an_auroc_that_is_expected_and_not_met() -> None:
    check = ss.check_preprocessing(Brightness(), table(), n_images=100, expected_auroc=1.0)
    assert check.met is False
    assert "an AUROC of 1.00 was expected" in check.warnings[0]
    assert "no other reading" in check.warnings[1]
    assert ss.check_preprocessing(Brightness(), table(), n_images=100, expected_auroc=0.8).met
    with pytest.raises(ss.InputError, match=r"expected_auroc=80; it must be a number from 0\.5 to 1"):
        ss.check_preprocessing(Brightness(), table(), expected_auroc=80)


def test_sizes_that_a_network_is_not_made_for_are_said() -> None:
    class Fixed(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[2:] != (24, 32):
                raise RuntimeError("positions do not fit")
            return super().forward(x)

    check = ss.check_preprocessing(Fixed(), table(), n_images=60)
    assert check.not_tried["size 28"] == "the model fails: positions do not fit"


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ss.InputError, match="10 images of each of two classes are needed"):
        ss.check_preprocessing(Brightness(), table(18))


def test_as_many_images_of_each_class_as_there_are() -> None:
    data = table(100)
    few = data.take(
        np.r_[np.flatnonzero(data.frame["label"] == 1)[:12], np.flatnonzero(data.frame["label"] == 0)]
    )
    assert chosen_images(few, 24, 0).frame["label"].value_counts().tolist() == [12, 12]
    assert len(chosen_images(few, 500, 0)) == len(few)
    assert chosen_images(few, 24, 0).fingerprint() == chosen_images(few, 24, 0).fingerprint()


def test_many_equal_readings_are_rarely_called_better() -> None:
    accused = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels, groups = np.arange(120) % 2, np.arange(120)
        base = labels + rng.standard_normal(120)
        judge = Judge(labels, groups, "multiclass", seed)
        scores = [base + 0.5 * rng.standard_normal(120) for _ in range(10)]
        done = [judge.performance(torch.from_numpy(np.stack([-s, s], 1))) for s in scores]
        bounds = lower_bounds({str(k): p for k, p in enumerate(done[1:])}, done[0])
        accused += any(bound > 0 for bound in bounds.values())
    assert accused <= 5  # at 5 %, more have a chance of .01


def test_batch_norms_know_the_inputs_of_training() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.ReLU())
    x = torch.rand(64, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    model(x)
    model.eval()
    with frozen(model) as lent, torch.no_grad():
        norms = BatchNorms(lent)
        for name, change in {"same": x, "brighter": x + 0.1, "other": x * 255}.items():
            with norms.listening(name):
                lent(change[:32])
                lent(change[32:])
        near, off, far = (norms.distance(name) for name in ("same", "brighter", "other"))
    assert 0 <= near < 0.001 < off < far
    assert np.isnan(BatchNorms(nn.Linear(2, 2)).distance("none"))


def test_what_an_audit_may_pay() -> None:
    assert affordable_images(400, relevance=True)[0] == 0
    n, passes = affordable_images(8000, relevance=True)
    assert n == 50
    assert passes == pytest.approx(600)
    assert affordable_images(7000, relevance=False)[0] == 0
    assert affordable_images(10**6, relevance=True)[0] == 150


def test_several_labels_are_refused_by_name() -> None:
    frame = pd.DataFrame({"a": [0, 1] * 20, "b": [1, 1, 0, 0] * 10})
    data = ss.ImageTable.from_arrays(np.zeros((40, 8, 8), np.uint8), frame, label=["a", "b"])
    with pytest.raises(ss.InputError, match=r"several labels \(a, b\), and .* open the table with"):
        ss.check_preprocessing(Brightness(), data)
