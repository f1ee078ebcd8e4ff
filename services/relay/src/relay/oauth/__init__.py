"""Logging in to a provider with OAuth 2.0 instead of a password: who grants it, and how tokens are kept fresh.

``settings`` reads what the operator configured; ``grants`` walks a person through giving the grant; ``store`` keeps the
newest refresh token; ``tokens`` hands out access tokens that are valid; ``endpoint`` is the one place that talks to a
token endpoint. No token, code or secret ever reaches a log, an argument list, a ``repr`` or a sentence.
"""
