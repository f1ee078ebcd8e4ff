"""What a provider's answer means, as tables: replies that people really got, and every kind of failure."""

from __future__ import annotations

import errno
import inspect
import re
import socket
import ssl

import aiosmtplib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.delivery.failures import Cut, Garbage, NotOffered, OwnRefusal, explain
from relay.delivery.outcome import (
    Deferred,
    Delivered,
    Doubtful,
    Finding,
    Refused,
    Reply,
    Verdict,
    clean,
    enhanced,
    judge,
    went_well,
)
from relay.oauth.errors import GrantDead, TokenUnavailable
from relay.providers import presets as providers
from relay.providers.rules import Meaning, Rule, Stage, Standing
from relay.spool import SpoolFull

S = Standing
BEFORE = [stage for stage in Stage if stage is not Stage.FINAL]
SENDGRID = providers.PRESETS["sendgrid"].rules
GENERIC = providers.PRESETS["generic"].rules

# (stage, code, text, outcome, standing): what people really got
REPLIES = [
    # quota, at every stage and with either class
    (Stage.LOGIN, 451, "Authentication failed: Maximum credits exceeded", Deferred, S.USED_UP),
    (Stage.MAIL, 452, "4.5.3 Daily message limit exceeded", Deferred, S.USED_UP),
    (Stage.FINAL, 454, "Throttling failure: Daily message quota exceeded", Deferred, S.USED_UP),
    (Stage.FINAL, 550, "5.4.5 Daily user sending quota exceeded", Deferred, S.USED_UP),
    (Stage.FINAL, 550, "5.4.5 Daily SMTP relay limit exceeded", Deferred, S.USED_UP),
    (Stage.FINAL, 552, "this would take you over your relay quota of 500", Deferred, S.USED_UP),
    (
        Stage.FINAL,
        554,
        "5.7.0 limit on the number of allowed outgoing messages was exceeded. Try again later.",
        Deferred,
        S.USED_UP,
    ),
    (Stage.DATA, 550, "Too many emails today", Deferred, S.USED_UP),
    # too fast: busy, not used up
    (Stage.FINAL, 454, "Throttling failure: Maximum sending rate exceeded", Deferred, S.BUSY),
    (Stage.MAIL, 432, "4.3.2 Concurrent connections limit exceeded", Deferred, S.BUSY),
    # the key
    (
        Stage.LOGIN,
        535,
        "Authentication failed: The provided authorization grant is invalid, expired, or revoked",
        Deferred,
        S.KEY_DEAD,
    ),
    (Stage.LOGIN, 535, "5.7.0 Mailgun is not loving your login or password", Deferred, S.KEY_DEAD),
    (Stage.LOGIN, 525, "5.7.1 Unauthorized IP address", Deferred, S.KEY_DEAD),
    (Stage.LOGIN, 550, "5.7.30 Basic authentication is not supported for Client Submission", Deferred, S.KEY_DEAD),
    (Stage.MAIL, 530, "5.7.0 Authentication required", Deferred, S.KEY_DEAD),
    (Stage.MAIL, 550, "Unauthenticated senders not allowed", Deferred, S.KEY_DEAD),
    (Stage.RCPT, 530, "5.7.0 Must issue a STARTTLS command first", Deferred, S.KEY_DEAD),
    (Stage.RCPT, 550, "Relay access denied - please authenticate", Deferred, S.KEY_DEAD),
    (Stage.RCPT, 554, "5.7.1 <bob@example.net>: Relay access denied", Deferred, S.KEY_DEAD),
    (Stage.FINAL, 554, "Your account has been suspended", Deferred, S.KEY_DEAD),
    # the sender
    (
        Stage.FINAL,
        550,
        "The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved.",
        Deferred,
        S.NOT_SET_UP,
    ),
    (Stage.FINAL, 554, "Message rejected: Email address is not verified", Deferred, S.NOT_SET_UP),
    (Stage.FINAL, 550, "From header sender domain not verified", Deferred, S.NOT_SET_UP),
    (Stage.MAIL, 553, "Relaying disallowed as anna@example.org", Deferred, S.NOT_SET_UP),
    (
        Stage.MAIL,
        553,
        "5.7.1 <anna@example.org>: Sender address rejected: not owned by user",
        Deferred,
        S.NOT_SET_UP,
    ),
    # busy, or gone in a moment
    (Stage.CONNECT, 421, "4.3.2 try later", Deferred, S.BUSY),
    (Stage.CONNECT, 554, "no SMTP service here", Deferred, S.BUSY),
    (Stage.MAIL, 421, "4.7.0 closing", Deferred, S.BUSY),
    (Stage.FINAL, 421, "4.3.0 shutting down", Deferred, S.BUSY),
    (Stage.LOGIN, 454, "4.7.0 temporary authentication failure", Deferred, S.BUSY),
    # plain temporary failures
    (Stage.RCPT, 450, "4.2.0 greylisted", Deferred, S.FINE),
    (Stage.FINAL, 451, "4.3.0 error in processing", Deferred, S.FINE),
    # refused before anything of the message was seen: the provider's matter
    (Stage.MAIL, 550, "5.1.0 no", Deferred, S.FINE),
    (Stage.MAIL, 501, "5.5.4 BODY not understood", Deferred, S.FINE),
    (Stage.DATA, 554, "5.5.1 not now", Deferred, S.FINE),
    (Stage.FINAL, 503, "5.5.1 out of order", Deferred, S.FINE),
    (Stage.RCPT, 503, "5.5.1 MAIL first", Deferred, S.FINE),
    # the message's own
    (Stage.RCPT, 550, "5.1.1 No such user", Refused, S.FINE),
    (Stage.RCPT, 553, "5.1.3 bad address syntax", Refused, S.FINE),
    (Stage.RCPT, 552, "5.2.2 Mailbox full, quota exceeded", Refused, S.FINE),
    (Stage.FINAL, 552, "5.2.2 recipient over quota", Refused, S.FINE),
    (Stage.RCPT, 550, "5.7.1 user's daily message limit exceeded", Refused, S.FINE),  # never guessed at RCPT
    (Stage.FINAL, 550, "5.7.1 Message content rejected as spam", Refused, S.FINE),
    (Stage.FINAL, 554, "5.6.0 MIME nesting limit exceeded", Refused, S.FINE),
    (Stage.FINAL, 552, "5.3.4 message size limit exceeded", Refused, S.FINE),
    (Stage.MAIL, 552, "5.3.4 Message size exceeds fixed limit", Refused, S.FINE),
    (Stage.MAIL, 550, "5.3.4 too big", Refused, S.FINE),
]


