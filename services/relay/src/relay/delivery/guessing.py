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
_SUBMISSION, _SEND_AS = r"submission ?quota ?exceeded|\bverdict is refusequota\b", r"\bsendasdenied\b"
_OUTBOUND_SPAM = r"\boutboundspamexception\b"  # whatever its verdict, it is on the account
_MICROSOFTS = _words(_SUBMISSION, _SEND_AS, _OUTBOUND_SPAM)  # said with x.2.x, but of us
_OURS = r"(?:sending|outgoing|outbound|sender(?:'s)?)"
# Words that name us need no look at the rest, which may well be the reason: spam, phishing, a missing signature.
_OUR_QUOTA = _words(
    r"\b(?:sending|outgoing|daily|hourly|monthly)\b.{0,20}\bquota\b|\byour account\b.{0,40}\bquota\b",
    r"\b(?:sending|outgoing|daily|hourly|monthly)\b.{0,20}\blimits?\b.{0,30}\b(?:exceeded|reached)\b",
    _SUBMISSION,
)
# The same, in words that cannot be about the recipient.
_SENDING_QUOTA = _words(
    rf"\b{_OURS}\b.{{0,30}}\b(?:quota|(?:rate ?)?limits?)\b.{{0,30}}\b(?:exceeded|reached)\b",
    rf"\b(?:exceed(?:s|ed)?|reached)\b.{{0,40}}\b{_OURS}\b.{{0,30}}\b(?:quota|limits?)\b",
    r"\bexceed(?:s|ed)? the max(?:imum)?\b.{0,60}\bper (?:minute|hour|day)\b",
)
_QUOTA = _words(
    r"\bquota\b|too many (?:messages|e-?mails)\b(?! like\b| in (?:the )?(?:to|cc|bcc|header)\b)",
    r"\bcredits?\b.{0,20}\b(?:exceeded|exhausted|expired)",
    r"\b(?:exhausted|not enough|insufficient|no more|out of)\b.{0,20}\bcredits?\b|\bno (?:\w{1,20} )?credits\b",
)
_ROOM = _words(r"\b(?:mailbox|inbox|recipient)\b")
_LIMIT = _words(
    r"\b(?:(?:rate)?limits?|rate)\b.{0,60}\b(?:exceeded|reached|exhausted)|\bexceed(?:s|ed)?\b.{0,40}\blimits?\b",
    r"\breached your\b.{0,40}\blimits?\b",
)
_CONTENT = _words(
    r"\b(?:size|lines?|headers?|nesting|hops?|attachments?|too (?:big|large|long))\b",
    r"\b(?:spam|score|urls?|links|(?:link|part) (?:count|limit)|parts|mime|archive|recursion|scan|complaints?)\b",
    r"\brecipient thread\b",  # Exchange, of a mailbox that gets too much
)
# A limit of a day or more is a quota; one of less is a rate, over when we wait a little.
_CROWDED = _words(
    r"\btoo many (?:\w{1,20} ){0,3}(?:connections|sessions|threads)\b|\b(?:concurrent|simultaneous)\b",
    r"\b(?:connections?|sessions?|threads?)\b.{0,20}\blimit|\blimit.{0,30}\b(?:connections?|sessions?|threads?)\b",
)
_TOO_FAST = _words(
    r"\btoo (?:fast|quickly|rapidly|frequently)\b|\bslow(?:er)? down\b|\bsen[dt](?:ing)? (?:more )?slow(?:er|ly)\b",
    r"\bthrottl(?:ed|ing)\b|\brate[- ]?limit(?:ed|ing)\b|\bfrequency limited\b|\btoo many (?:\w{1,20} )?requests\b",
)
_SOON = _words(
    r"(?:\b(?:per|an?|every|each|last|past|in|within|after)[ -]|/ ?)(?:(?!24 )\d{1,4} )?(?:second|minute|hour)s?\b",
    r"\bhourly\b|\brate(?:limit)?\b",
)
_DAYS = _words(r"\b(?:daily|today|days?|weeks?|monthly|months?|24[- ]?h(?:ours?)?)\b")
_STOPPED = r"(?:suspended|disabled|blocked|locked|deactivated|closed|paused|banned)"
_IS_STOPPED = rf"(?: (?:is|are|was|were|has been|have been))?(?: \w{{1,12}}ly)? (?:{_STOPPED}|restricted)\b"
_OUTGOING = r"\b(?:outgoing|outbound) (?:e-?)?mails?(?: (?:from|for|of|by|on)\b.{0,60}?)?"
_NOT_ITS_CONTENT = r"(?!.{0,30}\b(?:virus|malware|attachments?|contents?|filter|as spam)\b)"
# Our account or our host is shut out, in words that cannot be about the recipient.
_HELD = _words(
    rf"(?:{_OUTGOING}|\bsending(?= (?:is|was|has))){_IS_STOPPED}{_NOT_ITS_CONTENT}",
    rf"\b(?:e-?)?mail outgoing {_STOPPED}\b",
    r"^(?!.*\bphish).*\b(?:unusual|suspicious|abnormal) (?:\w{1,20} ){0,2}activity\b",
    r"\bunusual (?:amount|number|rate|volume) of\b.{0,60}\boriginating from your\b",
    r"\bbad outbound sender\b|\bbanned sender\b|\btenant has exceeded threshold\b",
    r"\bclient (?:host )?(?:\W{0,3}[\da-f.:]{2,45}\W{0,2} ?)?blocked using\b",
    r"\byour (?:ip|host|server)\b.{0,40}\b(?:blocked|listed|blacklisted|banned)\b",
    _OUTBOUND_SPAM,
)
_VOID = r"(?:bad|wrong|invalid|revoked|expired|missing|disabled|not (?:found|valid|active))"
_OUR_ACCOUNT = _words(
    rf"\byour (?:\w{{1,20}} )?account (?:is |was |has been ){_STOPPED}\b",
    rf"^\W*(?:\d\.\d{{1,3}}\.\d{{1,3}} )?(?:your )?account (?:is |was |has been )?{_STOPPED}\b",
)
_KEY = _words(
    r"\bauthentication (?:is )?(?:required|failed|credentials)|please authenticate|unauthenticated senders?",
    rf"\b{_VOID}\b.{{0,20}}\bapi key\b|\bapi key\b.{{0,20}}\b{_VOID}\b",
    rf"\baccount\b.{{0,40}}\b(?:{_STOPPED}|under review|pending (?:approval|review))\b",
    r"\baccount\b.{0,40}\bnot (?:yet )?(?:activ(?:e|ated)|approved|confirmed)\b",
    r"\byour (?:subscription|trial|plan) (?:has |is )?(?:expired|ended|over)\b",
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
    rf"\b(?:sender|your e-?mail) address{_IS_STOPPED}",
    r"(?<!recipient )\bdomain\s+is (?:disabled|suspended|not allowed to send)|\bunconfigured sending domain",
)
_SENDER_AT_RCPT = _words(
    r"\bsender (?:address rejected|verify failed|mismatch|domain (?:is |does )?not)\b|\bnot owned by (?:auth )?user\b",
    rf"\bsender address{_IS_STOPPED}",
)  # Postfix and Exim look at the sender there, by default
_TOO_MANY = _words(r"\btoo many (?:messages|(?:e-?)?mails)\b")
_AGAIN = _words(
    r"\b(?:re)?try\b.{0,30}\b(?:later|after (?:some|an?|\d{1,4})|in (?:an?|some|\d{1,4}))\b|\btemporarily\b"
)
_NOT_SENT = _words(r"\b(?:sending failed|fail(?:ed|ure) (?:to send|sending)|not be sent)\b")
# What servers put before their own words, whatever these are about.
_CANNED = _words(r"\brequested (?:mail )?action not taken:? mailbox unavailable\b", r"\brecipient address rejected\b")
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
        return Standing.FINE if _is_anothers(status) else _at_rcpt(_CANNED.sub(" ", said))
    if _is_anothers(status) and not _MICROSOFTS.search(said):
        return Standing.FINE
    if _OUR_QUOTA.search(said) or _SENDING_QUOTA.search(said) or (_QUOTA.search(said) and not _ROOM.search(said)):
        return _limit(said)
    if _HELD.search(said) or _OUR_ACCOUNT.search(said):
        return Standing.KEY_DEAD
    content = _CONTENT.search(said)
    if _LIMIT.search(said) and not content:
        return _limit(said)
    if (_TOO_FAST.search(said) or _CROWDED.search(said)) and not content:
        return Standing.BUSY
    if _KEY.search(said) and not (_MAILBOX.search(said) or _FILTER.search(said)):
        return Standing.KEY_DEAD
    return Standing.NOT_SET_UP if _SENDER.search(said) else Standing.FINE


