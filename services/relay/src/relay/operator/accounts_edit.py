"""``accounts.toml`` while the operator changes it: locked, checked, and replaced whole."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.accounts import Account, Accounts, AccountsError, parse
from relay.settings import CONFIG


class Refused(Exception):  # it is no error of ours
    """What was asked cannot be done; the text says why and what to do."""


class AccountsText:
    """The file's text and what it means. ``path`` need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # a link is kept, and what it points to is replaced
        try:
            self.text = self.path.read_text("utf-8")
        except FileNotFoundError:
            self.text = ""
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{self.path} cannot be read: {error}") from None
        self.accounts = (
            self._parse(self.text, "is wrong and has to be mended by hand first")
            if self._says_anything()
            else Accounts()
        )

    def _says_anything(self) -> bool:
        return any(line.strip() and not line.lstrip().startswith("#") for line in self.text.splitlines())

    def _parse(self, text: str, what: str) -> Accounts:
        try:
            return parse(text.encode())
        except AccountsError as error:
            raise Refused(f"{self.path} {what}:\n  " + "\n  ".join(error.problems)) from None

    def account(self, name: str) -> Account:
        """The account of that name; raises :class:`Refused` with the names that there are."""
        account = self.accounts.find(name)
        if account is None:
            there = ", ".join(account.name for account in self.accounts) or "none yet"
            raise Refused(f"there is no account {name}; there are: {there}")
        return account

    def write(self, text: str) -> None:
        """Put ``text`` in the file's place if the relay would take it."""
        accounts = self._parse(text, "would not be taken by the relay like that")
        folder = self.path.parent
        handle, name = tempfile.mkstemp(prefix=".accounts-", suffix=".toml", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:  # mkstemp's mode is 0600
                file.write(text)
                file.flush()
                self._give_to_owner(file.fileno())
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(folder)
        self.text, self.accounts = text, accounts

    def _give_to_owner(self, handle: int) -> None:
        """Root writes for whom the file, or its folder, belongs to: the relay runs as that user."""
        if os.geteuid() == 0:
            owner = (self.path if self.path.exists() else self.path.parent).stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def accounts_for_editing() -> Iterator[AccountsText]:
    """The file in the folder ``RELAY_CONFIG``, nobody else editing it in the meantime; raises :class:`Refused`."""
    folder = Path(os.environ.get("RELAY_CONFIG") or CONFIG)
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Refused(f"RELAY_CONFIG={folder}: {error.strerror}; it is the folder that holds accounts.toml") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield AccountsText(folder / "accounts.toml")
    except OSError as error:
        raise Refused(f"{folder / 'accounts.toml'} cannot be written: {error.strerror}") from None
    finally:
        os.close(handle)
