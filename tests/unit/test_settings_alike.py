"""What all services are told they understand alike: one `.env` must not mean one thing here and another there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import domain.commands
import domain.settings
import exporter.settings
import relay.settings
import renewer.settings
from common.providers import CAPTURE, presets
from common.settings import SettingsError

Environ = Mapping[str, str]
FOLDERS = {"RENEWER_CERTS": os.sep, "RENEWER_ACME": os.sep}  # the ones that must be there


def of_relay(environ: Environ) -> relay.settings.Settings:
    return relay.settings.read(environ)


def of_renewer(environ: Environ) -> renewer.settings.Settings:
    return renewer.settings.read({**FOLDERS, **environ})


def of_exporter(environ: Environ) -> exporter.settings.Settings:
    return exporter.settings.read(environ, lambda urls: [])


def of_domain(environ: Environ) -> domain.settings.Settings:
    return domain.settings.read(environ)


HOSTS: tuple[Callable[[Environ], str], ...] = (
    lambda environ: of_relay(environ).hostname,
    lambda environ: of_renewer(environ).names[0],
    lambda environ: "".join(of_exporter(environ).hosts[:1]),  # of a bad one the relay complains, and it has none
    lambda environ: of_domain(environ).hostname,
)


def hosts(environ: Environ) -> set[str]:
    """Each different host name that a service makes of ``environ``; "" where it makes none."""

    def answer(ask: Callable[[Environ], str]) -> str:
        try:
            return ask(environ)
        except SettingsError:
            return ""

    return {answer(ask) for ask in HOSTS}


# --- names


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("straße.de", "xn--strae-oqa.de"),  # and not strasse.de, which is somebody else's
        ("faß.example", "xn--fa-hia.example"),
        ("βόλος.example", "xn--nxasmm1c.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),  # as macOS writes it
        ("XN--BCHER-KVA.Example.", "xn--bcher-kva.example"),
        ("例え。テスト。", "xn--r8jz45g.xn--zckzah"),
        ("ｅｘａｍｐｌｅ．org", "example.org"),
        ("example.org.", "example.org"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        ("a" * 64 + ".example", ""),
        ("ü" * 64 + ".example", ""),
        ("example", ""),
        ("exa mple", ""),
        ("192.0.2.1", ""),
        ("a..example", ""),
        ("-a.example", ""),
        ("a_b.example", ""),
        ("https://example.org", ""),
        ("exam\u202eple.org", ""),
        ("💩.example", ""),  # xn--ls8h.example is it, for those who have it
    ],
)
def test_a_name_is_the_same_host_to_every_service(written: str, meant: str) -> None:
    assert hosts({"OWNPOST_DOMAINS": "example.net", "OWNPOST_HOSTNAME": written}) == {meant}
    assert hosts({"OWNPOST_DOMAINS": f"{written}, example.net"}) == {f"mail.{meant}" if meant else ""}


@pytest.mark.parametrize("letter", ["ü", "\u0308", "\u0661", "\u05d0", "a", "."])
def test_a_file_named_by_mistake_is_refused_at_once(letter: str) -> None:
    """Making a name of a long text is not linear in every version of idna."""
    began = time.process_time()
    assert hosts({"OWNPOST_DOMAINS": "example.net", "OWNPOST_HOSTNAME": letter * 60_000}) == {""}
    assert time.process_time() - began < 2


def test_a_provider_is_at_the_same_host_for_the_relay_and_for_the_domain_tool() -> None:
    environ = {"OWNPOST_DOMAINS": "example.org", "OWNPOST_PROVIDERS": "generic", "GENERIC_HOST": "Post.straße.de."}
    assert of_relay(environ).providers[0].host == "post.xn--strae-oqa.de"
    assert of_domain(environ).where["generic"].host == "post.xn--strae-oqa.de"


TABLES = """
[isp]
host = "post.straße.de"
ports = ["465 tls", "587 starttls"]
[old-isp]
host = "192.0.2.25"
[brevo-two]
preset = "Brevo"
title = "Brevo, the club's"
[Mailjet]
regions = { eu = "eu.mailjet.example" }
"""


WHERE = [(name, region) for name, known in presets().items() for region in ("", *known.regions) if name != "ses"]
WHERE += [("ses", "eu-central-1"), ("isp", ""), ("old-isp", ""), ("brevo-two", ""), ("mailjet", "eu")]


@pytest.mark.parametrize(("name", "region"), WHERE)
def test_a_provider_is_what_it_is_for_the_relay_and_for_the_domain_tool(name: str, region: str, tmp_path: Path) -> None:
    """The same title, host and ports, by preset, by the operator's file and by region."""
    (tmp_path / "providers.toml").write_text(TABLES)
    start = name.upper().replace("-", "_")
    environ = {"OWNPOST_DOMAINS": "example.org", "OWNPOST_PROVIDERS": name, f"{start}_REGION": region}
    environ |= {"RELAY_CONFIG": str(tmp_path), "DOMAIN_CONFIG": str(tmp_path), "GENERIC_HOST": "smtp.example.net"}
    login = {f"{start}_PASSWORD": "key", f"{start}_USERNAME": "me"} if name != CAPTURE else {}
    (known,) = of_relay(environ | login).providers
    told = domain.commands.read_files(of_domain(environ)).providers.of(name)
    reached = of_domain(environ).where[name].reached(told)
    assert (told.title, told.preset) == (known.facts.title, known.preset)
    if name != CAPTURE:
        assert reached == (known.host, tuple(number for number, _ in known.ports))
        assert reached[0].isascii()  # names as DNS holds them


