"""What is known of a provider is a table; what a user sets comes on top; TLS is verified whatever the preset."""

from __future__ import annotations

import ssl

import pytest
import trustme

from relay import limits
from relay.choice.quota import Quota
from relay.delivery.content import without_fields
from relay.delivery.outcome import Finding, Reply, judge
from relay.providers.presets import PRESETS
from relay.providers.rules import Stage, Standing
from relay.settings import read
from support.presets import REAL, environ, provider


@pytest.mark.parametrize("name", REAL)
def test_every_preset_is_complete_and_has_its_source(name: str) -> None:
    preset, known = PRESETS[name], provider(name)
    assert preset.title
    assert preset.source
    assert preset.checked
    assert known.ports[0] in ((587, "starttls"), (465, "tls"))
    assert known.host
    assert "{" not in known.host
    assert (known.username, known.password)[1] == "the key"
    assert known.username
    assert name == "generic" or preset.dns
    assert name == "generic" or preset.key


def test_the_issues_providers_are_all_there() -> None:
    wanted = (
        "sendgrid brevo ses mailgun postmark resend smtp2go mailjet mailersend scaleway zeptomail cloudflare gmail"
        " workspace microsoft365 fastmail infomaniak generic capture"
    )
    assert set(wanted.split()) == set(PRESETS)


@pytest.mark.parametrize("name", REAL)
def test_every_preset_knows_a_relay_that_does_not_take_us_for_logged_in(name: str) -> None:
    """One recipient that a provider does not serve must not pause it for everybody, so it is a guess."""
    said = "5.7.1 <b@example.net>: Relay access denied"
    verdict = judge(Finding(Stage.RCPT, Reply(554, said)), provider(name).rules)
    assert (verdict.standing, verdict.certain) == (Standing.KEY_DEAD, False)


def test_without_a_login_a_relay_that_denies_access_denies_it_to_us() -> None:
    nameless = provider("generic", GENERIC_USERNAME="", GENERIC_PASSWORD="")
    verdict = judge(Finding(Stage.RCPT, Reply(554, "5.7.1 Relay access denied")), nameless.rules)
    assert (verdict.standing, verdict.certain) == (Standing.KEY_DEAD, True)


def test_sendgrid_is_known() -> None:
    known = provider("sendgrid")
    assert (known.host, known.ports[0]) == ("smtp.sendgrid.net", (587, "starttls"))
    assert (known.title, known.username, known.password) == ("SendGrid", "apikey", "the key")
    assert known.size_limit == 30 * limits.MIB
    assert known.captured is None
    assert known.auth == "password"


def test_ports_are_tried_in_the_order_587_465_2525() -> None:
    assert provider("brevo").ports == ((587, "starttls"), (465, "tls"), (2525, "starttls"))


@pytest.mark.parametrize(
    ("more", "ports"),
    [
        ({"BREVO_PORT": "2525"}, ((2525, "starttls"),)),
        ({"BREVO_PORT": "465"}, ((465, "tls"),)),
        ({"BREVO_TLS": "tls"}, ((465, "tls"),)),
        ({"BREVO_TLS": "starttls"}, ((587, "starttls"),)),
        ({"BREVO_PORT": "2526"}, ((2526, "starttls"),)),
    ],
)
def test_a_port_that_is_set_is_the_only_one(more: dict[str, str], ports: object) -> None:
    assert provider("brevo", **more).ports == ports


def test_a_users_settings_win_over_the_preset() -> None:
    mine = provider("sendgrid", SENDGRID_HOST="smtp.example.net", SENDGRID_PORT="465", SENDGRID_USERNAME="other")
    assert (mine.host, mine.ports, mine.username) == ("smtp.example.net", ((465, "tls"),), "other")


@pytest.mark.parametrize(
    ("name", "more", "host"),
    [
        ("ses", {"SES_REGION": "us-east-1"}, "email-smtp.us-east-1.amazonaws.com"),
        ("ses", {"SES_REGION": "", "SES_HOST": "vpce.example.net"}, "vpce.example.net"),
        ("mailgun", {"MAILGUN_REGION": "EU"}, "smtp.eu.mailgun.org"),
        ("sendgrid", {"SENDGRID_REGION": "eu"}, "smtp.eu.sendgrid.net"),
        ("smtp2go", {"SMTP2GO_REGION": "eu2"}, "mail-eu2.smtp2go.com"),
        ("zeptomail", {"ZEPTOMAIL_REGION": "eu"}, "smtp.zeptomail.eu"),
        ("zeptomail", {"ZEPTOMAIL_REGION": "in"}, "smtp.zeptomail.in"),
    ],
)
def test_a_region_has_its_own_host(name: str, more: dict[str, str], host: str) -> None:
    assert provider(name, **more).host == host


def test_postmark_is_logged_in_to_with_the_token_twice() -> None:
    known = provider("postmark")
    assert (known.username, known.password) == ("the key", "the key")


def test_gmail_serves_only_its_own_address() -> None:
    terms = provider("gmail").terms
    assert terms.serves("anna@gmail.com", "gmail.com")
    assert not terms.serves("other@gmail.com", "gmail.com")


