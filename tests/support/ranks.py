"""Processes that know of each other, as torchrun starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Of this process, which may be one of several itself.
_OWN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_SUPPORT = Path(__file__).parent


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote."""

    code: int
    out: str
    err: str


def _environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in _OWN}
    paths = os.pathsep.join([*sys.path[:1], str(_SUPPORT), *kept.get("PYTHONPATH", "").split(os.pathsep)])
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths, **more}


def _start(command: Sequence[str], folder: Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=_environment(**more), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _ended(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=240)
    return Ended(process.returncode, out, err)


def torchrun(command: Sequence[str], folder: Path, count: int = 2) -> Ended:
    """Run a command, as one gives it to Python, by torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return _ended(_start([*launcher, *command], folder))


def by_hand(command: Sequence[str], folder: Path, count: int = 2) -> list[Ended]:
    """Run a command in processes that nobody watches: one that ends does not end the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [_start(command, folder, RANK=str(k), LOCAL_RANK=str(k), **common) for k in range(count)]
    return [_ended(process) for process in processes]
