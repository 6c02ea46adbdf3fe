"""What a whole audit costs: beside its own scan, stage by stage, and how often each image is decoded.

All ratios are of CPU time on one thread, within one process, after a small audit that has loaded what is
loaded once. The images hold planted artifacts, each in a place of its own; the other concepts are random
columns, which nothing encodes. Networks are trained for a moment, so that their scores vary.

- ``ratio``: the audit, without its report / the scan alone.
- ``share``: of the audit's time, by stage.
- ``decoded``: reads of the source per image.
- ``ratio_compare``: comparing two networks / their two scans.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.benchmarks.suites.scan import in_process
from shortcutscope.compare.before_after import compare
from shortcutscope.data.sources import PathSource
from shortcutscope.data.table import ImageTable
from shortcutscope.models.seeding import seeded
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.scan.scanner import scan
from shortcutscope.types import Array, Record

#: Network, images, side, concepts that are encoded and that are not, and the largest ratio that is allowed.
COSTS = (
    ("resnet18", 1_000, 128, 5, 5, 2.5),
    ("thin_resnet18", 800, 64, 5, 0, 4.0),
    ("resnet50", 300, 224, 5, 0, 4.0),
    ("thin_resnet18", 800, 64, 10, 10, 10.0),
)
#: The largest ratio of a comparison.
COMPARED = 3.0
#: Images on which the networks are trained for a moment.
TRAINED = 64
#: The quick run's share of the images.
QUICK = 4


def cases(settings: Settings) -> list[Case]:
    """One case per network and number of concepts, and one comparison."""
    share = QUICK if settings.quick else 1
    costs = [
        {"model": name, "samples": n // share, "input": side, "encoded": k, "others": other, "bar": bar}
        for name, n, side, k, other, bar in COSTS
    ]
    return [*costs, {**costs[1], "others": 0, "encoded": 1, "compared": True, "bar": COMPARED}]


def run_case(case: Case, settings: Settings) -> Case:
    """Measure one case, in a process of its own."""
    measured: Case = in_process(_measure, case, settings.seed)
    return measured


def summarize(finished: list[Case]) -> Record:
    """Whether every ratio is within its bar, and every image was decoded once."""
    names = [f"{c['model']}, {c['encoded']} + {c['others']} concepts" for c in finished]
    most = max(c["decoded"] for c in finished)
    return {
        "ratios": dict(zip(names, [c["ratio"] for c in finished], strict=True)),
        "most_decoded": most,
        "bars_met": most <= 1 and all(c["ratio"] <= c["bar"] for c in finished),
    }


@dataclass(frozen=True)
class _Counted(PathSource):
    """Files that count how often they are decoded."""

    reads: list[int] = field(default_factory=list)

    def read(self, i: int) -> Array:
        """Image `i`."""
        self.reads.append(i)
        return super().read(i)


@dataclass
class _Study:
    model: nn.Module
    table: ImageTable
    source: _Counted
    concepts: list[str]


def _measure(case: Case, seed: int) -> Case:
    torch.set_num_threads(1)
    running = Running(progress=False, workers=0)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        study = _study(case, out / "images", seed)
        small = _study({**case, "samples": 80}, out / "few", seed + 1)
        work = _compared if case.get("compared") else _audited
        work(study.model, small, out / "small", running)
        network_passes = 2 if case.get("compared") else 1
        alone = _cpu(lambda: scan(study.model, study.table, out / "scan", running=running))
        study.source.reads.clear()
        shares: dict[str, float] = {}
        whole = _cpu(lambda: shares.update(work(study.model, study, out / "run", running)))
    total = sum(shares.values()) or 1.0
    return {
        "seconds_scan": alone,
        "ratio": whole / alone / network_passes,
        "decoded": len(study.source.reads) / len(study.table) / network_passes,
        "share": {name: seconds / total for name, seconds in shares.items()},
    }


def _audited(model: nn.Module, study: _Study, out: Path, running: Running) -> dict[str, float]:
    record = audit(model, study.table, out, concepts=study.concepts, discover=False, running=running)
    return {name: stage["seconds"] for name, stage in record.run["stages"].items()}


def _compared(model: nn.Module, study: _Study, out: Path, running: Running) -> dict[str, float]:
    with seeded(1):
        other = _build("thin_resnet18")
    compare(model, other, study.table, concept=study.concepts[0], out=out, running=running)
    return {}


def _cpu(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _study(case: Case, folder: Path, seed: int) -> _Study:
    n, side = case["samples"], case["input"]
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    images = rng.normal(0.4, 0.08, (n, 3, side, side)).astype(np.float32)
    sign, cell = slice(side // 3, side // 2), side // 8
    images[label == 1, :, sign, sign] += 0.2
    columns: Record = {"label": label, "group": [f"p{i // 2}" for i in range(n)]}
    for k in range(case["encoded"]):
        carries = rng.random(n) < np.where(label == 1, 0.7, 0.3)
        top, left = (2 * cell * place for place in divmod(k, 4))
        images[carries, :, top : top + cell, left : left + cell] = 0.95
        columns[f"artifact{k}"] = carries.astype(int)
    for k in range(case["others"]):
        columns[f"random{k}"] = rng.integers(0, 2, n)
    concepts = [name for name in columns if name not in ("label", "group")]
    folder.mkdir()
    names = [f"{i:05d}.png" for i in range(n)]
    for name, image in zip(names, (np.clip(images, 0, 1) * 255).astype(np.uint8), strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / name)
    table = ImageTable.from_frame(pd.DataFrame({"image": names, **columns}), root=folder, group="group")
    assert isinstance(table.source, PathSource)
    source = _Counted(table.source.names, table.source.root, table.source.reading)
    table = table.replaced(source=source)
    return _Study(_network(case["model"], table, seed), table, source, concepts)


def _build(name: str) -> nn.Module:
    if name == "thin_resnet18":
        return thin_resnet18(in_channels=3)
    import torchvision

    model: nn.Module = torchvision.models.get_model(name, num_classes=2)
    return model


def _network(name: str, table: ImageTable, seed: int) -> nn.Module:
    """A network that was trained for some steps."""
    with seeded(seed):
        model = _build(name)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        for start in range(0, min(len(table), TRAINED), 16):
            batch = [table[i] for i in range(start, min(start + 16, len(table)))]
            scores = model(torch.stack([x for x, _, _ in batch]))
            optimizer.zero_grad()
            nn.functional.cross_entropy(scores, torch.tensor([y for _, y, _ in batch])).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


SUITE = Suite(
    name="audit",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("model", "samples", "input", "encoded", "others", "seconds_scan", "ratio", "bar", "decoded"),
    serial=True,
)
