"""Why there is no access token. The text of each is a sentence for the operator, without any secret."""

from __future__ import annotations


class GrantDead(Exception):
    """No token will come until a person acts: the grant is missing, expired or revoked, or the settings are wrong."""


class TokenUnavailable(Exception):
    """No token now, but the next try may bring one: the token endpoint was not reached or is in trouble."""
