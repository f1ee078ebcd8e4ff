"""Takes typed values out of a mapping of names and gathers all that is wrong with them.

What holds for every setting of every service:

- ``NAME_FILE`` names a file with the value. If both are given the file wins, and a warning says so. A file that cannot
  be read, is empty or holds no text is a problem. A secret in a file that every user of the machine can read is a
  warning and no more: Docker's own secrets are so, and a file system that knows no modes shows any.
- An empty value counts as not given: Compose passes variables that nobody set as empty ones.
- A value wrapped in one pair of matching quotes loses them: Compose's reader of ``.env`` takes them off, plainer
  readers (``docker run --env-file``) leave them on, and the same file must mean the same to both. Of a secret, that is
  a warning; a secret whose quotes belong to it stands in a file, which is taken as it is, less the newline at its end.
- A problem is one sentence, ``NAME: 'value' is not ...; allowed: ...``; the value of a secret is never shown.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from common import names

T = TypeVar("T", bound=str)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SIZE_UNITS = {"": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
VALUE_LENGTH = 64 * 1024  # characters; a file named by mistake (a disk image) is not swallowed whole
RUN = Path("/run/ownpost")  # where the containers have the programs' sockets
SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its NUL
SHOWN = 80  # characters of a wrong value that are quoted back
_SIZE = re.compile(r"([0-9]{1,15}) ?(|kib|mib|gib)", re.IGNORECASE)


class SettingsError(Exception):
    """Some settings are wrong; ``problems`` holds one sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def shown(value: str) -> str:
    """``value`` in quotes, short, on one line whatever it holds."""
    return ascii(value if len(value) <= SHOWN else value[: SHOWN - 3] + "...")


