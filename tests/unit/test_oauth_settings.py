"""What ``NAME_OAUTH`` and its companions may hold, and what is said where they do not do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from common.settings import Reader
from relay.oauth.settings import GOOGLE_SCOPE, MICROSOFT_SCOPE, OAuthSettings, read

APP = {"USERNAME": "anna@example.org", "OAUTH_CLIENT_ID": "app", "OAUTH_CLIENT_SECRET": "app-sEcret"}


def reading(values: Mapping[str, str], preset: str = "google") -> tuple[OAuthSettings | None, Reader]:
    reader = Reader({f"GMAIL_{name}": value for name, value in values.items()})
    return read(reader, "GMAIL_", preset), reader


def key_file(folder: Path, *, bits: int = 2048, **change: str) -> str:
    """The path of a service account's key, as Google's console makes it."""
    pem = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    fields = {"type": "service_account", "client_email": "robot@project.example", "client_id": "117"}
    fields |= {"private_key": text(pem), "token_uri": "https://oauth2.googleapis.com/token"}
    file = folder / "key.json"
    file.write_text(json.dumps({**fields, **change}, indent=1))
    file.chmod(0o600)
    return str(file)


def text(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, none).decode()


def test_a_password_alone_asks_for_no_token() -> None:
    assert reading({"USERNAME": "anna", "PASSWORD": "x"})[0] is None
    assert reading({})[0] is None
    assert reading({"OAUTH_TENANT": "example.org", "OAUTH_SCOPE": "x"})[0] is None


def test_google_by_its_preset() -> None:
    found, reader = reading(APP)
    assert reader.problems == reader.warnings == []
    assert found is not None
    assert (found.kind, found.scope) == ("google", GOOGLE_SCOPE)
    assert found.token_url == "https://oauth2.googleapis.com/token"
    assert found.authorize_url == "https://accounts.google.com/o/oauth2/v2/auth"
    assert found.device_url == ""
    assert "sEcret" not in repr(found)


@pytest.mark.parametrize(
    ("tenant", "expected"),
    [({}, "organizations"), ({"OAUTH_TENANT": "example.org"}, "example.org"), ({"OAUTH_TENANT": "common"}, "common")],
)
def test_microsoft_of_each_tenant(tenant: dict[str, str], expected: str) -> None:
    found, reader = reading({**APP, **tenant, "OAUTH_CLIENT_SECRET": ""}, "microsoft")
    assert reader.problems == []
    assert found is not None
    assert (found.kind, found.scope) == ("microsoft", MICROSOFT_SCOPE)
    base = f"https://login.microsoftonline.com/{expected}/oauth2/v2.0"
    assert (found.token_url, found.device_url, found.authorize_url) == (
        f"{base}/token",
        f"{base}/devicecode",
        f"{base}/authorize",
    )


def test_a_provider_of_ones_own_says_whose_tokens_it_takes() -> None:
    found, reader = reading({**APP, "OAUTH": "microsoft"}, "")
    assert reader.problems == []
    assert found is not None
    assert found.kind == "microsoft"


def test_a_key_alone_means_a_service_account(tmp_path: Path) -> None:
    values = {"USERNAME": "anna@example.org", "OAUTH_KEY_FILE": key_file(tmp_path)}
    found, reader = reading(values)
    assert reader.problems == reader.warnings == []
    assert found is not None
    assert found.kind == "service-account"
    assert found.key is not None
    assert (found.key.email, found.key.client_id) == ("robot@project.example", "117")
    assert found.token_url == "https://oauth2.googleapis.com/token"
    assert "PRIVATE" not in repr(found)


def test_endpoints_are_settings() -> None:
    found, reader = reading({**APP, "OAUTH_TOKEN_URL": "https://127.0.0.1:8443/token", "OAUTH_SCOPE": "mail"})
    assert reader.problems == []
    assert found is not None
    assert (found.token_url, found.scope) == ("https://127.0.0.1:8443/token", "mail")


def test_a_password_beside_it_has_no_effect_and_is_told() -> None:
    _, reader = reading({**APP, "PASSWORD": "pw-sEcret"})
    assert reader.warnings == ["GMAIL_PASSWORD: has no effect: GMAIL_OAUTH says that we log in with a token."]


WRONG = [
    ({"OAUTH_CLIENT_SECRET": ""}, "google", "GMAIL_OAUTH_CLIENT_SECRET: missing; allowed: the secret of the app"),
    ({"OAUTH_CLIENT_ID": "", "OAUTH": "microsoft"}, "microsoft", "GMAIL_OAUTH_CLIENT_ID: missing; allowed: the id of"),
    ({"USERNAME": ""}, "google", "GMAIL_USERNAME: missing; allowed: the address of the mailbox"),
    ({}, "", "GMAIL_OAUTH: missing, though GMAIL_OAUTH_CLIENT_ID is set; allowed: google, microsoft, service-account"),
    ({"OAUTH": "yahoo"}, "google", "GMAIL_OAUTH: 'yahoo' is not known; allowed: google, microsoft, service-account."),
    ({"OAUTH": "service-account"}, "google", "GMAIL_OAUTH_KEY: missing; allowed: the JSON file of a service account"),
    ({"OAUTH_TENANT": "a/../b"}, "microsoft", "GMAIL_OAUTH_TENANT: 'a/../b' is not a tenant; allowed: its id"),
    ({"OAUTH_TOKEN_URL": "http://x.example/"}, "google", "GMAIL_OAUTH_TOKEN_URL: 'http://x.example/' is not such an"),
    ({"OAUTH_DEVICE_URL": "https://"}, "google", "GMAIL_OAUTH_DEVICE_URL: 'https://' is not such an address; allowed"),
    *(
        ({"OAUTH_TOKEN_URL": url}, "google", f"GMAIL_OAUTH_TOKEN_URL: '{url}' is not such an address; allowed: an")
        for url in (
            *("https://[", "https://[x]/", "https://x.example:0/", "https://x.example:99999/", "https://x.example:y/"),
            *("https://x..example/", "https://-x/", "https://app:sec@x.example/", "https://x.example/#t"),
        )
    ),
    ({"OAUTH_AUTHORIZE_URL": "x"}, "google", "GMAIL_OAUTH_AUTHORIZE_URL: 'x' is not such an address; allowed: an"),
    ({"OAUTH_CA": "x"}, "google", "GMAIL_OAUTH_CA: holds no certificate that can be read; allowed: one or"),
    ({"OAUTH_KEY": "key-sEcret"}, "google", "GMAIL_OAUTH_KEY: is not JSON; allowed: the JSON file of a service"),
]


@pytest.mark.parametrize(("change", "preset", "sentence"), WRONG, ids=[sentence for *_, sentence in WRONG])
def test_a_mistake_is_one_sentence_without_a_secret(change: dict[str, str], preset: str, sentence: str) -> None:
    _, reader = reading({**APP, **change}, preset)
    (problem,) = reader.problems
    assert problem.startswith(sentence)
    assert "sEcret" not in problem


@pytest.mark.parametrize(
    ("bits", "change", "sentence"),
    [
        (2048, {"type": "authorized_user"}, 'is JSON, but not of the type "service_account"'),
        (2048, {"client_email": ""}, "lacks client_email or private_key"),
        (2048, {"private_key": "sEcret"}, "holds no private key that can be read"),
        (1024, {}, "holds no RSA key of 2048 bits or more"),
        (2048, {"private_key": text(ec.generate_private_key(ec.SECP256R1()))}, "holds no RSA key of 2048 bits"),
    ],
)
def test_a_key_that_is_none_is_told_apart(tmp_path: Path, bits: int, change: dict[str, str], sentence: str) -> None:
    _, reader = reading({"USERNAME": "anna", "OAUTH_KEY_FILE": key_file(tmp_path, bits=bits, **change)})
    (problem,) = reader.problems
    assert sentence in problem
    assert "sEcret" not in problem
    assert "PRIVATE" not in problem


def test_every_name_is_known_whether_in_use_or_not() -> None:
    _, reader = reading({})
    lasts = "CLIENT_ID CLIENT_SECRET TENANT REFRESH_TOKEN KEY TOKEN_URL DEVICE_URL AUTHORIZE_URL SCOPE CA"
    names = {"GMAIL_OAUTH", *(f"GMAIL_OAUTH_{last}" for last in lasts.split())}
    assert names | {f"{name}_FILE" for name in names} <= reader.asked
