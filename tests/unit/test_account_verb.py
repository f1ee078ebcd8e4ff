"""``make account``: what an operator sees, and what becomes of the file with its comments."""

from __future__ import annotations

import argparse
import io
import json
import os
import stat
import threading
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.accounts import load, parse
from relay.operator import account, accounts_edit, accounts_text
from support.disk_trouble import FAULTS, failing

FILE = """\
# our house

[accounts.anna]  # the boss
password_hash = ""
senders = [
    "anna@example.org",  # at work
]

# the printer in the hall
# (second floor)
[accounts.printer]
senders = ["printer@example.org"]
password_hash = ""
disabled = true  # broken
"""


@dataclass
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELAY_CONFIG", str(tmp_path))
    return tmp_path / "accounts.toml"


@pytest.fixture
def run(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COLUMNS", "140")

    def run(*arguments: str, typed: str = "") -> Result:
        parser = argparse.ArgumentParser()
        account.register(parser.add_subparsers())
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        args = parser.parse_args(["account", *arguments])
        code = args.run(args)
        return Result(code, *capsys.readouterr())

    return run


def opens(path: Path, name: str, password: str) -> bool:
    found = load(path).find(name)
    assert found is not None
    try:
        return argon2.PasswordHasher().verify(found.password_hash, password)
    except argon2.exceptions.VerifyMismatchError:
        return False


def test_the_first_account_makes_the_file(path: Path, run: Run) -> None:
    result = run("add", "anna", "--sender", "anna@example.org", "--sender", "*@example.com")
    assert result.code == 0
    (line,) = [line for line in result.out.splitlines() if line.startswith("  password")]
    password = line.split()[1]
    assert len(password) == 20
    assert opens(path, "anna", password)
    assert not opens(path, "anna", password + "x")
    for said in ("user name", "anna", "587 with STARTTLS", "shown this once", "anna@example.org, *@example.com"):
        assert said in result.out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["accounts.toml"]


def test_the_card_shows_this_server_and_its_ports(path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWNPOST_DOMAINS", "shop.nl")
    monkeypatch.setenv("OWNPOST_SUBMISSION_PORT", "35587")
    said = run("add", "anna", "--sender", "*@shop.nl").out
    assert "mail.shop.nl" in said
    assert "35587 with STARTTLS, or 465 with SSL/TLS" in said
    assert "Warning" not in said
    assert "Warning: config/accounts.toml: these may send" in run("add", "bob", "--sender", "b@gmail.com").out


@pytest.mark.parametrize(("call", "error"), FAULTS)
def test_a_file_that_cannot_be_put_in_its_place_changes_nothing(path: Path, run: Run, call: str, error: int) -> None:
    path.write_text(FILE)
    with failing(call, error):
        result = run("disable", "anna")
    assert (result.code, result.out) == (1, "")
    assert os.strerror(error) in result.err
    assert path.read_text() == FILE
    assert os.listdir(path.parent) == ["accounts.toml"]


def test_every_password_is_another_one(path: Path, run: Run) -> None:
    passwords = {json.loads(run("add", f"a{n}", "--sender", "a@b.c", "--json").out)["password"] for n in range(3)}
    assert len(passwords) == 3
    assert all(set(password) <= set(account.ALPHABET) for password in passwords)
    assert not set("0Oo1Ili") & set(account.ALPHABET)


def test_a_password_from_standard_input_is_not_shown(path: Path, run: Run) -> None:
    result = run("add", "anna", "--sender", "a@b.c", "--password-stdin", typed="correct horse\n")
    assert result.code == 0
    assert "correct horse" not in result.out + result.err
    assert opens(path, "anna", "correct horse")


@pytest.mark.parametrize("typed", ["", "short\n", "x" * 257 + "\n", "nul\0nul\0nul\n"])
def test_a_password_that_is_too_short_or_too_long(path: Path, run: Run, typed: str) -> None:
    result = run("add", "anna", "--sender", "a@b.c", "--password-stdin", typed=typed)
    assert (result.code, path.exists()) == (1, False)
    assert "must have 8 to 256 characters" in result.err


def test_a_new_password(path: Path, run: Run) -> None:
    path.write_text(FILE)
    result = run("password", "ANNA", "--password-stdin", typed="another one")
    assert result.code == 0
    assert opens(path, "anna", "another one")
    assert path.read_text().replace(load(path).find("anna").password_hash, "") == FILE  # type: ignore[union-attr]


def test_the_sender_comes_from_the_name_or_the_main_domain(
    path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("add", "anna")
    assert result.code == 1
    assert "--sender anna@example.org" in result.err
    assert run("add", "bob@example.net").code == 0
    monkeypatch.setenv("OWNPOST_DOMAINS", "example.com, example.org")
    said = run("add", "anna").out
    assert "mail.example.com" in said
    assert [found.senders for found in load(path)] == [("bob@example.net",), ("anna@example.com",)]


def test_an_account_named_after_an_address_in_another_script(path: Path, run: Run) -> None:
    assert run("add", "anna@m\u00fcnchen.example", "--no-password").code == 0
    assert run("add", "anna@M\u00dcNCHEN.example", "--no-password").code == 1
    assert run("disable", "anna@m\u00fcnchen.example").code == 0
    (anna,) = load(path)
    assert (anna.name, anna.senders, anna.disabled) == (
        "anna@xn--mnchen-3ya.example", ("anna@xn--mnchen-3ya.example",), True,
    )  # fmt: skip


def test_an_account_without_password_is_for_the_lan(path: Path, run: Run) -> None:
    said = run("add", "printer", "--sender", "p@example.org", "--no-password").out
    assert "RELAY_LAN_ACCOUNT" in said
    assert "password " not in said
    found = load(path).find("printer")
    assert found is not None
    assert found.password_hash == ""


def test_adding_keeps_the_file_and_refuses_a_name_that_is_taken(path: Path, run: Run) -> None:
    path.write_text(FILE)
    assert run("add", "new@example.org").code == 0
    text = path.read_text()
    assert text.startswith(FILE + '\n[accounts."new@example.org"]\n')
    result = run("add", "Anna", "--sender", "a@b.c")
    assert (result.code, path.read_text()) == (1, text)
    assert "there is an account anna already" in result.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("add", "a b", "--sender", "a@b.c"), "a login name has"),
        (("add", "a", "--sender", "nas"), "'nas': this is not an address"),
        (("remove", "nobody"), "there is no account nobody; there are: anna, printer"),
        (("password", "nobody"), "there is no account nobody"),
        (("enable", "nobody"), "there is no account nobody"),
        (("disable", "nobody"), "there is no account nobody"),
    ],
)
def test_what_cannot_be_done_changes_nothing(path: Path, run: Run, arguments: tuple[str, ...], told: str) -> None:
    path.write_text(FILE)
    result = run(*arguments)
    assert result.code == 1
    assert told in result.err
    assert path.read_text() == FILE
    assert os.listdir(path.parent) == ["accounts.toml"]


