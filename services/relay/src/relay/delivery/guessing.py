"""What a provider's words say of it where it has no rule for them: a guess, after replies that people reported
(``tests/unit/test_preset_replies.py`` has them).

Pure. What may be somebody else's words is never a guess: a reply with an x.2.x code tells of the recipient's mailbox;
so does, most often, one to RCPT, where only words about the *sender* are looked for; and URLs, addresses and host names
are quotation, of the message's text perhaps.
"""

from __future__ import annotations

import re

from relay.providers.rules import Stage, Standing


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# Gaps are bounded: a reply is hostile input.
_QUOTA = _words(
    r"\bquota\b|too many (?:messages|e-?mails)",
    r"\bcredits?\b.{0,20}\b(?:exceeded|exhausted|expired)",
    r"\b(?:exhausted|not enough|no more|out of)\b.{0,20}\bcredits?\b",
)
_LIMIT = _words(
    r"\b(?:limit|rate)\b.{0,60}\b(?:exceeded|reached|exhausted)|\bexceed(?:s|ed)?\b.{0,40}\blimit\b",
    r"\breached your\b.{0,40}\blimit\b",
)
_CONTENT = _words(r"\b(?:size|lines?|headers?|nesting|hops?|attachments?|too (?:big|large|long))\b")
_RATE = _words(r"\b(?:rate|concurrent|connections?)\b")
_STOPPED = r"(?:suspended|disabled|blocked|deactivated|closed|paused|banned)"
_KEY = _words(
    r"\bauthentication (?:is )?(?:required|failed|credentials)|please authenticate|unauthenticated senders?",
    r"\bapi key\b",
    rf"\baccount\b.{{0,40}}\b(?:{_STOPPED}|not (?:yet )?activ(?:e|ated))\b",
    rf"\b{_STOPPED} (?:for|on) (?:this|your) (?:\w{{1,20}} )?account\b",
)
_MAILBOX = _words(r"\brecipient(?:'s)?\b.{0,20}\baccount\b|\baccount\b.{0,20}\btried to reach")
_ALLOWED = r"(?:verified|authori[sz]ed|allowed|owned|permitted|validated|registered|authenticated)"
_SENDER = _words(
    r"\bverified sender|sender identity|sender signature|relaying disallowed as",
    r"\bunverified (?:sender|domain|address)|\baddress(?:es)? (?:is|are) not verified",
    rf"\b(?:sender|from)\b.{{0,60}}\bnot\b.{{0,20}}\b{_ALLOWED}\b|\bsender\b.{{0,60}}\bnot valid\b",
    r"\bnot authori[sz]ed to send (?:mail |e-?mail )?from|\bsender (?:\w{1,20} )?mismatch",
    r"\bdomain\b.{0,40}\b(?:not (?:yet )?verified|must be verified|not associated with your account)\b",
    r"\bsender domain (?:is |does )?not\b|\bonly send test(?:ing)? e-?mails",
    r"(?<!recipient )\bdomain\s+is (?:disabled|suspended|not allowed to send)|\bunconfigured sending domain",
)
_SENDER_AT_RCPT = _words(
    r"\bsender (?:address rejected|verify failed|mismatch|domain (?:is |does )?not)\b|\bnot owned by (?:auth )?user\b"
)  # Postfix and Exim look at the sender there, by default
_QUOTATION = re.compile(
    r"\b(?i:https?)://\S+|[^\s@]{1,64}@\S+|\b(?:[\w-]{1,63}\.){1,8}(?:[a-z]{2,24}|[A-Z]{2,24})\b(?:/\S*)?"
)  # a sentence that begins right after a full stop ("exceeded.Please") is no host name


def guess(stage: Stage, status: tuple[int, int, int] | None, said: str) -> Standing:
    """What ``said``, with the enhanced code ``status``, says of the provider. Our own words are out of it already."""
    if status is not None and status[1] == 2:
        return Standing.FINE
    said = _QUOTATION.sub(" ", said)
    if stage is Stage.RCPT:
        return Standing.NOT_SET_UP if _SENDER_AT_RCPT.search(said) else Standing.FINE
    if _QUOTA.search(said):
        return Standing.USED_UP
    if _LIMIT.search(said) and not _CONTENT.search(said):
        return Standing.BUSY if _RATE.search(said) else Standing.USED_UP
    if _KEY.search(said) and not _MAILBOX.search(said):
        return Standing.KEY_DEAD
    return Standing.NOT_SET_UP if _SENDER.search(said) else Standing.FINE
