"""The relay as a user runs it: its own process, real ports on loopback, real TLS, a real spool in a temporary folder.

Tests look at it only from outside: ports, the Unix socket, files, exit code and output.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import argon2
import trustme

from support.ports import free_port
from support.unix_http import get

ROOT = Path(__file__).parents[2]


def sources(service: str) -> str:
    """PYTHONPATH of one service, as its container has it."""
    return f"{ROOT}/services/{service}/src:{ROOT}/services/common/src"


PASSWORD = "correct horse battery staple"
HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1)
T = TypeVar("T")


def eventually(probe: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """The first true value of ``probe``; fails with ``what`` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.02)


def publish_certificate(certs: Path, *names: str) -> Path:
    """Put a fresh pair under ``certs/`` the way the renewer does; returns the CA file that clients trust."""
    authority = trustme.CA()
    pair = authority.issue_cert(*names)
    folder = certs / str(time.time_ns())
    folder.mkdir(parents=True)
    (folder / "fullchain.pem").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    (folder / "privkey.pem").write_bytes(pair.private_key_pem.bytes())
    (folder / "privkey.pem").chmod(0o600)
    link = certs / f".{folder.name}"
    link.symlink_to(folder.name)
    link.rename(certs / "current")
    authority.cert_pem.write_to_path(certs / "ca.pem")
    return certs / "ca.pem"


def account(senders: list[str], **more: Any) -> dict[str, Any]:
    """One account's table for ``accounts.toml``, its password :data:`PASSWORD`."""
    limits = {"recipients_per_day": "unlimited", "recipients_per_hour": "unlimited"}
    return {"password_hash": HASHER.hash(PASSWORD), "senders": senders, **limits, **more}


def toml(accounts: dict[str, dict[str, Any]]) -> str:
    """``accounts.toml`` as text; JSON's strings, numbers, booleans and lists are TOML's too."""
    tables = []
    for name, table in accounts.items():
        lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        tables.append("\n".join([f"[accounts.{json.dumps(name)}]", *lines, ""]))
    return "\n".join(tables)


@dataclass
class Appliance:
    """A relay in ``folder``; ``provider`` holds the settings that choose its provider, ``settings`` all others."""

    folder: Path
    provider: dict[str, str] = field(default_factory=lambda: {"OWNPOST_PROVIDERS": "capture"})
    settings: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, dict[str, Any]] = field(default_factory=lambda: {"anna": account(["anna@example.org"])})
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.submission, self.submissions, self.lan = free_port(), free_port(), free_port()
        for name in ("config", "certs", "captured", "spool", "run"):
            (self.folder / name).mkdir(exist_ok=True)
        (self.folder / "config/accounts.toml").write_text(toml(self.accounts))
        self.ca = publish_certificate(self.folder / "certs", "localhost", "127.0.0.1", "mail.example.org")
        self.log = self.folder / "relay.log"

    @property
    def environ(self) -> dict[str, str]:
        """The whole environment of the relay's process."""
        base = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "TMPDIR")}
        return base | {
            "PYTHONPATH": sources("relay"),
            "PYTHONUNBUFFERED": "1",
            "OWNPOST_DOMAINS": "example.org",
            "OWNPOST_BIND": "127.0.0.1",
            "RELAY_LISTEN": "127.0.0.1",
            "RELAY_SUBMISSION_PORT": str(self.submission),
            "RELAY_SUBMISSIONS_PORT": str(self.submissions),
            "RELAY_LAN_PORT": str(self.lan),
            "RELAY_SPOOL": str(self.folder / "spool"),
            "RELAY_SPOOL_FILESYSTEM": "warn",
            "RELAY_RUN": str(self.folder / "run"),
            "RELAY_CERTS": str(self.folder / "certs"),
            "RELAY_CONFIG": str(self.folder / "config"),
            "RELAY_CAPTURED": str(self.folder / "captured"),
            **self.provider,
            **self.settings,
        }

    @property
    def socket(self) -> Path:
        return self.folder / "run/relay/relay.sock"

    def start(self, *wrapper: str) -> None:
        """Start the process (behind ``wrapper``, such as strace) and wait until it is ready."""
        self.spawn(*wrapper)
        eventually(self.ready, "the relay to be ready")

    def spawn(self, *wrapper: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [*wrapper, sys.executable, "-m", "relay"]
            self.process = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log, cwd=self.folder)
        return self.process

    def ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the relay ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
        return get(self.socket, "/readyz")[0] == 200

    def status(self, path: str = "/status.json") -> Any:
        """What the control socket answers, as JSON."""
        code, body = get(self.socket, path)
        assert code == 200, (code, body)
        return json.loads(body)

    def operator(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run an operator's verb as ``make`` does."""
        command = [sys.executable, "-m", "relay.operator", *arguments]
        return subprocess.run(
            command, env=self.environ, capture_output=True, text=True, check=False, timeout=60, input=stdin
        )

    def kill(self) -> None:
        """SIGKILL, as a power cut for processes."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM, then its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def captured(self) -> list[bytes]:
        """Every message that the provider `capture` took, oldest first."""
        return [file.read_bytes() for file in sorted((self.folder / "captured").glob("*.eml"))]
