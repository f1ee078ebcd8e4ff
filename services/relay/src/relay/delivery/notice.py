"""Tells a sender what became of a message: a failure as RFC 3464 report, delays as one letter a day.

Pure: values in, a message out. People read the first part, in plain words with the provider's own sentence and our
id; programs read the second; the third sends the header back, never the content. A notice is sent from ``postmaster``
of the main domain, as envelope sender too (providers refuse the null sender), so :class:`~relay.model.Kind` NOTICE is
what keeps notices from answering each other.
"""

from __future__ import annotations

import quopri
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import Enum

from relay import encoded_words, limits
from relay.delivery.outcome import clean, enhanced
from relay.ids import is_id, new_id
from relay.model import Kind, Message, State

TELLS_OF = "X-Ownpost-Id"  # our id of the message: in a failure's header, and in its part for programs
LISTED = 100  # deliveries that a letter on delays lists; who sent thousands of mails needs no book about them


@dataclass(frozen=True, slots=True)
class Said:
    """What a provider answered."""

    provider: str  # as people call it
    code: int
    reply: str

    def __str__(self) -> str:
        return f"{self.code} {self.reply}" if self.code else self.reply


@dataclass(frozen=True, slots=True)
class Failure:
    """One recipient that a message will not reach any more, as far as we know."""

    recipient: str
    state: State
    provider: str  # as people call it; empty: none could be tried
    code: int
    reply: str
    earlier: tuple[Said, ...] = ()  # what other providers said before, the last answer of each


class Fate(Enum):
    """What is known of a delivery that is late, in the words that its sender is told."""

    WAITS = (
        "These messages have not been delivered yet. Nothing is lost and you need not send them again:",
        "Ownpost goes on trying until they are five days old, and tells you if it gives up.",
    )
    UNSURE = (
        "These messages may have been delivered: the provider took them and did not confirm it. Ownpost asks",
        "the same provider again, twice at most. Ask the recipient before you send one again.",
    )
    HELD = (
        "These messages have not been delivered: Ownpost stopped each time it was sending them. They are safe, and",
        "wait until whoever runs it decides. Send what is urgent another way.",
    )
    ASIDE = (
        "These messages may have been delivered, and are not tried any more until whoever runs the relay",
        "decides. Ask the recipient before you send one again.",
    )


@dataclass(frozen=True, slots=True)
class Delay:
    """One recipient that a message has not reached yet, or may not have reached."""

    message_id: str  # ours
    recipient: str
    received_at: float
    reply: str
    next_attempt: float
    waits: str = ""  # for what, if every provider is closed to it
    fate: Fate = Fate.WAITS


@dataclass(frozen=True, slots=True)
class Post:
    """Who writes notices here."""

    hostname: str
    postmaster: str


def wanted(message: Message) -> bool:
    """Whether anyone is to be told of this message's failure."""
    return message.kind is not Kind.NOTICE and not message.null_sender and bool(message.notify)


def failure(
    message: Message, header: bytes, failures: Sequence[Failure], post: Post, now: float
) -> tuple[Message, bytes]:
    """The report on ``failures`` of one attempt, ready for the spool. ``header`` is the failed message's."""
    number = new_id(now)
    unsure = all(one.state is State.UNKNOWN for one in failures)
    title = "Your message may not have been delivered" if unsure else "Your message could not be delivered"
    boundary = f"=_{number}"
    parts = [
        _part('text/plain; charset="utf-8"', _text(message, header, failures).encode()),
        _part("message/delivery-status", _status(message, failures, post, now).encode()),
        _part("text/rfc822-headers", _cut(header)),
    ]
    head = _head(number, message.notify, title, post, now)
    head += _thread(message.message_id) + f"{TELLS_OF}: {message.id}\r\n"
    head += f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"\r\n\r\n'
    border = f"--{boundary}".encode()
    body = b"".join(border + b"\r\n" + part + b"\r\n" for part in parts) + border + b"--\r\n"
    return _sealed(number, message.account, message.notify, head.encode() + body, post, now)


def told_of(header: bytes) -> str:
    """Our id of the message that the notice with this header tells of; empty: it tells of delays, or is unreadable."""
    value = field(header, TELLS_OF.lower().encode()).decode("ascii", "replace")
    return value if is_id(value) else ""


def digest(account: str, notify: str, delays: Sequence[Delay], post: Post, now: float) -> tuple[Message, bytes]:
    """One letter on everything of one sender that is late."""
    number, lines = new_id(now), list[str]()
    for fate in Fate:
        late = [line for one in delays[:LISTED] if one.fate is fate for line in _late(one)]
        lines += [*fate.value, "", *late] if late else []
    lines += [f"and {len(delays) - LISTED} more."] if len(delays) > LISTED else []
    head = _head(number, notify, "Your mail is delayed", post, now)
    return _sealed(
        number, account, notify, head.encode() + _part('text/plain; charset="utf-8"', _crlf(lines).encode()), post, now
    )


# --- what people read
def _late(one: Delay) -> list[str]:
    return [
        f"  to {one.recipient}",
        f"    accepted {_date(one.received_at)}, id {one.message_id}",
        *([f"    the last answer: {one.reply}"] if one.reply else ()),
        f"    it {one.waits}" if one.waits else f"    next try: {_date(one.next_attempt)}",
        "",
    ]


