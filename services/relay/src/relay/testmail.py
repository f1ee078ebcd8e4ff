"""The message of ``make send-test``: a small mail from the postmaster that goes the whole way, to the provider and on.

Its kind keeps it apart from clients' mail: no account's limits count it, and no notice is written when it fails,
because somebody sits there and watches.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

from relay import ids
from relay.address import Bad, parse_recipient
from relay.clock import Clock
from relay.model import Event, EventKind, Kind, Message
from relay.refusal import shown
from relay.spool import Spool, SpoolFull

TEXT = """\
This is the test message of the Ownpost relay {hostname}.

If you read this in your mailbox, the way from the relay through your mail
provider works. If it lies in the spam folder, look at your domain's SPF, DKIM
and DMARC records.

Message {id}
"""


class NotQueued(Exception):
    """The test message was not queued; the text is a sentence that says why."""


def compose(recipient: str, *, postmaster: str, hostname: str, now: float) -> tuple[Message, bytes]:
    """The message and its bytes as they travel; pure but for the id."""
    message_id = ids.new_id(now)
    domain = postmaster.rpartition("@")[2]
    header = {
        "Date": format_datetime(datetime.fromtimestamp(int(now), UTC)),
        "From": f"Ownpost <{postmaster}>",
        "To": f"<{recipient}>",
        "Message-ID": f"<{message_id}@{domain}>",
        "Subject": "Test message from Ownpost",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=us-ascii",
    }
    lines = [f"{name}: {value}" for name, value in header.items()]
    body = TEXT.format(hostname=hostname, id=message_id).split("\n")
    content = "\r\n".join([*lines, "", *body]).encode("ascii")
    message = Message(
        id=message_id,
        account="",
        sender=postmaster,
        recipients=(recipient,),
        size=len(content),
        received_at=now,
        message_id=header["Message-ID"],
        kind=Kind.TEST,
    )
    return message, content


class TestMail:
    """Queues test messages."""

    __test__ = False  # its name is not meant for pytest

    def __init__(self, spool: Spool, clock: Clock, *, hostname: str, postmaster: str) -> None:
        self._spool, self._clock = spool, clock
        self._hostname, self._postmaster = hostname, postmaster

    async def queue(self, recipient: str) -> str:
        """Queue one to ``recipient``; its id when it is safe on disk. Raises :class:`NotQueued`."""
        address = parse_recipient(recipient.encode("utf-8", "surrogateescape"))
        if isinstance(address, Bad):
            raise NotQueued(f"<{shown(recipient)}> is not an address: {address.why}.")
        now = self._clock.time()
        message, content = compose(address, postmaster=self._postmaster, hostname=self._hostname, now=now)
        detail: dict[str, str | int | float | bool] = {"sender": message.sender, "recipients": 1, "size": message.size}
        detail["kind"] = Kind.TEST.value
        event = Event(kind=EventKind.ACCEPTED, at=now, message=message.id, detail=detail)
        try:
            await self._spool.upload(message.id).commit(message, content, (event,))
        except SpoolFull as error:
            raise NotQueued("The disk has no room for another message.") from error
        return message.id