def test_a_token_in_place_of_a_password() -> None:
    known = provider("gmail", GMAIL_PASSWORD="", GMAIL_OAUTH_CLIENT_ID="id", GMAIL_OAUTH_CLIENT_SECRET="secret")
    assert (known.auth, known.password) == ("xoauth2", "")
    assert known.oauth is not None
    assert known.oauth.kind == "google"
    assert provider("microsoft365", MICROSOFT365_PASSWORD="", MICROSOFT365_OAUTH_CLIENT_ID="id").auth == "xoauth2"


def test_quotas_of_the_free_plan_count_until_others_are_set() -> None:
    assert provider("brevo").quotas == (Quota(limit=300, period="day"),)
    assert provider("resend").quotas == (Quota(limit=100, period="day"), Quota(limit=3000, period="month"))
    assert provider("infomaniak").quotas == (Quota(limit=500, period="rolling"),)
    assert provider("brevo", BREVO_DAILY_QUOTA="none").quotas == ()
    more = {"BREVO_DAILY_QUOTA": "5000", "BREVO_MONTHLY_QUOTA": "40000", "BREVO_HOURLY_QUOTA": "200"}
    assert provider("brevo", **more).quotas == (
        Quota(limit=200, period="rolling", hours=1),
        Quota(limit=5000, period="day"),
        Quota(limit=40000, period="month"),
    )
    assert provider("ses", SES_DAILY_QUOTA="200").quotas == (Quota(limit=200, period="rolling"),)
    assert provider("mailersend").quotas == (Quota(limit=500, period="rolling", hours=30 * 24),)


def test_a_quota_that_nobody_set_is_told_at_the_start() -> None:
    brevo = environ("brevo") | {"OWNPOST_BIND": "0.0.0.0"}
    (warning,) = read(brevo).notes
    assert warning.startswith("BREVO_DAILY_QUOTA: not set, so the 300 recipients")
    assert read(brevo | {"BREVO_DAILY_QUOTA": "none"}).notes == ()
    assert read(brevo | {"BREVO_DAILY_QUOTA": "300"}).notes == ()


def test_terms_hold_what_the_choice_asks() -> None:
    terms = provider("scaleway").terms
    assert (terms.name, terms.title, terms.recipients, terms.size_limit) == (
        "scaleway",
        "Scaleway TEM",
        10,
        50_000_000,
    )
    assert (terms.reserve, terms.quotas) == (0.1, (Quota(limit=10000, period="month"),))


@pytest.mark.parametrize("name", ["generic", "postmark"])
def test_the_password_is_never_shown(name: str) -> None:
    """Postmark's is its user name too."""
    found = provider(name)
    assert found.password == "the key"
    assert "the key" not in repr(found)


@pytest.mark.parametrize("name", REAL)
def test_certificates_are_verified(name: str) -> None:
    context = provider(name).tls_context
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_an_authority_of_ones_own_is_the_only_one_trusted() -> None:
    context = provider("generic", GENERIC_CA=trustme.CA().cert_pem.bytes().decode()).tls_context
    assert context is not None
    assert len(context.get_ca_certs()) == 1


def test_no_tls_context_without_tls() -> None:
    plain = {"GENERIC_HOST": "127.0.0.1", "GENERIC_TLS": "none", "GENERIC_USERNAME": "", "GENERIC_PASSWORD": ""}
    assert provider("generic", **plain).tls_context is None


def test_capture_has_a_folder_and_no_host() -> None:
    captured = provider("capture", RELAY_CAPTURED="/var/captured")
    assert str(captured.captured) == "/var/captured"
    assert (captured.host, captured.ports, captured.tls_context) == ("", (), None)
    assert provider("generic", RELAY_CAPTURED="/var/captured").captured is None


@pytest.mark.parametrize(
    ("name", "steering"),
    [
        ("sendgrid", b'x-smtpapi: {"to":\r\n ["victim@example.net"]}\r\n'),
        ("mailgun", b"X-Mailgun-Recipient-Variables: {}\r\n"),
        ("postmark", b"X-PM-Message-Stream: broadcasts\r\n"),
        ("mailjet", b"X-MJ-TemplateID: 1\r\nX-Mailjet-Campaign: x\r\n"),
        ("ses", b"X-SES-CONFIGURATION-SET: other\r\n"),
        ("brevo", b"X-Mailin-Tag: x\r\nX-Sib-Sandbox: drop\r\n"),
        ("resend", b"Resend-Idempotency-Key: mine\r\nX-Resend-Tag: x\r\n"),
        ("brevo", b"sender.ip: 192.0.2.1\r\nidempotencyKey: mine\r\n"),
        ("smtp2go", b"X-Smtp2go-Track: x\r\nX-Smtpcorp-Track: x\r\n"),
        ("mailersend", b"X-MailerSend-Template: x\r\n"),
        ("scaleway", b"X-TEM-Webhook: x\r\n"),
        ("zeptomail", b"X-ZeptoMail-Agent: x\r\nX-TM-FILE-KEY: ours\r\nx-tm-open-track: true\r\n"),
    ],
)
def test_a_clients_control_fields_do_not_reach_the_provider(name: str, steering: bytes) -> None:
    text = b"To: b\r\n\r\nX-SMTPAPI: in the text\r\n"
    mail = b"From: a@example.org\r\n" + steering + text
    assert without_fields(mail, provider(name).strip) == b"From: a@example.org\r\n" + text
