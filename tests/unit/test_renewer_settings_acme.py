"""The settings of the acme mode, and the command line that certbot gets for them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from common.settings import SettingsError
from renewer.certbot import PASSED_ON, Certbot
from renewer.settings import Settings, read
from renewer.settings_acme import AcmeSettings

TOKEN = "cfut_0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def base(tmp_path: Path) -> dict[str, str]:
    folders = {"RENEWER_CERTS": str(tmp_path), "RENEWER_ACME": str(tmp_path)}
    return {"OWNPOST_TLS": "acme", "OWNPOST_DOMAINS": "example.org", "CLOUDFLARE_API_TOKEN": TOKEN, **folders}


def acme(environ: dict[str, str]) -> AcmeSettings:
    settings = read(environ).acme
    assert settings is not None
    return settings


def test_a_domain_and_a_token_are_enough(base: dict[str, str], tmp_path: Path) -> None:
    assert acme(base) == AcmeSettings(
        folder=tmp_path,
        server="https://acme-v02.api.letsencrypt.org/directory",
        email="",
        challenge="dns-cloudflare",
        token=TOKEN,
        propagation_seconds=20,
        http_port=8080,
        key_type="ecdsa",
        profile="",
    )


def test_the_token_is_in_no_repr_and_may_come_from_a_file(base: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "token").chmod(0o640)
    from_file = base | {"CLOUDFLARE_API_TOKEN": "", "CLOUDFLARE_API_TOKEN_FILE": str(tmp_path / "token")}
    assert read(from_file) == read(base)
    assert TOKEN not in repr(read(base))


def test_a_token_that_everybody_can_read_is_warned_of(base: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "token").chmod(0o644)
    (warning,) = read(
        base | {"CLOUDFLARE_API_TOKEN": "", "CLOUDFLARE_API_TOKEN_FILE": str(tmp_path / "token")}
    ).warnings
    assert warning.startswith(f"CLOUDFLARE_API_TOKEN_FILE: '{tmp_path}/token' can be read by every user")


def test_other_servers(base: dict[str, str]) -> None:
    assert "staging" in acme(base | {"ACME_SERVER": "letsencrypt-staging"}).server
    assert acme(base | {"ACME_SERVER": "https://ca.example.org/acme"}).server == "https://ca.example.org/acme"


def test_other_modes_do_not_look_at_these_settings(base: dict[str, str]) -> None:
    assert read(base | {"OWNPOST_TLS": "self-signed", "ACME_SERVER": "nonsense"}).acme is None


def test_http_01_needs_no_token(base: dict[str, str]) -> None:
    assert acme(base | {"ACME_CHALLENGE": "http-01", "CLOUDFLARE_API_TOKEN": ""}).token == ""


MISTAKES = {
    "challenge": (
        {"ACME_CHALLENGE": "dns"},
        "ACME_CHALLENGE: 'dns' is not known; allowed: dns-cloudflare, http-01.",
    ),
    "no token": ({"CLOUDFLARE_API_TOKEN": ""}, "CLOUDFLARE_API_TOKEN: missing; make one that may read the zone"),
    "a token of an ini file": (
        {"CLOUDFLARE_API_TOKEN": f"token={TOKEN}"},
        "CLOUDFLARE_API_TOKEN: holds characters that no token has",
    ),
    "token and more": (
        {"CLOUDFLARE_API_TOKEN": f"{TOKEN}\nx = y"},
        "CLOUDFLARE_API_TOKEN: has characters that no key has",
    ),
    "server": (
        {"ACME_SERVER": "zerossl"},
        "ACME_SERVER: 'zerossl' is not known; allowed: letsencrypt, letsencrypt-",
    ),
    "plain server": ({"ACME_SERVER": "http://ca/dir"}, "ACME_SERVER: 'http://ca/dir' is not known;"),
    "email": ({"ACME_EMAIL": "me"}, "ACME_EMAIL: 'me' is not a mail address"),
    "two addresses": ({"ACME_EMAIL": "a@b.c,d@e.f"}, "ACME_EMAIL: 'a@b.c,d@e.f' is not a mail address"),
    "key": ({"ACME_KEY_TYPE": "ed25519"}, "ACME_KEY_TYPE: 'ed25519' is not known; allowed: ecdsa, rsa."),
    "profile": (
        {"ACME_PROFILE": "long"},
        "ACME_PROFILE: 'long' is not known; allowed: classic, tlsserver, shortlived.",
    ),
    "seconds": (
        {"ACME_DNS_PROPAGATION_SECONDS": "601"},
        "'601' is not such a number; allowed: a whole number from 0 to 600.",
    ),
    "words": (
        {"ACME_DNS_PROPAGATION_SECONDS": "1m"},
        "'1m' is not such a number; allowed: a whole number from 0 to 600.",
    ),
    "port": (
        {"RENEWER_HTTP_PORT": "65536"},
        "RENEWER_HTTP_PORT: '65536' is not such a number; allowed: a whole number from 1 to 65535.",
    ),
    "folder": (
        {"RENEWER_ACME": "/nowhere"},
        "RENEWER_ACME: '/nowhere' is not a folder; allowed: a folder that exists.",
    ),
    "address": ({"OWNPOST_HOSTNAME": "192.0.2.1"}, "OWNPOST_HOSTNAME: '192.0.2.1' is not a full name;"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_has_its_sentence_and_no_secret(base: dict[str, str], mistake: str) -> None:
    environ, sentence = MISTAKES[mistake]
    with pytest.raises(SettingsError) as caught:
        read(base | environ)
    assert any(sentence in problem for problem in caught.value.problems), caught.value.problems
    assert TOKEN not in str(caught.value)


def test_the_limits_themselves_are_allowed(base: dict[str, str]) -> None:
    settings = acme(base | {"ACME_DNS_PROPAGATION_SECONDS": "600", "RENEWER_HTTP_PORT": "65535"})
    assert (settings.propagation_seconds, settings.http_port) == (600, 65535)
    settings = acme(base | {"ACME_DNS_PROPAGATION_SECONDS": "0", "RENEWER_HTTP_PORT": "1"})
    assert (settings.propagation_seconds, settings.http_port) == (0, 1)


def command(settings: Settings, tmp_path: Path) -> str:
    assert settings.acme is not None
    certbot = Certbot(settings=settings.acme, names=settings.names, environ={}, timeout=1)
    return " ".join([*certbot._verb(), *certbot._options(tmp_path / "cf.ini")])


def test_what_certbot_is_told_the_first_time(base: dict[str, str], tmp_path: Path) -> None:
    line = command(read(base | {"ACME_EMAIL": "me@example.org", "RENEWER_EXTRA_NAMES": "imap.example.org"}), tmp_path)
    assert line.startswith("certonly --agree-tos --force-renewal --renew-with-new-domains --email me@example.org ")
    assert "-d mail.example.org -d imap.example.org --non-interactive --cert-name ownpost" in line
    assert f"--deploy-hook {sys.executable} -m renewer.hook" in line
    assert line.endswith(
        "--authenticator dns-cloudflare "
        f"--dns-cloudflare-credentials {tmp_path}/cf.ini --dns-cloudflare-propagation-seconds 20"
    )
    assert TOKEN not in line


def test_what_certbot_is_told_otherwise(base: dict[str, str], tmp_path: Path) -> None:
    line = command(read(base | {"ACME_CHALLENGE": "http-01", "ACME_PROFILE": "shortlived"}), tmp_path)
    assert "--register-unsafely-without-email" in line
    assert "--preferred-profile shortlived" in line
    assert line.endswith("--authenticator standalone --http-01-port 8080")
    assert "cloudflare" not in line


def test_no_secret_of_ours_is_passed_on_in_the_environment() -> None:
    assert not [name for name in PASSED_ON if "TOKEN" in name or "EMAIL" in name or "KEY" in name]


def test_a_damaged_certificate_of_certbot_is_not_as_wanted(base: dict[str, str], tmp_path: Path) -> None:
    live = tmp_path / "certbot" / "config" / "live" / "ownpost"
    live.mkdir(parents=True)
    for name in ("fullchain.pem", "privkey.pem"):
        (live / name).write_text("half a")
    certbot = Certbot(settings=acme(base), names=("mail.example.org",), environ={}, timeout=1)
    assert not certbot.is_as_wanted()
