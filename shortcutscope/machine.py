"""The machine: what is measured on it, and where it keeps what is made once."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from shortcutscope.types import Record


def default_jobs() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> Record:
    """What the numbers were measured on: processor, cores, accelerator and versions."""
    import torch

    packages = ("torch", "torchvision", "numpy", "scikit-learn", "captum", "timm")
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": default_jobs(),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def default_cache() -> Path:
    """Folder for benchmark results: ``$SHORTCUTSCOPE_CACHE/bench`` or the platform's cache folder."""
    override = os.environ.get("SHORTCUTSCOPE_CACHE")
    if override:
        return Path(override).expanduser() / "bench"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "shortcutscope" / "bench"