class Reader:
    """A mapping of settings. ``asked`` holds every name it was asked for: those are the names that exist."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.asked: set[str] = set()
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []  # what is assumed where nothing was set, in the form of a warning

    def problem(self, name: str, sentence: str) -> None:
        """Notes a problem, once. ``name`` may be anything that stood before an equals sign."""
        line = f"{name if name.isprintable() else ascii(name)}: {sentence}"
        if line not in self.problems:
            self.problems.append(line)

    def warn(self, name: str, sentence: str) -> None:
        """Notes a warning, once: some values are asked for twice."""
        if (line := f"{name}: {sentence}") not in self.warnings:
            self.warnings.append(line)

    def wrong(self, name: str, value: str, what: str, allowed: str) -> None:
        self.problem(name, f"{shown(value)} is not {what}; allowed: {allowed}.")

    def finish(self) -> tuple[str, ...]:
        """The warnings. Raises SettingsError with everything that is wrong."""
        if self.problems:
            raise SettingsError(tuple(self.problems))
        return tuple(self.warnings)

    def given(self, name: str) -> bool:
        """Whether anything is given for ``name`` or its file."""
        return any(_bare(self.environ.get(one, ""))[0].strip() for one in (name, f"{name}_FILE"))

    def text(self, name: str, default: str = "") -> str:
        """The value of ``name`` without white space around it."""
        value, _ = self._value(name, secret=False)
        return value.strip() or default

    def secret(self, name: str) -> str:
        """The value of ``name``, byte for byte but for quotes and the newline at its end; never shown in a problem."""
        value, quoted = self._value(name, secret=True)
        if quoted and value:
            self.warn(name, "the quotes around the value were taken off; if they belong to it, use " + name + "_FILE.")
        value = value.rstrip("\r\n") if value.strip() else ""
        if any(char < " " or char == "\x7f" for char in value):
            self.problem(name, "holds a control character or a second line; allowed: one line of text.")
        return value

    def token(self, name: str) -> str:
        """A secret made by a machine, such as an API key: white space around it is a slip of the hand; "" if wrong."""
        value = self.document(name)
        if all("!" <= char <= "~" for char in value):
            return value
        self.problem(name, "has characters that no key has; copy it anew, on one line.")
        return ""

    def document(self, name: str) -> str:
        """A secret of many lines, such as a key file; never shown in a problem."""
        return self._value(name, secret=True)[0].strip()

    def words(self, name: str, default: str = "") -> tuple[str, ...]:
        """A list, separated by commas or white space, without repetitions."""
        return tuple(dict.fromkeys(self.text(name, default).replace(",", " ").split()))

    def choice(self, name: str, allowed: tuple[T, ...], default: T) -> T:
        value = self.text(name, default)
        for one in allowed:
            if value.lower() == one:
                return one
        self.wrong(name, value, "known", ", ".join(filter(None, allowed)))
        return default

    def yes(self, name: str, default: str) -> bool:
        return self.choice(name, ("yes", "no"), default) == "yes"

    def number(self, name: str, default: int, low: int, high: int, *, off: bool = False) -> int:
        """A whole number from ``low`` to ``high``, or 0 where that means off."""
        value = self.text(name, str(default))
        if re.fullmatch(r"[0-9]{1,15}", value) and (low <= int(value) <= high or (off and int(value) == 0)):
            return int(value)
        also = ", or 0 for off" if off else ""
        self.wrong(name, value, "such a number", f"a whole number from {low} to {high}{also}")
        return default

    def port(self, name: str, default: int, *, off: bool = False) -> int:
        return self.number(name, default, 1, 65535, off=off)

    def size(self, name: str, default: int, low: int, high: int) -> int:
        """Bytes, as a number or with one of the units KiB, MiB, GiB."""
        value = self.text(name)
        found = _SIZE.fullmatch(value)
        bytes_ = int(found[1]) * SIZE_UNITS[found[2].lower()] if found else default
        if (not value or found) and low <= bytes_ <= high:
            return bytes_
        self.wrong(name, value, "such a size", f"{low // 1024**2}MiB to {high // 1024**2}MiB, or as many bytes")
        return default

    def path(self, name: str, default: Path | None = None) -> Path:
        """An absolute path; without a default, ``Path()`` while it is not given."""
        value = self.text(name, str(default or ""))
        if value.startswith("/") or (not value and default is None):
            return Path(value)
        self.wrong(name, value, "an absolute path", "a path that begins with /")
        return default or Path()

    def run(self, name: str, socket: Path) -> Path:
        """The folder of all programs' sockets; that of ``socket`` below it must not be too long to be bound."""
        path = self.path(name, RUN)
        if len(bytes(path / socket)) > SOCKET_PATH_BYTES:
            room = SOCKET_PATH_BYTES - len(bytes(socket)) - 1
            self.wrong(name, str(path), "short enough for a socket below it", f"a path of {room} bytes")
        return path

    def address(self, name: str, default: str) -> str:
        """An IP address in its canonical form; brackets around IPv6 are taken off. Empty only if ``default`` is."""
        value = self.text(name, default)
        try:
            return str(ipaddress.ip_address(value.removeprefix("[").removesuffix("]"))) if value else ""
        except ValueError:
            self.wrong(name, value, "an IP address", "an address such as 127.0.0.1, 0.0.0.0 or ::")
            return default

    def host(self, name: str, value: str, what: str = "a host name such as mail.example.org") -> str:
        """``value`` in DNS form, with at least two labels; "" (and a problem) if it is no host name."""
        found = names.host_name(value)
        if "." not in found:
            self.wrong(name, value, "a full name", what)
            return ""
        return found

    def server(self, name: str) -> str:
        """A host name of any length, or an IP address, in canonical form; "" while it is not given."""
        value = self.text(name)
        found = names.server(value)
        if value and not found:
            self.wrong(name, value, "a host", "a host name or an IP address")
        return found

    def domains(self) -> tuple[str, ...]:
        """OWNPOST_DOMAINS, which there must be, in DNS form; the first is the main one."""
        name = "OWNPOST_DOMAINS"
        if not self.given(name):
            self.problem(name, "missing; allowed: the domains that mail is sent from, the main one first.")
        found = (self.host(name, word, "domains such as example.org") for word in self.words(name))
        return tuple(dict.fromkeys(filter(None, found)))

    def hostname(self, domains: tuple[str, ...]) -> str:
        """OWNPOST_HOSTNAME in DNS form; by default the main domain's ``mail.``."""
        value = self.text("OWNPOST_HOSTNAME", f"mail.{domains[0]}" if domains else "")
        return self.host("OWNPOST_HOSTNAME", value) if value else ""

    def unknown(self, given: Collection[str], known: Collection[str]) -> None:
        """A problem for each of ``given`` that has a value and is not ``known``: it is most likely misspelt."""
        for name in sorted(given):
            if name in known or not self.environ.get(name, "").strip():
                continue
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
            hint = f"did you mean {near[0]}?" if near else "allowed: the names in .env.example."
            self.problem(name, f"is not a known setting; {hint}")

    def _value(self, name: str, *, secret: bool) -> tuple[str, bool]:
        """The value, and whether quotes were taken off it."""
        self.asked |= {name, f"{name}_FILE"}
        value, file = self.environ.get(name, ""), _bare(self.environ.get(f"{name}_FILE", ""))[0].strip()
        if file:
            if _bare(value)[0].strip():
                self.warn(name, f"given together with {name}_FILE; the file is used.")
            return self._from_file(f"{name}_FILE", Path(file), secret=secret), False
        if not value.isascii() and not _is_text(value):
            self.problem(name, "holds bytes that are not UTF-8; allowed: text in UTF-8.")
            return "", False
        return _bare(value)

    def _from_file(self, name: str, path: Path, *, secret: bool) -> str:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:  # some editors begin a text with a mark (U+FEFF)
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                value = file.read(VALUE_LENGTH + 1)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it holds no text"
            self.problem(name, f"{shown(str(path))} cannot be read: {reason}; allowed: a file with the value.")
            return ""
        if not value.strip() or len(value) > VALUE_LENGTH:
            what = "is too long" if value.strip() else "is empty"
            self.problem(name, f"{shown(str(path))} {what}; allowed: a file with the value.")
            return ""
        if secret and mode & 0o007:
            self.warn(name, f"{shown(str(path))} can be read by every user of this machine; chmod 640 or 600 mends it.")
        return value


def _bare(value: str) -> tuple[str, bool]:
    """``value`` without the one pair of matching quotes around it, and whether there is one."""
    inner = value.strip()
    if len(inner) >= 2 and inner[0] == inner[-1] and inner[0] in "'\"":
        return inner[1:-1], True
    return value, False


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # surrogates: bytes of the environment that were not UTF-8
        return False
    return True
