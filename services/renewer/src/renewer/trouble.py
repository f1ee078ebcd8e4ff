"""What certbot's output means: pure. A kind, a sentence that a person can act on, and when to come back if told so.

certbot tells the same failure in several voices (``certonly`` and ``renew`` differ, plugin and authority too); its
debug log has the authority's own words. What is not recognised is passed on as certbot's last line: nothing is hidden.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from .outcome import Kind

LONGEST_WAIT = 8 * 86400.0  # seconds; Let's Encrypt's longest window is seven days: more is a misread or a joke
QUOTED = 300  # characters of other people's words in a sentence of ours

PERMISSIONS = "Zone:Read and DNS:Edit"
# What certbot prints may be anybody's words, an authority's or an API's. Where two things have to stand in one line,
# the second is looked for behind the first: a pattern of both would be tried from each place that looks like the first.
_STATUS = re.compile(r"Error code: (\d{3}) - ")
_CODE = re.compile(r"'code': (\d{1,9}), 'message': (['\"])(.*?)\2")
_ACME = re.compile(r"^acme\.messages\.Error: .*?urn:ietf:params:acme:error:(\w+) :: .*?:: (.*)$", re.MULTILINE)
_DETAIL = re.compile(r"\"type\": \"urn:ietf:params:acme:error:(\w+)\",\s*\"detail\": \"((?:[^\"\\]|\\.)*)\"")
_CHALLENGE = re.compile(r"^ *(?:Identifier|Domain): (\S+)\n *Type: +(\S+)\n *Detail: (.*)$", re.MULTILINE)
_HOST = re.compile(r"host='([^'\n]+)'")
_UNREACHABLE = re.compile(r"Connection refused|Failed to resolve|timed out|unreachable|No route", re.IGNORECASE)
_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED\] ([^(\n]*)")
_RETRY_AT = re.compile(r"retry after (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)")
_RETRY_AFTER = re.compile(r"retry-after'?: '?(\d+)", re.IGNORECASE)
_ADVICE = re.compile(
    r"^(Saving debug log|Ask for help|An unexpected error|All renewals|\d+ renew failure|  /).*\n?", re.MULTILINE
)
_TOKEN_CODES = frozenset({"1000", "1001", "6003", "6111", "9103", "9106", "9109", "10000", "10001"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why certbot failed. ``retry_at``: the Unix time before which the other side does not want us back, or 0."""

    kind: Kind
    sentence: str
    retry_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Output:
    """What certbot said: on stdout, on stderr, and in its debug log of this run."""

    stdout: str
    stderr: str
    log: str


def explain(output: Output, *, names: Sequence[str], now: float) -> Trouble:
    """The trouble behind a certbot run that failed for ``names``."""
    words = _ADVICE.sub("", output.stderr).strip()
    found = (
        _cloudflare(words, output.log, names[0], now)
        or _network(words)
        or _validation(output.stdout)
        or _authority(output.log, now)
    )
    last = words.splitlines()[-1] if words else "it said nothing"
    return found or Trouble(Kind.CERTBOT, f"certbot failed: {_short(last)}")


def _cloudflare(words: str, log: str, host: str, now: float) -> Trouble | None:
    if "Cloudflare API: Connection error" in words or "Network error" in words:
        return Trouble(Kind.NETWORK, "Cloudflare's API cannot be reached: check this server's network and its DNS.")
    if "Unable to determine zone_id" in words and "The error from Cloudflare" not in words:
        return Trouble(
            Kind.ZONE,
            f"Cloudflare's account has no zone for {host} that CLOUDFLARE_API_TOKEN may see: "
            "check OWNPOST_HOSTNAME, and the zones the token was made for.",
        )
    found = _behind(_STATUS, _CODE, words)
    if found is None:
        return None
    return _cloudflare_reply(found[0][1], found[1][1], found[1][3], log=log, host=host, now=now)


def _behind(first: re.Pattern[str], second: re.Pattern[str], words: str) -> tuple[re.Match[str], re.Match[str]] | None:
    """What fits in the first line in which ``second`` stands behind ``first``."""
    for line in words.splitlines():
        if (one := first.search(line)) and (other := second.search(line, one.end())):
            return one, other
    return None


