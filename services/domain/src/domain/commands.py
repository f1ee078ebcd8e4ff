"""The verbs: ``plan``, ``apply``, ``check`` and ``daily``. Each returns the process's exit code.

0: as it should be; 2: something differs or is wrong; 65: what is left is the owner's to decide, or files are wrong
(78 for settings); 69: a service refused; 75: no usable answer, try again; 77: a permission is missing; 1: the person
said no.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console

from common import names

from . import aliases, api, backup, elsewhere, observe, pasted, plan, show
from .apply import Applier, Declined, Unsettled
from .authentication import Authentication, services
from .cloudflare import Cloudflare
from .dns import Dns, resolver
from .observe import Reach, Sight
from .plan import Files, Seen
from .settings import Address, Settings
from .steps import Plan

EX_DIFFERENT = 2
EX_DATAERR, EX_UNAVAILABLE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 65, 69, 75, 77, 78
DAY = 24 * 3600.0
FILE_LENGTH = 1024 * 1024  # characters


class FilesError(Exception):
    """The operator's files are wrong; ``problems`` holds one sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_files(settings: Settings) -> Files:
    """``config/aliases.toml`` and ``config/providers.toml``; a missing one is empty. Raises FilesError."""
    problems: list[str] = []
    found: aliases.Aliases = {}
    providers = pasted.ProvidersFile({}, {})
    try:
        found = aliases.parse(_text(settings.config / "aliases.toml", problems), settings.domains)
    except aliases.AliasesError as error:
        problems += [f"config/aliases.toml: {problem}" for problem in error.problems]
    try:
        providers = pasted.parse(_text(settings.config / "providers.toml", problems), settings.domains)
    except pasted.PastedError as error:
        problems += [f"config/providers.toml: {problem}" for problem in error.problems]
    if problems:
        raise FilesError(problems)
    return Files(found, providers)


def _text(path: Path, problems: list[str]) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(FILE_LENGTH + 1)
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"config/{path.name}: cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.")
        return ""
    if len(text) > FILE_LENGTH:
        problems.append(f"config/{path.name}: is larger than {FILE_LENGTH} characters.")
        return ""
    return text


