"""A mounted disk that can lose its power, as tests hold it."""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from support.power import fuse
from support.power.disk import Loss

TESTS = Path(__file__).parents[2]
CANNOT = 77


class PowerDisk:
    """A context manager: mounts on entering, and unmounts on leaving, whatever happened.

    ``folder`` gets three things: ``mount``, ``counter``, and the server's output. ``holds`` is a real folder whose
    content the disk begins with. Where the system lets nobody mount, the test is skipped with the reason.
    """

    def __init__(self, folder: Path, holds: Path | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.mount, self._holds = folder, folder / "mount", holds
        self.mount.mkdir(exist_ok=True)

    def __enter__(self) -> Self:
        counter = self.folder / "counter"
        counter.write_bytes(bytes(8))
        with counter.open("r+b") as file:
            self._counter = mmap.mmap(file.fileno(), 8)
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "support.power.server", str(self.mount), str(counter)]
        if self._holds is not None:
            command.append(str(self._holds))
        with (self.folder / "server.log").open("wb") as log, theirs:
            environ = os.environ | {"PYTHONPATH": str(TESTS)}
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=log, stderr=log, env=environ)
        ours.settimeout(60)
        self._orders = ours
        self._lines = ours.makefile("rwb", buffering=0)
        try:
            if self._next() != {"mounted": True}:
                self._excuse()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def steps(self) -> int:
        """How many operations have been carried out."""
        count: int = struct.unpack("=Q", self._counter[:8])[0]
        return count

    def plan(self, *faults: tuple[str, str, int, int | str]) -> list[int]:
        """From now on, in place of all earlier plans: (what, end of the file's name, n-th, errno or "off").

        Returns how many steps each fault of the earlier plan was still away; 0 where it has happened.
        """
        waiting: list[int] = self._ask(do="plan", faults=faults)["waiting"]
        return waiting

    def wait_for_the_cut(self) -> None:
        """Return when the power has gone as planned."""
        assert self._next() == {"off": True}

    def leave(self, folder: Path, loss: Loss = Loss.ALL, seed: int = 0) -> None:
        """Write what a power cut now leaves into ``folder``."""
        self._ask(do="leave", folder=str(folder), loss=loss, seed=seed)

    def start_recording(self) -> None:
        """Remember all operations from the first; to be called before there is any."""
        assert self.steps == 0
        self._ask(do="recording")

    def record(self, file: Path) -> None:
        """Write the operations so far to ``file``."""
        self._ask(do="record", file=str(file))

    def close(self) -> None:
        """Unmount, and let go whoever waits for an answer."""
        self._lines.close()
        self._orders.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        fuse.unmount(self.mount)

    def _ask(self, **order: Any) -> dict[str, Any]:
        self._lines.write(json.dumps(order).encode() + b"\n")
        return self._next()

    def _next(self) -> dict[str, Any]:
        line = self._lines.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer

    def _excuse(self) -> None:
        code = self.process.wait(20)
        said = (self.folder / "server.log").read_text().strip()
        if code == CANNOT:
            pytest.skip(f"no file system of our own: {said}")
        raise AssertionError(f"the disk's server ended with {code}: {said}")
