"""The relay, as a command in front of it, with a mistake in it: it ends whenever it is about to send a mail with a
field ``X-Poison: kill`` (at once) or ``X-Poison: raise`` (by an error).

``python -m support.poisoned [what would have been run]``
"""

from __future__ import annotations

import os
import runpy
import signal

from relay.delivery.carrier import SmtpCarrier
from relay.delivery.outcome import Finding
from relay.model import Job


async def carry(self: SmtpCarrier, job: Job) -> list[Finding]:
    """Takes the place of carrying a message."""
    body = job.body or b""
    if b"\r\nX-Poison: kill\r\n" in body:
        os.kill(os.getpid(), signal.SIGKILL)
    if b"\r\nX-Poison: raise\r\n" in body:
        raise ValueError("a mistake of ours")
    return await carry_on(self, job)


if __name__ == "__main__":
    carry_on = SmtpCarrier.carry
    SmtpCarrier.carry = carry  # type: ignore[method-assign]
    runpy.run_module("relay", run_name="__main__", alter_sys=True)
