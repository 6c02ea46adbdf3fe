"""Relevance from a concept lies on the concept, and is not drawn where it cannot be believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import small_study

import shortcutscope as ss
from shortcutscope.models.frozen import frozen
from shortcutscope.probes import concept_relevance
from shortcutscope.probes.affected import Gallery
from shortcutscope.probes.concept_relevance import ConceptRelevance, start_layer
from shortcutscope.report.gallery import read_gallery
from shortcutscope.report.html import render


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    return small_study.audit(tmp_path_factory.mktemp("concept") / "run")


def table():
    images, frame = small_study.pictures(120)
    return ss.ImageTable.from_arrays(
        images[:, None],
        frame.drop(columns="image"),
        sample_id="sample_id",
        transform=ss.Normalize(0.3, 0.25),
    )


def rows(audit, name):
    profile = audit.profile
    return profile[profile["concept"] == name].to_dict("records")


def test_the_run_has_maps_that_lie_on_the_tag(audit):
    with np.load(audit.path / "gallery" / "tag.npz") as stored:
        maps, images = stored["concept_maps"].astype(float), stored["images"]
        assert str(stored["concept_layer"]) == start_layer(rows(audit, "tag"))
        assert maps.shape == images.shape[:3]
    tagged = images[:, 2:6, 2:6].reshape(len(images), -1).mean(1) > 240
    assert tagged.any()
    strength = np.abs(maps[tagged]).mean(0)
    around, elsewhere = strength[:9, :9].mean(), strength[9:, 9:].mean()
    assert around > 5 * elsewhere
    assert maps[tagged][:, 1:7, 1:7].sum() > 0


def test_the_report_draws_them_with_a_caption(audit):
    page = render(audit.path)
    assert page.count('data-test="concept-relevance"') >= 8
    assert "starts from tag itself" in page
    gallery = read_gallery(audit.path / "gallery" / "tag.npz")
    assert all(picture["concept"] for picture in gallery["pictures"])


def test_a_network_on_which_lrp_does_not_hold_gets_the_reason(audit, monkeypatch, tmp_path):
    check = concept_relevance.check_lrp
    monkeypatch.setattr(
        concept_relevance,
        "check_lrp",
        lambda *arguments: replace(check(*arguments), passed=False, reasons=("it absorbs relevance",)),
    )
    with frozen(small_study.tag_reader()) as model:
        own = ConceptRelevance(model, table(), audit.scan)
        plain = Gallery(np.zeros((1, 24, 24), np.uint8), np.zeros((1, 0, 0)), ["s0-0000"], ["x"])
        values = audit["tag"].concept.aligned_to(audit.scan.samples["sample_id"]).values
        got = own.added_to(plain, values, rows(audit, "tag"))
    assert got.concept_maps.size == 0
    assert got.no_concept_maps == "LRP does not hold on this network: it absorbs relevance"


def test_signals_and_volumes_stay_as_they_are():
    gallery = Gallery(np.zeros((1, 4, 9), np.uint8), np.zeros((1, 2, 9)), ["a"], ["x"], "signal")
    assert ConceptRelevance(None, None, None).added_to(gallery, np.zeros(1), []) is gallery


def test_galleries_of_earlier_versions_have_none(finished_run):
    gallery = read_gallery(finished_run / "gallery" / "tag.npz")
    assert {picture["concept"] for picture in gallery["pictures"]} == {None}
    assert "concept-caption" not in render(finished_run)
