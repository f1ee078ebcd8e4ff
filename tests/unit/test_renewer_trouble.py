"""certbot's words and what they mean. The texts are certbot 5.8's own, as its runs against Pebble print them."""

from __future__ import annotations

from pathlib import Path

import pytest

from renewer import hook
from renewer.outcome import Kind
from renewer.trouble import LONGEST_WAIT, QUOTED, Output, Trouble, explain

NOW = 1_800_000_000.0
HOST = "mail.example.org"
ADVICE = """Saving debug log to /acme/certbot/logs/letsencrypt.log
{}
Ask for help or search for solutions at https://community.letsencrypt.org. See the logfile /acme/… for more details.
"""
RENEW = """Saving debug log to /acme/certbot/logs/letsencrypt.log
Failed to renew certificate ownpost with error: {}
All renewals failed. The following certificates could not be renewed:
  /acme/certbot/config/live/ownpost/fullchain.pem (failure)
1 renew failure(s), 0 parse failure(s)
Ask for help or search for solutions at https://community.letsencrypt.org. See the logfile /acme/… for more details.
"""


def understand(stderr: str = "", stdout: str = "", log: str = "", form: str = ADVICE) -> Trouble:
    return explain(Output(stdout, form.format(stderr), log), names=[HOST], now=NOW)


def cloudflare(status: int, code: int, message: str = "m") -> str:
    errors = f"[{{'code': {code}, 'message': '{message}'}}]"
    return f"Error code: {status} - {{'success': False, 'errors': {errors}, 'messages': [], 'result': None}}"


@pytest.mark.parametrize("form", [ADVICE, RENEW])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, 6003, Kind.TOKEN),
        (400, 9103, Kind.TOKEN),
        (403, 9109, Kind.TOKEN),
        (403, 10000, Kind.TOKEN),
        (401, 1000, Kind.TOKEN),
        (403, 99999, Kind.TOKEN),
        (429, 10000, Kind.CLOUDFLARE),
        (500, 10000, Kind.CLOUDFLARE),
        (503, 1000, Kind.CLOUDFLARE),
        (400, 81053, Kind.CLOUDFLARE),
    ],
)
def test_replies_of_cloudflare(form: str, status: int, code: int, kind: Kind) -> None:
    for words in (
        f"Error determining zone_id: {code} {cloudflare(status, code)}. Please confirm that (…)",
        f"Unable to determine zone_id for {HOST}. The error from Cloudflare was: {code} {cloudflare(status, code)}.",
        f"Error communicating with the Cloudflare API: {cloudflare(status, code)}",
    ):
        trouble = understand(words, form=form)
        assert trouble.kind is kind
        assert f"({status}: {code} m)" in trouble.sentence


def test_the_message_may_hold_a_quote() -> None:
    words = "Error code: 403 - {'errors': [{'code': 9109, 'message': \"It's invalid\"}]}"
    assert "(403: 9109 It's invalid)" in understand(words).sentence


def test_cloudflare_says_when_to_come_back() -> None:
    log = "HTTP Response: GET http://x \"429 Too Many Requests\" Headers({'retry-after': '120', 'date': 'x'})"
    words = f"Unable to determine zone_id. The error from Cloudflare was: 10013 {cloudflare(429, 10013)}."
    assert understand(words, log=log).retry_at == NOW + 120


ACME = "acme.messages.Error: urn:ietf:params:acme:error:{} :: What that means :: {}\n"


def test_a_refusal_has_the_authoritys_own_words() -> None:
    log = ACME.format("rejectedIdentifier", "forbidden by policy")
    assert understand("An unexpected error occurred:\nforbidden by policy", log=log) == Trouble(
        Kind.AUTHORITY, "The ACME server refused the order (rejectedIdentifier): forbidden by policy"
    )


def test_a_refusal_that_names_the_identifier_first() -> None:
    log = "acme.messages.Error: Problem for x.org: urn:ietf:params:acme:error:caa :: CAA :: not allowed\n"
    assert understand("x", log=log).sentence == "The ACME server refused the order (caa): not allowed"


LIMIT = "too many certificates already issued, retry after 2027-01-16 10:00:00 UTC: see https://letsencrypt.org"


