"""``make try``: the whole appliance on this machine, as an ordinary user, without Docker; Ctrl-C ends it.

It starts what the containers start (``services/supervision/start.py`` with the same supervisor files), only with other
settings: everything on loopback, everything written below ``var/`` and ``certs/``, mail captured instead of sent.
Nothing of ``.env`` or of the caller's environment reaches it but the few names in ``KEPT``. Exit code 0 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
TRIAL = ROOT / "var" / "try"
sys.dont_write_bytecode = True  # the tree stays as it was cloned
sys.path.insert(0, str(ROOT / "services" / "supervision"))

from probe import ask  # noqa: E402 - from where start.py has it

SERVICES = "relay renewer exporter"
FOLDERS = ("config", "run", "spool")
KEPT = ("HOME", "LANG", "LC_ALL", "LOGNAME", "TERM", "TMPDIR", "TZ", "USER")
READY_WITHIN = 60.0  # seconds
USUAL = {"PORT": 2587, "TLS_PORT": 2465, "PAGE_PORT": 9325}  # as in the Makefile
SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its NUL

RUNNING = """
Ownpost runs: 127.0.0.1:{port} (STARTTLS) and 127.0.0.1:{tls_port} (TLS), login demo, demo-password. Ctrl-C ends it.
What goes on: http://127.0.0.1:{page_port}/
"""


def refuse(sentence: str) -> NoReturn:
    """Ends with one sentence."""
    print(f"ownpost: {sentence}", file=sys.stderr)
    sys.exit(1)


def environment(port: int, tls_port: int, page_port: int) -> dict[str, str]:
    """Everything the services are told: the settings that make it a trial."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPYCACHEPREFIX": str(TRIAL / "cache"),
        "SERVICES": SERVICES,
        "STATE": str(TRIAL),
        "OWNPOST_DOMAINS": "example.org",
        "OWNPOST_BIND": "127.0.0.1",
        "OWNPOST_PROVIDERS": "capture",
        "OWNPOST_TLS": "self-signed",
        "RELAY_LISTEN": "127.0.0.1",
        "RELAY_SUBMISSION_PORT": str(port),
        "RELAY_SUBMISSIONS_PORT": str(tls_port),
        "RELAY_SPOOL": str(TRIAL / "spool"),
        "RELAY_INSTALLATION": installation(),
        "RELAY_INSTALLATION_FOLDER": str(ROOT),
        "RELAY_SPOOL_FILESYSTEM": "warn",
        "RELAY_RUN": str(TRIAL / "run"),
        "RELAY_CERTS": str(ROOT / "certs"),
        "RELAY_CONFIG": str(TRIAL / "config"),
        "RELAY_CAPTURED": str(ROOT / "var" / "captured"),
        "RENEWER_CERTS": str(ROOT / "certs"),
        "RENEWER_RUN": str(TRIAL / "run"),
        "EXPORTER_PORT": str(page_port),
        "EXPORTER_RUN": str(TRIAL / "run"),
        "OWNPOST_SUBMISSION_PORT": str(port),  # what the page tells people to type in
        "OWNPOST_SUBMISSIONS_PORT": str(tls_port),
    }


def prepare() -> None:
    """Makes the folders and, if there are none, the trial's accounts. Raises OSError."""
    for name in FOLDERS:
        (TRIAL / name).mkdir(parents=True, exist_ok=True)
    (ROOT / "var" / "captured").mkdir(mode=0o700, exist_ok=True)  # people's mail
    accounts = TRIAL / "config" / "accounts.toml"
    if not accounts.exists():
        shutil.copyfile(ROOT / "config" / "accounts.toml.example", accounts)
    if subprocess.run([ROOT / "tools" / "installation", "make"], check=False).returncode:
        refuse("var/installation cannot be written.")


def installation() -> str:
    """This folder's id, which its spools are known by. Refuses a trial that was begun under another one."""
    found = re.search(r"^RELAY_INSTALLATION=(.*)$", (ROOT / "var" / "installation").read_text(), re.MULTILINE)
    ours = found[1] if found else ""
    try:
        spool = dict(line.partition("=")[::2] for line in (TRIAL / "spool" / "installation").read_text().splitlines())
    except OSError:
        return ours  # nobody's yet; or the relay says that it cannot be read
    if spool.get("id") != ours:
        refuse(
            f"var/try is the trial of another folder ({spool.get('folder')}); remove var/try to begin a new one here."
        )
    return ours


