"""Providers' domain authentication by their own APIs: one reader a provider, all with the same three calls.

``find`` writes nothing; ``create`` makes what is missing; ``validate`` asks the provider to look at DNS. What the API
names comes back as records; SPF at the sender's own name as mechanisms; a DMARC record is left to our own rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from ..settings import Key
from . import brevo, mailgun, postmark, resend, sendgrid, ses
from .model import Authentication, Service

__all__ = ["SERVICES", "Authentication", "Service", "services"]

Make = Callable[[Key, httpx.Client, Callable[[float], None]], Service]

SERVICES: Mapping[str, Make] = {
    "sendgrid": sendgrid.SendGrid,
    "brevo": brevo.Brevo,
    "resend": resend.Resend,
    "mailgun": mailgun.Mailgun,
    "postmark": postmark.Postmark,
    "ses": ses.Ses,
}


def services(keys: Mapping[str, Key], client: httpx.Client, sleep: Callable[[float], None]) -> dict[str, Service]:
    """A service for every key given."""
    return {name: SERVICES[name](key, client, sleep) for name, key in keys.items()}
