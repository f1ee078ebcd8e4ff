"""A call of ``os`` that fails at its n-th time, as a disk has it, and works again after."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

FAULTS = [("replace", errno.EIO), ("replace", errno.ENOSPC), ("fsync", errno.EIO)]


@contextmanager
def failing(call: str, error: int, number: int = 1) -> Iterator[None]:
    """``os.<call>`` raises the ``number``-th time that it is called inside; it must come to that."""
    real, left = getattr(os, call), [number]

    def fail(*arguments: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(error, os.strerror(error))
        return real(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, fail)
        yield
    assert left[0] <= 0, f"{call} was not called {number} times"
