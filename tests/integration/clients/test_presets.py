"""Signatures of clients and what presets change: control fields go and References grow, so what covers those breaks."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator

import pytest

from support.appliance import Appliance, account
from support.clients import PASSWORD, Matrix, same
from support.letters import BY_NAME, RECIPIENT, SENDER, sign, signature_holds
from support.recorder import Recorder

PLAIN = BY_NAME["utf-8"].data
ANSWER = b"References: <first@example.net>\r\nIn-Reply-To: <first@example.net>\r\n" + PLAIN
STEERING = b'X-Mailgun-Recipient-Variables: {"victim@example.com": {}}\r\nX-SES-CONFIGURATION-SET:\r\n of-ours\r\n'
ROUTES = "".join(
    f'[{name}]\nlogin_optional = true\n[[route]]\naccount = "{name}"\nproviders = ["{name}"]\n'
    for name in ("mailgun", "ses")
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """An account for each preset, with its facts but for where it is and that it asks for no login."""
    provider = Recorder()
    settings = {"OWNPOST_PROVIDERS": "mailgun,ses"}
    for name in ("MAILGUN", "SES"):
        settings |= {f"{name}_HOST": "127.0.0.1", f"{name}_PORT": str(provider.port), f"{name}_TLS": "none"}
    accounts = {name: account([SENDER]) for name in ("mailgun", "ses")}
    relay = Appliance(tmp_path_factory.mktemp("presets"), settings, {"RELAY_REPEAT_MINUTES": "0"}, accounts)
    (relay.folder / "config/providers.toml").write_text(ROUTES)
    relay.start()
    yield Matrix(relay, provider)
    assert relay.stop() == 0, relay.log.read_text()[-4000:]
    provider.close()


def through(shop: Matrix, preset: str, message: bytes) -> bytes:
    """What the provider gets, from behind our Received field on."""
    context = ssl.create_default_context(cafile=shop.ca)
    with smtplib.SMTP_SSL("localhost", shop.relay.submissions, timeout=20, context=context) as smtp:
        smtp.login(preset, PASSWORD)
        smtp.sendmail(SENDER, [RECIPIENT], message)
    (taken,) = shop.provider.wait()
    return taken.content


@pytest.mark.parametrize("preset", ["mailgun", "ses"])
@pytest.mark.parametrize("way", ["simple/simple", "relaxed/relaxed"])
def test_a_signature_outlives_what_a_preset_changes(shop: Matrix, preset: str, way: str) -> None:
    message = sign(ANSWER, way)
    got = through(shop, preset, STEERING + message)
    assert (b"victim@" in got, b"of-ours" in got) == (preset != "mailgun", preset != "ses")
    assert signature_holds(got)


def test_where_the_message_id_is_replaced_references_grow_and_nothing_else(shop: Matrix) -> None:
    message = sign(ANSWER, "relaxed/relaxed")
    got = through(shop, "ses", message)
    grown = message.replace(b"<first@example.net>\r\nIn-", b"<first@example.net>\r\n <utf-8@example.org>\r\nIn-")
    same(got[got.index(message[:20]) :], grown)


@pytest.mark.parametrize("message", [PLAIN, ANSWER], ids=["first", "answer"])
def test_a_signature_over_references_breaks_where_they_grow_and_only_there(shop: Matrix, message: bytes) -> None:
    signed = sign(message, "relaxed/relaxed", b"references")
    assert signature_holds(through(shop, "mailgun", signed))
    assert not signature_holds(through(shop, "ses", signed))


def test_a_signature_over_a_control_field_breaks(shop: Matrix) -> None:
    signed = sign(STEERING + PLAIN, "relaxed/relaxed", b"x-mailgun-recipient-variables")
    assert not signature_holds(through(shop, "mailgun", signed))
