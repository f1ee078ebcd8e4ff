"""How long something is left alone that cannot be taken now. Pure; times are Unix seconds.

Whoever waits is woken when delivery says that something opened; these times only bound what is looked at again without
that, and for how long.
"""

from __future__ import annotations

from typing import Final

from relay.choice.choose import Nobody, Wait

LATE: Final = 1.0  # for delivery to say that a pause which is over is over
ROOM: Final = 2.0  # for a provider to have room again for the one message that only it can take
PROBE: Final = 10.0  # for a provider to answer the one message that asks whether it knows the sender by now
AGAIN: Final = 300.0  # the longest: a provider may open earlier than was said
ROUND: Final = 300.0  # for a provider that has not been tried yet; then the round begins anew, with those that have


def flow_again(wait: Wait, now: float) -> float:
    """When to look at a blocked flow again, unless delivery wakes us: infinite if nothing but that can open it."""
    return wait.until if wait.until > now else now + LATE


def message_again(choice: Wait | Nobody, now: float) -> float:
    """When to look again at a message that nobody takes while others of its flow are taken."""
    if isinstance(choice, Nobody):
        return now + AGAIN
    if choice.for_room or choice.until <= now:
        return now + ROOM
    return min(choice.until, now + (PROBE if choice.for_probe else AGAIN))


def round_over(wait: Wait, now: float) -> bool:
    """Whether a message that was offered to some providers waits so long for the others that it had better begin a new
    round: the first may have recovered long before.
    """
    return not wait.for_room and wait.until > now + ROUND
