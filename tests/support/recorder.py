"""A provider that keeps envelope and bytes as they came over the wire."""

from __future__ import annotations

from support.appliance import eventually
from support.sink import Sink, Taken


class Recorder(Sink):
    """``commands`` holds every line that was no content."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.commands: list[bytes] = []
        super().__init__()

    def _hear(self, line: bytes) -> None:
        self.commands.append(line)

    def _take(self, taken: Taken) -> None:
        self.taken.append(taken)

    def wait(self, count: int = 1) -> list[Taken]:
        """The messages since the last call, once there are ``count``."""
        eventually(lambda: len(self.taken) >= count, f"{count} messages at the provider", 60)
        taken, self.taken = self.taken, []
        return taken