@dataclass(slots=True)
class Commands:
    """One run of the program, with all that it talks to."""

    settings: Settings
    files: Files
    console: Console
    client: httpx.Client
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    _found: list[tuple[Address, ...] | None] = field(default_factory=list)

    def plan(self, *, as_json: bool, as_text: bool) -> int:
        """Prints the plan and writes nothing."""
        if as_text:
            made = self._plan_elsewhere()
            self._print(show.text(made))
        else:
            made = self._look()[1]
            if as_json:
                self._print(show.plan_json(made))
            else:
                show.plan(self.console, made)
        return EX_DIFFERENT if made.different else 0

    def apply(self, *, yes: bool, as_json: bool) -> int:
        """Shows the plan, asks, carries it out, and shows that nothing is left to do."""
        tell = Console(stderr=True, highlight=False, markup=False) if as_json else self.console
        applier = Applier(
            reach=self._reach(),
            folder=self.settings.backups,
            look=self._look,
            show=lambda made: show.plan(tell, made),
            agree=None if yes else lambda: _agree(tell),
            say=lambda line: tell.print(names.printable(line), soft_wrap=True, markup=False, highlight=False),
            clock=self.clock,
        )
        made = applier.run()
        if as_json:
            self._print(show.plan_json(made))
        else:
            show.rest(self.console, made)
        return EX_DATAERR if made.blocked else 0

    def check(self, *, as_json: bool) -> int:
        """Prints the checklist, and publishes it where DOMAIN_RUN says."""
        from .checks import run as checks  # not before it is needed: its libraries take most of a second to load
        from .checks import show as checklist
        from .checks.model import Verdict

        with self.console.status("Looking at DNS, our ports and the providers' ports; a minute at most …"):
            findings = checks.run(
                checks.Ground(
                    settings=self.settings,
                    files=self.files,
                    dns=Dns(resolver(self.settings.resolvers)),
                    client=self.client,
                    addresses=self._addresses(),
                    authentications=self._told(),
                    now=self.clock,
                )
            )
        report = checklist.as_json(findings, self.clock())
        if self.settings.run is not None:
            try:
                checklist.publish(self.settings.run, report)
            except OSError as error:
                print(
                    f"ownpost: the report cannot be written below {self.settings.run}: {error.strerror}",
                    file=sys.stderr,
                )
        if as_json:
            self._print(report)
        else:
            checklist.checklist(self.console, findings)
        if checklist.count(findings, Verdict.WRONG):
            return EX_DIFFERENT
        return EX_TEMPFAIL if checklist.blind(findings) else 0

    def daily(self) -> int:
        """Checks now and once a day, for ever."""
        while True:
            self.check(as_json=False)
            self.sleep(DAY)

    def _look(self) -> tuple[Sight, Plan]:
        sight = observe.observe(self.settings, self.files, self._reach(), self._addresses())
        return sight, plan.make(self.settings, self.files, sight.seen, Dns(resolver(self.settings.resolvers)))

    def _addresses(self) -> tuple[Address, ...] | None:
        """This server's addresses, found out once a run."""
        if not self._found:
            self._found.append(observe.addresses(self.settings, self.client))
        return self._found[0]

    def _reach(self) -> Reach:
        key = self.settings.cloudflare
        if key is None:
            raise api.NotAllowed(
                "DOMAIN_CLOUDFLARE_API_TOKEN is missing: make a user token (docs/domain.md says how), or, for a domain"
                " whose DNS is not at Cloudflare, print what to paste: make plan ARGS=--text"
            )
        cloudflare = Cloudflare(key, self.client, self.sleep)
        return Reach(cloudflare, services(self.settings.keys, self.client, self.sleep), self.client)

    def _plan_elsewhere(self) -> Plan:
        """The plan against public DNS."""
        dns = Dns(resolver(self.settings.resolvers))
        found = self._authentications()
        zones = elsewhere.zones(self.settings, self.files, found, dns)
        seen = Seen(zones=zones, authentications=found, addresses=self._addresses())
        return plan.make(self.settings, self.files, seen, dns)

    def _authentications(self) -> Mapping[tuple[str, str], Authentication | None]:
        lacks: list[str] = []
        reachable = services(self.settings.keys, self.client, self.sleep)
        found = observe.authentications(self.settings, self.files, reachable, lacks)
        if lacks:
            raise api.NotAllowed("\n".join(lacks))
        return found

    def _told(self) -> Mapping[tuple[str, str], Authentication | None]:
        """What providers' APIs say of their records; a check goes on without it."""
        try:
            return self._authentications()
        except api.ApiError as error:
            _fail(EX_UNAVAILABLE, str(error))
            return {}

    def _print(self, text: str) -> None:
        """Exactly this, for pipes and files."""
        print(text, end="" if text.endswith("\n") else "\n", file=self.console.file)


def _agree(console: Console) -> bool:
    if sys.stdin is None or not sys.stdin.isatty():  # None: it was closed before we began
        console.print("Nobody can be asked here: --yes carries it out without asking.")
        return False
    console.print("Carry this out? [y/N] ", end="", markup=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def outcome(run: Callable[[], int]) -> int:
    """Runs a verb and turns what went wrong into one sentence a line and an exit code."""
    try:
        return run()
    except Declined as error:
        return _fail(1, str(error))
    except api.NotAllowed as error:
        return _fail(EX_NOPERM, str(error))
    except elsewhere.IsAlias as error:
        return _fail(EX_DATAERR, str(error))
    except (api.Unreachable, backup.Busy, elsewhere.Unknown) as error:
        return _fail(EX_TEMPFAIL, f"{error}")
    except api.ApiError as error:
        return _fail(EX_UNAVAILABLE, str(error))
    except Unsettled as error:
        return _fail(EX_TEMPFAIL, str(error))
    except backup.CannotBackUp as error:
        return _fail(EX_CONFIG, str(error))


def _fail(code: int, text: str) -> int:
    for line in text.splitlines():
        print(f"ownpost: {names.printable(line)}", file=sys.stderr)
    return code