@pytest.mark.parametrize(("stage", "code", "text", "outcome", "standing"), REPLIES)
@pytest.mark.parametrize("rules", [SENDGRID, GENERIC], ids=["sendgrid", "generic"])
def test_reply(stage: Stage, code: int, text: str, outcome: type, standing: Standing, rules: tuple) -> None:
    verdict = judge(Finding(stage, Reply(code, text)), rules, ["anna@example.org", "bob@example.net"])
    assert type(verdict.outcome) is outcome, verdict
    assert verdict.standing is standing
    assert verdict.outcome.code == code
    assert verdict.outcome.text == text


def test_yes_after_the_dot_is_delivered_with_the_providers_words() -> None:
    assert judge(Finding(Stage.FINAL, Reply(250, "2.0.0 queued as 7"))) == Verdict(Delivered(250, "2.0.0 queued as 7"))
    assert type(judge(Finding(Stage.FINAL, Reply(251, "ok"))).outcome) is Delivered


@pytest.mark.parametrize("stage", BEFORE)
def test_yes_before_the_dot_is_not_delivered(stage: Stage) -> None:
    assert type(judge(Finding(stage, Reply(250, "ok"))).outcome) is Deferred


def test_a_go_on_after_the_dot_leaves_it_in_doubt() -> None:
    assert type(judge(Finding(Stage.FINAL, Reply(354, "go on"))).outcome) is Doubtful


QUOTED = [
    "550 5.7.1 blocked: subject was 'Your quota is exceeded'",
    "5.7.1 spam: YOUR QUOTA IS EXCEEDED",
]


