"""Programs that we test against: there, or the test is skipped with the one command that brings them."""

from __future__ import annotations

import os
import shutil

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


def find(program: str) -> str | None:
    """Where ``program`` is; daemons live in /usr/sbin, which an ordinary user's PATH may lack."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def need(program: str) -> str:
    """The program's path, or a skip that says how to get it."""
    path = find(program)
    if path is None:
        package = PACKAGES.get(program, program)
        pytest.skip(f"{program} is missing: apt-get install {package}")
    return path
