"""What a receiver makes of an SPF record: pyspf, asking a table instead of the net."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its docstrings have escapes that Python 3.12 and later warn about
    import spf as pyspf  # type: ignore[import-untyped]

World = Mapping[tuple[str, str], list[Any]]
"""By name and type: texts for TXT, (preference, host) for MX, addresses for A."""


def judge(world: World, domain: str, sender: str) -> tuple[str, int]:
    """The result for mail in the name of ``domain`` from the address ``sender``, and the look-ups it took."""

    def look_up(name: str, kind: str, *_: object, **__: object) -> Iterator[tuple[tuple[str, str], Any]]:
        for answer in world.get((name.lower().rstrip("."), kind), []):
            yield (name, kind), (answer.encode(),) if kind == "TXT" else answer

    pyspf.DNSLookup = look_up
    query = pyspf.query(i=sender, s=f"me@{domain}", h="client.example", strict=False)
    return str(query.check()[0]), int(query.lookups)