@pytest.mark.parametrize("text", QUOTED)
def test_our_own_words_in_a_reply_are_not_the_providers(text: str) -> None:
    finding = Finding(Stage.FINAL, Reply(550, text))
    assert type(judge(finding).outcome) is Deferred
    assert type(judge(finding, (), ["Your quota is exceeded"]).outcome) is Refused


def test_an_address_with_a_telling_name_is_not_a_used_up_quota() -> None:
    finding = Finding(Stage.FINAL, Reply(550, "5.1.1 <quota@example.net> unknown"))
    assert type(judge(finding, (), ["quota@example.net"]).outcome) is Refused


@pytest.mark.parametrize(
    ("code", "text", "at_once"),
    [
        (452, "4.5.3 Too many recipients", True),
        (452, "too many recipients", True),
        (552, "5.5.3 too many recipients", True),
        (452, "4.2.2 mailbox full", False),
        (450, "4.5.3 too many", False),
    ],
)
def test_one_recipient_too_many_is_due_at_once(code: int, text: str, at_once: bool) -> None:
    assert judge(Finding(Stage.RCPT, Reply(code, text))).outcome == Deferred(code, text, at_once=at_once)


def test_too_many_recipients_means_that_at_rcpt_only() -> None:
    outcome = judge(Finding(Stage.FINAL, Reply(452, "4.5.3 too many recipients"))).outcome
    assert isinstance(outcome, Deferred)
    assert not outcome.at_once


# --- exceptions
def _certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "Hostname mismatch"
    return error


def _connect(cause: BaseException) -> aiosmtplib.SMTPConnectError:
    error = aiosmtplib.SMTPConnectError("Error connecting")
    error.__cause__ = cause
    return error


