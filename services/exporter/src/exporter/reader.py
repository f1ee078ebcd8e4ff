"""Takes settings out of a mapping, each with its ``NAME_FILE`` twin, and gathers what is wrong with them.

An empty value counts as not given: Compose passes variables that nobody set as empty ones. One pair of matching quotes
around a value is taken off, for not every reader of ``.env`` does that. A secret in a file that every user of the
machine can read is a warning.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from common.names import host_name

T = TypeVar("T", bound=str)
SHOWN = 80  # characters of a wrong value that are quoted back
MOST = 64 * 1024  # characters of a value


class Reader:
    """``asked`` holds every name it was asked for: those are the names that exist."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.asked: set[str] = set()
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def problem(self, name: str, sentence: str) -> None:
        self.problems.append(f"{name}: {sentence}")

    def wrong(self, name: str, value: str, allowed: str) -> None:
        shown = ascii(value if len(value) <= SHOWN else value[: SHOWN - 3] + "...")
        self.problem(name, f"{shown} is not allowed; allowed: {allowed}.")

    def text(self, name: str, default: str = "") -> str:
        """The value of ``name``, or what the file named by ``NAME_FILE`` holds; the file wins."""
        self.asked |= {name, f"{name}_FILE"}
        value, file = self._environ.get(name, "").strip(), self._environ.get(f"{name}_FILE", "").strip()
        if value and file:
            self.warnings.append(f"{name}: given together with {name}_FILE; the file is used.")
        if file:
            return self._from_file(f"{name}_FILE", Path(_unquoted(file)))
        return _unquoted(value) or default

    def secret(self, name: str) -> str:
        """As :meth:`text`, with a warning if everybody can read it."""
        value, file = self.text(name), self._environ.get(f"{name}_FILE", "").strip()
        if file and _for_everybody(Path(_unquoted(file))):
            self.warnings.append(
                f"{name}_FILE: {_unquoted(file)!a} can be read by every user of this machine; "
                "chmod 640 or 600 mends it."
            )
        return value

    def choice(self, name: str, allowed: tuple[T, ...], default: T) -> T:
        value = self.text(name, default)
        for one in allowed:
            if value.lower() == one:
                return one
        self.wrong(name, value, ", ".join(allowed))
        return default

    def port(self, name: str, default: int, *, off: bool = False) -> int:
        value = self.text(name, str(default))
        if re.fullmatch(r"[0-9]{1,5}", value) and (off or int(value)) and int(value) <= 65535:
            return int(value)
        self.wrong(name, value, "a whole number from 1 to 65535" + (", or 0 for off" if off else ""))
        return default

    def path(self, name: str, default: str) -> Path:
        value = self.text(name, default)
        if not value.startswith("/"):
            self.wrong(name, value, "a path that begins with /")
        return Path(value)

    def address(self, name: str, default: str) -> str:
        """An IP address in its canonical form; brackets around IPv6 are taken off."""
        value = self.text(name, default)
        try:
            return str(ipaddress.ip_address(value.removeprefix("[").removesuffix("]")))
        except ValueError:
            self.wrong(name, value, "an address such as 127.0.0.1, 0.0.0.0 or ::")
            return default

    def hosts(self, name: str) -> tuple[str, ...]:
        """Host names in lower case and punycode."""
        found = []
        for word in self.text(name).replace(",", " ").split():
            host = host_name(word)
            if host:
                found.append(host)
            else:
                self.wrong(name, word, "host names such as mail.example.org, separated by spaces")
        return tuple(dict.fromkeys(found))

    def _from_file(self, name: str, path: Path) -> str:
        try:
            with path.open(encoding="utf-8") as file:
                value = file.read(MOST + 1).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            self.problem(name, f"{str(path)!a} cannot be read: {reason}; allowed: a file with the value.")
            return ""
        if not value or len(value) > MOST:
            self.problem(name, f"{str(path)!a} is {'too long' if value else 'empty'}; allowed: a file with it.")
            return ""
        return value


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"" else value


def _for_everybody(path: Path) -> bool:
    """Whether every user of the machine can read, write or run it; what cannot be looked at is told elsewhere."""
    try:
        return bool(path.stat().st_mode & 0o007)
    except OSError:
        return False
