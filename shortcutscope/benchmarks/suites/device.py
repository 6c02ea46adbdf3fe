"""What an audit, its masks and a distillation take on an accelerator, within six minutes of a large one.

A resnet50 at 224 pixels and generated images, half of which carry a tag that goes with the label; nine random
columns beside it. Wall time, since a device's work is not the processor's: what a user waits for, not to be
compared between machines. The images are drawn by worker processes as they are asked for.

- ``seconds``: of the audit by stage, of drawing masks, and of distilling for some steps.
- ``images_per_second``: of the scan.
- ``peak_gib``: memory of the device.
- ``same_verdicts``: whether the audit of some of the images ends as on the processor.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from shortcutscope.audit.record import AuditRecord
from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.training.settings import Training
from shortcutscope.debias.unlearn import debias
from shortcutscope.errors import InputError
from shortcutscope.masks.annotation import annotate_finding
from shortcutscope.models.seeding import seeded
from shortcutscope.options import Running
from shortcutscope.types import Record

#: Images that are audited, that masks are drawn on, that are clean, and that are compared with the processor.
SIZES = {"samples": 50_000, "masks": 2_000, "clean": 2_000, "compared": 64, "steps": 200, "input": 224}
QUICK = {"samples": 5_000, "masks": 200, "clean": 500, "compared": 32, "steps": 20, "input": 224}
COLUMNS = 9
PARTS = ("audit", "masks", "distillation")


def cases(settings: Settings) -> list[Case]:
    """One case: everything, one after the other."""
    return [dict(QUICK if settings.quick else SIZES)]


def accelerator() -> torch.device:
    """The machine's accelerator.

    Raises
    ------
    InputError
        There is none.
    """
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        raise InputError(
            "this machine has no accelerator that torch can use; `bench audit` measures a processor"
        )
    return device


def run_case(case: Case, settings: Settings) -> Case:
    """Measure it."""
    return measure(case, settings.seed, accelerator())


def measure(case: Case, seed: int, device: torch.device) -> Case:
    """What a case takes on a device."""
    seconds: dict[str, float] = {}
    running = Running(device=device, batch_size=256, progress=False)
    table, train = (_table(case["samples"], case["input"], seed + k) for k in (0, 10**6))
    clean = _table(case["clean"], case["input"], seed + 2 * 10**6, goes_with_label=0.5)
    concepts = ["tag", *(f"random{k}" for k in range(COLUMNS))]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        model = _network(train, device, seed)
        with _timed(seconds, "audit", device):
            record = audit(model, table, out / "run", concepts=concepts, discover=False, running=running)
        with _timed(seconds, "masks", device):
            ids = table.frame.loc[table.frame["tag"] == 1, "sample_id"].head(case["masks"]).tolist()
            annotate_finding(
                record["tag"], model, table, ids, out=out / "masks", running=running, extent=None
            )
        with _timed(seconds, "distillation", device):
            debias(
                model,
                train,
                clean=clean,
                audit=record["tag"],
                recipe="audited-distillation",
                layers="uniform",
                training=Training(steps=case["steps"]),
                out=out / "student",
                running=Running(progress=False),
            )
        few = table.take(range(case["compared"]))
        verdicts = [
            _verdicts(audit(model, few, out / str(where), concepts=concepts, discover=False,
                            running=Running(device=where, progress=False)))
            for where in (device, torch.device("cpu"))
        ]  # fmt: skip
    stages = {name: stage["seconds"] for name, stage in record.run["stages"].items()}
    return {
        "seconds": seconds | {f"audit: {name}": value for name, value in stages.items()},
        "images_per_second": case["samples"] / max(stages["scan"], 1e-9),
        "peak_gib": _peak(device),
        "same_verdicts": verdicts[0] == verdicts[1],
        "device": _name(device),
    }


def summarize(finished: list[Case]) -> Record:
    """The sum, and what it was measured on."""
    return {
        "device": [case["device"] for case in finished],
        "minutes": [
            sum(case["seconds"][k] for k in ("audit", "masks", "distillation")) / 60 for case in finished
        ],
        "same_verdicts": all(case["same_verdicts"] for case in finished),
    }


class _Radiographs(torch.utils.data.Dataset[Tensor]):
    """Images that are drawn when they are asked for."""

    def __init__(self, tag: np.ndarray[tuple[int], np.dtype[np.int64]], side: int, seed: int) -> None:
        self._tag, self._side, self._seed = tag, side, seed

    def __len__(self) -> int:
        return len(self._tag)

    def __getitem__(self, i: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed + i)
        side, edge = self._side, self._side // 8
        coarse = torch.rand(1, 1, 8, 8, generator=generator)
        smooth = nn.functional.interpolate(coarse, (side, side), mode="bilinear")[0].expand(3, -1, -1).clone()
        if self._tag[i]:
            smooth[:, edge : 2 * edge, edge : 2 * edge] = 1
        return smooth


def _table(n: int, side: int, seed: int, *, goes_with_label: float = 0.9) -> ImageTable:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    tag = np.where(rng.random(n) < goes_with_label, label, 1 - label)
    columns: Record = {"label": label, "tag": tag}
    columns |= {f"random{k}": rng.integers(0, 2, n) for k in range(COLUMNS)}
    ids = [f"s{seed}-{i}" for i in range(n)]
    return ImageTable.from_dataset(_Radiographs(tag, side, seed), pd.DataFrame({"sample_id": ids, **columns}))


def _network(table: ImageTable, device: torch.device, seed: int) -> nn.Module:
    """A resnet50 that was trained for a moment, so that it reads the tag."""
    import torchvision

    with seeded(seed):
        model: nn.Module = torchvision.models.resnet50(num_classes=2).to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for start in range(0, min(len(table), 1024), 32):
            batch = [table[i] for i in range(start, min(start + 32, len(table)))]
            x, y = torch.stack([x for x, _, _ in batch]), torch.tensor([y for _, y, _ in batch])
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


def _verdicts(record: AuditRecord) -> dict[str, str]:
    return {finding.name: finding.verdict for finding in record.findings}


@contextmanager
def _timed(seconds: dict[str, float], name: str, device: torch.device) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if device.type != "cpu":
        torch.accelerator.synchronize()
    seconds[name] = time.perf_counter() - start


def _peak(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


SUITE = Suite(
    name="device",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=("samples", "input", "images_per_second", "peak_gib", "same_verdicts", "device"),
    serial=True,
)
