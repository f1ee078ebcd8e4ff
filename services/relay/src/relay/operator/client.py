"""Asks the running relay over its Unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ANSWER_TIME = 70.0  # seconds; the relay gives up a little earlier


class NoAnswer(Exception):
    """Nobody answers; the text is a sentence."""


class Rejected(Exception):
    """The relay answered that it cannot do that; the text is its sentence."""


class Client:
    """One relay, by the path of its socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, target: str, **query: str) -> Any:
        """What ``GET target`` answers. Raises :class:`NoAnswer` and :class:`Rejected`."""
        return self._ask("GET", target, query)

    def post(self, target: str, **query: str) -> Any:
        """As :meth:`get`, for what changes something."""
        return self._ask("POST", target, query)

    def _ask(self, method: str, target: str, query: Mapping[str, str]) -> Any:
        fields = {name: value for name, value in query.items() if value}
        text = urlencode(fields, errors="surrogateescape")
        connection = _Connection(self._path)
        try:
            connection.request(method, f"{target}?{text}" if text else target)
            answer = connection.getresponse()
            body = answer.read()
            found = json.loads(body)
        except OSError as error:
            raise NoAnswer(f"No relay answers on {self._path} ({error.strerror or error}). Does it run?") from error
        except (http.client.HTTPException, ValueError) as error:
            raise NoAnswer(f"What answers on {self._path} is not the relay, or it ended in mid-answer.") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise Rejected(str(found.get("error", f"The relay answered {answer.status}.")))
        return found


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_TIME)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise
