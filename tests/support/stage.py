"""A stage of its own for a mail program that wants to be the system's: its files over ours, for it alone.

Mail servers have their paths compiled in (``/etc/nullmailer``, ``/var/spool/smtpd``), so each is run in a mount
namespace in which its unpacked package and a few files of the test lie over ``/usr``, ``/etc`` and ``/var``, and in a
process namespace that ends whole when its first process does. The machine's own files are never touched.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from support.install_clients import CACHE, COMMAND

UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


@cache
def _why_not() -> str:
    """Why there can be no stage here, or nothing."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return "a stage of its own needs root and util-linux"
    script = "mkdir -p /tmp && mount -t overlay overlay -o lowerdir=/var:/usr /usr"
    done = subprocess.run([*UNSHARE, "sh", "-c", script], capture_output=True, text=True, timeout=30)
    return f"this machine lets nobody make a stage: {done.stderr.strip()}" if done.returncode else ""


class Stage:
    """``folder/etc`` lies over ``/etc`` and ``folder/var`` over ``/var``; what the program writes stays below there.

    ``package`` is one of :data:`support.install_clients.PACKAGES`. Skips when it or the means for a stage are missing.
    """

    def __init__(self, folder: Path, package: str) -> None:
        unpacked = CACHE / package
        if not unpacked.is_dir():
            pytest.skip(f"{package} is missing: {COMMAND}")
        if _why_not():
            pytest.skip(_why_not())
        self.folder = folder
        folder.chmod(0o755)
        for name in ("etc", "var"):
            (folder / name).mkdir()
        self._layers = [(unpacked / "usr", "/usr"), (folder / "etc", "/etc")]

    def write(self, path: str, text: str, mode: int = 0o644, owner: str = "root") -> None:
        """A file as the program will see it below ``/etc``."""
        file = self.folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        shutil.chown(file, owner)

    def users(self, *names: str) -> None:
        """System users (and groups of the same name) that the package's scripts would have made."""
        for file, line in (("passwd", "{0}:x:{1}:{1}::/nonexistent:/usr/sbin/nologin\n"), ("group", "{0}:x:{1}:\n")):
            text = Path("/etc", file).read_text()
            text += "".join(line.format(name, 64_000 + number) for number, name in enumerate(names))
            self.write(f"etc/{file}", text)

    def command(self, *command: str, before: str = "") -> list[str]:
        """What runs ``command`` on the stage, after the shell lines ``before``. Ending it ends all that it started."""
        lines = ["set -e"]
        lines += [f"mount -t overlay overlay -o lowerdir={above}:{below} {below}" for above, below in self._layers]
        # Under /var is written, and that must outlive one command: the queue is there for the next.
        lines += [f"mount --bind {self.folder}/var /var", before, f"exec {shlex.join(command)}"]
        return [*UNSHARE, "sh", "-c", "\n".join(lines)]

    def run(self, *command: str, stdin: bytes = b"", before: str = "") -> subprocess.CompletedProcess[bytes]:
        """Run ``command`` to its end."""
        whole = self.command(*command, before=before)
        return subprocess.run(whole, input=stdin, capture_output=True, check=False, timeout=90)
