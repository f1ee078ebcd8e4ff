"""Unpacks mail programs that cannot be installed side by side below ``var/peers/``, for the client matrix only.

Each of them is Debian's ``mail-transport-agent`` and would push the others out, so none is installed: the packages of
this system's own release are downloaded and unpacked, each into a folder of its own, and the tests run them in a mount
namespace where that folder lies over ``/usr`` (:mod:`support.stage`). nodemailer comes by npm, pinned by its hash.

Run it as ``python3 tests/support/install_clients.py [NAME …]``. Downloading needs no root.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(__file__).parents[2] / "var" / "peers"
COMMAND = "python3 tests/support/install_clients.py"
PACKAGES = ("dma", "exim4-daemon-light", "nullmailer", "opensmtpd")
NODEMAILER = "10.6.1"
INTEGRITY = "sha512-d7kfFfS/tR4Aca+SBvRaQ+MXKNv7d2JiRe5TxaRcFT/kYMh4GGPnW9aKksTIEvyEbA7d/7HYWE4YPDEHxzJj/g=="


def unpack(package: str) -> None:
    """Debian's ``package`` as ``var/peers/PACKAGE/``; whole or not at all."""
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        download = ["apt-get", "-q", "download", package]
        if subprocess.run(download, check=False, cwd=work, stdout=sys.stderr).returncode:
            subprocess.run(["apt-get", "-q", "update"], check=True, stdout=sys.stderr)  # a new machine has no lists
            subprocess.run(download, check=True, cwd=work, stdout=sys.stderr)
        (file,) = Path(work).glob("*.deb")
        subprocess.run(["dpkg", "-x", str(file), f"{work}/out"], check=True)
        subprocess.run(["chmod", "-R", "ug-s", f"{work}/out"], check=True)  # the tests run them as root anyway
        Path(work, "out").rename(CACHE / package)


def install_nodemailer() -> None:
    """nodemailer as ``var/peers/nodemailer/node_modules/nodemailer``. It has no dependencies and no scripts to run."""
    pinned = {"version": NODEMAILER, "integrity": INTEGRITY}  # what does not fit is refused by `npm ci`
    package = {"name": "peers", "dependencies": {"nodemailer": NODEMAILER}}
    packages = {"": package, "node_modules/nodemailer": pinned}
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        Path(work, "package.json").write_text(json.dumps(package))
        Path(work, "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": packages}))
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(["npm", "ci", *quiet, "--prefix", work], check=True, stdout=sys.stderr)
        shutil.move(work, CACHE / "nodemailer")
        Path(work).mkdir()


def main(*names: str) -> int:
    """Bring what is missing, of ``names`` if there are any; says what cannot be had, and goes on with the others."""
    CACHE.mkdir(parents=True, exist_ok=True)
    failed = 0
    for package in names or (*PACKAGES, "nodemailer"):
        if (CACHE / package).is_dir():
            continue
        try:
            install_nodemailer() if package == "nodemailer" else unpack(package)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            print(f"{package} cannot be had: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
