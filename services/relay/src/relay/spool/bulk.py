"""Statements that carry many rows each: what a group costs an accepting process is the number of their steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

import apsw

from relay.spool.rows import Row

_SIZES: Final = (64, 32, *range(16, 0, -1))


class Bulk:
    """One statement in several lengths, so that any number of rows takes few steps and few texts to prepare."""

    def __init__(self, before: str, row: str, after: str = "") -> None:
        self._texts = {n: before + ", ".join([row] * n) + after for n in _SIZES}

    def run(self, connection: apsw.Connection, values: Sequence[Row]) -> None:
        """Execute it for all ``values``."""
        at, left = 0, len(values)
        for n in _SIZES:
            while left >= n:
                connection.execute(self._texts[n], tuple(chain.from_iterable(values[at : at + n])))
                at, left = at + n, left - n


def insert(table: str, columns: str, name: str = "", constant: str | int = "") -> Bulk:
    """An INSERT of ``columns`` into ``table``; in all rows the column ``name`` is ``constant``, as SQL writes it."""
    marks = ", ".join("?" * len(columns.split(",")))
    names, extra = (f"{columns}, {name}", f", {constant}") if name else (columns, "")
    return Bulk(f"INSERT INTO {table} ({names}) VALUES ", f"({marks}{extra})")