def test_disable_and_enable_touch_nothing_else(path: Path, run: Run) -> None:
    path.write_text(FILE)
    said = run("disable", "anna").out
    assert "--hold-queue would hold it" in said
    assert path.read_text() == FILE.replace("# the boss\n", "# the boss\ndisabled = true\n")
    assert run("enable", "printer").code == 0
    assert "disabled = false  # broken" in path.read_text()
    assert "is held" in run("disable", "anna", "--hold-queue").out
    found = load(path).find("anna")
    assert found is not None
    assert (found.disabled, found.hold_queue) == (True, True)
    run("enable", "anna")
    found = load(path).find("anna")
    assert found is not None
    assert (found.disabled, found.hold_queue) == (False, False)


def test_priority_is_given_at_the_start_or_later(path: Path, run: Run) -> None:
    path.write_text(FILE)
    assert "may use what is kept" in run("priority", "anna", "high").out
    assert path.read_text() == FILE.replace("# the boss\n", '# the boss\npriority = "high"\n')
    assert run("add", "shop", "--sender", "shop@b.c", "--priority", "high").code == 0
    assert load(path).high == {"anna", "shop"}
    assert run("list").out.count("high priority") == 2
    assert [one["priority"] for one in json.loads(run("list", "--json").out)] == ["high", "normal", "high"]
    assert "leaves alone" in run("priority", "anna", "normal").out
    assert load(path).high == {"shop"}


def test_removing_leaves_the_comments_of_the_others(path: Path, run: Run) -> None:
    path.write_text(FILE)
    assert run("remove", "anna").code == 0
    assert path.read_text() == "# our house\n\n" + FILE[FILE.index("# the printer") :]
    assert run("remove", "PRINTER").code == 0
    assert len(load(path)) == 0
    assert path.read_text().startswith("# our house\n")
    assert run("add", "anna", "--sender", "a@b.c").code == 0
    assert [found.name for found in load(path)] == ["anna"]


def test_removing_says_what_becomes_of_the_queue(path: Path, run: Run) -> None:
    path.write_text(FILE + "hold_queue = true\n")  # the printer's
    assert run("remove", "anna").out == "Removed anna. What still waits of it goes on.\n"
    assert "stays held until `queue release --account printer`" in run("remove", "printer").out


def test_list_for_people_and_for_scripts(path: Path, run: Run) -> None:
    assert "No accounts yet" in run("list").out
    path.write_text(FILE + 'from = "rewrite"\nhold_queue = true\nrecipients_per_day = "unlimited"\n')
    table = run("list").out
    for said in (
        "anna@example.org",
        "no login",
        "100 / 500",
        "disabled, queue held, From is rewritten",
        "100 / unlimited",
    ):
        assert said in table
    anna, printer = json.loads(run("list", "--json").out)
    assert (anna["name"], anna["senders"], anna["login"], anna["disabled"]) == (
        "anna",
        ["anna@example.org"],
        False,
        False,
    )
    assert (printer["recipients_per_day"], printer["from"]) == (None, "rewrite")
    assert "password_hash" not in anna


