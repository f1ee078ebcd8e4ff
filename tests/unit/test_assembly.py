"""What the parts are told when they are put together."""

from __future__ import annotations

import pytest

from relay import limits
from relay.assembly import providers
from relay.listening import announced_size
from relay.providers.reach import Reach
from relay.settings import read
from support.presets import environ


@pytest.mark.parametrize(
    ("names", "more", "size"),
    [
        (("cloudflare",), {}, 5 * limits.MIB - limits.SIZE_RESERVE),
        (("cloudflare", "brevo"), {}, 20_000_000 - limits.SIZE_RESERVE),  # the larger carries it
        (("brevo", "cloudflare"), {"RELAY_MESSAGE_SIZE_LIMIT": "2MiB"}, 2 * limits.MIB),
        (("cloudflare", "fastmail"), {}, 50 * limits.MIB),  # not known: its EHLO will tell
        (("capture",), {}, 50 * limits.MIB),
    ],
)
def test_clients_are_told_what_some_provider_carries(names: tuple[str, ...], more: dict[str, str], size: int) -> None:
    settings = read(environ(*names) | more)
    reach = Reach(tuple(one.terms for one in providers(settings)), settings.routes)
    assert announced_size(settings, reach) == size
