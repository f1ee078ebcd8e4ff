"""Fuzz entry points: short in normal runs; for ``FUZZ_MINUTES`` in all under ``make fuzz MINUTES=...``.

A target promises: a value that is right or a documented refusal, for every input, in bounded time. hypothesis keeps
what broke it in ``.hypothesis/`` and tries it first the next time; a case worth keeping goes into the examples.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest


def keep_at_it(run: Callable[[], None], request: pytest.FixtureRequest) -> None:
    """Run a hypothesis test once, and again until this target's share of ``FUZZ_MINUTES`` is over."""
    items = (item for item in request.session.items if "/fuzz/" in item.path.as_posix())
    targets = [item for item in items if not hasattr(item, "callspec")]  # without tests over a table
    share = float(os.environ.get("FUZZ_MINUTES") or 0) * 60 / len(targets)
    end = time.monotonic() + share
    run()
    while time.monotonic() < end:
        run()
