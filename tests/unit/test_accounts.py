"""What ``accounts.toml`` may say, that all mistakes are told at once, and that a broken file changes nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import accounts_file
from relay.accounts import FILE_SIZE, Account, Accounts, AccountsError, demo_problem, load, parse
from relay.accounts_file import AccountsFile
from support.appliance import ROOT

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
SMALL = f'[accounts.anna]\npassword_hash = "{HASH}"\nsenders = ["anna@example.org"]\n'


def problems(text: str) -> list[str]:
    with pytest.raises(AccountsError) as caught:
        parse(text.encode())
    return list(caught.value.problems)


def with_key(line: str) -> str:
    key = line.partition(" =")[0]
    return "".join(kept for kept in SMALL.splitlines(True) if not kept.startswith(key + " =")) + line + "\n"


def test_defaults() -> None:
    (anna,) = parse(SMALL.encode())
    assert anna == Account(name="anna", password_hash=HASH, senders=("anna@example.org",))
    assert (anna.recipients_per_day, anna.recipients_per_hour, anna.rewrite, anna.notify) == (500, 100, False, "")
    assert [anna.disabled, anna.hold_queue, anna.normalize_newlines, anna.high_priority] == [False] * 4
    assert HASH not in repr(anna)


def test_everything_that_can_be_said() -> None:
    text = f"""
        [accounts."anna@example.org"]
        password_hash = "{HASH}"
        senders = ["*@example.com", "\\"anna\\"@example.org"]
        from = "rewrite"
        recipients_per_day = "unlimited"
        recipients_per_hour = 1000000
        priority = "high"
        notify = "boss@example.org"
        newlines = "normalize"
        disabled = true
        hold_queue = true
        [accounts.printer]
        password_hash = ""
        senders = ["*@example.org"]
    """
    accounts = parse(text.encode())
    anna = accounts.find(b"Anna@EXAMPLE.org")
    assert anna is not None
    assert anna.senders == ("*@example.com", "anna@example.org")
    assert anna.first_sender == "anna@example.org"
    assert (anna.recipients_per_day, anna.recipients_per_hour) == (None, 1_000_000)
    assert (anna.rewrite, anna.normalize_newlines, anna.disabled, anna.hold_queue) == (True, True, True, True)
    assert anna.notify == "boss@example.org"
    assert accounts.high == {"anna@example.org"}
    assert len(accounts) == 2
    assert accounts.find("nobody") is None
    assert accounts.find(b"\xff") is None


def test_a_file_without_accounts_says_so() -> None:
    assert len(parse(b"[accounts]\n")) == 0
    assert problems("") == ["it has no [accounts]; a file without any account says [accounts] and nothing else"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('password_hash = "secret"', "password_hash: this is not an Argon2id hash"),
        ('password_hash = "$2b$12$abcdefghijklmnopqrstuv"', "password_hash: this is not an Argon2id hash"),
        ("password_hash = 7", "password_hash: this is not an Argon2id hash"),
        (f'password_hash = "{HASH.replace("m=8", "m=7")}"', "password_hash: its cost is out of range"),
        (f'password_hash = "{HASH.replace("m=8", "m=131073")}"', "password_hash: its cost is out of range"),
        (f'password_hash = "{HASH.replace("t=1", "t=0")}"', "password_hash: its cost is out of range"),
        (f'password_hash = "{HASH.replace("t=1", "t=11")}"', "password_hash: its cost is out of range"),
        (f'password_hash = "{HASH.replace("m=8,t=1,p=1", "m=72,t=1,p=9")}"', "password_hash: its cost is out of range"),
        (f'password_hash = "{HASH[:-1]}aaa"', "password_hash: this Argon2id hash is cut short"),
        ("senders = []", "senders: [] is not allowed; allowed: a list of addresses"),
        ('senders = "anna@example.org"', "senders: 'anna@example.org' is not allowed; allowed: a list of addresses"),
        ('senders = ["anna"]', "senders: 'anna': this is not an address, it has no domain"),
        ('senders = ["*@nas"]', "senders: '*@nas': this is not an address, the domain is not a full name"),
        ('senders = ["*"]', "senders: '*': this is not an address"),
        ("senders = [1]", "senders: 1: this is not an address"),
        ('senders = ["a@i❤.example"]', "senders: 'a@i?.example': this is not an address, the domain cannot be read"),
        ('notify = "*@example.org"', "notify: '*@example.org': this is not an address"),
        ('from = "rewrit"', 'from: \'rewrit\' is not allowed; allowed: "refuse" or "rewrite"'),
        ("recipients_per_day = 0", "recipients_per_day: 0 is not allowed; allowed: a number from 1"),
        ("recipients_per_day = true", "recipients_per_day: True is not allowed"),
        ("recipients_per_hour = 1000001", "recipients_per_hour: 1000001 is not allowed"),
        ('recipients_per_hour = "lots"', "recipients_per_hour: 'lots' is not allowed"),
        ("recipients_per_hour = 1.5", "recipients_per_hour: 1.5 is not allowed"),
        ('notify = "boss"', "notify: 'boss': this is not an address"),
        ("priority = 1", 'priority: 1 is not allowed; allowed: "normal" or "high"'),
        ("newlines = []", "newlines: [] is not allowed"),
        ('disabled = "no"', "disabled: 'no' is not allowed; allowed: true or false"),
        ("hold_queue = 1", "hold_queue: 1 is not allowed"),
        ("disbaled = true", "disbaled: unknown; allowed: password_hash, senders, from,"),
    ],
)
def test_each_mistake_names_account_key_and_what_is_allowed(line: str, told: str) -> None:
    (problem,) = problems(with_key(line))
    assert problem.startswith(f"[accounts.anna] {told}")
    assert "allowed: " in problem


def test_domains_in_other_scripts_and_with_underscores_are_taken_and_kept_in_ascii() -> None:
    lines = 'senders = ["a@Bücher.example", "*@bücher.example", "a@branch_7.example"]\nnotify = "b@bücher.example"\n'
    (account,) = parse(f'[accounts.a]\npassword_hash = ""\nfrom = "rewrite"\n{lines}'.encode())
    assert account.senders == ("a@xn--bcher-kva.example", "*@xn--bcher-kva.example", "a@branch_7.example")
    assert account.notify == "b@xn--bcher-kva.example"
    assert account.first_sender == "a@xn--bcher-kva.example"
    assert account.may_send_as("anybody@xn--bcher-kva.example")


def test_a_login_name_in_another_script_is_told_how_to_be_written() -> None:
    (problem,) = problems('[accounts."a@b\u00fccher.example"]\npassword_hash = ""\nsenders = ["a@example.org"]\n')
    assert problem.endswith("; write a@xn--bcher-kva.example")


def test_costs_at_their_limits() -> None:
    costly = HASH.replace("m=8,t=1,p=1", "m=131072,t=10,p=8")
    assert len(parse(SMALL.replace(HASH, costly).encode())) == 1


def test_rewriting_needs_an_address_to_write() -> None:
    for senders in ('["*@example.org"]', '["jürgen@example.org"]'):
        text = f'[accounts.nas]\npassword_hash = ""\nsenders = {senders}\nfrom = "rewrite"\n'
        (problem,) = problems(text)
        assert problem.startswith(
            '[accounts.nas] senders: from = "rewrite" needs an ASCII address that is not "*@domain"'
        )


def test_all_mistakes_are_told_at_once() -> None:
    text = SMALL.replace(HASH, "x") + "disabled = 3\n[accounts.Anna]\n[accounts.'a b']\nsenders = []\n[other]\n"
    found = problems(text)
    assert len(found) == 9
    for begin in (
        "other is unknown here",
        "[accounts.anna] password_hash: ",
        "[accounts.anna] disabled: ",
        "[accounts.Anna] password_hash: missing",
        "[accounts.Anna] senders: missing",
        "[accounts.a b]: a login name has",
        "[accounts.a b] password_hash: missing",
        "[accounts.a b] senders: ",
        "[accounts.Anna] and [accounts.anna] differ only by letter case",
    ):
        assert any(problem.startswith(begin) for problem in found), begin


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"[accounts", "it is not TOML: "),
        (b"accounts = 3", "it has no [accounts]"),
        (b"[accounts]\nanna = 3", "anna under [accounts] is no table"),
        (b"[accounts.\xff]", "it is not UTF-8"),
        (b"x = " + b"[" * 100_000, "it is n"),
        (b"x = " + b"1" * 10_000, "it is not TOML: "),
        (b"#" * (FILE_SIZE + 1), f"it is larger than {FILE_SIZE} bytes"),
        (b'[accounts."\\u001b[2J"]\npassword_hash = ""\nsenders = ["a@b.c"]', "[accounts.?[2J]: a login name"),
    ],
)
def test_files_that_are_no_accounts_file(data: bytes, told: str) -> None:
    with pytest.raises(AccountsError) as caught:
        parse(data)
    assert caught.value.problems[0].startswith(told)


@given(st.text(max_size=60), st.integers(0, len(SMALL)), st.integers(0, 40))
def test_a_damaged_file_is_read_or_refused(text: str, at: int, gone: int) -> None:
    damaged = SMALL[:at] + text + SMALL[at + gone :]
    found: tuple[str, ...] = ()
    try:
        parse(damaged.encode("utf-8", "replace"))
    except AccountsError as error:
        found = error.problems
    assert all(problem.isprintable() or "not TOML" in problem for problem in found)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(AccountsError, match=r"there is no such file; `make account ARGS=\"add NAME\"` makes it"):
        load(tmp_path / "accounts.toml")
    with pytest.raises(AccountsError, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "accounts.toml").write_text("[accounts.x]\n")
    with pytest.raises(AccountsError) as caught:
        load(tmp_path / "accounts.toml")
    assert all(problem.startswith(f"{tmp_path}/accounts.toml: [accounts.x] ") for problem in caught.value.problems)


def test_the_example_is_the_trial() -> None:
    (demo,) = load(ROOT / "config" / "accounts.toml.example")
    assert demo.name == "demo"
    assert demo.may_send_as("anything@example.org")
    assert demo_problem([demo], {"OWNPOST_BIND": "192.0.2.1"}, []) is not None, "demo-password opens it"


# --- the trial's fence ------------------------------------------------------------------------------------------------

CAPTURE, SENDGRID = SimpleNamespace(preset="capture"), SimpleNamespace(preset="sendgrid")
HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def account(name: str, password: str, *, disabled: bool = False) -> Account:
    hashed = HASHER.hash(password) if password else ""
    return Account(name=name, password_hash=hashed, senders=("*@example.org",), disabled=disabled)


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_the_trial_stays_on_this_machine(bind: str) -> None:
    assert demo_problem([account("demo", "demo-password")], {"OWNPOST_BIND": bind}, [CAPTURE]) is None


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.168.1.2", "", "mail.example.org"])
def test_the_trials_password_is_refused_on_a_published_port(bind: str) -> None:
    accounts = [account("anna", "secret"), account("harmless", "demo-password")]
    problem = demo_problem(accounts, {"OWNPOST_BIND": bind}, [CAPTURE])
    assert problem is not None
    assert problem.startswith(f"the trial's password opens harmless while OWNPOST_BIND={bind} lets other machines in;")
    assert problem.endswith('make account ARGS="password harmless"')
    assert demo_problem(accounts[:1], {"OWNPOST_BIND": bind}, [CAPTURE]) is None


def test_the_trials_password_is_refused_where_mail_really_goes_out() -> None:
    problem = demo_problem([account("demo", "demo-password")], {"OWNPOST_BIND": "127.0.0.1"}, [CAPTURE, SENDGRID])
    assert problem is not None
    assert "OWNPOST_PROVIDERS names a provider that really sends" in problem


def test_the_trial_s_password_is_refused_too_when_only_the_lan_port_is_published() -> None:
    published = {"OWNPOST_BIND": "127.0.0.1", "RELAY_LAN_BIND": "192.168.1.5"}
    problem = demo_problem([account("demo", "demo-password")], published, [CAPTURE])
    assert problem is not None
    assert "RELAY_LAN_BIND=192.168.1.5" in problem


def test_accounts_that_nobody_can_use_pass_the_fence() -> None:
    shut = [account("old", "demo-password", disabled=True), account("printer", "")]
    broken = Account(name="x", password_hash="$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA", senders=("a@b.c",))
    assert demo_problem([*shut, broken], {"OWNPOST_BIND": "0.0.0.0"}, [SENDGRID]) is None


# --- the file, watched ------------------------------------------------------------------------------------------------


class Told:
    """A journal that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def system(self, event: str, **fields: str | int | float | bool) -> None:
        self.events.append((event, fields))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "accounts.toml"
    path.write_text(SMALL)
    return path


