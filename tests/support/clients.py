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
from pathlib import Path

from support.appliance import PASSWORD, Appliance
from support.letters import SENDER, Letter, signature_holds
from support.recorder import Recorder
from support.sink import Taken

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
    ) -> None:
        """The provider has ``letter``, for exactly its good recipients, in ``count`` transactions.

        ``own``: a pattern of the fields that the client puts in front. ``change``: what it is documented to do to the
        rest. ``signed``: the client has left the signature, if there is one, whole.
        """
        taken = self.provider.wait(count)
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


__all__ = ["PASSWORD", "USER", "Matrix", "run", "same", "secret_file"]