ERRORS: list[tuple[BaseException, str]] = [
    (aiosmtplib.SMTPServerDisconnected("gone"), "closed the connection"),
    (aiosmtplib.SMTPConnectError("no"), "closed the connection"),
    (_connect(OSError(errno.ENETUNREACH, "Network is unreachable")), "Network is unreachable"),
    (_connect(socket.gaierror(-2, "Name or service not known")), "could not be resolved"),
    (_connect(_certificate()), "Hostname mismatch"),
    (_connect(aiosmtplib.SMTPServerDisconnected("gone")), "closed the connection"),
    (aiosmtplib.SMTPTimeoutError("slow"), "did not answer in time"),
    (aiosmtplib.SMTPConnectTimeoutError("slow"), "did not answer in time"),
    (aiosmtplib.SMTPReadTimeoutError("slow"), "did not answer in time"),
    (aiosmtplib.SMTPNotSupported("no STARTTLS"), "no STARTTLS"),
    (aiosmtplib.SMTPException("STARTTLS extension not supported by server."), "STARTTLS"),
    (aiosmtplib.SMTPRecipientsRefused([]), "cannot be used"),
    (aiosmtplib.SMTPResponseException(-1, "Malformed SMTP response line: hm"), "not SMTP"),
    (_certificate(), "Hostname mismatch"),
    (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "TLS with the provider failed"),
    (TimeoutError(), "did not answer in time"),
    (ConnectionResetError(104, "reset"), "closed the connection"),
    (BrokenPipeError(32, "pipe"), "closed the connection"),
    (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host"),
    (Garbage("hm"), "not SMTP"),
    (SpoolFull("no room"), "disk is full"),
    (ValueError("ours"), "internal error: ValueError"),
    (RuntimeError("ours"), "internal error: RuntimeError"),
]


@pytest.mark.parametrize(("error", "words"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("stage", list(Stage))
def test_every_failure_defers_before_the_dot_and_is_in_doubt_after_it(
    stage: Stage, error: BaseException, words: str
) -> None:
    outcome = judge(Finding(stage, error)).outcome
    assert type(outcome) is (Doubtful if stage is Stage.FINAL else Deferred)
    assert words in outcome.text


@pytest.mark.parametrize(
    "kind",
    [kind for _, kind in inspect.getmembers(aiosmtplib.errors, inspect.isclass) if issubclass(kind, Exception)],
)
def test_no_exception_of_the_library_bounces_mail(kind: type[Exception]) -> None:
    number = {aiosmtplib.SMTPSenderRefused: 3, aiosmtplib.SMTPRecipientRefused: 3, aiosmtplib.SMTPRecipientsRefused: 1}
    if issubclass(kind, aiosmtplib.SMTPResponseException):
        error = kind(*[550, "no", "x"][: number.get(kind, 2)])
    elif issubclass(kind, aiosmtplib.SMTPRecipientsRefused):
        error = kind([])
    elif kind is TimeoutError:
        error = kind()
    else:
        error = kind("text")
    for stage in (Stage.CONNECT, Stage.TLS, Stage.LOGIN):
        assert type(judge(Finding(stage, error)).outcome) is Deferred
    assert type(judge(Finding(Stage.FINAL, error)).outcome) is Doubtful


def test_a_refused_login_is_a_dead_key_whatever_stage_it_is_told_at() -> None:
    verdict = judge(Finding(Stage.TLS, aiosmtplib.SMTPAuthenticationError(535, "5.7.8 no")))
    assert verdict == Verdict(Deferred(535, "5.7.8 no"), S.KEY_DEAD, login=True)


def test_what_cannot_be_sent_at_all_is_refused_in_our_words() -> None:
    assert judge(Finding(Stage.MAIL, NotOffered("no umlauts"))) == Verdict(Deferred(0, "no umlauts"))
    assert judge(Finding(Stage.MAIL, OwnRefusal("too big"))) == Verdict(Refused(0, "too big"), elsewhere=True)


def test_a_shutdown_is_no_attempt_unless_the_dot_was_written() -> None:
    assert judge(Finding(Stage.BODY, Cut())) == Verdict(Deferred(0, "the relay was stopped", at_once=True), ours=True)
    assert type(judge(Finding(Stage.FINAL, Cut())).outcome) is Doubtful


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (SpoolFull("no room"), True),
        (ValueError("a mistake of ours"), True),
        (ConnectionResetError(104, "reset"), False),
        (Garbage("hm"), False),
        (aiosmtplib.SMTPException("STARTTLS extension not supported by server."), False),
        (TokenUnavailable("the token endpoint is not reached"), False),
    ],
)
def test_our_own_failure_is_told_from_the_providers(error: BaseException, ours: bool) -> None:
    assert judge(Finding(Stage.BODY, error)).ours is ours


def test_a_grant_that_is_gone_is_a_dead_key_and_a_silent_token_endpoint_is_not() -> None:
    gone = judge(Finding(Stage.LOGIN, GrantDead("Google has revoked the grant; run make oauth")))
    assert gone == Verdict(Deferred(0, "Google has revoked the grant; run make oauth"), S.KEY_DEAD, login=True)
    silent = judge(Finding(Stage.LOGIN, TokenUnavailable("the token endpoint does not answer")))
    assert silent == Verdict(Deferred(0, "the token endpoint does not answer"), S.BUSY)


@pytest.mark.parametrize("kind", [aiosmtplib.SMTPAuthenticationError, aiosmtplib.SMTPResponseException])
def test_rules_hold_for_what_the_library_raises(kind: type[aiosmtplib.SMTPResponseException]) -> None:
    error = kind(451, "Authentication failed: Maximum credits exceeded")
    found = judge(Finding(Stage.LOGIN, error), SENDGRID)
    assert (found.standing, found.certain) == (S.USED_UP, True)
    assert not judge(Finding(Stage.LOGIN, error), GENERIC).certain


# --- rules
@pytest.mark.parametrize("meaning", list(Meaning))
def test_what_a_rule_may_mean(meaning: Meaning) -> None:
    rule = Rule(frozenset({Stage.FINAL}), frozenset({554}), re.compile("no luck", re.IGNORECASE), meaning)
    found = judge(Finding(Stage.FINAL, Reply(554, "No luck today")), [rule])
    if meaning in (Meaning.REFUSED, Meaning.ELSEWHERE):
        assert found == Verdict(Refused(554, "No luck today"), elsewhere=meaning is Meaning.ELSEWHERE)
    else:
        assert found == Verdict(Deferred(554, "No luck today"), S(meaning.value))
    assert judge(Finding(Stage.FINAL, Reply(550, "No luck today")), [rule]) == Verdict(Refused(550, "No luck today"))
    assert judge(Finding(Stage.RCPT, Reply(554, "No luck today")), [rule]) == Verdict(Refused(554, "No luck today"))


@pytest.mark.parametrize("meaning", [Meaning.ELSEWHERE, Meaning.REFUSED])
def test_a_rule_makes_no_refusal_of_a_4xx_that_it_does_not_name(meaning: Meaning) -> None:
    """What a provider puts off it may take later, whatever the words: "suppression list unavailable, try again"."""
    answer = Finding(Stage.FINAL, Reply(451, "No luck today"))
    rule = Rule(frozenset({Stage.FINAL}), frozenset(), re.compile("No luck"), meaning)
    assert judge(answer, [rule]) == Verdict(Deferred(451, "No luck today"))
    rule = Rule(frozenset({Stage.FINAL}), frozenset({451}), re.compile("No luck"), meaning)
    assert judge(answer, [rule]).outcome == Refused(451, "No luck today")


def test_a_rule_may_be_a_guess() -> None:
    rule = Rule(frozenset({Stage.RCPT}), frozenset(), re.compile("not here"), Meaning.KEY_DEAD, guess=True)
    found = judge(Finding(Stage.RCPT, Reply(550, "not here")), [rule])
    assert found == Verdict(Deferred(550, "not here"), S.KEY_DEAD, certain=False)


@pytest.mark.parametrize(
    ("stage", "reply", "crowded"),
    [
        (Stage.CONNECT, Reply(421, "4.7.0 Too many concurrent connections from you"), True),
        (Stage.FINAL, Reply(432, "4.3.2 sender thread limit exceeded"), True),
        (Stage.FINAL, Reply(451, '4.7.1 "Too many connections", is this spam?'), False),  # the Subject
        (Stage.FINAL, Reply(451, "4.2.2 the mailbox has too many simultaneous connections"), False),  # the recipient's
        (Stage.FINAL, Reply(451, "4.6.0 spam score exceeded in simultaneous scans"), False),
        (Stage.RCPT, Reply(450, "4.2.1 too many connections to that mailbox"), False),
    ],
)
def test_what_is_said_of_a_message_costs_no_connection(stage: Stage, reply: Reply, crowded: bool) -> None:
    assert judge(Finding(stage, reply), GENERIC, ["Too many connections"]).crowded is crowded


# --- text
def test_a_reply_is_kept_short_and_harmless() -> None:
    assert clean("a\r\nb\tc\x1b[31m\u202ed\x00") == "a b c?[31m?d?"
    assert clean("é 日本") == "é 日本"
    assert len(clean("x" * limits.REPLY_KEPT)) == limits.REPLY_KEPT
    assert len(clean("x" * (limits.REPLY_KEPT + 1))) == limits.REPLY_KEPT


@given(st.text())
def test_whatever_a_provider_says_is_printable_and_bounded(text: str) -> None:
    assert clean(text).isprintable()
    assert len(clean(text)) <= limits.REPLY_KEPT


@given(st.sampled_from(list(Stage)), st.integers(200, 599), st.text(max_size=200), st.lists(st.text(max_size=20)))
def test_judging_never_fails_and_never_loses(stage: Stage, code: int, text: str, ours: list[str]) -> None:
    outcome = judge(Finding(stage, Reply(code, text)), SENDGRID, ours).outcome
    if isinstance(outcome, Delivered):
        assert stage is Stage.FINAL
        assert code < 300
    if isinstance(outcome, Refused):
        assert code >= 500
        assert stage in (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.FINAL)


def test_enhanced_codes() -> None:
    assert enhanced("5.7.1 no") == (5, 7, 1)
    assert enhanced(" 4.2.2") == (4, 2, 2)
    assert enhanced("no 5.7.1") is None
    assert enhanced("5.7.1234") is None


def test_all_went_well_only_if_all_did() -> None:
    good, bad = Finding(Stage.FINAL, Reply(250, "")), Finding(Stage.RCPT, Reply(450, ""))
    assert went_well([good, good])
    assert not went_well([good, bad])
    assert not went_well([Finding(Stage.CONNECT, OSError())])


def test_an_explanation_is_a_sentence_without_a_class_name() -> None:
    assert explain(ConnectionResetError()) == "the provider closed the connection"
