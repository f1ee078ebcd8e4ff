"""What is known of a provider is a table; what a user sets comes on top; TLS is verified whatever the preset."""

from __future__ import annotations

import dataclasses
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import trustme

from relay import limits
from relay.delivery.content import without_fields
from relay.providers.presets import PRESETS, build


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """As ``relay.settings`` hands them over."""

    name: str = "mine"
    preset: str = "generic"
    host: str = ""
    port: int = 0
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    captured: Path | None = None


def test_sendgrid_is_known() -> None:
    # type: ignore[arg-type]
    provider = build(ProviderSettings(name="sendgrid", preset="sendgrid", password="SG.secret"))
    assert (provider.host, provider.ports) == ("smtp.sendgrid.net", ((587, "starttls"),))
    assert (provider.username, provider.password) == ("apikey", "SG.secret")
    assert provider.size_limit == 30 * limits.MIB
    assert provider.captured is None


def test_a_users_settings_win_over_the_preset() -> None:
    mine = ProviderSettings(preset="sendgrid", host="smtp.eu.sendgrid.net", port=465, tls="tls", username="other")
    provider = build(mine)  # type: ignore[arg-type]
    assert (provider.host, provider.ports, provider.username) == (
        "smtp.eu.sendgrid.net",
        ((465, "tls"),),
        "other",
    )


def test_the_password_is_never_shown() -> None:
    # type: ignore[arg-type]
    provider = build(ProviderSettings(host="smtp.example.net", username="u", password="hunter2"))
    assert "hunter2" not in repr(provider)


@pytest.mark.parametrize("preset", [name for name, preset in PRESETS.items() if not preset.captures])
@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_certificates_are_verified(preset: str, tls: Literal["starttls", "tls"]) -> None:
    # type: ignore[arg-type]
    context = build(ProviderSettings(preset=preset, host="smtp.example.net", tls=tls)).tls_context
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_an_authority_of_ones_own_is_the_only_one_trusted() -> None:
    pem = trustme.CA().cert_pem.bytes().decode()
    context = build(ProviderSettings(host="smtp.example.net", ca=pem)).tls_context  # type: ignore[arg-type]
    assert context is not None
    assert len(context.get_ca_certs()) == 1


def test_a_ca_that_is_no_certificate_is_an_error() -> None:
    with pytest.raises(ssl.SSLError):
        build(ProviderSettings(host="smtp.example.net", ca="nonsense"))  # type: ignore[arg-type]


def test_no_tls_context_without_tls() -> None:
    assert build(ProviderSettings(host="127.0.0.1", tls="none")).tls_context is None  # type: ignore[arg-type]


def test_capture_has_a_folder_and_no_host(tmp_path: Path) -> None:
    provider = build(ProviderSettings(preset="capture", captured=tmp_path))  # type: ignore[arg-type]
    assert provider.captured == tmp_path
    assert provider.tls_context is None


def test_only_capture_captures(tmp_path: Path) -> None:
    provider = build(ProviderSettings(host="smtp.example.net", captured=tmp_path))  # type: ignore[arg-type]
    assert provider.captured is None


def test_a_clients_control_fields_do_not_reach_sendgrid() -> None:
    provider = build(ProviderSettings(preset="sendgrid"))  # type: ignore[arg-type]
    steering = b'x-smtpapi: {"to":\r\n ["victim@example.net"]}\r\n'
    text = b"To: b\r\n\r\nX-SMTPAPI: in the text\r\n"
    mail = b"From: a@example.org\r\n" + steering + text
    assert without_fields(mail, provider.strip) == b"From: a@example.org\r\n" + text


def test_presets_are_values() -> None:
    for preset in PRESETS.values():
        assert dataclasses.is_dataclass(preset)
        assert preset.captures or preset.tls in ("starttls", "tls")
