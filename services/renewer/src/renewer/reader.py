"""Takes settings out of a mapping, each with its ``NAME_FILE`` twin, and gathers what is wrong with them.

An empty value counts as not given: Compose passes variables that nobody set as empty ones. A secret in a file that
every user of the machine can read is a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T", bound=str)


class Reader:
    """Takes values out of a mapping and gathers what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def problem(self, name: str, sentence: str) -> None:
        self.problems.append(f"{name}: {sentence}")

    def text(self, name: str, default: str = "") -> str:
        """The value of ``name``, or what the file named by ``NAME_FILE`` holds; the file wins."""
        value, file = self._environ.get(name, "").strip(), self._environ.get(f"{name}_FILE", "").strip()
        if value and file:
            self.warnings.append(f"{name}: given together with {name}_FILE; the file is used.")
        if file:
            value = self._from_file(f"{name}_FILE", Path(file))
        return value or default

    def secret(self, name: str) -> str:
        """As :meth:`text`, with a warning if everybody can read it."""
        value, file = self.text(name), self._environ.get(f"{name}_FILE", "").strip()
        if file and _for_everybody(Path(file)):
            self.warnings.append(
                f"{name}_FILE: {file!a} can be read by every user of this machine; chmod 640 or 600 mends it."
            )
        return value

    def choice(self, name: str, allowed: tuple[T, ...], default: T) -> T:
        value = self.text(name, default)
        for one in allowed:
            if value.lower() == one:
                return one
        self.problem(name, f"{value!r} is not known; allowed are {', '.join(filter(None, allowed))}.")
        return default

    def path(self, name: str, default: str = "", *, needed: bool = False) -> Path:
        value = self.text(name, default)
        if needed and not value:
            self.problem(name, "missing; name a file.")
        elif value and not value.startswith("/"):
            self.problem(name, f"{value!r} is not an absolute path.")
        return Path(value)

    def folder(self, name: str, default: str) -> Path:
        path = self.path(name, default)
        if path.is_absolute() and not path.is_dir():
            self.problem(name, f"{path} is not a folder; name an existing one.")
        return path

    def number(self, name: str, default: int, least: int, most: int) -> int:
        value = self.text(name, str(default))
        if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
            self.problem(name, f"{value!r} is not a whole number from {least} to {most}.")
            return default
        return int(value)

    def _from_file(self, name: str, path: Path) -> str:
        try:
            value = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.problem(name, f"{path} cannot be read: {getattr(error, 'strerror', 'it is not text')}.")
            return ""
        if not value:
            self.problem(name, f"{path} is empty.")
        return value


def _for_everybody(path: Path) -> bool:
    """Whether every user of the machine can read, write or run it; what cannot be looked at is told elsewhere."""
    try:
        return bool(path.stat().st_mode & 0o007)
    except OSError:
        return False
