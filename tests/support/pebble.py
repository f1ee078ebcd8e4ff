"""Pebble, Let's Encrypt's test authority, with its own name server, as processes of their own.

It validates for real: the challenge has to be found in DNS or over HTTP. Debian's package of version 2.6 or later is
wanted (2.4 has no renewal information, RFC 9773); ``install_pebble.py`` brings it where the system has an older one.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from support.install_pebble import CACHE, COMMAND
from support.ports import free_port

NAMES = ("pebble", "pebble-challtestsrv")


def find() -> dict[str, str] | None:
    """Where the two programs are; None if they are missing or too old."""
    path = os.pathsep.join([str(CACHE / "usr" / "bin"), os.environ.get("PATH", "")])
    found = {name: shutil.which(name, path=path) for name in NAMES}
    programs = {name: where for name, where in found.items() if where}
    return programs if len(programs) == len(NAMES) and _is_new_enough(programs["pebble"]) else None


def _is_new_enough(pebble: str) -> bool:
    """2.4 does not know ``-version``; Debian's build of 2.6 answers it with "dev"."""
    return subprocess.run([pebble, "-version"], capture_output=True, timeout=20).returncode == 0


@dataclass(frozen=True)
class Pebble:
    """A running authority and its name server."""

    directory: str  # the ACME directory's URL
    trust: Path  # what an ACME client has to trust (REQUESTS_CA_BUNDLE)
    challtestsrv: str  # management URL of the name server
    management: str
    http_port: int  # where http-01 challenges are fetched

    def root(self) -> bytes:
        """The root of the certificates it issues, PEM; new at each start."""
        return _get(f"{self.management}/roots/0", self.trust)


def _get(url: str, trust: Path) -> bytes:
    context = ssl.create_default_context(cafile=str(trust))
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:
        body: bytes = answer.read()
        return body


@contextmanager
def pebble(folder: Path, *, validity: int = 5 * 86400, **environ: str) -> Iterator[Pebble]:
    """Runs both while the block runs; certificates are valid for ``validity`` seconds."""
    programs = find()
    if programs is None:
        pytest.skip(f"Pebble 2.6 or later is missing: {COMMAND}")
    authority = trustme.CA()
    pair = authority.issue_cert("localhost", "127.0.0.1")
    trust = folder / "pebble-trust.pem"
    authority.cert_pem.write_to_path(trust)
    pair.private_key_pem.write_to_path(folder / "pebble.key")
    pair.cert_chain_pems[0].write_to_path(folder / "pebble.crt")
    ports = {name: free_port() for name in ("acme", "management", "http", "tls", "dns", "control")}
    config = {
        "listenAddress": f"127.0.0.1:{ports['acme']}",
        "managementListenAddress": f"127.0.0.1:{ports['management']}",
        "certificate": str(folder / "pebble.crt"),
        "privateKey": str(folder / "pebble.key"),
        "httpPort": ports["http"],
        "tlsPort": ports["tls"],
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        "certificateValidityPeriod": validity,
        "retryAfter": {"authz": 1, "order": 1},
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    names = [programs["pebble-challtestsrv"], "-dns01", f"127.0.0.1:{ports['dns']}"]
    names += [
        "-management",
        f"127.0.0.1:{ports['control']}",
        "-http01",
        "",
        "-https01",
        "",
        "-tlsalpn01",
        "",
        "-doh",
        "",
    ]
    names += ["-defaultIPv6", ""]
    acme = [programs["pebble"], "-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{ports['dns']}"]
    settings = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "0", **environ}
    with ExitStack() as stack:
        for command in (names, acme):
            log = stack.enter_context((folder / f"{Path(command[0]).name}.log").open("wb"))
            stack.enter_context(_running(command, log.fileno(), settings))
        running = Pebble(
            f"https://localhost:{ports['acme']}/dir",
            trust,
            f"http://127.0.0.1:{ports['control']}",
            f"https://localhost:{ports['management']}",
            ports["http"],
        )
        _wait(running)
        yield running


@contextmanager
def _running(command: list[str], log: int, environ: dict[str, str]) -> Iterator[None]:
    with subprocess.Popen(command, stdout=log, stderr=log, env=environ) as process:
        try:
            yield
        finally:
            process.terminate()


def _wait(running: Pebble, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            _get(running.directory, running.trust)
            _get(f"{running.management}/roots/0", running.trust)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
