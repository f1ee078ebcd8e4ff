"""The entry point of every container and of ``make try``: starts the services that ``SERVICES`` names.

First every service checks its settings (``python -m NAME --check``): all problems are printed at once and the exit code
is 78 (EX_CONFIG), before anything runs. Then this process *is* supervisord until it is told to stop: exit code 0, or 1
with the reason when ``watch.py`` gave up on a program. ``STATE`` is a folder for the pid file and that reason.

Standard output is handed to supervisor as a pipe of our own, emptied by ``cat`` into the real one: programs' logs go to
``/dev/stdout``, which cannot be opened where it is another user's file, as in a container that runs under any uid.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

SERVICES = Path(__file__).resolve().parent.parent
EX_CONFIG = 78


def settings_are_good(services: list[str]) -> bool:
    """Lets every service check its settings; each prints its own problems."""
    checks = [
        subprocess.run(
            [sys.executable, "-m", service, "--check"],
            env={**os.environ, "PYTHONPATH": f"{SERVICES / service / 'src'}:{SERVICES / 'common' / 'src'}"},
            stdout=sys.stderr,
            check=False,
        ).returncode
        for service in services
    ]
    return not any(checks)


def pipe_output() -> subprocess.Popen[bytes]:
    """Puts a pipe of our own in the place of standard output and error, and returns the ``cat`` that passes it on.

    It runs in a session of its own: a Ctrl-C at the terminal must not cut off the last lines.
    """
    reading, writing = os.pipe()
    cat = subprocess.Popen(["cat"], stdin=reading, start_new_session=True)
    os.close(reading)
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(writing)
    return cat


def supervise(services: list[str]) -> None:
    """Is supervisord until SIGTERM, SIGINT or a program that cannot be kept alive."""
    from supervisor import supervisord  # type: ignore[import-untyped] # not before the settings are good

    os.environ["PROGRAMS"] = " ".join(f"../{service}/supervisord.conf" for service in services)
    arguments = ["-n", "-c", str(SERVICES / "supervision" / "supervisord.conf")]
    supervisord.main(
        [*arguments, "-u", "root"] if os.getuid() == 0 else arguments
    )  # or it warns about root at every start


def main() -> int:
    """Exit code as promised above."""
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(0)
    )  # as process 1 it would be ignored until supervisor sets its own
    services = os.environ["SERVICES"].split()
    if not settings_are_good(services):
        return EX_CONFIG
    failed = Path(os.environ.setdefault("STATE", "/tmp"), "failed")  # noqa: S108 - the container's own tmpfs
    failed.unlink(missing_ok=True)
    cat = pipe_output()
    supervise(services)
    if failed.exists():
        print(f"ownpost: {failed.read_text().strip()}", file=sys.stderr, flush=True)
    os.closerange(1, os.sysconf("SC_OPEN_MAX"))  # supervisor leaves its logs open, and cat waits for the last writer
    cat.wait()
    return 1 if failed.exists() else 0


if __name__ == "__main__":
    code = main()
    os._exit(code)  # nothing is left to flush, and nowhere to flush it to
