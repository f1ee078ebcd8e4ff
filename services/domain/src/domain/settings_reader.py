"""Takes settings out of a mapping and gathers what is wrong with them, so that all of it can be told at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from common import names

T = TypeVar("T")


class SettingsError(Exception):
    """Some settings are wrong; ``problems`` holds one sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Reader:
    """Takes values out of a mapping and gathers what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def problem(self, name: str, sentence: str) -> None:
        """Notes a problem once."""
        if (line := f"{name}: {sentence}") not in self.problems:
            self.problems.append(line)

    def text(self, name: str, default: str = "") -> str:
        """The value of ``name``, or what the file named by ``NAME_FILE`` holds; the file wins."""
        value, file = self._environ.get(name, "").strip(), self._environ.get(f"{name}_FILE", "").strip()
        if value and file:
            self._warn(f"{name}: given together with {name}_FILE; the file is used.")
        if file:
            value = self._from_file(f"{name}_FILE", Path(file))
        return value or default

    def secret(self, name: str) -> str:
        """A value that goes into an HTTP header. Never shown, not even when it is wrong.

        A warning if it stands in a file that everybody can read.
        """
        value, file = self.text(name), self._environ.get(f"{name}_FILE", "").strip()
        if file and _for_everybody(Path(file)):
            self.warnings.append(
                f"{name}_FILE: {file!a} can be read by every user of this machine; chmod 640 or 600 mends it."
            )
        if value and not (value.isascii() and value.isprintable() and " " not in value):
            self.problem(name, "has characters that no key has; copy it anew, on one line.")
        return value

    def read(self, name: str, value: str, convert: Callable[[str], T], default: T) -> T:
        """``value`` converted, or a problem."""
        try:
            return convert(value)
        except ValueError as error:
            self.problem(name, str(error))
            return default

    def names(self, name: str, default: str = "") -> tuple[str, ...]:
        found = [self.read(name, one, names.domain_name, "") for one in listed(self.text(name, default))]
        return tuple(dict.fromkeys(one for one in found if one))

    def address(self, name: str) -> str:
        value = self.text(name)
        return self.read(name, value, names.address, "") if value else ""

    def yes(self, name: str) -> bool | None:
        """Yes or no, None where it is not set."""
        value = self.text(name).lower()
        if value not in ("", "yes", "no"):
            self.problem(name, f"{value!r} is not known; allowed are yes, no.")
        return {"yes": True, "no": False}.get(value)

    def port(self, name: str, default: int) -> int:
        value = self.text(name)
        if value and not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
            self.problem(name, f"{value!r} is not a port; allowed are 1 to 65535.")
            return default
        return int(value or default)

    def path(self, name: str, default: str) -> Path:
        value = self.text(name, default)
        if not value.startswith("/"):
            self.problem(name, f"{value!r} is not an absolute path.")
        return Path(value)

    def url(self, name: str, value: str) -> str:
        """A base URL: https, or http on this machine, so that no key ever travels in the clear."""
        parts = urlsplit(value)
        here = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if not parts.hostname or parts.scheme not in (("https", "http") if here else ("https",)) or parts.username:
            self.problem(name, f"{value!r} is not a URL that begins with https://.")
        return value.rstrip("/")

    def unknown(self, prefix: str, known: Collection[str]) -> None:
        """Names with ``prefix`` that nobody reads are most likely misspelt."""
        for name in self._environ:
            if name.startswith(prefix) and name not in known and name.removesuffix("_FILE") not in known:
                near = difflib.get_close_matches(name, known, 1)
                self.problem(name, f"there is no such setting{f'; did you mean {near[0]}?' if near else '.'}")

    def _warn(self, line: str) -> None:
        """Notes a warning once: some values are asked for twice."""
        if line not in self.warnings:
            self.warnings.append(line)

    def _from_file(self, name: str, path: Path) -> str:
        try:
            value = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.problem(name, f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.")
            return ""
        if not value:
            self.problem(name, f"{path} is empty.")
        return value


def listed(text: str) -> list[str]:
    """The words of a list, with or without commas."""
    return text.replace(",", " ").split()


def _for_everybody(path: Path) -> bool:
    """Whether every user of the machine can read, write or run it; what cannot be looked at is told elsewhere."""
    try:
        return bool(path.stat().st_mode & 0o007)
    except OSError:
        return False