def _at_rcpt(said: str) -> Standing:
    if _SENDING_QUOTA.search(said) or (_TOO_MANY.search(said) and _is_a_rate(said) and not _ROOM.search(said)):
        return _limit(said)
    if _HELD.search(said):
        return Standing.KEY_DEAD
    return Standing.NOT_SET_UP if _SENDER_AT_RCPT.search(said) else Standing.FINE


def _limit(said: str) -> Standing:
    return Standing.BUSY if _is_a_rate(said) else Standing.USED_UP


def _is_a_rate(said: str) -> bool:
    fast = _SOON.search(said) or _TOO_FAST.search(said) or _CROWDED.search(said)
    return fast is not None and not _DAYS.search(said)


def crowded(said: str) -> bool:
    """Whether a provider that is busy means the number of our connections."""
    return _CROWDED.search(said) is not None


def again(stage: Stage, status: tuple[int, int, int] | None, said: str) -> bool:
    """Whether a refusal for good asks to try again, which nobody says of a mailbox that is not there or of spam."""
    said = _CANNED.sub(" ", _QUOTATION.sub(" ", said))
    if _is_anothers(status) or not _AGAIN.search(said):
        return False
    if stage is Stage.RCPT:
        return _NOT_SENT.search(said) is not None
    return not any(words.search(said) for words in (_CONTENT, _ROOM, _MAILBOX, _FILTER))


def _is_anothers(status: tuple[int, int, int] | None) -> bool:
    """Whether the code is one of the recipient's mailbox (x.2.x), of the content (x.6.x), or the like."""
    return status is not None and (status[1] in (2, 6) or status[1:] in _OTHERS_CODES)
