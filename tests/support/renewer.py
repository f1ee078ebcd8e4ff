"""The renewer as its own process, seen from outside: its folders, its socket, its log and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from support.appliance import eventually, sources
from support.unix_http import get


class Renewer:
    """Runs ``python -m renewer`` with folders of its own."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.certs, self.run, self.log = folder / "certs", folder / "run", folder / "log"
        self.certs.mkdir(exist_ok=True)
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": sources("renewer"),
            "OWNPOST_DOMAINS": "example.org",
            "RENEWER_CERTS": str(self.certs),
            "RENEWER_RUN": str(self.run),
            **environ,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.run / "renewer" / "renewer.sock"

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [sys.executable, "-W", "error", "-m", "renewer", *arguments]
            self.process = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log)
        return self.process

    def check(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "renewer", *arguments]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=30)

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        if self.process is None:
            return None
        self.process.send_signal(number)
        return self.process.wait(30)

    def kill(self) -> None:
        """Nothing of it is left when a test has failed half-way."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def published(self) -> str:
        """The folder that ``current`` points to; waits until there is one."""
        link = self.certs / "current"
        eventually(link.is_symlink, "nothing was published")
        return os.readlink(link)

    def status(self) -> dict[str, object]:
        status: dict[str, object] = json.loads(get(self.socket, "/status.json")[1])
        return status
