"""Two processes end with the same model as one, also when they were killed in between."""

import os
import socket
import subprocess
import sys
import textwrap

import safetensors.torch
import torch

SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import numpy as np
    import safetensors.torch
    import torch
    from torch import nn
    from shortcutscope.data.table import ImageTable
    from shortcutscope.debias.objective import CrossEntropy, at, cross_entropy, Objective
    from shortcutscope.debias.training.fit import Training, fit
    from shortcutscope.models.frozen import HOOK_TABLES
    from shortcutscope.models.seeding import seeded

    class Weighted(Objective):
        def __init__(self, fail_at=None):
            super().__init__()
            self.plan = lambda step: step == fail_at
            self.register_buffer("seen", torch.zeros((), dtype=torch.long))
            self.offset = nn.Parameter(torch.zeros(2, dtype=torch.float64))
            self._weights = torch.linspace(0.5, 1.5, 20, dtype=torch.float64)

        def terms(self, model, batch):
            self.seen += 1
            if self.plan(int(self.seen)):
                raise KeyboardInterrupt
            logits = model(batch.images) + self.offset
            return {
                "ce": cross_entropy(logits, batch.labels, at(self._weights, batch)),
                "offset": self.offset.square().sum(),
            }

    def network():
        with seeded(0):
            model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).double()
            model.register_module("unused", nn.Linear(1, 1).double())
        model.forward = lambda x: model[3](model[2](model[1](model[0](x))))
        return model

    def trained(objective, out=None):
        model = network()
        own = model.forward
        fitted = fit(
            model, table, objective, training, validation=table.take(range(0, 20, 3)), out=out, progress=False
        )
        assert fitted.model is model and model.forward is own
        assert not any(getattr(m, t) for m in model.modules() for t in HOOK_TABLES)
        return fitted

    labels = np.arange(20) % 2
    images = np.random.default_rng(0).random((20, 1, 8, 8), np.float32)
    table = ImageTable.from_arrays(images + 0.2 * labels[:, None, None, None], labels)
    training = Training(
        steps=12, batch_size=9, precision="fp32", augmentation="strong", clip_norm=1.0, ema=0.9,
        select="loss", validate_every=3, checkpoint_every=4, log_every=4, lr=1e-2,
    )
    path, out = sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None
    if out is not None:
        try:
            trained(Weighted(fail_at=7), out)
        except KeyboardInterrupt:
            pass
    objective = Weighted()
    fitted = trained(objective, out)
    assert out is None or "gone on from a checkpoint after step 4" in fitted.notes
    kept = {**fitted.model.state_dict(), "offset": objective.offset.detach()}
    kept["history"] = torch.tensor([list(row.values())[:4] for row in fitted.history], dtype=torch.float64)
    kept["selected"] = torch.tensor(fitted.selected_step)
    safetensors.torch.save_file(kept, path)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    """
)


def start(path, out, **environment):
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    kept |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(path), str(out)],
        env=kept,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return errors


def test_two_processes_killed_and_resumed_give_the_same_model_as_one(tmp_path, monkeypatch):
    # What torchrun and accelerate launch set.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        start(
            tmp_path / f"{rank}.safetensors", tmp_path / "out", RANK=str(rank), LOCAL_RANK=str(rank),
            WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
        )
        for rank in range(2)
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "alone.safetensors")])
    exec(SCRIPT, {"__name__": "alone"})
    for process in ranks:
        finished(process)
    one, first, second = (
        safetensors.torch.load_file(tmp_path / f"{name}.safetensors") for name in ("alone", "0", "1")
    )
    for name, value in one.items():
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-5)
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=0)
    assert one["0.weight"].dtype == torch.float64
