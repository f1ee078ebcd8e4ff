"""Whose spool it is: a small file in its folder names the installation that it belongs to.

A second clone of the project has the same name for Compose, and so the same volumes: started, its relay would find the
first one's mail in its spool. So every folder has an id of its own (``var/installation``, made by ``make up`` and
``make try``), and a relay that was told another id than the spool's touches nothing. A spool without the file, of an
earlier version or just made, becomes that of the first relay that uses it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import apsw

from relay.model import Installation
from relay.spool.errors import SpoolUnusable, is_full

NAME: Final = "installation"
LONGEST: Final = 8_192  # bytes of the file
HOW: Final = (
    "Start that one again in its own folder: make up. For a second one beside it, set COMPOSE_PROJECT_NAME and other "
    "ports in this folder's .env; if this folder is to take its place, mail and all: make up ARGS=--take-over. "
    'docs/operations.md has more, under "Two on one machine".'
)
_WAITING: Final = "SELECT count(*) FROM message WHERE ended_at IS NULL"  # as every schema has it


def check(spool: Path, ours: Installation | None) -> None:
    """Raises :class:`SpoolUnusable` if the spool is another installation's; changes nothing, and needs no lock."""
    theirs = read(spool)
    if theirs is None or (ours is not None and ours.id == theirs.id):
        return
    number = waiting(spool)
    mail = "" if number is None else f"; {number} {'message waits' if number == 1 else 'messages wait'} in it"
    this = "" if ours is not None else "This relay was not told whose it is, which make up does. "
    raise SpoolUnusable(
        f"The spool in {spool} belongs to another installation of Ownpost ({theirs}){mail}. Nothing was changed and "
        f"nothing is sent. {this}{HOW}"
    )


def adopt(spool: Path, ours: Installation | None) -> None:
    """Note that the spool is ``ours``, whoever's it was. The caller has its lock. Raises :class:`SpoolUnusable`."""
    if ours is None or read(spool) == ours:
        return
    try:
        _write(spool, ours)
    except OSError as error:
        if not is_full(error, 0):  # a full disk must not keep the relay from starting: the next start notes it
            raise SpoolUnusable(f"{spool / NAME} cannot be written: {error.strerror or error}.") from error


def read(spool: Path) -> Installation | None:
    """The installation that the spool belongs to; None: nobody's yet. Raises :class:`SpoolUnusable`."""
    try:
        with (spool / NAME).open("rb") as file:
            text = file.read(LONGEST).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpoolUnusable(f"{spool / NAME} cannot be read: {error.strerror or error}.") from error
    fields = dict(line.partition("=")[::2] for line in text.splitlines())
    return Installation(*(fields.get(name, "") for name in Installation._fields))


def waiting(spool: Path) -> int | None:
    """How many messages wait in it; None if that cannot be read. No connection to it may be open in this process."""
    try:
        connection = apsw.Connection(str(spool / "spool.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            run: Callable[[str], Any] = connection.execute
            return int(run(_WAITING).get)
        finally:
            connection.close()
    except apsw.Error:
        return None


def _write(spool: Path, ours: Installation) -> None:
    """The whole file or the old one, and on the disk when this returns. Raises OSError."""
    fresh = spool / f"{NAME}.new"
    pairs = zip(Installation._fields, ours, strict=True)
    text = "".join(f"{name}={value}\n" for name, value in pairs)
    try:
        with fresh.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(spool / NAME)
    finally:
        fresh.unlink(missing_ok=True)
    descriptor = os.open(spool, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
