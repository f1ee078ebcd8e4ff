"""Who may log in, send as whom, and how much: ``config/accounts.toml`` as immutable values.

Promises: a file is taken whole or not at all; every problem in it is reported at once, each with the account, the key
and what is allowed; an unknown key is a problem, for a mistyped ``disbaled`` must not leave a door open. A hash that
would take absurd memory or time is refused before anybody tries it. Login names differ by more than letter case.
:mod:`relay.accounts_file` watches the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from argon2.exceptions import VerificationError
from argon2.low_level import Type, verify_secret

from common import toml
from common.names import is_loopback
from relay import address, limits
from relay.accounts_rules import cost, is_wildcard, work, wrong_values
from relay.refusal import shown

FILE_SIZE = 1 * limits.MIB  # some 5,000 accounts; bounds what a hostile file costs
DEMO_PASSWORD = b"demo-password"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


class AccountsError(Exception):
    """The accounts file cannot be used; ``problems`` has one sentence for each thing that is wrong with it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account as the file describes it; limits of ``None`` mean unlimited."""

    name: str
    password_hash: str = field(repr=False)
    senders: tuple[str, ...]
    rewrite: bool = False
    recipients_per_day: int | None = limits.RECIPIENTS_PER_DAY
    recipients_per_hour: int | None = limits.RECIPIENTS_PER_HOUR
    high_priority: bool = False  # may use the reserve of each provider's quota
    notify: str = ""
    pause_when_unusual: bool = False
    normalize_newlines: bool = False
    disabled: bool = False
    hold_queue: bool = False
    _addresses: frozenset[str] = field(init=False, repr=False, compare=False)
    _domains: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        folded = {address.fold(sender) for sender in self.senders}
        wildcards = {sender for sender in folded if is_wildcard(sender)}
        object.__setattr__(self, "_addresses", frozenset(folded - wildcards))
        object.__setattr__(self, "_domains", frozenset(sender[2:] for sender in wildcards))

    def may_send_as(self, sender: str) -> bool:
        """Whether ``sender``, a parsed address, is one of the account's (compared by :func:`address.fold`)."""
        folded = address.fold(sender)
        return folded in self._addresses or ("@" in folded and folded.rpartition("@")[2] in self._domains)

    @property
    def first_sender(self) -> str | None:
        """The first of ``senders`` that is an ASCII address and no ``*@domain``; what ``from = "rewrite"`` writes."""
        return next((sender for sender in self.senders if sender.isascii() and not is_wildcard(sender)), None)


class Accounts:
    """The accounts of one reading of the file, found by login name without regard to (ASCII) letter case."""

    __slots__ = ("_by_key", "_high", "costs")

    def __init__(self, accounts: Iterable[Account] = ()) -> None:
        self._by_key = {address.fold(account.name): account for account in accounts}
        self._high = frozenset(account.name for account in self._by_key.values() if account.high_priority)
        costs = {cost(account.password_hash) for account in self._by_key.values() if not account.disabled}
        self.costs = sorted(costs - {""}, key=work)  # of all hashes that open, the dearest last

    def find(self, login: bytes | str) -> Account | None:
        """The account with that login name; bytes that are not UTF-8 name nobody."""
        text = login if isinstance(login, str) else login.decode("utf-8", "replace")
        return self._by_key.get(address.fold(address.login_name(text)))

    @property
    def high(self) -> frozenset[str]:
        """Names of the accounts of high priority."""
        return self._high

    def __iter__(self) -> Iterator[Account]:
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)


def load(path: Path) -> Accounts:
    """Read the file; raises :class:`AccountsError` when it is missing, unreadable or wrong in any place."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_SIZE + 1)
    except FileNotFoundError:
        raise AccountsError([f'{path}: there is no such file; `make account ARGS="add NAME"` makes it']) from None
    except OSError as error:
        raise AccountsError([f"{path}: cannot be read: {error.strerror}"]) from None
    try:
        return parse(data)
    except AccountsError as error:
        raise AccountsError([f"{path}: {problem}" for problem in error.problems]) from None


def parse(data: bytes) -> Accounts:
    """``data``, the file's content, as accounts; raises :class:`AccountsError` with every problem in it."""
    if len(data) > FILE_SIZE:
        raise AccountsError([f"it is larger than {FILE_SIZE} bytes"])
    try:
        document = toml.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise AccountsError(["it is not UTF-8 text"]) from None
    except ValueError as error:  # also numbers of more digits than Python converts
        raise AccountsError([f"it is not TOML: {error}"]) from None
    tables = document.pop("accounts", None)
    problems = [f"{shown(key)} is unknown here; only tables [accounts.NAME] are allowed" for key in document]
    if not isinstance(tables, dict):
        # An editor that writes in place leaves an empty file for a moment: that must not lock everybody out.
        problems.append("it has no [accounts]; a file without any account says [accounts] and nothing else")
        raise AccountsError(problems)
    accounts = [_account(name, table, problems) for name, table in tables.items()]
    problems += _doubles(tables)
    if problems:
        raise AccountsError(problems)
    return Accounts(accounts)


