"""A Compose project of the tests' own: a copy of the tree, a name, ports and a network that nobody else has."""

from __future__ import annotations

import json
import os
import random
import smtplib
import ssl
import subprocess
from pathlib import Path

import pytest
import trustme

from support.peers import need
from support.ports import free_port
from support.tree import copy_tree

ORDINARY = 12345  # any uid that is not root and is not in the image
PROVIDER = """
services:
  relay: {healthcheck: {interval: 1s}}  # how often the engine asks is how long the tests wait for each start
  renewer: {healthcheck: {interval: 1s}}
  exporter: {healthcheck: {interval: 1s}}
  provider:
    image: ${COMPOSE_PROJECT_NAME}-relay
    pull_policy: never
    profiles: [provider]
    user: "${OWNPOST_UID}:${OWNPOST_GID}"
    entrypoint: [python, /mail/provider.py, "4650"]
    volumes: ["./mail:/mail"]
"""


def need_engine() -> None:
    """Skip where no Docker engine with Compose answers."""
    need("docker")
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip(f"`{' '.join(command)}` fails: start a Docker engine, and install its Compose plugin")


class Project:
    """The appliance in containers, as `make up` makes it, and what a person does with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""  # what the first `make up` printed
        self.name = f"ownpost-e2e-{os.getpid()}-{random.randrange(10**6)}"
        self.submission, self.submissions, self.page = free_port(), free_port(), free_port()
        self.uid = os.getuid() or ORDINARY
        copy_tree(folder)
        subnet = f"fd{random.randrange(256):02x}:{random.randrange(65536):x}:{random.randrange(65536):x}::/64"
        self.environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.environ |= {"COMPOSE_PROJECT_NAME": self.name, "COMPOSE_ANSI": "never", "COMPOSE_PROGRESS": "plain"}
        self.settings = {
            "OWNPOST_UID": str(self.uid),
            "OWNPOST_GID": str(self.uid),
            "OWNPOST_SUBMISSION_PORT": str(self.submission),
            "OWNPOST_SUBMISSIONS_PORT": str(self.submissions),
            "OWNPOST_LAN_PORT": str(free_port()),
            "OWNPOST_EXPORTER_PORT": str(self.page),
            "RENEWER_PUBLISH": f"127.0.0.1:{free_port()}",
            "OWNPOST_IPV6_SUBNET": subnet,
        }
        self.configure()

    def configure(self, **more: str) -> None:
        """Write `.env`: what is shipped, then the tests' ports and ``more``."""
        self.settings |= more
        lines = [f"{name}={value}" for name, value in self.settings.items()]
        (self.folder / ".env").write_text((self.folder / ".env.example").read_text() + "\n" + "\n".join(lines) + "\n")

    def add_provider(self, program: Path, password: str) -> None:
        """The service `provider`, which runs ``program`` once it is started, as the relay's only provider `generic`.

        What it takes lies below ``mail/``.
        """
        authority = trustme.CA()
        mail, secrets = self.folder / "mail", self.folder / "secrets/relay"
        for folder in (mail, secrets):
            folder.mkdir(parents=True)
        mail.chmod(0o777)
        (mail / "provider.pem").write_bytes(authority.issue_cert("provider").private_key_and_cert_chain_pem.bytes())
        (mail / "provider.py").write_text(program.read_text())
        (secrets / "ca.pem").write_bytes(authority.cert_pem.bytes())
        (secrets / "password").write_text(f"{password}\n")
        (self.folder / "compose.provider.yaml").write_text(PROVIDER)
        self.environ["COMPOSE_FILE"] = "compose.yaml:compose.provider.yaml"
        self.configure(
            OWNPOST_PROVIDERS="generic",
            GENERIC_HOST="provider",
            GENERIC_PORT="4650",
            GENERIC_TLS="tls",
            GENERIC_CA_FILE="/secrets/ca.pem",
            GENERIC_USERNAME="ownpost",
            GENERIC_PASSWORD_FILE="/secrets/password",
        )

    def run(self, *command: str, stdin: str = "", seconds: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder, env=self.environ, input=stdin, timeout=seconds,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def make(self, *words: str) -> str:
        """A verb that must succeed; what it printed."""
        done = self.run("make", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def compose(self, *words: str) -> str:
        """A `docker compose` command that must succeed; what it printed."""
        done = self.run("docker", "compose", *words)
        assert done.returncode == 0, done.stdout + done.stderr + self.run("docker", "compose", "logs").stdout[-4000:]
        return done.stdout

    def container(self, service: str = "relay") -> str:
        return self.compose("ps", "--all", "--quiet", service).strip()

    def exit_code(self, service: str = "relay") -> int:
        shown = self.run("docker", "inspect", "--format", "{{.State.ExitCode}}", self.container(service))
        return int(shown.stdout)

    @property
    def ca(self) -> Path:
        return self.folder / "certs/ca.pem"

    def client(self, login: str = "demo", password: str = "demo-password") -> smtplib.SMTP_SSL:
        """A logged-in client on the TLS port."""
        context = ssl.create_default_context(cafile=str(self.ca))
        smtp = smtplib.SMTP_SSL("127.0.0.1", self.submissions, context=context, timeout=60)
        try:
            smtp.login(login, password)
        except (OSError, smtplib.SMTPException):
            smtp.close()
            raise
        return smtp

    def reachable(self) -> bool:
        """Whether clients are let in on the STARTTLS port."""
        try:
            with smtplib.SMTP("127.0.0.1", self.submission, timeout=5):
                return True
        except (OSError, smtplib.SMTPException):
            return False

    def waiting(self) -> set[str]:
        """The ids of the messages in the queue."""
        return {entry["message"] for entry in json.loads(self.make("queue", "ARGS=--json --limit 10000"))["deliveries"]}

    def captured(self) -> list[bytes]:
        return [file.read_bytes() for file in sorted((self.folder / "var/captured").glob("*.eml"))]

    def curl(
        self, url: str, mail: bytes, *more: str, login: str = "demo:demo-password"
    ) -> subprocess.CompletedProcess[bytes]:
        """Send ``mail`` with curl as a person would."""
        command = ["curl", "--silent", "--show-error", "--max-time", "60", "--url", url, "--cacert", str(self.ca)]
        command += ["--user", login, "--mail-from", "demo@example.org", "--mail-rcpt", "you@example.net", *more]
        return subprocess.run([*command, "--upload-file", "-"], input=mail, capture_output=True, check=False)
