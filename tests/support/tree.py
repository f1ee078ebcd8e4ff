"""A fresh copy of the repository, as a clone of what is here, for tests that run `make` in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from support.appliance import ROOT

FIRST_MAIL = re.compile(r"^  (printf 'From: Demo.*?--upload-file -)$", re.MULTILINE | re.DOTALL)


def copy_tree(folder: Path, owner: int | None = None) -> None:
    """Copy every file that is or would be committed to ``folder``, nothing that a run makes; ``owner`` gets all."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    if owner is not None:
        for root, _, files in os.walk(folder):
            for path in [root, *(os.path.join(root, file) for file in files)]:
                os.chown(path, owner, owner, follow_symlinks=False)


def first_mail(output: str) -> str:
    """The shell command for a first mail that ``make try`` and ``make up`` print, as a person would copy it."""
    found = FIRST_MAIL.search(output)
    assert found, output
    return found[1]


def without_added_fields(mail: bytes) -> bytes:
    """A captured message less the fields that a submission may add: Received, Date, Message-ID."""
    head, blank, body = mail.partition(b"\r\n\r\n")
    fields = re.findall(rb"[^\r\n]+(?:\r\n[ \t][^\r\n]*)*", head)
    kept = [field for field in fields if not field.lower().startswith((b"received:", b"date:", b"message-id:"))]
    return b"\r\n".join(kept) + blank + body
