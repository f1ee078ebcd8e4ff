"""What the providers, taken together, can carry, and for whom: asked at MAIL, so that mail which none of them would
ever take is refused there and then, with a sentence, and not five days later.

Pure. Whether a provider is paused or has used up its quota is no matter here: mail waits for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from relay import limits
from relay.address import fold
from relay.choice.offer import Terms
from relay.choice.routes import Routes

ANY_SIZE = 1 << 62


@dataclass(frozen=True, slots=True)
class Reach:
    """``terms`` of every configured provider, and the routes between them."""

    terms: tuple[Terms, ...]
    routes: Routes
    size_limit: int = field(init=False)  # bytes that at least one provider carries, with room for fields that are added
    _simple: bool = field(init=False, repr=False)  # every message may use every provider

    def __post_init__(self) -> None:
        """Work out once what holds for every message."""
        object.__setattr__(self, "size_limit", _largest(self.terms))
        object.__setattr__(self, "_simple", not self.routes.routes and not any(one.senders for one in self.terms))

    def serves(self, account: str, sender: str) -> bool:
        """Whether a provider on the route of this account takes mail from ``sender``, an address."""
        return self._simple or any(True for _ in self._serving(account, sender))

    def size_limit_of(self, account: str, sender: str) -> int:
        """As ``size_limit``, of the providers that a message of this account from ``sender`` may use."""
        return self.size_limit if self._simple else _largest(self._serving(account, sender))

    def _serving(self, account: str, sender: str) -> Iterator[Terms]:
        folded = fold(sender)
        domain = folded.rpartition("@")[2]
        allowed = self.routes.of(account, domain).providers
        return (one for one in self.terms if one.name in allowed and one.serves(folded, domain))


def _largest(terms: Iterable[Terms]) -> int:
    """The largest limit less what we add; any size where one of them is not known, for its EHLO decides."""
    known = [one.size_limit - limits.SIZE_RESERVE if one.size_limit else ANY_SIZE for one in terms]
    return max(known, default=ANY_SIZE)
