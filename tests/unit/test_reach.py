"""Which senders the providers serve together, and how large a message may be."""

from __future__ import annotations

import pytest

from relay import limits
from relay.choice.offer import Terms
from relay.choice.routes import Route, Routes
from relay.providers.reach import Reach

LARGE = Terms("large", size_limit=50 * limits.MIB)
SMALL = Terms("small", size_limit=5 * limits.MIB)
OWN = Terms("own", senders=("anna@gmail.com", "*@example.net"))
LESS = limits.SIZE_RESERVE


def test_the_largest_provider_counts_and_an_unknown_limit_is_none() -> None:
    assert Reach((SMALL, LARGE), Routes(("small", "large"))).size_limit == 50 * limits.MIB - LESS
    assert Reach((SMALL, OWN), Routes(("small", "own"))).size_limit > limits.GIB


def test_without_routes_and_senders_everybody_is_served() -> None:
    reach = Reach((SMALL, LARGE), Routes(("small", "large")))
    assert reach.serves("anna", "anyone@example.org")
    assert reach.size_limit_of("anna", "anyone@example.org") == reach.size_limit


@pytest.mark.parametrize(
    ("sender", "served"),
    [
        ("Anna@Gmail.com", True),
        ("other@gmail.com", False),
        ("x@EXAMPLE.net", True),
        ("x@sub.example.net", False),
        ("x@example.org", False),
    ],
)
def test_senders(sender: str, served: bool) -> None:
    assert Reach((OWN,), Routes(("own",))).serves("anna", sender) is served


def test_a_route_narrows_what_an_account_may_use() -> None:
    routes = Routes(("small", "large"), (Route(("small",), account="shop"), Route(("own",), domain="example.org")))
    reach = Reach((SMALL, LARGE, OWN), routes)
    assert reach.size_limit_of("shop", "x@example.com") == 5 * limits.MIB - LESS
    assert reach.size_limit_of("anna", "x@example.com") == 50 * limits.MIB - LESS
    assert not reach.serves("anna", "x@example.org")
    assert reach.serves("shop", "x@example.org")