def lock() -> int:
    """Keeps a second ``make try`` of this folder away for as long as this process lives."""
    descriptor = os.open(TRIAL / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        refuse("`make try` already runs in this folder; end it with Ctrl-C where it runs.")
    return descriptor


def in_use(port: int) -> str:
    """Why ``port`` cannot be had on 127.0.0.1; empty if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def need_free(ports: dict[str, int]) -> None:
    """Refuses ports that somebody has, with the command that works; ``ports`` by make's names."""
    free, taken = dict(ports), []
    for name, port in ports.items():
        if reason := in_use(port):
            taken.append(f"port {port} on 127.0.0.1 cannot be had ({reason})")
            free[name] = next(other for other in range(10_000 + port % 1_000, 65_536, 1_000) if not in_use(other))
    if taken:
        words = " ".join(f"{name}={port}" for name, port in free.items() if port != USUAL[name])
        refuse(f"{', '.join(taken)}; take another: make try {words}")


def take_terminal() -> int | None:
    """Makes this process the terminal's foreground group and returns the group that was; None without a terminal.

    Otherwise Ctrl-C would go to ``make`` too, which then ends with an error after the cleanest of shutdowns.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        before = os.tcgetpgrp(terminal)
        os.close(terminal)
        if before != os.getpgrp():
            return None  # in the background: Ctrl-C is not for us
        os.setpgid(0, 0)
        give_terminal(os.getpgrp())
    except OSError:
        return None
    return before


def give_terminal(group: int) -> None:
    """Makes ``group`` the terminal's foreground group, even from the background."""
    terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.tcsetpgrp(terminal, group)
    finally:
        os.close(terminal)


def wait_until_ready(child: subprocess.Popen[bytes]) -> bool:
    """Whether the relay answered that it is ready; False when it ended or took too long."""
    path = str(TRIAL / "run" / "relay" / "relay.sock")
    deadline = time.monotonic() + READY_WITHIN
    reason = ""
    while child.poll() is None and time.monotonic() < deadline:
        well, reason = ask(path, "/readyz", 2.0)
        if well:
            return True
        time.sleep(0.1)
    if child.poll() is None:
        print(f"ownpost: not ready after {READY_WITHIN:g} s: {reason}", file=sys.stderr)
    return False


def run(port: int, tls_port: int, page_port: int) -> int:
    """Starts everything and stays until it ends; its exit code."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # or giving the terminal back would stop us
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # `make` would not notice a Ctrl-Z, and the shell would hang
    start = [sys.executable, str(ROOT / "services" / "supervision" / "start.py")]
    told = environment(port, tls_port, page_port)
    before = take_terminal()
    child = subprocess.Popen(start, env=told, cwd=ROOT, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: child.terminate())
    try:
        if wait_until_ready(child):
            print(RUNNING.format(port=port, tls_port=tls_port, page_port=page_port), flush=True)
            subprocess.run([ROOT / "tools" / "first-mail", str(port)], check=False)
        return child.wait()
    finally:
        if before is not None:
            give_terminal(before)


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs Ownpost on this machine for a trial.")
    parser.add_argument("--port", type=int, default=USUAL["PORT"], help="STARTTLS")
    parser.add_argument("--tls-port", type=int, default=USUAL["TLS_PORT"], help="TLS from the first byte")
    parser.add_argument("--page-port", type=int, default=USUAL["PAGE_PORT"], help="the page and the metrics")
    options = parser.parse_args()
    if len(bytes(TRIAL / "run" / "renewer" / "renewer.sock")) > SOCKET_PATH_BYTES:
        refuse(f"{ROOT} is too long a path for Unix sockets below it; move the folder.")
    try:
        prepare()
        descriptor = lock()
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}; var/ and certs/ must be yours to write.")
    need_free({"PORT": options.port, "TLS_PORT": options.tls_port, "PAGE_PORT": options.page_port})
    code = run(options.port, options.tls_port, options.page_port)
    os.close(descriptor)
    return code


if __name__ == "__main__":
    sys.exit(main())
