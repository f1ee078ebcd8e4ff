"""The accounts that are in force, and the file they come from, watched.

Once a second the file is looked at (one ``stat``); when it is another one it is read and checked in a thread. Only a
file without any problem replaces what is in force. A broken or missing one leaves it and is told once: whoever edits it
at night must not lock everybody out, and must not believe either that the edit counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from relay.accounts import Accounts, AccountsError, load
from relay.accounts_rules import HOUSE_COST, cost

INTERVAL = 1.0  # seconds between two looks

Check = Callable[[Accounts], str | None]
OnChange = Callable[[Accounts, Accounts], None]


def load_checked(path: Path, check: Check | None) -> Accounts:
    """The file's accounts, if ``check`` does not object either. Raises :class:`AccountsError`."""
    accounts = load(path)
    problem = check(accounts) if check else None
    if problem:
        raise AccountsError([f"{path}: {problem}"])
    return accounts


class SystemJournal(Protocol):
    """The part of the journal that hears of reloads."""

    def system(self, event: str, **fields: str | int | float | bool) -> None: ...


class AccountsFile:
    """``current`` is what counts now; :meth:`watch` keeps it true to the file.

    ``check`` may object to a file that is right in itself (the trial's fence), with a sentence; it runs in a thread.
    ``on_change(old, new)`` runs in the loop after ``current`` has changed. Raises :class:`AccountsError` at once when
    the first reading fails.
    """

    def __init__(
        self, path: Path, *, journal: SystemJournal, check: Check | None = None, on_change: OnChange | None = None
    ) -> None:
        self._path, self._journal, self._check = path, journal, check
        self.on_change = on_change
        self._seen = self._signature()
        self.current = self._read()
        self.problem = ""  # why the file as it is now was not taken up
        self._warn(self.current)

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> Accounts:
        return load_checked(self._path, self._check)

    async def look(self) -> None:
        """Take up the file if it is another one than at the last look.

        The signature is taken before reading: a change in between differs from it at the next look.
        """
        signature = self._signature()
        if signature == self._seen:
            return
        self._seen = signature
        try:
            accounts = await asyncio.to_thread(self._read)
        except AccountsError as error:
            self.problem = "; ".join(error.problems)
            self._journal.system("accounts_broken", problem=self.problem)
            return
        old, self.current, self.problem = self.current, accounts, ""
        self._journal.system("accounts_reloaded", accounts=len(accounts))
        self._warn(accounts)
        if self.on_change:
            self.on_change(old, accounts)

    def _warn(self, accounts: Accounts) -> None:
        if len(accounts.costs) > 1:
            names = [a.name for a in accounts if not a.disabled and cost(a.password_hash) not in {"", HOUSE_COST}]
            self._journal.system(
                "warning",
                text="These accounts' passwords are hashed at another cost than `make account` uses, and the time of a "
                "refused login tells strangers which accounts exist; set them anew "
                f'(`make account ARGS="password NAME"`): {", ".join(names)}',
            )

    async def watch(self, stop: asyncio.Event) -> None:
        """Look every :data:`INTERVAL` seconds until ``stop`` is set."""
        while not stop.is_set():
            await self.look()
            try:
                await asyncio.wait_for(stop.wait(), INTERVAL)
            except TimeoutError:
                continue