def replace(path: Path, text: str) -> None:
    """By one rename, as an editor or `make account` does it."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


def in_place(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(1, 1))


async def test_a_changed_file_counts(path: Path) -> None:
    told, changes = Told(), []
    file = AccountsFile(path, journal=told, on_change=lambda old, new: changes.append((old, new)))
    before = file.current
    await file.look()
    assert told.events == []
    replace(path, SMALL.replace("accounts.anna", "accounts.bob"))
    await file.look()
    assert file.current.find("anna") is None
    assert file.current.find("bob") is not None
    assert told.events == [("accounts_reloaded", {"accounts": 1})]
    assert changes == [(before, file.current)]


async def test_a_change_in_place_of_the_same_length_counts(path: Path) -> None:
    file = AccountsFile(path, journal=Told())
    in_place(path, SMALL.replace("accounts.anna", "accounts.enno"))
    await file.look()
    assert file.current.find("enno") is not None


@pytest.mark.parametrize("text", ["[accounts", "", SMALL + "senders = 3\n", SMALL + "disbaled = true\n"])
async def test_a_broken_file_keeps_the_old_accounts_and_is_told_once(path: Path, text: str) -> None:
    told = Told()
    file = AccountsFile(path, journal=told)
    before = file.current
    replace(path, text)
    for _ in range(3):
        await file.look()
    assert file.current is before
    assert [event for event, _ in told.events] == ["accounts_broken"]
    assert str(told.events[0][1]["problem"]).startswith(f"{path}: ")
    replace(path, SMALL)
    await file.look()
    assert [event for event, _ in told.events] == ["accounts_broken", "accounts_reloaded"]


async def test_accounts_that_can_be_told_by_the_time_of_an_answer_are_named(path: Path) -> None:
    dear = SMALL.replace("accounts.anna", "accounts.bert").replace("m=8,", "m=16,")
    told = Told()
    file = AccountsFile(path, journal=told)
    replace(path, SMALL + dear + SMALL.replace("accounts.anna", "accounts.carl"))
    await file.look()
    assert [event for event, _ in told.events] == ["accounts_reloaded", "warning"]
    assert str(told.events[1][1]["text"]).endswith(": anna, bert, carl")
    AccountsFile(path, journal=told)
    assert [event for event, _ in told.events[2:]] == ["warning"], "at the start too"
    replace(path, SMALL + dear + "disabled = true\n")
    await file.look()
    assert [event for event, _ in told.events[3:]] == ["accounts_reloaded"], "who is shut cannot be told anyway"


@pytest.mark.parametrize("pasted", ["m=65536,t=3,p=4", "m=8,t=1,p=1"])
def test_of_those_the_ones_that_make_account_would_hash_otherwise(path: Path, pasted: str) -> None:
    """argon2-cffi's own default is dearer than ours: it is that account which is to get a new password."""
    house = SMALL.replace("m=8,t=1,p=1", "m=19456,t=2,p=1")
    replace(path, house + SMALL.replace("accounts.anna", "accounts.bert").replace("m=8,t=1,p=1", pasted))
    told = Told()
    AccountsFile(path, journal=told)
    ((_, fields),) = told.events
    assert str(fields["text"]).endswith(": bert")
    replace(path, house + house.replace("accounts.anna", "accounts.bert"))
    AccountsFile(path, journal=told)
    replace(path, SMALL + SMALL.replace("accounts.anna", "accounts.bert"))
    AccountsFile(path, journal=told)
    assert len(told.events) == 1, "all alike: nobody can be told from others"


