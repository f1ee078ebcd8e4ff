"""Hostile accounts files: accounts whose every value is allowed, or the list of what is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.accounts import Accounts, AccountsError, parse
from relay.accounts_rules import RECIPIENTS_CEILING, RULES
from support.fuzzing import corpus, keep_at_it, mutated

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
VALUES = [
    "a@b.c",
    "*@b.c",
    "*",
    "",
    HASH,
    HASH.replace("m=8", "m=4294967295"),
    "refuse",
    "rewrite",
    "normalize",
    "unlimited",
]
value = (
    st.sampled_from(VALUES)
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
table = st.dictionaries(st.sampled_from([*RULES, "disbaled"]), value | st.lists(value, max_size=3), max_size=9)
names = st.sampled_from(["anna", "Anna", "a@b.c", "", "x y", "\u212a"]) | st.text(max_size=5)
tables = st.dictionaries(names, table, max_size=3)


def toml(accounts: dict[str, dict[str, object]]) -> str:
    lines = []
    for name, keys in accounts.items():
        lines += [f"[accounts.{json.dumps(name)}]", *(f"{key} = {json.dumps(held)}" for key, held in keys.items())]
    return "\n".join(lines)


files = tables.map(lambda made: toml(made).encode("utf-8", "replace")) | st.binary(max_size=100) | mutated("accounts")
whole = st.fixed_dictionaries(
    {"password_hash": st.just(HASH), "senders": st.lists(st.sampled_from(["a@b.c", "*@b.c"]), min_size=1)},
    optional={
        "from": st.sampled_from(["refuse", "rewrite"]),
        "recipients_per_day": st.integers(0, 10),
        "disabled": st.booleans(),
    },
)
files |= st.dictionaries(st.sampled_from(["a", "b"]), whole, min_size=1).map(lambda made: toml(made).encode())


@given(files)
@example(b"[accounts]\n")
@example(b"accounts = [[[[")
def check(data: bytes) -> None:
    try:
        accounts = parse(data)
    except AccountsError:
        return
    assert isinstance(accounts, Accounts)
    for account in accounts:
        assert accounts.find(account.name.upper()) is account
        assert account.password_hash in {"", HASH}
        assert account.senders
        assert not account.rewrite or account.first_sender
        for limit in (account.recipients_per_day, account.recipients_per_hour):
            assert limit is None or 1 <= limit <= RECIPIENTS_CEILING


@pytest.mark.parametrize("data", corpus("accounts"))
def test_corpus(data: bytes) -> None:
    check.hypothesis.inner_test(data)  # type: ignore[attr-defined]


def test_accounts_files(request: pytest.FixtureRequest) -> None:
    keep_at_it(check, request)
