"""``python -m renewer``: runs it; with ``--check``: validates the settings and ends. 78 (EX_CONFIG): some are wrong."""

from __future__ import annotations

import asyncio
import os
import sys

from common.settings import SettingsError

from . import service, settings

EX_USAGE, EX_CONFIG = 64, 78


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python -m renewer [--check]", file=sys.stderr)
        return EX_USAGE
    try:
        valid = settings.read(os.environ)
    except SettingsError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return EX_CONFIG
    return 0 if arguments else asyncio.run(service.run(valid))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
