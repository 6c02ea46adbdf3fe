"""The log of a training, as JSON lines and for TensorBoard."""

from __future__ import annotations

import json
import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.training.fit import Training, fit


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_both_logs_say_what_the_history_says(problem, tmp_path) -> None:
    training = Training(steps=6, batch_size=16, augmentation="none", precision="fp32", log_every=2)
    fitted = fit(problem.network(), problem.train, CrossEntropy(), training, out=tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    rows = [row for row in lines if "ce" in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert [row["ce"] for row in rows] == [row["ce"] for row in fitted.history]
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    read = EventAccumulator(str(events.parent)).Reload()
    (tag,) = [tag for tag in read.Tags()["scalars"] if tag.endswith("ce")]
    seen = read.Scalars(tag)
    assert [event.step for event in seen] == [2, 4, 6]
    assert all(math.isclose(a.value, b["ce"], rel_tol=1e-5) for a, b in zip(seen, rows, strict=True))
