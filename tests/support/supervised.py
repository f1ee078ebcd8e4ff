"""The relay under its supervisor, as a container or ``make try`` runs it, and ways to kill any of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from support.appliance import ROOT, Appliance, eventually


class Supervised(Appliance):
    """Its :attr:`process` is the supervisor; the relay is found by looking."""

    def spawn(self, *wrapper: str) -> subprocess.Popen[bytes]:
        environ = self.environ | {"SERVICES": "relay", "STATE": str(self.folder)}
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        command = [*wrapper, sys.executable, str(ROOT / "services/supervision/start.py")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=self.folder)
        return self.process

    def revive(self) -> None:
        """Return when a relay runs: the supervisor's doing, or ours (Docker's) where the supervisor has ended."""

        def running() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                self.spawn()
            return bool(self.relays()) and self.ready()

        eventually(running, "the relay to be started again", 60)

    def ready(self) -> bool:
        assert self.process is not None
        return self.process.poll() is None and super().ready()

    def relays(self) -> list[int]:
        """The relays that run below the supervisor."""
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid) if is_relay(pid)]

    def kill_relay(self) -> bool:
        """SIGKILL to the relay alone; False if none runs just now."""
        found = self.relays()
        for pid in found:
            _kill(pid)
        return bool(found)

    def kill_supervisor(self) -> list[int]:
        """SIGKILL to the supervisor alone; returns the relays that are left."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        found = self.relays()
        self.process.kill()
        self.process.wait()
        return found

    def kill(self) -> None:
        """SIGKILL to all of it at once: the end of a container."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # it must not start another one meanwhile
            found = descendants(self.process.pid)
            self.process.kill()
            for pid in found:
                _kill(pid)
        self.process.wait()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """The process's children, and theirs."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(folder.name))
    found, rest = [], [pid]
    while rest:
        children = parents.get(rest.pop(), [])
        found += children
        rest += children
    return found


def is_relay(pid: int) -> bool:
    """Whether the process is a relay, not its check of the settings."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[1:4] == [b"-m", b"relay", b""]
    return False
