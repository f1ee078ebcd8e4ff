"""Makes a :class:`Provider` of its settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from relay.address import fold, login_name
from relay.delivery.content import field_pattern
from relay.providers.provider import Provider, client_context
from relay.providers.rules import Rule

if TYPE_CHECKING:
    from relay.settings_provider import ProviderSettings


def build(settings: ProviderSettings) -> Provider:
    """The provider that ``settings`` describe. Raises ssl.SSLError when its CA is not a certificate in PEM."""
    facts = settings.facts
    secured = any(tls != "none" for _, tls in settings.ports)
    return Provider(
        name=settings.name,
        title=facts.title,
        host=settings.host,
        ports=settings.ports,
        username=settings.username,
        password=settings.password,
        auth="xoauth2" if settings.oauth else "password",
        oauth=settings.oauth,
        tls_context=client_context(settings.ca) if secured else None,
        size_limit=facts.size_limit,
        recipients=facts.recipients,
        quotas=settings.quotas,
        reserve=facts.reserve,
        senders=tuple(fold(login_name(sender.replace("{username}", settings.username))) for sender in facts.senders),
        strip=field_pattern((*facts.strip, *facts.headers), facts.keep),  # a field of ours must not stand there twice
        field_size=facts.field_size,
        headers=tuple(facts.headers.items()),
        replaces_message_id=facts.replaces_message_id,
        accepted=facts.accepted,
        rules=_rules(facts.rules, logs_in=bool(settings.username)),
        connections=facts.connections,
        messages_per_connection=facts.messages_per_connection,
        seconds_per_connection=facts.seconds_per_connection,
        captured=settings.captured,
    )


def _rules(rules: tuple[Rule, ...], *, logs_in: bool) -> tuple[Rule, ...]:
    """What may be the recipient's fault of somebody who is logged in ("relay access denied") is certainly ours where we
    are not.
    """
    return rules if logs_in else tuple([replace(rule, guess=False) for rule in rules])
