"""What the long tests have counted, printed at the end of the run."""

from __future__ import annotations

FIGURES: list[str] = []


def figures(what: str, **counts: int | str) -> None:
    """Have these printed at the end of the run, whatever becomes of the test."""
    told = (f"{name.replace('_', ' ')} {n if isinstance(n, str) else format(n, ',')}" for name, n in counts.items())
    FIGURES.append(f"{what}: " + ", ".join(told))
