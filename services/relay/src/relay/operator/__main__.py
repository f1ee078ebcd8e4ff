"""``python -m relay.operator VERB``. Exit codes are sysexits.h's: 69 when no relay answers, 64 for wrong usage.
``providers`` is a check and knows 0 and 1 only.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from common.settings import RUN
from relay.operator import account, certs, oauth, providers, queue, send_test, show, take_over, trace
from relay.operator.client import Client, NoAnswer, Rejected
from relay.settings import SOCKET


class _Parser(argparse.ArgumentParser):
    """argparse, with the exit code that sysexits.h has for wrong usage."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(show.EX_USAGE, f"{self.prog}: {show.safe(message)}\n")


def parser(environ: Mapping[str, str], out: TextIO) -> argparse.ArgumentParser:
    """The command line; ``run`` of what it parses is the verb."""
    console = show.console(out)
    run = Path(environ.get("RELAY_RUN") or RUN)
    client = Client(run / SOCKET)
    top = _Parser(prog="ownpost", description="What operators can ask of a running relay.")
    verbs: argparse._SubParsersAction[Any] = top.add_subparsers(dest="command", required=True, metavar="VERB")
    queue.register(verbs, client, console, time.time)
    trace.register(verbs, client, console)
    send_test.register(verbs, client, console, time.monotonic, time.sleep)
    providers.register(verbs, client, console, time.time)
    certs.register(verbs, client, Client(run / certs.SOCKET), environ, console, time.time)
    account.register(verbs)
    oauth.register(verbs, environ, client, console, lambda: sys.stdin.fileno())
    take_over.register(verbs, environ, console)
    return top


def main(arguments: Sequence[str], environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    """Runs a verb; its exit code."""
    args = parser(environ, out).parse_args(arguments)
    try:
        code: int = args.run(args)
        out.flush()
    except NoAnswer as problem:
        print(show.safe(problem), file=err)
        return int(getattr(args, "without_relay", show.EX_UNAVAILABLE))
    except Rejected as problem:
        print(show.safe(problem), file=err)
        return show.EX_DATAERR
    except BrokenPipeError:  # `| head` has seen enough; rich ends with the same code
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:], os.environ, sys.stdout, sys.stderr))
    except KeyboardInterrupt:
        sys.exit(130)
