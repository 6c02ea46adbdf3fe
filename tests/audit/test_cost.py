"""What an audit will cost is said before it begins, and refused where the machine does not hold it."""

import numpy as np
import pandas as pd
import pytest

import shortcutscope.audit.cost as cost
from shortcutscope.audit.audited_data import ConceptRequest
from shortcutscope.audit.cost import audit_cost, statistics_bytes
from shortcutscope.audit.stages import audit, estimate_audit
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer
from shortcutscope.options import Running, Statistics
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.scan.scanner import ScanEstimate


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"label": np.arange(48) % 2, "tag": rng.integers(0, 2, 48)})
    return ImageTable.from_arrays(rng.random((48, 1, 16, 16), dtype=np.float32), frame)


def layer(name, channels, prefix_tokens=0):
    return Layer(name, "Block", "NCHW", (channels, 7, 7), 0.5, grid=(7, 7), prefix_tokens=prefix_tokens)


def test_m15_every_stage_has_its_share():
    layers = tuple(layer(str(k), 64) for k in range(5))
    scan = ScanEstimate(1000, layers, 10**6, 20.0, forward=0.01, reading=0.002)
    found = audit_cost(scan, n_concepts=3, n_classes=2, n_permutations=200)
    assert set(found.stages) == {"reading", "scan", "probing", "use", "extent", "rank"}
    assert found.stages["scan"] == 20
    assert found.stages["reading"] == 2
    assert found.stages["use"] == pytest.approx(3 * ((4 * 80 + 320) * 0.01 + 320 * 0.002))
    assert found.stages["extent"] > 3 * 480 * 0.012
    assert found.seconds == pytest.approx(sum(found.stages.values()))
    assert found.memory == statistics_bytes(1000, layers, 3, 200)
    twice = audit_cost(scan, n_concepts=6, n_classes=2, n_permutations=200)
    assert twice.stages["use"] == pytest.approx(2 * found.stages["use"])


def test_m15_a_class_token_is_counted():
    token = statistics_bytes(5000, [layer("a", 600, 1)], 3, 200)
    assert token == statistics_bytes(5000, [layer("a", 800)], 3, 200)
    assert token > statistics_bytes(5000, [layer("a", 600)], 3, 200)


def test_m15_the_estimate_is_of_the_whole_audit(table):
    model = thin_resnet18(width=2)
    found = estimate_audit(
        model,
        table,
        request=ConceptRequest(["tag"], {"tag": "1"}),
        statistics=Statistics(n_permutations=150),
    )
    assert (found.n_samples, found.n_concepts) == (48, 1)
    assert all(seconds > 0 for seconds in found.stages.values())
    assert found.scan.memory_format == "channels last"
    assert found.memory == statistics_bytes(48, found.layers, 1, 150)


@pytest.mark.parametrize(
    ("asked", "positive", "message"),
    [
        (ConceptRequest(["tag"], {"tag": "1"}), 7, "positive=7: no audited sample has that label"),
        (ConceptRequest([], discover=False), None, "no concept"),
    ],
)
def test_the_estimate_refuses_what_the_audit_refuses(table, tmp_path, asked, positive, message):
    model, statistics = thin_resnet18(width=2), Statistics(positive=positive)
    concepts = {"concepts": asked.concepts, "present": asked.present, "discover": asked.discover}
    with pytest.raises(InputError, match=message):
        estimate_audit(model, table, request=asked, statistics=statistics)
    with pytest.raises(InputError, match=message):
        audit(model, table, tmp_path / "run", **concepts, statistics=statistics)


def test_m15_what_the_machine_does_not_hold_is_refused_before_anything_is_written(
    table, tmp_path, monkeypatch
):
    model = thin_resnet18(width=2)
    options = {"concepts": ["tag"], "present": {"tag": "1"}, "running": Running(progress=False)}
    monkeypatch.setattr(cost, "available_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"hold about .* GiB at once.*--permutations"):
        audit(model, table, tmp_path / "run", **options)
    monkeypatch.setattr(cost, "available_memory", lambda: None)
    monkeypatch.setattr(
        "shortcutscope.scan.store.shutil.disk_usage", lambda path: type("Disk", (), {"free": 10})
    )
    with pytest.raises(InputError, match=r"has 0\.0 MiB free"):
        audit(model, table, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_m15_this_machine_says_what_memory_is_free():
    free = cost.available_memory()
    assert free is None or free > 0


def test_memory_of_the_statistics_grows_with_one_concepts_permutations_alone():
    wide = [layer("a", 2048)]
    few, many = (statistics_bytes(n, wide, 20, 200) for n in (100_000, 200_000))
    assert few < many < 1.5 * few
    assert statistics_bytes(200_000, wide, 20, 200) < 6e9
    assert statistics_bytes(1_000_000, [layer("a", 512)], 20, 200) < 6e9