def test_a_broken_file_is_left_to_a_person(path: Path, run: Run) -> None:
    path.write_text(FILE + "disbaled = true\n")
    result = run("remove", "anna")
    assert result.code == 1
    assert "is wrong and has to be mended by hand first" in result.err
    assert "disbaled: unknown" in result.err
    assert "anna" in path.read_text()
    path.write_bytes(b"\xff")
    assert "cannot be read" in run("list").err


def test_a_file_of_comments_only_can_be_added_to(path: Path, run: Run) -> None:
    path.write_text("# nothing yet")
    assert run("add", "anna", "--sender", "a@b.c").code == 0
    assert path.read_text().startswith("# nothing yet\n\n[accounts.anna]\n")


def test_a_folder_that_is_not_there(path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_CONFIG", str(path.parent / "nowhere"))
    result = run("list")
    assert result.code == 1
    assert "RELAY_CONFIG=" in result.err


def test_a_link_stays_a_link(path: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "real.toml"
    elsewhere.write_text(FILE)
    path.symlink_to(elsewhere)
    assert run("disable", "anna").code == 0
    assert path.is_symlink()
    assert "disabled = true" in elsewhere.read_text()


def test_a_full_disk_leaves_the_old_file(path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    path.write_text(FILE)
    monkeypatch.setattr(accounts_edit.os, "fsync", full)
    result = run("disable", "anna")
    assert result.code == 1
    assert "cannot be written: No space left on device" in result.err
    assert path.read_text() == FILE
    assert os.listdir(path.parent) == ["accounts.toml"]


def test_two_operators_at_once_lose_nothing(path: Path) -> None:
    def add(name: str) -> None:
        with accounts_edit.accounts_for_editing() as file:
            file.write(accounts_text.added(file.text, name, {"password_hash": "", "senders": ["a@b.c"]}))

    threads = [threading.Thread(target=add, args=(f"a{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {found.name for found in load(path)} == {f"a{n}" for n in range(8)}


def test_root_writes_for_the_files_owner(path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given_to: list[tuple[int, int]] = []
    monkeypatch.setattr(accounts_edit.os, "geteuid", lambda: 0)
    monkeypatch.setattr(accounts_edit.os, "fchown", lambda handle, uid, gid: given_to.append((uid, gid)))
    for owned in (path.parent, path):  # of a new file, the folder's owner
        assert run("add", f"a{len(given_to)}", "--sender", "a@b.c").code == 0
        assert given_to[-1] == (owned.stat().st_uid, owned.stat().st_gid)
    monkeypatch.setattr(accounts_edit.os, "geteuid", lambda: 1000)
    assert run("disable", "a0").code == 0
    assert len(given_to) == 2


def test_a_header_in_a_string_is_no_header() -> None:
    one = '[accounts.a]\nnotify = """\n[accounts.b]\n"""\n'
    two = '[accounts.b]\nnotify = ""\n'
    for text in (one + two, two + one):
        assert set(tomllib.loads(accounts_text.removed(text, "b"))["accounts"]) == {"a"}
        assert tomllib.loads(accounts_text.changed(text, "b", {"disabled": True}))["accounts"]["b"]["disabled"] is True


def test_enabling_what_is_enabled_changes_nothing(path: Path, run: Run) -> None:
    path.write_text(FILE)
    assert run("enable", "anna").code == 0
    assert path.read_text() == FILE


_STYLES = st.sampled_from(
    [
        '[accounts.{name}]\npassword_hash = ""\nsenders = ["a@b.c"]\n',
        "[ accounts . \"{name}\" ]\nsenders = ['a@b.c', 'd@e.f']\npassword_hash = ''\ndisabled = false # yes\n\n\n",
        '# it\n[accounts.{name}]\nsenders = [\n  "a@b.c",\n  # c\n]\npassword_hash = ""\nhold_queue = false\n# end\n',
        'accounts.{name}.password_hash = ""\naccounts.{name}.senders = ["a@b.c"]\n',
    ]
)


@given(st.lists(_STYLES, min_size=1, max_size=4), st.data())
def test_edits_mean_what_they_say_however_the_file_is_written(styles: list[str], data: st.DataObject) -> None:
    styles.sort(key=lambda style: style.startswith("["))  # dotted keys belong above the first table
    styles.sort(key=lambda style: not style.startswith("accounts"))
    text = "".join(style.replace("{name}", f"n{at}") for at, style in enumerate(styles))
    try:
        meant = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # dotted keys and tables of the same accounts do not go together
    name = data.draw(st.sampled_from(list(meant["accounts"])))
    changed = accounts_text.changed(text, name, {"disabled": True, "password_hash": "x"})
    wanted = tomllib.loads(text)
    wanted["accounts"][name] |= {"disabled": True, "password_hash": "x"}
    assert tomllib.loads(changed) == wanted
    del meant["accounts"][name]
    assert tomllib.loads(accounts_text.removed(text, name)) == meant
    parse(accounts_text.removed(text, name).encode())