def _cloudflare_reply(status: str, code: str, message: str, *, log: str, host: str, now: float) -> Trouble:
    reply = f"({status}: {code} {_short(message)})"
    if status == "429":
        sentence = f"Cloudflare's API wants fewer requests {reply}; another program may use the same account."
        return Trouble(Kind.CLOUDFLARE, sentence, _retry_after(log, now))
    if int(status) >= 500:
        return Trouble(Kind.CLOUDFLARE, f"Cloudflare's API fails {reply}; nothing to change here.")
    if code in _TOKEN_CODES or status in ("401", "403"):
        wanted = f"it must be valid and allow {PERMISSIONS} for the zone of {host}."
        sentence = f"Cloudflare refuses CLOUDFLARE_API_TOKEN {reply}: {wanted}"
        return Trouble(Kind.TOKEN, sentence)
    return Trouble(Kind.CLOUDFLARE, f"Cloudflare's API refused the TXT record {reply}.")


def _network(words: str) -> Trouble | None:
    if untrusted := _behind(_HOST, _UNTRUSTED, words):
        host, reason = untrusted[0][1], untrusted[1][1]
        return Trouble(
            Kind.NETWORK, f"The ACME server {host} shows a certificate that is not trusted: {reason.strip()}."
        )
    if unreachable := _behind(_HOST, _UNREACHABLE, words):
        host, reason = unreachable[0][1], unreachable[1][0]
        return Trouble(
            Kind.NETWORK,
            f"The ACME server {host} cannot be reached ({reason}): check this server's network and its DNS.",
        )
    if "requests.exceptions." in words:
        return Trouble(Kind.NETWORK, f"The ACME server does not answer: {_short(words.splitlines()[-1])}")
    return None


def _validation(stdout: str) -> Trouble | None:
    failures = [f"{name} ({kind}: {_short(detail)})" for name, kind, detail in _CHALLENGE.findall(stdout)]
    if not failures:
        return None
    hint = (
        "is port 80 of this server reached from the Internet under that name?"
        if "authenticator: standalone" in stdout
        else "is the domain's DNS served by Cloudflare? If so, raise ACME_DNS_PROPAGATION_SECONDS."
    )
    return Trouble(Kind.VALIDATION, f"The ACME server could not validate {', '.join(failures)}; {hint}")


def _authority(log: str, now: float) -> Trouble | None:
    raised, written = _ACME.findall(log), _DETAIL.findall(log)
    if not raised and not (written and "acme.errors." in log):
        return None
    kind, detail = raised[-1] if raised else written[-1]
    detail = _short(detail if raised else _unescaped(detail))
    if kind == "rateLimited":
        retry_at = _retry_at(detail, now) or _retry_after(log, now)
        return Trouble(Kind.RATE_LIMIT, f"The ACME server's rate limit is reached: {detail}", retry_at)
    if kind == "badNonce":
        return Trouble(
            Kind.AUTHORITY,
            f"The ACME server refused our requests as repeated (badNonce: {detail}); nothing to change here.",
        )
    return Trouble(Kind.AUTHORITY, f"The ACME server refused the order ({kind}): {detail}")


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:  # it only looked like JSON
        return text


def _retry_at(detail: str, now: float) -> float:
    match = _RETRY_AT.search(detail)
    if match is None:
        return 0.0
    try:
        moment = datetime.fromisoformat(f"{match[1]}T{match[2]}").replace(tzinfo=UTC)
    except ValueError:  # the 31st of February: somebody's joke must not end us
        return 0.0
    return min(moment.timestamp(), now + LONGEST_WAIT)


def _retry_after(log: str, now: float) -> float:
    seconds = _RETRY_AFTER.findall(log)
    return now + min(float(seconds[-1]), LONGEST_WAIT) if seconds else 0.0


def _short(text: str) -> str:
    """Other people's words in one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= QUOTED else f"{line[:QUOTED]}..."
