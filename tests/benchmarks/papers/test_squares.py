"""Images, networks, cases and claims of the protocol Squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shortcutscope.benchmarks.papers.squares import PROTOCOL, ROWS, cases, draw, run_case, summarize
from shortcutscope.benchmarks.papers.squares import networks as module
from shortcutscope.benchmarks.papers.squares.claims import claims
from shortcutscope.benchmarks.papers.squares.data import BACKGROUND, FRAME_GREY, SHARES, cohort, drawn
from shortcutscope.benchmarks.papers.squares.networks import Networks, by_group, carries_of
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.errors import InputError


def settings(tmp_path=Path(), **options):
    return Settings(**{"quick": False, "seed": 0, "data": None, "cache": tmp_path, "jobs": 1} | options)


@pytest.mark.parametrize("poisoning", list(SHARES))
def test_groups_are_as_published(poisoning):
    images = cohort(poisoning, 0)
    for table, n in ((images.train, 800), (images.validation, 200)):
        counts = table.frame.groupby(["label", BACKGROUND]).size()
        assert (counts.to_numpy() == np.round(np.array(SHARES[poisoning]) * n)).all()
    assert (images.test.frame.groupby(["label", BACKGROUND]).size() == 400).all()


def test_class_and_background_are_what_the_pixels_say():
    labels, dark = np.array([0, 0, 1, 1] * 20), np.array([0, 1, 0, 1] * 20)
    images = drawn(labels, dark, [0]).astype(float)
    background = np.median(images, axis=(1, 2, 3))
    assert ((background < 128) == (dark == 1)).mean() > 0.95  # the noise decides near the border
    red = images[:, 0] - images[:, 1]
    # What stands out in red alone is the square: 64 pixels of a level that is the class.
    squares = np.sort(red.reshape(len(red), -1), axis=1)[:, -64:].mean(1)
    assert ((squares > 128) == (labels == 1)).mean() > 0.9
    assert FRAME_GREY == 127


def test_clusters_of_the_mean_grey_are_the_backgrounds():
    table = cohort("symmetric", 1).train
    discovered = carries_of(table, "discovered")
    assert (discovered == carries_of(table, "truth")).mean() > 0.9


def test_the_thin_network_is_a_narrow_resnet18():
    from torchvision.models import resnet18

    thin, whole = (
        sum(p.numel() for p in net.parameters())
        for net in (module.thin_resnet18(64), resnet18(num_classes=2))
    )
    assert thin == whole


def test_every_row_is_a_case_of_its_own():
    rows = cases(settings())
    assert len(rows) == len(ROWS) * 2
    assert len({tuple(case.items()) for case in rows}) == len(rows)
    assert {case["width"] for case in cases(settings(full=True))} == {"whole"}
    with pytest.raises(InputError, match="draws its own images"):
        PROTOCOL.check(Path("here"))


@pytest.mark.slow
def test_a_quick_case_runs_and_is_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "OURS", module.OURS.but(steps=3))
    monkeypatch.setattr(module, "PUBLISHED", module.PUBLISHED.but(steps=4))
    chosen = settings(tmp_path, quick=True)
    finished = [case | run_case(case, chosen) for case in cases(chosen)]
    for case in finished:
        groups = [case[f"class {label}, {side}"] for label in (0, 1) for side in ("bright", "dark")]
        assert case["average"] == pytest.approx(np.mean(groups))
        assert case["worst"] == min(groups)
    assert len(list((tmp_path / "reproduce" / "squares").glob("erm-*.safetensors"))) == 1


def test_by_group_is_what_counting_gives():
    images = cohort("asymmetric", 2)
    network = module.thin_resnet18(4).eval()
    few = images.test.take(np.arange(200))
    figures = by_group(network, few)
    import torch

    with torch.no_grad():
        right = [int(network(few[i][0][None]).argmax()) == few[i][1] for i in range(len(few))]
    frame = few.frame.assign(right=right)
    counted = 100 * frame.groupby(["label", BACKGROUND])["right"].mean()
    assert figures["class 1, dark"] == pytest.approx(counted[1, 1])
    assert figures["average"] == pytest.approx(counted.mean())


def test_a_published_correction_begins_where_it_says(tmp_path):
    networks = Networks(cohort("symmetric", 0), 0, tmp_path, thin=True, epochs=150)
    networks.biased = lambda: module.thin_resnet18()
    fresh, other = (networks._problem(recipe, "truth", "published") for recipe in ("group-dro", "rr-clarc"))
    assert (fresh.start, fresh.training.epochs) == ("fresh", 150)
    assert (other.start, other.training.epochs) == ("model", 30)
    assert fresh.training.optimizer == "sgd"
    assert len(networks._problem("dfr", "truth", "published").clean) == 1000


def test_claims_and_figure_of_made_up_cases():
    finished = [
        case | {"average": 51.0 if case["training"] == "published" else 97.0, "worst": 50.0}
        for case in cases(settings())
    ]
    said = {claim.what: claim for claim in claims(finished)}
    assert said["symmetric: erm has this average group accuracy (within 2.5)"].holds
    assert not said["asymmetric: erm has this average group accuracy (within 4)"].holds
    above = "counterfactual-augmentation, groups unknown, is above the best published"
    assert said[f"symmetric: {above}"].holds
    assert claims([]) == []
    assert len(summarize(finished)["rows"]) == len(ROWS) * 2
    assert draw(finished).axes
