"""What is known of providers, as data: hosts and ports to test, the SPF they need at our name, fixed DKIM selectors.

Sources: each provider's own documentation as of November 2026. What is not known is left out: a provider that is not
here is served by records pasted into ``config/providers.toml`` and by its ``NAME_HOST`` and ``NAME_PORT`` settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Needs(Enum):
    """When a provider needs its SPF mechanism at the sender's own name."""

    NEVER = "never"  # the envelope sender lives at a name of the provider's, or DKIM alone carries DMARC
    ALWAYS = "always"
    UNAUTHENTICATED = "unauthenticated"  # only without domain authentication


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """``ports`` in order of trial; of each group of ``selectors`` one must be there, where records are not known."""

    title: str
    host: str = ""
    ports: tuple[int, ...] = (587,)
    spf: str = ""
    needs: Needs = Needs.NEVER
    selectors: tuple[tuple[str, ...], ...] = ()


PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        "sendgrid": Provider(
            title="SendGrid",
            host="smtp.sendgrid.net",
            ports=(587, 2525, 465),
            spf="include:sendgrid.net",
            needs=Needs.UNAUTHENTICATED,
            selectors=(("s1",), ("s2",)),
        ),
        "brevo": Provider(
            title="Brevo",
            host="smtp-relay.brevo.com",
            ports=(587, 2525, 465),
            selectors=(("mail", "brevo1"),),
        ),
        "ses": Provider(title="Amazon SES", ports=(587, 2587, 465)),  # the host holds the region: SES_REGION
        "mailgun": Provider(
            title="Mailgun",
            host="smtp.mailgun.org",
            ports=(587, 2525, 465),
            spf="include:mailgun.org",
            needs=Needs.ALWAYS,
        ),
        "postmark": Provider(title="Postmark", host="smtp.postmarkapp.com", ports=(587, 2525)),
        "resend": Provider(title="Resend", host="smtp.resend.com", ports=(587, 2587, 465), selectors=(("resend",),)),
        "smtp2go": Provider(title="SMTP2GO", host="mail.smtp2go.com", ports=(587, 2525, 8025, 465)),
        "mailjet": Provider(
            title="Mailjet",
            host="in-v3.mailjet.com",
            ports=(587, 2525, 465),
            spf="include:spf.mailjet.com",
            needs=Needs.ALWAYS,
            selectors=(("mailjet",),),
        ),
        "mailersend": Provider(
            title="MailerSend",
            host="smtp.mailersend.net",
            spf="include:_spf.mailersend.net",
            needs=Needs.ALWAYS,
            selectors=(("mlsend2", "mlsend"),),
        ),
        "scaleway": Provider(
            title="Scaleway TEM",
            host="smtp.tem.scaleway.com",
            ports=(587, 2587, 465),
            spf="include:_spf.tem.scaleway.com",
            needs=Needs.ALWAYS,
        ),
        "zeptomail": Provider(title="ZeptoMail"),
        "cloudflare": Provider(
            title="Cloudflare Email Sending", host="smtp.mx.cloudflare.net", ports=(465,), selectors=(("cf-bounce",),)
        ),
        "gmail": Provider(title="Gmail", host="smtp.gmail.com", ports=(587, 465)),
        "workspace": Provider(
            title="Google Workspace",
            host="smtp-relay.gmail.com",
            ports=(587, 465),
            spf="include:_spf.google.com",
            needs=Needs.ALWAYS,
            selectors=(("google",),),
        ),
        "microsoft365": Provider(
            title="Microsoft 365",
            host="smtp.office365.com",
            spf="include:spf.protection.outlook.com",
            needs=Needs.ALWAYS,
            selectors=(("selector1",), ("selector2",)),
        ),
        "fastmail": Provider(
            title="Fastmail",
            host="smtp.fastmail.com",
            ports=(587, 465),
            spf="include:spf.messagingengine.com",
            needs=Needs.ALWAYS,
            selectors=(("fm1",), ("fm2",), ("fm3",)),
        ),
        "infomaniak": Provider(
            title="Infomaniak",
            host="mail.infomaniak.com",
            ports=(587, 465),
            spf="include:spf.infomaniak.ch",
            needs=Needs.ALWAYS,
        ),
        "generic": Provider(title="generic"),
    }
)

NOT_ON_THE_NET = frozenset({"capture"})  # providers that nobody outside ever sees
NO_DNS = NOT_ON_THE_NET | {"gmail"}  # and those that send in their own names only

DASHBOARD = "in its dashboard, where it authenticates a sender domain"


def facts(preset: str) -> Provider:
    """What is known of a preset; of a name of one's own, nothing but the name."""
    return PROVIDERS.get(preset) or Provider(title=preset)
