"""How often a stage decodes an image: once, and with a cache on disk that knows the images never."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import small_study
from counting import counting, decoded

import shortcutscope as ss
from shortcutscope.data.decoding.decoded import DecodedImages
from shortcutscope.errors import InputError

N = 120
ONCE = Counter(range(N))
STATISTICS = ss.Statistics(100, 60)
QUIET = ss.Running(progress=False, batch_size=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    small_study.write_files(folder, N)
    return folder


@pytest.fixture
def log(tmp_path):
    return tmp_path / "decoded.log"


@pytest.fixture
def table(folder, log):
    return counting(ss.ImageTable.from_csv(folder / "images.csv"), log)


@pytest.fixture(scope="module")
def network():
    return small_study.tag_reader().eval()


def audit(network, table, out, running=QUIET, **options):
    return ss.audit(network, table, out, statistics=STATISTICS, running=running, **options)


@pytest.fixture(scope="module")
def audited(network, folder, tmp_path_factory):
    """An audit that keeps nothing: every stage decodes again."""
    out = tmp_path_factory.mktemp("audit") / "run"
    images = DecodedImages(memory=0)
    table = ss.ImageTable.from_csv(folder / "images.csv").keeping(images=images)
    return audit(network, table, out, concepts=["tag", "coin"])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_audit_decodes_each_image_once_and_finds_the_same(network, table, log, audited, tmp_path, workers):
    running = replace(QUIET, workers=workers)
    again = audit(network, table, tmp_path / "run", running, concepts=["tag", "coin"])
    assert decoded(log) == ONCE
    assert again.findings == audited.findings
    for layer in audited.scan.layers:
        for one, other in zip(*(a.scan.activation(layer) for a in (again, audited)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_discovery_decodes_nothing_again_and_with_a_cache_nothing_is_decoded(network, table, log, tmp_path):
    running = replace(QUIET, cache=tmp_path / "cache")
    first = audit(network, table, tmp_path / "first", running, discover=True)
    assert decoded(log) == ONCE
    second = audit(network, table, tmp_path / "second", running, discover=True)
    assert not decoded(log)
    assert second.findings == first.findings


def test_an_audit_of_more_than_memory_holds_decodes_only_that_again(network, table, log, audited, tmp_path):
    room = 100 * table.source.read(0).nbytes
    decoded(log)
    kept = table.keeping(images=DecodedImages(memory=room))
    again = audit(network, kept, tmp_path / "run", concepts=["tag", "coin"])
    counts = decoded(log)
    assert sorted(counts.values())[:100] == [1] * 100
    assert min(sorted(counts.values())[100:]) > 1
    assert again.findings == audited.findings


def test_a_broken_image_is_refused_before_anything_is_written_and_mended_it_goes_on(
    network, folder, tmp_path
):
    broken = tmp_path / "study"
    small_study.write_files(broken, N)
    path = broken / "images" / "s0-0100.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    running = replace(QUIET, cache=tmp_path / "cache")
    table = ss.ImageTable.from_csv(broken / "images.csv")
    with pytest.raises(InputError, match=r"1 image\(s\) cannot be read"):
        audit(network, table, tmp_path / "run", running, concepts=["tag"])
    assert not (tmp_path / "run").exists()
    path.write_bytes(whole)
    table = ss.ImageTable.from_csv(broken / "images.csv")
    mended = audit(network, table, tmp_path / "run", running, concepts=["tag"])
    assert mended["tag"].n_samples["known"] == N


def test_masks_hits_and_labels_decode_each_image_at_most_once(network, table, log, audited, tmp_path):
    running = replace(QUIET, cache=tmp_path / "cache")
    tag = audited["tag"]
    masks = tag.annotate(network, table, out=tmp_path / "masks", running=QUIET)
    assert len(masks) == N
    assert max(decoded(log).values()) == 1
    kept = tag.annotate(network, table, out=tmp_path / "again", running=running)
    assert decoded(log)
    for name, mask in kept:
        np.testing.assert_array_equal(mask, masks.mask(name))
    fresh = ss.Running(progress=False, cache=tmp_path / "cache")
    hits = tag.retrieve(20, images=table, running=fresh)
    counts = decoded(log)
    assert max(counts.values(), default=1) == 1
    assert len(hits.pictures) == 20
    tag.label(network, table, images=table, running=running)
    assert not decoded(log)


def test_a_ranking_decodes_each_image_once(network, table, log, tmp_path):
    out = tmp_path / "run"
    audit(network, table, out, concepts=["tag"])
    decoded(log)
    tag = ss.Audit.open(out)["tag"]
    tag.retrieve(30, images=table, running=QUIET)
    assert decoded(log) == ONCE
    with pytest.raises(InputError, match="retrieval does not read it"):
        tag.retrieve(30, images=table, running=ss.Running(precision="bf16", progress=False))


def test_a_comparison_decodes_each_image_once_for_all_networks(network, table, log, tmp_path):
    blind = small_study.tag_reader().eval()
    blind.blocks[1][0].weight.data[1] *= 0.5
    running = replace(QUIET, cache=tmp_path / "cache")
    comparing = ss.Comparing(others=False)
    options = {"concept": "tag", "statistics": STATISTICS, "comparing": comparing}
    compared = ss.compare(network, blind, table, running=QUIET, **options)
    assert decoded(log) == ONCE
    first = ss.compare(network, blind, table, running=running, **options)
    assert decoded(log) == ONCE
    second = ss.compare(network, blind, table, running=running, **options)
    assert not decoded(log)
    for other in (first, second):
        assert other.frame.equals(compared.frame)


def test_a_table_that_is_kept_is_decoded_once_for_all_that_is_done_with_it(network, table, log, tmp_path):
    kept = table.keeping()
    found = audit(network, kept, tmp_path / "run", concepts=["tag"])
    found["tag"].annotate(network, kept, running=QUIET)
    found["tag"].retrieve(10, images=kept, running=QUIET)
    found["tag"].circuit(network, kept, edges=False, judging=ss.Judging(draws=1), running=QUIET)
    assert decoded(log) == ONCE
