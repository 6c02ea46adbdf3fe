from __future__ import annotations

import os

#: Set in the process that has the pretended device.
HAS_DEVICE = "SHORTCUTSCOPE_PRETEND_DEVICE" in os.environ

if HAS_DEVICE:
    import pretend_device  # noqa: F401, before anything runs a backward pass

collect_ignore_glob = ["test_own_process.py"] if HAS_DEVICE else ["test_on_*.py"]
