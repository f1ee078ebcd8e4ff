"""``config/aliases.toml``: who gets mail to which address. Read whole, with all problems at once.

hello = "me@gmail.com"          # forwarded
shop = "drop"                   # thrown away
bot = { worker = "name" }       # handed to a Cloudflare Worker
"*" = "me@gmail.com"            # everything else

["example.net"]                 # another domain of OWNPOST_DOMAINS; the lines above are the first one's
info = "me@gmail.com"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from common import names, toml

REST = "*"  # the catch-all
LONGEST = 90  # characters of an address in a rule, and of where its mail goes; Cloudflare's schema
_WORKER = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}", re.IGNORECASE)


class Act(StrEnum):
    """What Email Routing does with a message; the names of its API."""

    FORWARD = "forward"
    DROP = "drop"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Target:
    """Where mail goes: an address, a Worker's name, or nowhere."""

    act: Act
    value: str = ""

    def __str__(self) -> str:
        return {Act.FORWARD: self.value, Act.DROP: "drop", Act.WORKER: f"worker {self.value}"}[self.act]


Aliases = Mapping[str, Mapping[str, Target]]
"""For each domain, the target of each local part or of ``*``."""


class AliasesError(Exception):
    """The file is wrong; ``problems`` holds one sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def parse(text: str, domains: tuple[str, ...]) -> Aliases:
    """Reads the file's text. Raises AliasesError."""
    try:
        data = toml.loads(text)
    except ValueError as error:  # also numbers of more digits than Python converts
        raise AliasesError([f"it is not TOML: {error}"]) from None
    problems: list[str] = []
    found: dict[str, dict[str, Target]] = {domain: {} for domain in domains}
    for key, value in data.items():
        domain = _domain(key)
        if isinstance(value, dict) and domain in found:
            for local, target in value.items():
                _add(found[domain], domain, local, target, problems)
        elif isinstance(value, dict) and set(value) != {"worker"}:
            problems.append(f"[{key}] is not a domain of OWNPOST_DOMAINS ({', '.join(domains)}).")
        else:
            _add(found[domains[0]], domains[0], key, value, problems)
    if problems:
        raise AliasesError(problems)
    return found


def _domain(key: str) -> str:
    try:
        return names.domain_name(key)
    except names.BadName:
        return ""


def _add(found: dict[str, Target], domain: str, key: str, value: Any, problems: list[str]) -> None:
    try:
        local = REST if key == REST else names.local_part(key)
        target = _target(value)
    except names.BadName as error:
        problems.append(f"{key}: {error}")
        return
    if local != REST and len(f"{local}@{domain}") > LONGEST:
        problems.append(f"{key}: {local}@{domain} is longer than the {LONGEST} characters that Email Routing takes.")
    if len(target.value) > LONGEST:
        problems.append(f"{key}: {target.value} is longer than the {LONGEST} characters that Email Routing takes.")
    if local in found:  # of two rules for one address only the most recent works
        problems.append(f"{key}: {domain} has {local} twice.")
    elif target.act is Act.FORWARD and target.value.lower() == f"{local}@{domain}":
        problems.append(f"{key}: forwards to itself.")
    found[local] = target


def _target(value: Any) -> Target:
    if value == "drop":
        return Target(Act.DROP)
    if isinstance(value, str):
        return Target(Act.FORWARD, names.address(value))
    if isinstance(value, dict) and set(value) == {"worker"}:
        worker = value["worker"]
        if isinstance(worker, str) and _WORKER.fullmatch(worker):
            return Target(Act.WORKER, worker)
    raise names.BadName('is neither an address, nor "drop", nor { worker = "name" }.')
