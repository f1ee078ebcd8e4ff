"""What every reader gives back, and what it must do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from .. import dmarc, spf
from ..api import Unreachable
from ..pasted import made
from ..records import Record

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Authentication:
    """A domain as the provider has it. ``valid``: the provider has seen the records and is content.

    ``domain`` may be one below that which was asked for: it signs for both. ``selectors`` are of DKIM keys that the
    owner made and looks after: they are looked at and never touched.
    """

    domain: str
    id: str
    valid: bool
    records: tuple[Record, ...]
    spf: tuple[str, ...] = ()
    selectors: tuple[str, ...] = ()


class Service(Protocol):
    """One provider's API. Every call raises ApiError, NotAllowed or Unreachable."""

    def find(self, domain: str) -> Authentication | None: ...

    def create(self, domain: str) -> None: ...

    def validate(self, found: Authentication) -> str:
        """Empty if the provider is content now, else its reason in a sentence."""
        ...


def gather(domain: str, identity: str, valid: bool, rows: Iterable[tuple[str, str, str, int | None]]) -> Authentication:
    """An Authentication from (type, name, content, priority) as an API gave them. Raises ValueError."""
    records: list[Record] = []
    needs: list[str] = []
    for kind, name, content, priority in rows:
        record = made(kind.upper(), name, content, domain, priority)
        if record.type in ("A", "AAAA"):
            raise ValueError(f"{record.type} records are not for authentication.")
        if record.type == "TXT" and record.name == domain and spf.is_spf(record.content):
            needs += spf.parse(record.content).mechanisms
        elif not (record.type == "TXT" and dmarc.is_dmarc(record.content)):
            records.append(record)
    return Authentication(domain, identity, valid, tuple(records), tuple(needs))


def shaped(service: str, take: Callable[[], T]) -> T:
    """The value, or Unreachable where the answer has another form than the documented one."""
    try:
        return take()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        raise Unreachable(f"{service} sent an answer in a form that is not documented.") from None


def number(value: Any) -> int | None:
    """A priority as some APIs give it: a number, a text, nothing."""
    return int(value) if value not in (None, "") else None
