"""``python -m domain plan|apply|check|daily``; ``--check`` validates settings and files and ends.

Exit code 78 (EX_CONFIG) when some are wrong, 64 (EX_USAGE) for wrong arguments, else as ``commands`` says.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

from rich.console import Console

from common import names

from . import api, commands, dotenv, settings

EX_USAGE, EX_CONFIG, EX_INTERRUPTED = 64, 78, 130


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        environ = {**dotenv.read(options.env), **environ} if options.env else environ
        valid = settings.read(environ)
        files = commands.read_files(valid)
    except (settings.SettingsError, commands.FilesError) as error:
        print(*map(names.printable, error.problems), sep="\n", file=sys.stderr)
        return EX_CONFIG
    except OSError as error:
        print(f"{options.env}: cannot be read: {error.strerror}.", file=sys.stderr)
        return EX_CONFIG
    for warning in valid.warnings:
        print(f"ownpost: {names.printable(warning)}", file=sys.stderr)
    if options.check:
        return 0
    console = Console(highlight=False)
    with api.client() as client:
        run = commands.Commands(valid, files, console, client)
        try:
            return commands.outcome(lambda: _verb(run, options))
        except KeyboardInterrupt:
            print("\nownpost: interrupted; the next apply goes on from here.", file=sys.stderr)
            return EX_INTERRUPTED


def _verb(run: commands.Commands, options: argparse.Namespace) -> int:
    match options.verb:
        case "plan":
            return run.plan(as_json=options.json, as_text=options.text)
        case "apply":
            return run.apply(yes=options.yes, as_json=options.json)
        case "check":
            return run.check(as_json=options.json)
        case _:
            return run.daily()


class _Parser(argparse.ArgumentParser):
    """Ends with EX_USAGE: 2 means that something differs."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="domain", description="What the domain publishes: planned, applied, checked.")
    parser.add_argument("--check", action="store_true", help="validate settings and files, then end")
    parser.add_argument("--env", metavar="FILE", help="read settings from FILE too; the environment wins")
    verbs = parser.add_subparsers(dest="verb", required="--check" not in sys.argv, parser_class=_Parser)
    plan = verbs.add_parser("plan", help="print what differs; 0: nothing, 2: something")
    form = plan.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--text", action="store_true", help="records to paste where DNS is not at Cloudflare")
    apply = verbs.add_parser("apply", help="carry the plan out")
    apply.add_argument("--yes", action="store_true", help="do not ask")
    apply.add_argument("--json", action="store_true")
    check = verbs.add_parser("check", help="look from outside")
    check.add_argument("--json", action="store_true")
    verbs.add_parser("daily", help="check now and once a day")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
