"""``take-over``: makes the spool this installation's, whoever's it was, with the mail that waits in it.

``make up ARGS=--take-over`` calls it, after the relay that used the spool was stopped. The mail is left as it is: the
next start treats it like its own.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from rich.console import Console

from common.settings import Reader, SettingsError
from relay.operator import show
from relay.settings import SPOOL, read_installation
from relay.spool import SpoolUnusable, installation, recovery

EX_CONFIG = 78


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], environ: Mapping[str, str], console: Console
) -> None:
    """Add the verb to the command line."""
    text = "makes the spool this installation's, whoever's it was; no relay may run on it"
    parser = subparsers.add_parser("take-over", help=text, description=text)

    def run(_: argparse.Namespace) -> int:
        try:
            console.print(show.safe(take_over(Reader(environ))), soft_wrap=True)
        except (SpoolUnusable, SettingsError) as problem:
            console.print(show.safe(problem), soft_wrap=True)
            return EX_CONFIG
        return show.EX_OK

    parser.set_defaults(run=run)


def take_over(reader: Reader) -> str:
    """What was done, in a sentence. Raises :class:`SpoolUnusable` and SettingsError."""
    ours, spool = read_installation(reader), reader.path("RELAY_SPOOL", SPOOL)
    if ours is None:
        reader.problem("RELAY_INSTALLATION", "missing; allowed: what var/installation has, which make up makes.")
    reader.finish()
    recovery.prepare_folder(spool)
    lock = recovery.take_lock(spool / "lock")
    try:
        theirs, number = installation.read(spool), installation.waiting(spool)
        installation.adopt(spool, ours)
        if installation.read(spool) != ours:
            raise SpoolUnusable(f"The disk that holds {spool} is full, and nothing was changed; make room on it.")
    finally:
        os.close(lock)
    mail = "" if number is None else f" {number} {'message waits' if number == 1 else 'messages wait'} in it."
    return f"The spool of {theirs or 'nobody so far'} belongs to this folder now.{mail}"
