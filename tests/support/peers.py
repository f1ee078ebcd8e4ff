"""Programs that we test against: there, or the test is skipped with the one command that brings them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

PACKAGES = {
    "smtp-sink": "postfix",
    "mkfs.ext4": "e2fsprogs",
    "umount": "mount",
    "postfix": "postfix",
    "saslpasswd2": "sasl2-bin",
    "setpriv": "util-linux",
    "testssl": "testssl.sh",
    "promtool": "prometheus",
    "node": "nodejs",
    "php": "php-cli",
}


@cache
def _swaks_knows_tls() -> bool:
    return subprocess.run(["perl", "-MNet::SSLeay", "-e1"], check=False, capture_output=True).returncode == 0


def _sasl_knows_plain() -> bool:
    return any(Path("/usr/lib").glob("*/sasl2/libplain.so*"))


# What Debian only recommends to a program and a test cannot do without: whether it is there, and its package.
PARTS: dict[str, tuple[Callable[[], bool], str]] = {
    "swaks": (_swaks_knows_tls, "libnet-ssleay-perl"),
    "saslpasswd2": (_sasl_knows_plain, "libsasl2-modules"),
}


def find(program: str) -> str | None:
    """Where ``program`` is; daemons live in /usr/sbin, which an ordinary user's PATH may lack."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def need(program: str) -> str:
    """The program's path, or a skip that says how to get it."""
    path = find(program)
    if path is None:
        package = PACKAGES.get(program, program)
        pytest.skip(f"{program} is missing: apt-get install {package}")
    if program in PARTS:
        there, package = PARTS[program]
        if not there():
            pytest.skip(f"{program} lacks a part: apt-get install {package}")
    return path
