"""What each provider is known to answer, in its stage, judged by its own preset and by every other one."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from relay.delivery.outcome import Deferred, Finding, Refused, Reply, Verdict, judge
from relay.providers.presets import PRESETS
from relay.providers.rules import Stage, Standing

S = Standing
LOGIN, MAIL, RCPT, DATA, FINAL = Stage.LOGIN, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.FINAL
OURS = ["anna@example.org", "bob@example.net"]


class Said(NamedTuple):
    preset: str
    stage: Stage
    code: int
    text: str
    standing: Standing
    alone: bool = False  # only its own preset understands it; any other takes it for the message's own


KNOWN = [
    Said("sendgrid", LOGIN, 451, "Authentication failed: Maximum credits exceeded", S.USED_UP),
    Said(
        "sendgrid",
        LOGIN,
        535,
        "Authentication failed: The provided authorization grant is invalid, expired, or revoked",
        S.KEY_DEAD,
    ),
    Said("sendgrid", LOGIN, 535, "Authentication failed: Bad username / password", S.KEY_DEAD),
    Said("sendgrid", MAIL, 550, "Unauthenticated senders not allowed", S.KEY_DEAD),
    Said(
        "sendgrid",
        FINAL,
        550,
        "The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved."
        " Visit https://sendgrid.com/docs/for-developers/sending-email/sender-identity/ to see the requirements",
        S.NOT_SET_UP,
    ),
    Said("ses", FINAL, 454, "Throttling failure: Daily message quota exceeded.", S.USED_UP),
    Said("ses", FINAL, 454, "Throttling failure: Maximum sending rate exceeded.", S.BUSY),
    Said(
        "ses",
        FINAL,
        554,
        "Message rejected: Email address is not verified. The following identities failed the check in region"
        " EU-CENTRAL-1: anna@example.org",
        S.NOT_SET_UP,
    ),
    Said("ses", LOGIN, 535, "Authentication Credentials Invalid", S.KEY_DEAD),
    Said("gmail", FINAL, 550, "5.4.5 Daily user sending quota exceeded. 1a2b3c - gsmtp", S.USED_UP),
    Said("gmail", FINAL, 550, "5.4.5 Daily user sending limit exceeded. For more information on Gmail", S.USED_UP),
    Said("gmail", LOGIN, 535, "5.7.8 Username and Password not accepted. For more information", S.KEY_DEAD),
    Said("gmail", LOGIN, 534, "5.7.9 Application-specific password required.", S.KEY_DEAD),
    Said("workspace", MAIL, 450, "4.2.1 Peak SMTP relay limit exceeded for customer.", S.BUSY),
    Said("workspace", RCPT, 550, "5.4.5 Daily SMTP relay limit exceeded for customer.", S.USED_UP, alone=True),
    Said("workspace", FINAL, 550, "5.7.1 Daily SMTP relay limit exceeded for user.", S.USED_UP),
    Said("workspace", RCPT, 550, "5.7.1 Invalid credentials for relay [192.0.2.1].", S.KEY_DEAD, alone=True),
    Said(
        "microsoft365",
        LOGIN,
        550,
        "5.7.30 Basic authentication is not supported for Client Submission.",
        S.KEY_DEAD,
    ),
    Said(
        "microsoft365", LOGIN, 535, "5.7.139 Authentication unsuccessful, basic authentication is disabled", S.KEY_DEAD
    ),
    Said("microsoft365", Stage.CONNECT, 432, "4.3.2 Concurrent connections limit exceeded.", S.BUSY),
    Said("microsoft365", LOGIN, 432, "4.3.2 STOREDRV.ClientSubmit; concurrent connections limit exceeded", S.BUSY),
    Said(
        "microsoft365",
        FINAL,
        554,
        "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message",
        S.USED_UP,
        alone=True,
    ),
    Said("microsoft365", FINAL, 554, "5.2.252 SendAsDenied; x not allowed to send as y", S.NOT_SET_UP, alone=True),
    Said("mailgun", LOGIN, 535, "5.7.0 Mailgun is not loving your login or password", S.KEY_DEAD),
    Said("brevo", LOGIN, 535, "5.7.0 Invalid login or password", S.KEY_DEAD),
    Said("brevo", LOGIN, 525, "5.7.1 Unauthorized IP address", S.KEY_DEAD),
    Said("smtp2go", LOGIN, 535, "Incorrect authentication data", S.KEY_DEAD),
    Said("smtp2go", RCPT, 550, "Relay access denied - please authenticate", S.KEY_DEAD),
    Said("smtp2go", FINAL, 550, "From header sender domain not verified", S.NOT_SET_UP),
    Said("zeptomail", LOGIN, 535, "Authentication Failed.", S.KEY_DEAD),
    Said("zeptomail", MAIL, 530, "Must issue a STARTTLS command first", S.KEY_DEAD),
    Said("zeptomail", FINAL, 553, "Relaying disallowed as anna@example.org", S.NOT_SET_UP),
    Said("cloudflare", MAIL, 550, "5.7.1 Sender domain is not onboarded", S.NOT_SET_UP),
    Said("cloudflare", LOGIN, 535, "5.7.8 Authentication failed", S.KEY_DEAD),
    Said("cloudflare", MAIL, 530, "5.7.0 Authentication required", S.KEY_DEAD),
]

# Replies of providers that have no preset, and of those whose words for it are not known: the generic patterns guess.
GUESSED = [
    Said("generic", FINAL, 552, "this would take you over your relay quota of 500", S.USED_UP),
    Said(
        "generic",
        FINAL,
        554,
        "5.7.0 Your message could not be sent. The limit on the number of allowed outgoing messages was exceeded."
        " Try again later.",
        S.USED_UP,
    ),
    Said("generic", MAIL, 452, "4.5.3 Daily message limit exceeded", S.USED_UP),
    Said("generic", FINAL, 550, "You have sent too many emails today", S.USED_UP),
    Said("generic", FINAL, 554, "Your account has been suspended", S.KEY_DEAD),
    Said("generic", FINAL, 550, "5.7.1 Sender address is not allowed", S.NOT_SET_UP),
]

# What is the message's own matter with every provider.
THE_MESSAGES_OWN = [
    (RCPT, 550, "5.1.1 The email account that you tried to reach does not exist"),
    (FINAL, 552, "5.7.1 virus Win. Test. EICAR_HDB-1 detected by Zoho Mail."),
    (FINAL, 554, "5.7.1 Message rejected as spam"),
    (MAIL, 552, "5.3.4 Message size exceeds fixed limit"),
    (RCPT, 552, "5.2.2 The recipient's inbox is over quota"),
]


def verdict(preset: str, said: Said) -> Verdict:
    return judge(Finding(said.stage, Reply(said.code, said.text)), PRESETS[preset].rules, OURS)


def _name(value: object) -> str:
    return f"{value.preset}-{value.stage}-{value.code}-{value.text[:24]}" if isinstance(value, Said) else str(value)


@pytest.mark.parametrize("said", KNOWN, ids=_name)
def test_a_provider_is_understood_by_its_own_preset(said: Said) -> None:
    found = verdict(said.preset, said)
    assert found == Verdict(Deferred(said.code, said.text), said.standing, login=said.stage is Stage.LOGIN)
    assert found.certain


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("said", KNOWN, ids=_name)
def test_no_preset_bounces_mail_for_what_another_provider_says_of_itself(said: Said, preset: str) -> None:
    found = verdict(preset, said)
    if said.alone and preset != said.preset:
        return
    assert isinstance(found.outcome, Deferred)
    assert found.standing in (said.standing, S.KEY_DEAD, S.FINE, S.BUSY)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("said", GUESSED, ids=_name)
def test_what_is_guessed_moves_the_mail_on_and_is_not_certain(said: Said, preset: str) -> None:
    found = verdict(preset, said)
    assert isinstance(found.outcome, Deferred)
    assert (found.standing, found.certain) == (said.standing, False)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("stage", "code", "text"), THE_MESSAGES_OWN)
def test_what_is_the_messages_own_is_refused_by_every_preset(preset: str, stage: Stage, code: int, text: str) -> None:
    found = judge(Finding(stage, Reply(code, text)), PRESETS[preset].rules, OURS)
    assert found == Verdict(Refused(code, text))


def test_a_full_session_at_cloudflare_is_due_at_once() -> None:
    found = judge(Finding(RCPT, Reply(452, "4.5.3 Too many recipients")), PRESETS["cloudflare"].rules)
    assert found.outcome == Deferred(452, "4.5.3 Too many recipients", at_once=True)


def test_a_test_account_of_mailguns_sends_the_mail_elsewhere() -> None:
    said = "Free accounts are for test purposes only. Please upgrade or add the address to authorized recipients."
    found = judge(Finding(RCPT, Reply(550, said)), PRESETS["mailgun"].rules)
    assert found == Verdict(Refused(550, said), elsewhere=True)


@pytest.mark.parametrize("preset", PRESETS)
def test_words_that_we_sent_ourselves_are_no_rule(preset: str) -> None:
    """A subject that quotes a provider's reply must not pause it."""
    for said in KNOWN:
        if said.stage is FINAL and said.code >= 500:
            quoted = judge(
                Finding(FINAL, Reply(554, f"spam, subject was: {said.text}")), PRESETS[preset].rules, [*OURS, said.text]
            )
            assert quoted.standing is S.FINE, said
