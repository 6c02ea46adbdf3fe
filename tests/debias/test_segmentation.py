from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_states import model_state
from torchvision.transforms import v2

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.objective import Batch
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.segmentation import (
    PixelCrossEntropy,
    PixelTargets,
    boxes,
    finding_mask,
    spatial_specificity,
)
from shortcutscope.debias.segmenter import Segmenter, enlarged
from shortcutscope.debias.training.fit import Training
from shortcutscope.errors import InputError
from shortcutscope.stats.metrics import auroc


def squares(n: int = 48) -> ImageTable:
    """Noise with a bright square in class 1, and its masks."""
    generator = np.random.default_rng(0)
    images = generator.normal(0.4, 0.1, (n, 16, 16)).clip(0, 1).astype(np.float32)
    labels, masks = np.arange(n) % 2, np.zeros((n, 16, 16), bool)
    for i in np.flatnonzero(labels):
        top, left = generator.integers(0, 12, 2)
        masks[i, top : top + 4, left : left + 4] = True
    images[masks] = np.minimum(images[masks] + 0.4, 1)
    return ImageTable.from_arrays(images, labels, masks=masks)


def taught_by(table: ImageTable, steps: int, model: DebiasProblem) -> DebiasProblem:
    training = Training(steps=steps, batch_size=16, precision="fp32", lr=1e-2, augmentation="shifts")
    return replace(model, train=table, carries=None, masks=None, training=training)


def margins(outcome_model: torch.nn.Module, table: ImageTable) -> np.ndarray:
    x = torch.stack([table[i][0] for i in range(len(table))])
    with torch.no_grad():
        logits = outcome_model(x)
    return (logits[:, 1] - logits[:, 0]).numpy()


@pytest.mark.parametrize("supervision", ["binary", "box", "segmentation"])
def test_all_supervisions_learn_the_finding(problem: DebiasProblem, supervision: str) -> None:
    table = squares()
    given = taught_by(table, 25, problem)
    before = model_state(problem.model)
    outcome = spatial_specificity(given, supervision=supervision)  # type: ignore[arg-type]
    assert model_state(problem.model) == before
    assert outcome.steps == 25
    assert not outcome.model.training
    y = table.frame["label"].to_numpy()
    scores = margins(outcome.model, table)
    assert auroc(y, scores) > 0.9
    assert ((scores > 0) == y).mean() > 0.75  # though hardly any pixel is foreground
    assert outcome.details["supervision"] == supervision


def test_a_trained_network_shows_where(problem: DebiasProblem) -> None:
    table = squares()
    model = spatial_specificity(taught_by(table, 40, problem)).model
    assert isinstance(model, Segmenter)
    x = torch.stack([table[i][0] for i in range(1, 21, 2)])
    with torch.no_grad():
        maps = enlarged(model.maps(x), (16, 16)).softmax(dim=1)[:, 1]
    masks = torch.stack([m for m in map(table.mask, range(1, 21, 2)) if m is not None])
    assert float(maps[masks].mean()) > 5 * float(maps[~masks].mean())


def test_targets_are_masks_boxes_of_their_parts_or_the_label(problem: DebiasProblem) -> None:
    mask = torch.zeros(6, 7, dtype=torch.bool)
    mask[0, 0] = mask[1, 1] = mask[2, 0] = True
    mask[4, 5] = True
    filled = boxes(mask)
    assert bool(filled[:3, :2].all())
    assert int(filled.sum()) == 7
    table = squares(8)
    assert torch.equal(PixelTargets.of(table, "segmentation").targets[3], table.mask(3))  # type: ignore[arg-type]
    binary = PixelTargets.of(table, "binary")
    assert torch.equal(binary.targets.flatten(1).all(1), torch.from_numpy(binary.positive))
    assert not binary.targets[0].any()


def test_masks_follow_the_transform() -> None:
    table = squares(4)
    resized = table.with_transform(v2.Resize((32, 32)))
    found = finding_mask(resized, 1)
    assert found is not None
    expected = table.mask(1).repeat_interleave(2, 0).repeat_interleave(2, 1)  # type: ignore[union-attr]
    assert torch.equal(found, expected)


def test_the_loss_is_the_mean_over_known_pixels(problem: DebiasProblem) -> None:
    table = squares(6)
    x = torch.stack([table[i][0] for i in range(6)])
    model = Segmenter.around(problem.network(), x).eval()
    targets = PixelTargets.of(table, "segmentation", masks=lambda i: table.mask(i) if i != 3 else None)
    assert targets.has_target.tolist() == [True, True, True, False, True, True]
    batch = Batch(x, torch.arange(6) % 2, torch.arange(6))
    loss = PixelCrossEntropy(targets.targets, targets.has_target)(model, batch)["pixel ce"]
    rows = [0, 1, 2, 4, 5]
    scores = enlarged(model.maps(x[rows]), (16, 16))
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(scores, targets.targets[rows].long()))
    balanced = PixelCrossEntropy(targets.targets, targets.has_target, balance=True)(model, batch)["pixel ce"]
    each = torch.nn.functional.cross_entropy(scores, targets.targets[rows].long(), reduction="none")
    halves = (each[targets.targets[rows]].mean() + each[~targets.targets[rows]].mean()) / 2
    torch.testing.assert_close(balanced, halves)


def test_samples_without_a_mask_are_left_out_or_taught_what_the_network_sees(problem: DebiasProblem) -> None:
    table = squares()

    def few(row: int) -> torch.Tensor | None:
        return table.mask(row) if row < 12 else None

    given = taught_by(table, 24, problem)
    left = spatial_specificity(given, masks=few)
    pseudo = spatial_specificity(given, masks=few, unmasked="pseudo")
    assert (left.details["masked"], pseudo.details["masked"]) == (6, 24)
    assert (left.steps, pseudo.steps) == (24, 24)
    assert any("6 of 24 samples" in note for note in left.notes)
    assert any("12 of 24 steps" in note for note in pseudo.notes)


def test_masked_samples_are_drawn_as_often_as_those_without_the_finding(problem: DebiasProblem) -> None:
    table = squares()
    assert PixelTargets.of(table, "segmentation").draws() is None
    few = PixelTargets.of(table, "segmentation", masks=lambda row: table.mask(row) if row < 12 else None)
    draws = few.draws()
    assert draws is not None
    assert float(draws[few.positive].sum()) == pytest.approx(float(draws[~few.positive].sum()))
    assert (draws == 0).numpy().tolist() == (~few.has_target).tolist()
    assert torch.equal(PixelCrossEntropy.of(few).draws(), draws)


def test_what_it_lacks_is_said_before_anything_is_trained(problem: DebiasProblem) -> None:
    table = squares(8)
    given = taught_by(table, 2, problem)
    with pytest.raises(InputError, match="none of the 4 training samples of class 1"):
        spatial_specificity(given, masks=lambda row: None)
    with pytest.raises(InputError, match=r"has shape \(5, 5\)"):
        spatial_specificity(given, masks=lambda row: torch.ones(5, 5))
    with pytest.raises(InputError, match="two classes"):
        spatial_specificity(replace(given, train=table.with_columns(label=np.arange(8) % 3)))
