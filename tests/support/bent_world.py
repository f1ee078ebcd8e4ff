"""Runs the relay in a world that a test can bend while it runs: another time, a fuller disk.

``python bent_world.py …``; what follows is the command it replaces. In the folder that ``BENT_WORLD`` names, the file
``ahead`` holds seconds that the wall clock is ahead, ``free`` the bytes that are free on every disk.
"""

from __future__ import annotations

import os
import runpy
import sys
import time

FOLDER = os.environ["BENT_WORLD"]
real_time, real_statvfs = time.time, os.statvfs
AVAILABLE = (3, 4)  # f_bfree, f_bavail


def number(name: str) -> float | None:
    try:
        with open(f"{FOLDER}/{name}") as file:
            return float(file.read())
    except (OSError, ValueError):
        return None


def bent_time() -> float:
    return real_time() + (number("ahead") or 0.0)


def bent_statvfs(path: str) -> os.statvfs_result:
    found, free = real_statvfs(path), number("free")
    if free is None:
        return found
    fields = list(found)
    for field in AVAILABLE:
        fields[field] = int(free) // found.f_frsize
    return os.statvfs_result(fields)


if __name__ == "__main__":
    time.time, os.statvfs = bent_time, bent_statvfs  # type: ignore[assignment]
    sys.argv = ["relay"]
    runpy.run_module("relay", run_name="__main__", alter_sys=True)