async def test_a_missing_file_keeps_the_old_accounts_and_is_told_once(path: Path) -> None:
    told = Told()
    file = AccountsFile(path, journal=told)
    os.unlink(path)
    for _ in range(3):
        await file.look()
    assert file.current.find("anna") is not None
    assert [event for event, _ in told.events] == ["accounts_broken"]
    replace(path, SMALL)
    await file.look()
    assert told.events[-1][0] == "accounts_reloaded"


async def test_the_fence_holds_at_the_start_and_at_each_reload(path: Path) -> None:
    def fence(accounts: Accounts) -> str | None:
        return "no demo here" if accounts.find("demo") else None

    told = Told()
    file = AccountsFile(path, journal=told, check=fence)
    replace(path, SMALL.replace("accounts.anna", "accounts.demo"))
    await file.look()
    assert file.current.find("anna") is not None
    assert told.events == [("accounts_broken", {"problem": f"{path}: no demo here"})]
    with pytest.raises(AccountsError, match="no demo here"):
        AccountsFile(path, journal=told, check=fence)


async def test_watching_until_told_to_stop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts_file, "INTERVAL", 0.001)
    changed, stop = asyncio.Event(), asyncio.Event()
    file = AccountsFile(path, journal=Told(), on_change=lambda old, new: changed.set())
    watching = asyncio.create_task(file.watch(stop))
    replace(path, SMALL.replace("accounts.anna", "accounts.bob"))
    await asyncio.wait_for(changed.wait(), 30)
    stop.set()
    await asyncio.wait_for(watching, 30)