@pytest.mark.parametrize(
    ("detail", "header", "retry_at"),
    [
        (LIMIT, "", 1800093600.0),
        (LIMIT, "Retry-After: 60\n", 1800093600.0),  # the text is more exact than a header that may be another reply's
        ("too many", "Retry-After: 60\n", NOW + 60),
        ("too many", "Retry-After: 99999999999\n", NOW + LONGEST_WAIT),
        ("too many, retry after 9999-12-31T00:00:00Z", "", NOW + LONGEST_WAIT),
        ("too many", "", 0.0),
    ],
)
def test_a_rate_limit_says_when_to_come_back(detail: str, header: str, retry_at: float) -> None:
    trouble = understand(detail, log=f"HTTP 429\n{header}{ACME.format('rateLimited', detail)}")
    assert trouble.kind is Kind.RATE_LIMIT
    assert detail in trouble.sentence
    assert trouble.retry_at == retry_at


def test_an_order_that_turned_invalid_leaves_its_reason_in_the_log_only() -> None:
    log = '"error": {"type": "urn:ietf:params:acme:error:caa", "detail": "CAA \\"prevents\\" it"}\n'
    trouble = understand("", log=log + "acme.errors.IssuanceError\n", form=RENEW)
    assert trouble.sentence == 'The ACME server refused the order (caa): CAA "prevents" it'


def test_a_nonce_refused_on_the_way_is_not_the_reason() -> None:
    log = '{"type": "urn:ietf:params:acme:error:badNonce", "detail": "bad"}\n'
    trouble = understand("Something else broke.", log=log)
    assert trouble == Trouble(Kind.CERTBOT, "certbot failed: Something else broke.")


CHALLENGE = """
Certbot failed to authenticate some domains (authenticator: {}). The Certificate Authority reported these problems:
  Identifier: mail.example.org
  Type:   unauthorized
  Detail: No TXT records found

  Identifier: imap.example.org
  Type:   dns
  Detail: NXDOMAIN looking up TXT

Hint: …
"""


@pytest.mark.parametrize(("authenticator", "hint"), [("dns-cloudflare", "PROPAGATION"), ("standalone", "port 80")])
def test_each_name_that_was_not_validated_is_there(authenticator: str, hint: str) -> None:
    trouble = understand("Some challenges have failed.", stdout=CHALLENGE.format(authenticator))
    assert trouble.kind is Kind.VALIDATION
    assert "mail.example.org (unauthorized: No TXT records found)" in trouble.sentence
    assert "imap.example.org (dns: NXDOMAIN looking up TXT)" in trouble.sentence
    assert hint in trouble.sentence


POOL = "requests.exceptions.{}: HTTPSConnectionPool(host='acme.example', port=443): Max retries exceeded ({})"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (POOL.format("ConnectionError", "[Errno 111] Connection refused"), "(Connection refused)"),
        (POOL.format("ConnectionError", "Failed to resolve 'acme.example'"), "(Failed to resolve)"),
        (POOL.format("ConnectTimeout", "Connection to acme.example timed out"), "(timed out)"),
        (
            POOL.format("SSLError", "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: expired (_ssl.c:1)"),
            "not trusted: certificate verify failed: expired.",
        ),
        (
            "requests.exceptions.ChunkedEncodingError: broken",
            "does not answer: requests.exceptions.ChunkedEncodingError",
        ),
        (
            "Network error contacting the Cloudflare API while looking up the zone for x: Connection error.",
            "Cloudflare",
        ),
    ],
)
def test_what_cannot_be_reached(words: str, reason: str) -> None:
    trouble = understand(words)
    assert trouble.kind is Kind.NETWORK
    assert reason in trouble.sentence


def test_what_is_not_known_is_passed_on_in_one_line_of_bounded_length() -> None:
    assert understand("Another instance of Certbot is already running.").sentence == (
        "certbot failed: Another instance of Certbot is already running."
    )
    assert understand("").sentence == "certbot failed: it said nothing"
    long = understand("x" * (QUOTED + 1)).sentence
    assert len(long) <= QUOTED + len("certbot failed: ...")
    assert long.endswith("...")
    assert understand("x" * QUOTED).sentence.endswith("x")


def test_the_hook_notes_the_lineage(tmp_path: Path) -> None:
    for lineage in ("/acme/live/ownpost", "/acme/live/ownpost-0001"):
        hook.note({hook.NOTE: str(tmp_path / "lineage"), "RENEWED_LINEAGE": lineage})
        assert (tmp_path / "lineage").read_text() == lineage
    assert [path.name for path in tmp_path.iterdir()] == ["lineage"]
