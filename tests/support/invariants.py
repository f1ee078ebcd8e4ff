"""What holds in a spool at every moment, whatever happened to it before: one checker for all crash tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from relay.model import FAILED_STATES, OPEN_STATES, State
from relay.spool.schema import MASK, SHIFT


@dataclass
class Kept:
    """One message as it lies in the spool."""

    deliveries: dict[str, State]  # recipient -> state
    doubts: dict[str, int]
    attempts: dict[str, int]
    body: bytes | None  # None: every delivery has ended, and nothing that failed can be tried again
    events: list[str] = field(default_factory=list)


def check(folder: Path) -> dict[str, Kept]:
    """Assert the invariants of the spool in ``folder``, which nobody writes now; returns its messages by id."""
    connection = apsw.Connection(str(folder / "spool.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return _check(connection)
    finally:
        connection.close()


def _check(connection: apsw.Connection) -> dict[str, Kept]:
    run = connection.execute
    assert run("PRAGMA integrity_check").fetchall() == [("ok",)]
    messages: list[Any] = run(
        "SELECT key, id, size, recipients, chunks, ended_at, kept, gone_at FROM message"
    ).fetchall()
    uploads = {row[0] for row in run("SELECT key FROM upload")}
    keys = {row[0] for row in messages}
    assert not uploads & keys, "an upload that is already a message"
    chunks: dict[int, dict[int, bytes]] = {}
    for number, data in run("SELECT id, data FROM chunk ORDER BY id"):
        chunks.setdefault(number >> SHIFT, {})[number & MASK] = data
    assert set(chunks) <= keys | uploads, "chunks that belong to nothing"
    deliveries: dict[int, list[Any]] = {}
    for row in run("SELECT id, recipient, state, doubts, attempts, acknowledged FROM delivery ORDER BY id"):
        deliveries.setdefault(row[0] >> SHIFT, []).append(row)
    assert set(deliveries) == keys, "deliveries without a message, or a message without deliveries"
    events: dict[int, list[str]] = {}
    for key, kind in run("SELECT message, kind FROM event ORDER BY message, seq"):
        events.setdefault(key, []).append(kind)
    assert set(events) <= keys | {0}, "events of nothing"
    return {
        row[1]: _check_message(row, deliveries[row[0]], chunks.get(row[0], {}), events.get(row[0], []))
        for row in messages
    }


def _check_message(row: tuple[Any, ...], deliveries: list[Any], chunks: dict[int, bytes], events: list[str]) -> Kept:
    key, name, size, recipients, number, ended_at, kept, gone_at = row
    assert [one[0] for one in deliveries] == [key << SHIFT | n for n in range(recipients)], f"{name}: some deliveries"
    states = {one[1]: State(one[2]) for one in deliveries}
    is_open = any(state in OPEN_STATES for state in states.values())
    assert is_open == (ended_at is None), f"{name}: ended_at does not tell whether it has ended"
    body = b"".join(chunks[n] for n in sorted(chunks))
    failed = any(State(one[2]) in FAILED_STATES and not one[5] for one in deliveries)
    assert not kept or (not is_open and failed and gone_at is None), f"{name}: a body that nobody wants is kept"
    if is_open or kept:
        assert sorted(chunks) == list(range(number)), f"{name}: a body with a hole"
        assert len(body) == size, f"{name}: half a body"
    else:
        assert not chunks, f"{name}: a body that nobody needs any more"
    doubts, attempts = {one[1]: one[3] for one in deliveries}, {one[1]: one[4] for one in deliveries}
    return Kept(states, doubts, attempts, body if is_open or kept else None, events)
