"""``python -m relay``: runs the relay; ``--check`` only says whether its settings and their files would do."""

from __future__ import annotations

import os
import sys

import uvloop

from relay.allocator import keep_read_buffers_on_the_heap
from relay.assembly import CannotStart, check, serve
from relay.clock import SystemClock
from relay.log import Log, take_over_logging
from relay.settings import SettingsError, read

EX_CONFIG = 78


def main(arguments: list[str]) -> int:
    """The exit code; problems go to standard error, one a line."""
    try:
        settings = read(os.environ)
        if arguments == ["--check"]:
            check(settings)
            return 0
        log = Log(sys.stdout.fileno(), settings.log_format, SystemClock())
        take_over_logging(log)
        keep_read_buffers_on_the_heap()
        try:
            return uvloop.run(serve(settings, log, SystemClock()))
        finally:
            log.close()
    except (SettingsError, CannotStart) as error:
        for problem in error.problems:
            print(f"relay: {problem}", file=sys.stderr)
        return EX_CONFIG


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
