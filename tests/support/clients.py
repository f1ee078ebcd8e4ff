"""What the tests of single clients share: a relay with a provider that records, and a comparison that shows little.

A test hands a :class:`~support.letters.Letter` to its client and says what the client is documented to change in it.
Whatever else differs at the provider is a failure.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from email.utils import parseaddr
from pathlib import Path

from support.appliance import PASSWORD, Appliance
from support.letters import SENDER, Letter, signature_holds
from support.recorder import Recorder
from support.sink import Taken

HOP = rb"Received: from (?:.|\r\n[ \t])*?\r\n(?=[^ \t])"  # what a mail server puts in front
RECEIVED = re.compile(rb"\AReceived: [^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n")
USER = "anna"
Change = Callable[[bytes], bytes]


@dataclass
class Matrix:
    """One relay for all clients, and its provider."""

    relay: Appliance
    provider: Recorder

    @property
    def ca(self) -> str:
        """The authority that clients have to trust."""
        return str(self.relay.ca)

    def arrived(
        self,
        letter: Letter,
        *,
        own: bytes = rb"",
        change: Change = lambda data: data,
        count: int = 1,
        signed: bool = True,
        author: str = "",
        reports: int = 1,
    ) -> None:
        """The provider has ``letter``, for exactly its good recipients, in ``count`` transactions.

        ``own``: a pattern of the fields that the client puts in front. ``change``: what it is documented to do to the
        rest. ``signed``: the client has left the signature, if there is one, whole. ``author``: from whom the
        sender gets the client's own reports about those who were refused.
        """
        told = bool(author and letter.refused)
        taken = self.provider.wait(count + told * reports)
        if told:
            _told([one for one in taken if _is_report(one)], letter, author)
            taken = [one for one in taken if not _is_report(one)]
        assert sorted(address for one in taken for address in one.recipients) == sorted(letter.recipients)
        for one in taken:
            self._check(letter, one, own, change)
            assert not (signed and letter.name.startswith("signed")) or signature_holds(one.content)

    def _check(self, letter: Letter, one: Taken, own: bytes, change: Change) -> None:
        assert one.mail.startswith(f"MAIL FROM:<{SENDER}>"), one.mail
        ours = RECEIVED.match(one.content)
        assert ours, one.content[:300]
        assert b"127.0.0.1" not in ours[0], "the client's address is nobody's business"
        rest = one.content[ours.end() :]
        theirs = re.match(own, rest)
        assert theirs, f"the client's own fields: {rest[:400]!r}"
        same(rest[theirs.end() :], change(letter.data))


def _is_report(one: Taken) -> bool:
    """Clients send them with the null sender, which goes out as postmaster."""
    return one.mail.startswith("MAIL FROM:<postmaster@example.org>")


def _told(reports: list[Taken], letter: Letter, author: str) -> None:
    """The sender, and nobody else, learns of all who were refused."""
    for one in reports:
        assert one.recipients == [SENDER]
        assert parseaddr(message_from_bytes(one.content)["From"])[1].lower() == author
    text = b"".join(one.content for one in reports).decode()
    assert [address for address in letter.refused if address not in text] == []


def same(got: bytes, wanted: bytes) -> None:
    """Fails with the first difference and little around it: an assertion on 40 MiB would take minutes to print."""
    if got == wanted:
        return
    at = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
    show = slice(max(0, at - 60), at + 60)
    raise AssertionError(f"{len(got)} bytes for {len(wanted)}; at {at}:\n{got[show]!r} for\n{wanted[show]!r}")


def run(*command: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a client to its end; the caller looks at its exit code."""
    environ = {"PATH": os.environ["PATH"] + ":/usr/sbin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **(env or {})}
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=90, env=environ)


def secret_file(folder: Path, name: str, text: str) -> str:
    """A file that only its owner can read, as clients want their passwords kept."""
    file = folder / name
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


__all__ = ["HOP", "PASSWORD", "USER", "Matrix", "run", "same", "secret_file"]