# --- values


@pytest.mark.parametrize(
    ("value", "in_file", "meant"),
    [
        (" mx.example.org\t", None, "mx.example.org"),
        ("mx.example.org\r", None, "mx.example.org"),  # an editor of Windows, and a reader that leaves it on
        ('"mx.example.org"', None, "mx.example.org"),
        ("'mx.example.org' \r", None, "mx.example.org"),
        ("'mx.example.org\"", None, ""),
        ("", None, "mail.example.org"),
        (" \r", None, "mail.example.org"),
        ('""', None, "mail.example.org"),
        ("mx\udce9.example.org", None, ""),
        ("", b"mx.example.org\r\n", "mx.example.org"),
        ("", b"\xef\xbb\xbfmx.example.org\n", "mx.example.org"),  # Windows' mark
        ("nonsense..example", b"mx.example.org", "mx.example.org"),
        ("mx.example.org", b" \n", ""),
        ("mx.example.org", b"\xff\xfem\0x\0", ""),
        ("mx.example.org", b"a.example " * 10_000, ""),
        ("", b"'mx.example.org'", ""),  # a file is taken as it is
    ],
)
def test_a_value_is_the_same_to_every_service(value: str, in_file: bytes | None, meant: str, tmp_path: Path) -> None:
    environ = {"OWNPOST_DOMAINS": "'example.org'", "OWNPOST_HOSTNAME": value, "OWNPOST_HOSTNAME_FILE": ' "" '}
    if in_file is not None:
        (tmp_path / "value").write_bytes(in_file)
        environ["OWNPOST_HOSTNAME_FILE"] = f'"{tmp_path / "value"}"'
    assert hosts(environ) == {meant}


SECRETS: dict[str, tuple[dict[str, str], Callable[[Environ], tuple[str, tuple[str, ...]]]]] = {
    "SENDGRID_PASSWORD": (
        {"OWNPOST_PROVIDERS": "sendgrid", "OWNPOST_BIND": "0.0.0.0"},
        lambda environ: (of_relay(environ).providers[0].password, of_relay(environ).warnings),
    ),
    "CLOUDFLARE_API_TOKEN": (
        {"OWNPOST_TLS": "acme"},
        lambda environ: (getattr(of_renewer(environ).acme, "token", ""), of_renewer(environ).warnings),
    ),
    "EXPORTER_PASSWORD": ({}, lambda environ: (of_exporter(environ).password, of_exporter(environ).warnings)),
    "DOMAIN_CLOUDFLARE_API_TOKEN": (
        {},
        lambda environ: (getattr(of_domain(environ).cloudflare, "secrets", ("",))[0], of_domain(environ).warnings),
    ),
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_the_same_to_every_service_and_never_shown(name: str, tmp_path: Path) -> None:
    more, ask = SECRETS[name]
    base = {"OWNPOST_DOMAINS": "example.org"} | more
    file = tmp_path / "secret"
    for value in ("hunter2-4711", "'hunter2-4711'", "hunter2-4711\r"):
        assert ask(base | {name: value})[0] == "hunter2-4711"
    for content in ("hunter2-4711", "hunter2-4711\r\n", "\ufeffhunter2-4711\n"):
        file.write_text(content, newline="")
        for mode in (0o600, 0o644):
            file.chmod(mode)
            told = f"{name}_FILE: '{file}' can be read by every user of this machine; chmod 640 or 600 mends it."
            assert ask(base | {f"{name}_FILE": str(file)}) == ("hunter2-4711", (told,) if mode & 7 else ())
    for wrong in ("hunter2\nhunter2", "hunter2\x00", "", "hunter2" * 10_000):
        file.write_text(wrong)
        with pytest.raises(SettingsError) as caught:
            ask(base | {f"{name}_FILE": str(file)})
        assert caught.value.problems[0].startswith((f"{name}: ", f"{name}_FILE: "))
        assert "hunter2" not in str(caught.value)