def _text(message: Message, header: bytes, failures: Sequence[Failure]) -> str:
    lines = [f"Your message of {_date(message.received_at)}"]
    title = subject(header)
    if title:
        lines.append(f'with the subject "{title}"')
    lines += ["did not reach everyone it was meant for.", ""]
    for one in failures:
        lines += [f"  {one.recipient}", *(f"    {line}" for line in _reason(one)), ""]
    lines += ["If you ask about it, quote this id:", f"  {message.id}"]
    return _crlf(lines)


def _reason(one: Failure) -> list[str]:
    return [*_last(one), *(f"Before that, {said.provider} said: {said}" for said in one.earlier)]


def _last(one: Failure) -> list[str]:
    said = f"{one.code} {one.reply}" if one.code else one.reply
    match one.state:
        case State.EXPIRED if not one.provider:
            return ["It waited for five days and was then given up.", f"The reason: {said}"]
        case State.EXPIRED:
            return ["It was tried for five days and then given up.", f"The last answer ({one.provider}): {said}"]
        case State.UNKNOWN:
            return [
                "It may have been delivered, perhaps more than once: the provider took it and did not confirm it.",
                "Ask the recipient before you send it again.",
                f"The last answer ({one.provider}): {said}",
            ]
        case _:
            return ["It was refused for good.", f"{one.provider} says: {said}" if one.code else f"The reason: {said}"]


def subject(header: bytes) -> str:
    """The Subject of ``header`` for a person, 200 characters at most; empty if there is none."""
    value = field(header, b"subject")[: limits.SUBJECT_READ].decode("utf-8", "replace")
    return (clean(encoded_words.decode(value)) or clean(value))[:200]


def field(header: bytes, name: bytes) -> bytes:
    """The first field of that (lower-case) name, unfolded; empty if there is none."""
    value: list[bytes] = []
    for line in header.split(b"\r\n"):
        if value and line[:1] in (b" ", b"\t"):
            value.append(line.strip())
        elif value:
            break
        elif line[: len(name) + 1].lower() == name + b":":
            value.append(line[len(name) + 1 :].strip())
    return b" ".join(value)


# --- what programs read
def _status(message: Message, failures: Sequence[Failure], post: Post, now: float) -> str:
    """The delivery-status part (RFC 3464, section 2): one group on the message, one for each recipient."""
    lines = [f"Reporting-MTA: dns; {post.hostname}", f"{TELLS_OF}: {message.id}"]
    lines += [f"Arrival-Date: {_date(message.received_at)}"]
    for one in failures:
        lines += ["", f"Final-Recipient: {_typed(one.recipient)}", "Action: failed", f"Status: {_code(one)}"]
        if one.code:
            lines += [f"Diagnostic-Code: smtp; {one.code} {_ascii(one.reply)}"]
        lines += [f"Last-Attempt-Date: {_date(now)}"]
    return _crlf(lines)


def _code(one: Failure) -> str:
    """The status code (RFC 3463): the provider's own if it gave one, else ours."""
    match one.state:
        case State.EXPIRED:
            return "4.4.7"  # delivery time expired; RFC 3464, 2.3.4 allows 4.x.x for "failed"
        case State.UNKNOWN:
            return "4.4.2"  # the connection failed at the wrong moment
        case _:
            own = enhanced(one.reply)
            return ".".join(map(str, own)) if own and own[0] == 5 else "5.0.0"


def _typed(address: str) -> str:
    if address.isascii():
        return f"rfc822; {address}"
    plain = (c if "!" <= c <= "~" and c not in "\\+=" else f"\\x{{{ord(c):X}}}" for c in address)  # RFC 6533, section 3
    return "utf-8; " + "".join(plain)


# --- how it is put together
def _head(number: str, notify: str, title: str, post: Post, now: float) -> str:
    return (
        f"Date: {_date(now)}\r\nFrom: Mail delivery <{post.postmaster}>\r\nTo: <{notify}>\r\nSubject: {title}\r\n"
        f"Message-ID: <{number}@{post.hostname}>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
    )


def _thread(message_id: str) -> str:
    """Keeps the notice with its message in the reader's mailbox."""
    if not message_id.isascii() or not message_id.isprintable() or not message_id or len(message_id) > 900:
        return ""
    return f"In-Reply-To: {message_id}\r\nReferences: {message_id}\r\n"


def _part(kind: str, content: bytes) -> bytes:
    """A MIME part; quoted-printable where plain ASCII of moderate line length is not enough."""
    if content.isascii() and max(map(len, content.split(b"\r\n"))) <= 998:
        return f"Content-Type: {kind}\r\n\r\n".encode() + content
    quoted = quopri.encodestring(content.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n".encode() + quoted


def _cut(header: bytes) -> bytes:
    """``header`` up to its blank line, at most ``limits.NOTICE_HEADER`` bytes of whole lines."""
    end = header.find(b"\r\n\r\n")
    header = header if end < 0 else header[: end + 2]
    if len(header) > limits.NOTICE_HEADER:
        header = header[: header.rfind(b"\r\n", 0, limits.NOTICE_HEADER) + 2]
    return header


def _sealed(number: str, account: str, notify: str, content: bytes, post: Post, now: float) -> tuple[Message, bytes]:
    message = Message(
        id=number,
        account=account,
        sender=post.postmaster,
        recipients=(notify,),
        size=len(content),
        received_at=now,
        message_id=f"<{number}@{post.hostname}>",
        kind=Kind.NOTICE,
        smtputf8=not notify.isascii(),
    )
    return message, content


def _crlf(lines: Sequence[str]) -> str:
    return "".join(f"{line}\r\n" for line in lines)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _date(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC))
