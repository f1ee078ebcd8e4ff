"""Addresses as strangers may see them: enough for their owner to recognise, not enough to write to."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"""(?:"[^"\r\n]{1,128}"|[^\s<>()\[\],;:"'@]{1,128})(?=@[^\s<>()\[\],;:"'@])""")


def shorten(text: str) -> str:
    """``text`` with every mail address in it cut to its first letter and its domain: ``a…@example.org``."""
    return _ADDRESS.sub(lambda found: f"{found[0][0]}…", text) if "@" in text else text


def shorten_address(address: str) -> str:
    """As :func:`shorten`, for what is an address (or an account's name) as a whole, however odd."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}" if at else address


def as_it_is(text: str) -> str:
    """For those who want to see addresses: EXPORTER_SHOW_ADDRESSES=yes."""
    return text
