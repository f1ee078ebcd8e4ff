"""A folder in memory, where there is one: for tests that write by the thousand and cut no power."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    roomy = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2**30  # a container's has 64 MiB
    return tempfile.TemporaryDirectory(dir=MEMORY if roomy else None)
