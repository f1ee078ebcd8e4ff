"""What our SMTP server ought to answer, as a small model: a state, and for each command a code and the next state.

RFC 5321, 4.1.4 (order of commands), RFC 3207 (STARTTLS forgets), RFC 4954 (AUTH), RFC 2920 (what may be sent ahead),
and the limits of ``relay.limits``. It knows nothing of the server's code. On the LAN's port nobody logs in or need
say EHLO, and bare line ends are mended. A message with a Message-ID that comes again, to whatever port, is answered
alike and kept once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay import limits

AHEAD = {"helo", "rset", "noop", "vrfy", "expn", "help", "mail", "rcpt", "unknown", "bare lf"}
WITH_ID = {"with an id", "with an id, later"}


@dataclass
class Model:
    """One connection to a port with or without TLS from the start."""

    secure: bool
    lan: bool
    recipients_limit: int
    size_limit: int
    greeted: str = ""  # "", "helo" or "ehlo"
    logged_in: bool = False
    mail: bool = False
    recipients: list[str] = field(default_factory=list)
    errors: int = 0
    failed_logins: int = 0
    commands: int = 0
    open: bool = True
    in_data: bool = False
    sender: str = ""
    repeated: int = 0
    kept: list[tuple[str, ...]] = field(default_factory=list)  # by all connections
    known: set[object] = field(default_factory=set)  # what would be a repeat; by all connections

    def answer(self, kind: str, value: str = "") -> list[int]:
        """The codes that a command (or, after DATA, a message) of that kind is answered with."""
        if not self.open:
            return []
        if self.in_data:
            return self._message(kind)
        if kind not in ("bare lf", "too long"):
            self.commands += 1
            if not self.logged_in and not self.lan and self.commands > limits.COMMANDS_BEFORE_AUTH:
                self.open = False
                return [421]
        codes: list[int] = getattr(self, "_" + kind.replace(" ", "_"))(value)
        return codes

    def _protest(self, code: int) -> list[int]:
        self.errors += 1
        if self.errors > limits.PROTOCOL_ERRORS:
            self.open = False
            return [421]
        return [code]

    def _forget(self) -> None:
        self.mail, self.recipients = False, []

    # --- small talk
    def _ehlo(self, _: str) -> list[int]:
        self._forget()
        self.greeted = "ehlo"
        return [250]

    def _helo(self, _: str) -> list[int]:
        self._forget()
        self.greeted = "helo"
        return [250]

    def _rset(self, _: str) -> list[int]:
        self._forget()
        return [250]

    def _noop(self, _: str) -> list[int]:
        return [250]

    def _vrfy(self, _: str) -> list[int]:
        return [252]

    def _help(self, _: str) -> list[int]:
        return [214]

    def _expn(self, _: str) -> list[int]:
        return self._protest(502)

    def _unknown(self, _: str) -> list[int]:
        return self._protest(500)

    _bare_lf = _too_long = _unknown

    def _http(self, _: str) -> list[int]:
        self.open = False
        return [554]

    def _quit(self, _: str) -> list[int]:
        self.open = False
        return [221]

    # --- TLS and login
    @property
    def may_log_in(self) -> bool:
        """An AUTH command would now be judged, and be the last of its group (RFC 4954, section 4)."""
        left = self.commands < limits.COMMANDS_BEFORE_AUTH
        return self.secure and self.greeted == "ehlo" and not self.logged_in and left and not self.lan

    def _starttls(self, _: str) -> list[int]:
        if self.secure or self.mail:
            return self._protest(503)
        self.secure, self.greeted = True, ""
        return [220]

    def _starttls_with_argument(self, _: str) -> list[int]:
        return self._protest(501)

    def _auth(self, code: int) -> list[int]:
        if self.lan:
            return self._protest(502)
        if not self.secure:
            self.open = False
            return [538]
        if self.greeted != "ehlo" or self.logged_in:
            return self._protest(503)
        if code == 235:
            self.logged_in = True
            return [235]
        if code != 535:
            return self._protest(code)
        self.failed_logins += 1
        if self.failed_logins < limits.AUTH_FAILURES:
            return [535]
        self.open = False
        return [535, 421]

    def _auth_good(self, _: str) -> list[int]:
        return self._auth(235)

    def _auth_wrong(self, _: str) -> list[int]:
        return self._auth(535)

    def _auth_bad(self, _: str) -> list[int]:
        return self._auth(501)

    def _auth_unknown(self, _: str) -> list[int]:
        return self._auth(504)

    # --- a message
    def _out_of_place(self) -> list[int]:
        if not self.greeted and not self.lan:
            return self._protest(503)
        if not self.logged_in and not self.lan:
            return self._protest(530)
        return self._protest(503) if self.mail else []

    def _mail(self, line: str) -> list[int]:
        codes = self._out_of_place()
        if not codes:
            self.mail, self.sender = True, line.partition("<")[2].partition(">")[0]
        return codes or [250]

    def _mail_of_a_stranger(self, _: str) -> list[int]:
        return self._out_of_place() or [550]

    def _mail_too_big(self, _: str) -> list[int]:
        return self._out_of_place() or [552]

    def _mail_wrong(self, _: str) -> list[int]:
        return self._out_of_place() or self._protest(501)

    def _rcpt(self, address: str) -> list[int]:
        if not self.mail:
            return self._protest(503)
        if address in self.recipients:
            return [250]
        if len(self.recipients) >= self.recipients_limit:
            return [452]
        self.recipients.append(address)
        return [250]

    def _rcpt_wrong(self, _: str) -> list[int]:
        return self._protest(501 if self.mail else 503)

    def _data_with_argument(self, _: str) -> list[int]:
        return self._protest(501)

    def _data(self, _: str) -> list[int]:
        if not self.mail:
            return self._protest(503)
        if not self.recipients:
            return self._protest(554)
        self.in_data = True
        return [354]

    def _message(self, kind: str) -> list[int]:
        bare = 250 if self.lan else 550
        code = {"forged": 550, "bare lf inside": bare, "too big": 552, "nul": 554}.get(kind, 250)
        repeatable = (self.sender, frozenset(self.recipients), kind) if kind in WITH_ID else None
        if repeatable in self.known:
            self.repeated += 1
        elif code == 250:
            self.kept.append(tuple(self.recipients))
            self.known |= {repeatable} - {None}
        self.in_data = False
        self._forget()
        return [code]