def _doubles(names: Iterable[str]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(address.fold(name), name)
        if other != name:
            both = f"[accounts.{shown(name)}] and [accounts.{shown(other)}]"
            yield f"{both} differ only by letter case, and login names do not; rename one"


def _account(name: str, table: Any, problems: list[str]) -> Account:
    """The account in ``table``; appends to ``problems``, and what it returns is used only if there are none."""
    if not _NAME.fullmatch(name):
        right = address.login_name(name)
        written = f"; write {right}" if _NAME.fullmatch(right) else ""
        problems.append(f"[accounts.{shown(name)}]: a login name has 1 to 128 letters, digits or . _ @ + -{written}")
    if not isinstance(table, dict):
        problems.append(f"{shown(name)} under [accounts] is no table; write [accounts.NAME]")
        return Account(name=name, password_hash="", senders=())
    wrong = wrong_values(table)
    problems += [f"[accounts.{shown(name)}] {key}: {why}" for key, why in wrong]
    values = {key: value for key, value in table.items() if key not in dict(wrong)}
    return Account(
        name=name,
        password_hash=values.get("password_hash", ""),
        senders=tuple(_canonical(sender) for sender in values.get("senders", ())),
        rewrite=values.get("from") == "rewrite",
        recipients_per_day=_limit(values, "recipients_per_day", limits.RECIPIENTS_PER_DAY),
        recipients_per_hour=_limit(values, "recipients_per_hour", limits.RECIPIENTS_PER_HOUR),
        high_priority=values.get("priority") == "high",
        notify=_canonical(values["notify"]) if values.get("notify") else "",
        pause_when_unusual=values.get("unusual_volume") == "pause",
        normalize_newlines=values.get("newlines") == "normalize",
        disabled=values.get("disabled", False),
        hold_queue=values.get("hold_queue", False),
    )


def _canonical(sender: str) -> str:
    """The form in which addresses come out of the grammar, so that they can be compared with it."""
    parsed = address.parse_entry(sender)
    assert isinstance(parsed, str)
    return parsed


def _limit(values: Mapping[str, Any], key: str, default: int) -> int | None:
    value = values.get(key, default)
    return None if value == "unlimited" else int(value)


class HasPreset(Protocol):
    """What the fence has to know of a provider's settings."""

    @property
    def preset(self) -> str: ...


def demo_problem(
    accounts: Iterable[Account], published: Mapping[str, str], providers: Iterable[HasPreset]
) -> str | None:
    """The trial's fence: why these accounts must not be used with these settings, or ``None``.

    Everybody knows the trial's password. An account that it opens is refused as soon as a port is published beyond
    loopback or mail can leave the machine, whatever the account is called and whoever gave it that password.
    """
    beyond = [f"{setting}={bind}" for setting, bind in published.items() if not is_loopback(bind)]
    if beyond:
        cause = f"{beyond[0]} lets other machines in"
    elif any(provider.preset != "capture" for provider in providers):
        cause = "OWNPOST_PROVIDERS names a provider that really sends"
    else:
        return None
    open_doors = [a.name for a in accounts if a.password_hash and not a.disabled and _opens_with_demo(a.password_hash)]
    if not open_doors:
        return None
    verb = f'make account ARGS="password {open_doors[0]}"'
    return f"the trial's password opens {', '.join(open_doors)} while {cause}; give a new password first: {verb}"


@lru_cache(maxsize=1024)
def _opens_with_demo(password_hash: str) -> bool:
    try:
        return verify_secret(password_hash.encode("ascii"), DEMO_PASSWORD, Type.ID)
    except VerificationError:
        return False
