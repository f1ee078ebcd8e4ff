"""Names and addresses as DNS holds them: lower case, punycode (RFC 5891, with the mapping of UTS 46), no final dot."""

from __future__ import annotations

import ipaddress
import re
import unicodedata

import idna

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NAME_LENGTH = 253  # RFC 1035, section 2.3.4; in characters of any script too, before anything is made of them
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")  # RFC 3490, section 3.1
_SHOWN = 80  # characters of a wrong name that are quoted back
_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LOCAL_LENGTH = 64  # RFC 5321, section 4.5.3.1.1


class BadName(ValueError):
    """Not a name or address; the text says why."""


def ascii_name(name: str) -> str:
    """``name`` in DNS form. Labels may begin with an underscore, as ``_dmarc`` does. Raises BadName."""
    plain = name.strip().translate(_DOTS).rstrip(".")
    form = ""
    if len(plain) <= _NAME_LENGTH:
        try:
            form = ".".join(
                label.lower() if label.isascii() else idna.encode(label, uts46=True).decode()
                for label in plain.split(".")
            )
        except idna.IDNAError as error:
            raise BadName(f"{_quoted(name)} is not a domain name: {error}.") from None
    if len(form) > _NAME_LENGTH or not all(map(_LABEL.fullmatch, form.split("."))):
        raise BadName(f"{_quoted(name)} is not a domain name such as example.org.")
    return form


def host_name(name: str) -> str:
    """``name`` in DNS form, of one label or more and without an underscore; "" if it cannot be a host's name.

    What ends in a number is none: it would be read as an address (RFC 1123, section 2.1).
    """
    try:
        form = ascii_name(name)
    except BadName:
        return ""
    return form if _of_a_host(form) else ""


def server(text: str) -> str:
    """A host's name in DNS form, or its address in canonical form (brackets are taken off); "" if it is neither."""
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return host_name(text)


def is_loopback(host: str) -> bool:
    """Whether ``host``, an address or a name, is this machine without asking anyone."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in ("localhost", "localhost.localdomain")


def domain_name(name: str) -> str:
    """``name`` in DNS form, with at least two labels and no underscore: somebody's domain. Raises BadName."""
    form = ascii_name(name)
    if "." not in form or not _of_a_host(form):
        raise BadName(f"{_quoted(name)} is not a full domain name such as example.org.")
    return form


def address(text: str) -> str:
    """A mail address with its domain in DNS form and its local part as written. Raises BadName."""
    local, at, domain = text.strip().rpartition("@")
    if not at or len(local) > _LOCAL_LENGTH or not _LOCAL.fullmatch(local.lower()):
        raise BadName(f"{_quoted(text)} is not a mail address such as me@example.org.")
    return f"{local}@{domain_name(domain)}"


def local_part(text: str) -> str:
    """A local part that Email Routing can match: ASCII, in lower case for it ignores case. Raises BadName."""
    form = text.strip().lower()
    if len(form) > _LOCAL_LENGTH or not _LOCAL.fullmatch(form):
        raise BadName(f"{_quoted(text)} cannot stand before an @ here; letters, digits and . _ - + can.")
    return form


def within(name: str, parent: str) -> bool:
    """Whether ``name`` is ``parent`` or below it."""
    return name == parent or name.endswith("." + parent)


def parents(name: str) -> list[str]:
    """``name`` and the names above it that have at least two labels, longest first."""
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(len(labels) - 1)]


def readable(name: str) -> str:
    """``name`` for people: with its Unicode form beside it where it has one."""
    try:
        decoded = idna.decode(name)
    except idna.IDNAError:
        return name
    return name if decoded == name else f"{name} ({decoded})"


def printable(text: str) -> str:
    """``text`` without what could steer a terminal or hide: control and format characters are shown as escapes."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _UNSEEN else character
        for character in text
    )


def _of_a_host(form: str) -> bool:
    return "_" not in form and not form.rsplit(".", 1)[-1].isdigit()


def _quoted(text: str) -> str:
    return repr(printable(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."))


_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
