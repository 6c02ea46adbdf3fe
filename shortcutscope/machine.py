"""The machine: what is measured on it, and where it keeps what is made once."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from shortcutscope.types import Record


def default_jobs() -> int:
    """Number of cores that this process may use, its share of them where several were started."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes_here())


def processes_here() -> int:
    """Processes that were started together on this machine (by ``torchrun``), and take as much each."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(text)) if text.isdigit() else 1


def available_memory() -> int | None:
    """Bytes that this process can have, also within a container; None where the system does not say."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits += [int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:")]
        limit, used = (Path(f"/sys/fs/cgroup/memory.{x}").read_text().strip() for x in ("max", "current"))
        limits += [int(limit) - int(used)] if limit.isdigit() else []
    except (OSError, ValueError):
        pass
    if not limits and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    return max(0, min(limits)) // processes_here() if limits else None


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
