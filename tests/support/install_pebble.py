"""Unpacks Debian 13's Pebble below ``var/peers/``, for systems whose own package is older or missing: needs no root.

Run it as ``python3 tests/support/install_pebble.py``; the tests look there first.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(__file__).parents[2] / "var" / "peers"
COMMAND = "python3 tests/support/install_pebble.py"


def install() -> None:
    """Unpack Debian 13's package below ``var/peers``, from the Debian mirror that this system uses. Needs no root."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        lists, sources = Path(work, "lists"), Path(work, "sources.list")
        Path(lists, "partial").mkdir(parents=True)
        sources.write_text(f"deb {_mirror()} trixie main\n")
        options = {"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "-", "Dir::State::lists": lists}
        options["Dir::Cache"] = Path(work)
        apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
        subprocess.run([*apt, "update"], check=True, cwd=work, stdout=sys.stderr)
        subprocess.run([*apt, "download", "pebble"], check=True, cwd=work, stdout=sys.stderr)
        for package in Path(work).glob("pebble_*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(CACHE)], check=True)


def _mirror() -> str:
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    mirrors = [words[0] for words in map(str.split, lines) if words and words[-1] in ("bookworm", "trixie")]
    if not mirrors:
        sys.exit("This system knows no Debian mirror; install pebble 2.6 or later some other way.")
    return mirrors[0]


if __name__ == "__main__":
    install()
