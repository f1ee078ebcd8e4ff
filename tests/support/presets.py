"""The least that each preset needs to be told."""

from __future__ import annotations

from relay.providers.build import build
from relay.providers.presets import PRESETS
from relay.providers.provider import Provider
from relay.settings import read

BASE = {"OWNPOST_DOMAINS": "example.org", "RELAY_CONFIG": "/nowhere"}
REAL = [name for name in PRESETS if name != "capture"]
KEY = "the key"
WANTS = {
    "brevo": {"BREVO_USERNAME": "me"},
    "ses": {"SES_USERNAME": "AKIA", "SES_REGION": "eu-central-1"},
    "mailgun": {"MAILGUN_USERNAME": "postmaster@mg.example.org"},
    "smtp2go": {"SMTP2GO_USERNAME": "me"},
    "mailjet": {"MAILJET_USERNAME": "public"},
    "mailersend": {"MAILERSEND_USERNAME": "MS_1"},
    "scaleway": {"SCALEWAY_USERNAME": "project"},
    "gmail": {"GMAIL_USERNAME": "Anna@gmail.com"},
    "workspace": {"WORKSPACE_USERNAME": "anna@example.org"},
    "microsoft365": {"MICROSOFT365_USERNAME": "anna@example.org"},
    "fastmail": {"FASTMAIL_USERNAME": "anna@example.org"},
    "infomaniak": {"INFOMANIAK_USERNAME": "anna@example.org"},
    "generic": {"GENERIC_HOST": "smtp.example.net", "GENERIC_USERNAME": "me"},
}


def environ(*names: str) -> dict[str, str]:
    """Settings under which these presets are used, in this order."""
    found = BASE | {"OWNPOST_PROVIDERS": ",".join(names)}
    for name in names:
        password = {} if name == "capture" else {f"{name.upper()}_PASSWORD": KEY}
        found |= password | WANTS.get(name, {})
    return found


def provider(name: str, **more: str) -> Provider:
    """The provider that a preset makes with the settings in ``more``."""
    return build(read(environ(name) | more).providers[0])
