"""What a provider's words say of it where it has no rule for them: a guess, after replies that people reported
(``tests/unit/test_preset_replies.py`` has them).

Pure. What may be somebody else's words is never a guess: the enhanced code of a reply may say that it is about the
recipient's mailbox or the content; a reply to RCPT is, most often, and there only words about the *sender* are looked
for; and URLs, addresses and host names are quotation, of the message's text perhaps.
"""

from __future__ import annotations

import re

from relay.providers.rules import Stage, Standing


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# Gaps are bounded: a reply is hostile input.
_SUBMISSION, _SEND_AS = r"submission ?quota ?exceeded", r"\bsendasdenied\b"
_MICROSOFTS = _words(_SUBMISSION, _SEND_AS)  # said with x.2.x, but of us
# Words that name us need no look at the rest, which may well be the reason: spam, phishing, a missing signature.
_OUR_QUOTA = _words(
    r"\b(?:sending|outgoing|daily|hourly|monthly)\b.{0,20}\bquota\b|\byour account\b.{0,40}\bquota\b",
    r"\b(?:sending|outgoing|daily|hourly|monthly)\b.{0,20}\blimits?\b.{0,30}\b(?:exceeded|reached)\b",
    _SUBMISSION,
)
_QUOTA = _words(
    r"\bquota\b|too many (?:messages|e-?mails)\b(?! like\b| in (?:the )?(?:to|cc|bcc|header)\b)",
    r"\bcredits?\b.{0,20}\b(?:exceeded|exhausted|expired)",
    r"\b(?:exhausted|not enough|insufficient|no more|out of)\b.{0,20}\bcredits?\b|\bno (?:\w{1,20} )?credits\b",
)
_ROOM = _words(r"\b(?:mailbox|inbox|recipient)\b")
_LIMIT = _words(
    r"\b(?:limits?|rate)\b.{0,60}\b(?:exceeded|reached|exhausted)|\bexceed(?:s|ed)?\b.{0,40}\blimits?\b",
    r"\breached your\b.{0,40}\blimits?\b",
)
_CONTENT = _words(
    r"\b(?:size|lines?|headers?|nesting|hops?|attachments?|too (?:big|large|long))\b",
    r"\b(?:spam|score|urls?|links|(?:link|part) (?:count|limit)|parts|mime|archive|recursion|scan|complaints?)\b",
)
_RATE = _words(r"\b(?:rate|concurrent|connections?)\b")
_STOPPED = r"(?:suspended|disabled|blocked|locked|deactivated|closed|paused|banned)"
_VOID = r"(?:bad|wrong|invalid|revoked|expired|missing|disabled|not (?:found|valid|active))"
_OUR_ACCOUNT = _words(
    rf"\byour (?:\w{{1,20}} )?account (?:is |was |has been ){_STOPPED}\b",
    rf"^\W*(?:\d\.\d{{1,3}}\.\d{{1,3}} )?(?:your )?account (?:is |was |has been )?{_STOPPED}\b",
)
_KEY = _words(
    r"\bauthentication (?:is )?(?:required|failed|credentials)|please authenticate|unauthenticated senders?",
    rf"\b{_VOID}\b.{{0,20}}\bapi key\b|\bapi key\b.{{0,20}}\b{_VOID}\b",
    rf"\baccount\b.{{0,40}}\b(?:{_STOPPED}|not (?:yet )?activ(?:e|ated)|under review|pending (?:approval|review))\b",
    rf"\b{_STOPPED} (?:for|on) (?:this|your) (?:\w{{1,20}} )?account\b",
)
_MAILBOX = _words(
    r"\brecipient(?:'s)?\b.{0,20}\baccount\b|\baccount\b.{0,20}\btried to reach|\baccount of the recipient\b",
    r"\bmailbox\b|(?<!your )\buser account\b|\bsuppression list\b",
)
_FILTER = _words(r"\b(?:dkim|spf|dmarc)\b|\bphish|AuthRequired\b")  # the last: Exchange, a group for members only
_ALLOWED = r"(?:verified|authori[sz]ed|allowed|owned|permitted|validated|registered|authenticated)"
_UNKNOWN = r"(?:unverified|unauthori[sz]ed)"
_FROM = r"(?<!\w)from(?:\b['\"]? (?:address|header|e-?mail|domain|field)\b|\W{1,6}(?=(?:is |are )?not\b))"
_SENDER = _words(
    r"\bverified sender|sender identity|sender signature|relaying disallowed as",
    rf"\bunverified (?:domain|address)|\b(?:{_UNKNOWN}|invalid) sender\b|\bsender (?:domain )?(?:is )?{_UNKNOWN}\b",
    rf"(?:\bsender\b|\bsending from\b|{_FROM}).{{0,60}}\bnot\b.{{0,20}}\b{_ALLOWED}\b|\bsender\b.{{0,60}}\bnot valid\b",
    r"\baddress(?:es)? (?:is|are) not verified|\bpermissions? to send as\b",
    _SEND_AS,
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

_OTHERS_CODES = frozenset(
    {
        *((1, detail) for detail in (1, 2, 3, 4, 5, 6, 10)),  # the recipient's address; x.1.7 and x.1.8: the sender's
        *((7, detail) for detail in range(20, 27)),  # RFC 7372: the message's DKIM, SPF, reverse DNS
        (7, 133),  # Exchange: a group for members only
    }
)


def guess(stage: Stage, status: tuple[int, int, int] | None, said: str) -> Standing:
    """What ``said``, with the enhanced code ``status``, says of the provider. Our own words are out of it already."""
    said = _QUOTATION.sub(" ", said)
    if stage is Stage.RCPT:
        at_rcpt = _SENDER_AT_RCPT.search(said) and not _is_anothers(status)
        return Standing.NOT_SET_UP if at_rcpt else Standing.FINE
    if _is_anothers(status) and not _MICROSOFTS.search(said):
        return Standing.FINE
    if _OUR_QUOTA.search(said) or (_QUOTA.search(said) and not _ROOM.search(said)):
        return Standing.USED_UP
    if _OUR_ACCOUNT.search(said):
        return Standing.KEY_DEAD
    if _LIMIT.search(said) and not _CONTENT.search(said):
        return Standing.BUSY if _RATE.search(said) else Standing.USED_UP
    if _KEY.search(said) and not (_MAILBOX.search(said) or _FILTER.search(said)):
        return Standing.KEY_DEAD
    return Standing.NOT_SET_UP if _SENDER.search(said) else Standing.FINE


def _is_anothers(status: tuple[int, int, int] | None) -> bool:
    """Whether the code is one of the recipient's mailbox (x.2.x), of the content (x.6.x), or the like."""
    return status is not None and (status[1] in (2, 6) or status[1:] in _OTHERS_CODES)
