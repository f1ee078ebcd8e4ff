"""Which names exist. A name that looks like ours and is not known is a mistake in typing, and is told so."""

from __future__ import annotations

from collections.abc import Iterable

from common.settings import Reader

PREFIXES = ("OWNPOST_", "RELAY_", "RENEWER_", "EXPORTER_", "DOMAIN_", "ACME_")
# The ports that compose.yaml publishes where OWNPOST_NAME_PORT is not set: what clients type in.
PUBLISHED_PORTS = {"SUBMISSION": "587", "SUBMISSIONS": "465", "LAN": "2525"}
# Names that others read: the other services and ``compose.yaml`` itself. The relay alone sees the whole ``.env``, so it
# alone reports unknown names, and must know these. Compose reads no files: what it publishes by a program must not take
# from one either, or the trial's fence would stand elsewhere than the ports.
OF_COMPOSE = frozenset(
    {
        "OWNPOST_BIND",
        "RELAY_LAN_BIND",
        "EXPORTER_BIND",
        "RENEWER_PUBLISH",
        "OWNPOST_UID",
        "OWNPOST_GID",
        "OWNPOST_SUBMISSION_PORT",
        "OWNPOST_SUBMISSIONS_PORT",
        "OWNPOST_LAN_PORT",
        "OWNPOST_EXPORTER_PORT",
        "OWNPOST_GRAFANA_PORT",
        "OWNPOST_PROMETHEUS_PORT",
        "OWNPOST_IPV6",
        "OWNPOST_IPV6_SUBNET",
    }
)
OF_RENEWER = frozenset(
    {
        "OWNPOST_TLS",
        "ACME_CHALLENGE",
        "ACME_DNS_PROPAGATION_SECONDS",
        "ACME_EMAIL",
        "ACME_KEY_TYPE",
        "ACME_PROFILE",
        "ACME_SERVER",
        "CLOUDFLARE_API_TOKEN",
        "RENEWER_ACME",
        "RENEWER_EXTRA_NAMES",
        "RENEWER_FILES_CERT",
        "RENEWER_FILES_KEY",
        "RENEWER_CERTS",
        "RENEWER_HTTP_PORT",
        "RENEWER_PUBLISH",
        "RENEWER_RUN",
        "RENEWER_LOG_FORMAT",
    }
)
OF_EXPORTER = frozenset(
    {
        "EXPORTER_BIND",
        "EXPORTER_HOSTS",
        "EXPORTER_INSIDE_PORT",
        "EXPORTER_LISTEN",
        "EXPORTER_LOG_FORMAT",
        "EXPORTER_NOTIFY_URL",
        "EXPORTER_PASSWORD",
        "EXPORTER_PORT",
        "EXPORTER_RUN",
        "EXPORTER_SHOW_ADDRESSES",
    }
)
OF_DOMAIN = frozenset(
    {
        "DOMAIN_ADDRESSES",
        "DOMAIN_BACKUPS",
        "DOMAIN_BREVO_API_KEY",
        "DOMAIN_BREVO_URL",
        "DOMAIN_CLOUDFLARE_API_TOKEN",
        "DOMAIN_CLOUDFLARE_URL",
        "DOMAIN_CONFIG",
        "DOMAIN_DMARC_REPORTS",
        "DOMAIN_EMAIL_ROUTING",
        "DOMAIN_MAILGUN_API_KEY",
        "DOMAIN_MAILGUN_URL",
        "DOMAIN_MTA_STS",
        "DOMAIN_POSTMARK_ACCOUNT_TOKEN",
        "DOMAIN_POSTMARK_URL",
        "DOMAIN_POSTMASTER",
        "DOMAIN_RESEND_API_KEY",
        "DOMAIN_RESEND_REGION",
        "DOMAIN_RESEND_URL",
        "DOMAIN_RESOLVERS",
        "DOMAIN_RUN",
        "DOMAIN_SENDGRID_API_KEY",
        "DOMAIN_SENDGRID_URL",
        "DOMAIN_SES_ACCESS_KEY_ID",
        "DOMAIN_SES_REGION",
        "DOMAIN_SES_SECRET_ACCESS_KEY",
        "DOMAIN_SES_URL",
        "DOMAIN_SUBADDRESSING",
        "DOMAIN_TLS_REPORTS",
        "DOMAIN_TRACES",
    }
)
OF_SERVICES = OF_RENEWER | OF_EXPORTER | OF_DOMAIN
OF_OTHERS = OF_COMPOSE | OF_SERVICES | {f"{name}_FILE" for name in OF_SERVICES}
NO_FILES = {f"{name}_FILE": name for name in OF_COMPOSE}


def report_unknown(reader: Reader, prefixes: Iterable[str]) -> None:
    """A problem for each name with one of ``prefixes`` or of ours that has a value and that nobody reads."""
    ours = {name for name in reader.environ if name.startswith((*PREFIXES, *prefixes))}
    for name in sorted(ours & NO_FILES.keys()):
        if reader.environ[name].strip():
            plain = NO_FILES[name]
            reader.problem(name, f"there is no such setting: compose.yaml reads {plain} itself; set that in .env.")
    reader.unknown(ours - NO_FILES.keys(), (reader.asked | OF_OTHERS) - NO_FILES.keys())
