"""What the parts are told when they are put together."""

from __future__ import annotations

import pytest

from relay import limits
from relay.accounts import Account, Accounts
from relay.assembly import providers, warn_of_routes
from relay.choice.routes import Route, Routes
from relay.providers.reach import Reach
from relay.settings import read
from relay.wiring import announced_size
from support.delivering import FakeJournal
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


def test_a_route_for_an_account_that_does_not_exist_is_told() -> None:
    journal = FakeJournal()
    accounts = Accounts([Account(name="shop", password_hash="", senders=("shop@example.org",))])
    routes = Routes(("a",), (Route(("a",), account="shop"), Route(("a",)), Route(("a",), account="Shop")))
    warn_of_routes(routes, accounts, journal)  # type: ignore[arg-type]
    (told,) = journal.said
    assert told[0] == "warning"
    assert "names the account Shop, which is not in accounts.toml" in told[1]["text"]
