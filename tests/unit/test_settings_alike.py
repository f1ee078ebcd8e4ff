"""What all services are told they understand alike: one `.env` must not mean one thing here and another there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import pytest

import domain.settings
import exporter.settings
import relay.settings
import renewer.settings

HERE = {"RENEWER_CERTS": os.sep}  # the one folder that must be there


def of_relay(environ: Mapping[str, str]) -> str:
    return relay.settings.read(environ).hostname


def of_renewer(environ: Mapping[str, str]) -> str:
    return renewer.settings.read({**HERE, **environ}).names[0]


def of_exporter(environ: Mapping[str, str]) -> str:
    """It leaves a bad name to the relay to complain of, and then has none."""
    return exporter.settings.read(environ, lambda urls: []).hosts[0]


def of_domain(environ: Mapping[str, str]) -> str:
    return domain.settings.read(environ).hostname


SERVICES: tuple[Callable[[Mapping[str, str]], str], ...] = (of_relay, of_renewer, of_exporter, of_domain)
REFUSED = (
    relay.settings.SettingsError,
    renewer.settings.SettingsError,
    domain.settings.SettingsError,
    IndexError,  # the exporter's
)


def answers(environ: Mapping[str, str]) -> set[str]:
    """Each different host name that a service makes of ``environ``; "" where it makes none."""

    def answer(ask: Callable[[Mapping[str, str]], str]) -> str:
        try:
            return ask(environ)
        except REFUSED:
            return ""

    return {answer(ask) for ask in SERVICES}


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
        ("Example.ORG.", "example.org"),
        ("example.org.", "example.org"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        ("a" * 64 + ".example", ""),
        ("ü" * 64 + ".example", ""),
        ("example", ""),
        ("exa mple", ""),
        ("192.0.2", ""),
        ("a..example", ""),
        ("-a.example", ""),
        ("a_b.example", ""),
        ("https://example.org", ""),
        ("exam\u202eple.org", ""),
        ("💩.example", ""),  # xn--ls8h.example is it, for those who have it
    ],
)
def test_a_name_is_the_same_host_to_every_service(written: str, meant: str) -> None:
    assert answers({"OWNPOST_DOMAINS": "example.net", "OWNPOST_HOSTNAME": written}) == {meant}
    if "." in written:
        assert answers({"OWNPOST_DOMAINS": f"{written}, example.net"}) == {f"mail.{meant}" if meant else ""}


@pytest.mark.parametrize("letter", ["ü", "\u0308", "\u0661", "\u05d0", "a", "."])
def test_a_file_named_by_mistake_is_refused_at_once(letter: str) -> None:
    """Making a name of a long text is not linear in every version of idna."""
    began = time.process_time()
    assert answers({"OWNPOST_DOMAINS": "example.net", "OWNPOST_HOSTNAME": letter * 60_000}) == {""}
    assert time.process_time() - began < 2


def test_a_provider_is_at_the_same_host_for_the_relay_and_for_the_domain_tool() -> None:
    environ = {"OWNPOST_DOMAINS": "example.org", "OWNPOST_PROVIDERS": "generic", "GENERIC_HOST": "Post.straße.de."}
    assert relay.settings.read(environ).providers[0].host == "post.xn--strae-oqa.de"
    assert domain.settings.read(environ).hosts["generic"][0] == "post.xn--strae-oqa.de"
